from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotstuff.errors import ConfigError
from hotstuff.node.files import Fields, parse_address, parse_hex, read_json, write_json


def test_a_field_that_is_missing_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^file: name: got None, allowed: a word \(the field is missing\)$"):
        Fields({}, "file").take("name", str, "a word")


@pytest.mark.parametrize("value", [None, 1, True, [], {}, 1.5])
def test_a_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Fields({"name": value}, "file").take("name", str, "a word")
    assert str(caught.value) == f"file: name: got {value!r}, allowed: a word"
    assert (caught.value.field, caught.value.given, caught.value.allowed) == ("file: name", value, "a word")


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, 4, 11, -5, 10**30])
def test_an_integer_is_an_integer_within_bounds(value: object) -> None:
    with pytest.raises(ConfigError, match="allowed: an integer from 5 to 10"):
        Fields({"n": value}, "file").integer("n", 7, 5, 10)


def test_integers() -> None:
    fields = Fields({"low": 5, "high": 10}, "file")
    assert (fields.integer("low", 7, 5, 10), fields.integer("high", 7, 5, 10)) == (5, 10)
    assert fields.integer("absent", 7, 5, 10) == 7
    fields.finish(())


def test_optional_fields() -> None:
    fields = Fields({"tls": False}, "file")
    assert fields.optional("tls", bool, True, "true or false") is False
    assert fields.optional("fsync", bool, True, "true or false") is True
    with pytest.raises(ConfigError, match="got 0, allowed: true or false"):
        Fields({"tls": 0}, "file").optional("tls", bool, True, "true or false")


def test_unknown_fields_are_listed_with_the_known() -> None:
    fields = Fields({"a": 1, "typo": 2}, "file")
    fields.take("a", int, "a number")
    with pytest.raises(ConfigError, match=r"^file: typo: got 2, allowed: nothing by this name; known fields: a, b$"):
        fields.finish(("a", "b"))


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_only_objects_have_fields(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^file: got .*, allowed: a JSON object$"):
        Fields(value, "file")


def test_the_given_object_is_not_changed() -> None:
    given_object = {"a": 1}
    Fields(given_object, "file").take("a", int, "a number")
    assert given_object == {"a": 1}


@given(st.binary(min_size=4, max_size=4))
def test_hex(value: bytes) -> None:
    assert parse_hex(value.hex(), 4, "key") == parse_hex(value.hex().upper(), 4, "key") == value


@pytest.mark.parametrize("text", ["", "0", "0011223", "001122334", "0011223344", "0011 233", "00 11 22", "g0112233"])
def test_what_is_not_hex(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^key: got .*, allowed: 8 hexadecimal digits$"):
        parse_hex(text, 4, "key")


def test_hex_takes_only_ascii() -> None:
    for text in ("\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10", "0011223\u0663"):
        with pytest.raises(ConfigError):
            parse_hex(text, 4, "key")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("node.example:65535", ("node.example", 65535)),
        ("[::1]:7100", ("::1", 7100)),
        ("[fe80::1%eth0]:7100", ("fe80::1%eth0", 7100)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "peer") == address


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:-1",
            "host:+1",
            "host: 1",
            "host:1.0",
            "[]:80",
        ),
        *("host:\u0661", "host:\u00b2", "host:1_0", "host:" + "9" * 5000),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^peer: got .*, allowed: host:port with a port from 1 to 65535$"):
        parse_address(text, "peer")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, "\u00e4"]})
    assert read_json(path) == {"a": [1, "\u00e4"]}
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0o044
    write_json(tmp_path / "secret", {}, mode=0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="allowed: a new file: nothing is overwritten"):
        write_json(path, {})
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        write_json(link, {})
    assert path.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(ConfigError, match="allowed: a writable directory"):
        write_json(tmp_path / "no" / "x.json", {})


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1,}', b"\xff", b"{'a': 1}", b'{"a": NaN}', b"[" * 5000])
def test_bad_json_names_file_and_place(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="allowed: valid JSON") as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path}: got 'line ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", tmp_path / "missing" / "x"):
        with pytest.raises(ConfigError, match="allowed: a readable file") as caught:
            read_json(path)
        assert str(path) in str(caught.value)
