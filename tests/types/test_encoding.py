"""`hotstuff.types.encoding`: the reader by itself, and the checks of the golden files."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_checks import compare, refused, refused_cheaply, wire_settings

from hotstuff.errors import InvalidEncoding
from hotstuff.types.encoding import MAX_COUNTER, Reader, blob, decode_all, option

Read = Callable[[Reader], object]
INTEGERS: dict[str, tuple[Read, str, int]] = {
    "u8": (Reader.u8, ">B", 2**8),
    "u16": (Reader.u16, ">H", 2**16),
    "u32": (Reader.u32, ">I", 2**32),
    "u64": (Reader.u64, ">Q", 2**64),
    "counter": (Reader.counter, ">Q", 2**63),
}


def decode(read: Read) -> Callable[[bytes], object]:
    return lambda data: decode_all(data, "thing", read)


@pytest.mark.parametrize("name", INTEGERS)
@given(data=st.data())
@wire_settings
def test_integers_are_big_endian_and_of_fixed_width(name: str, data: st.DataObject) -> None:
    read, layout, end = INTEGERS[name]
    for value in (0, 1, end - 1, data.draw(st.integers(0, end - 1))):
        assert decode(read)(struct.pack(layout, value)) == value


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_refuse_another_width(name: str) -> None:
    read, layout, _ = INTEGERS[name]
    encoded = struct.pack(layout, 1)
    for size in range(len(encoded)):
        assert "needs" in refused(decode(read), encoded[:size])
    assert "1 bytes left over" in refused(decode(read), encoded + b"\0")


@pytest.mark.parametrize("value", [2**63, 2**63 + 1, 2**64 - 1])
def test_counters_stay_signed(value: int) -> None:
    assert MAX_COUNTER == 2**63
    assert str(value) in refused(decode(Reader.counter), struct.pack(">Q", value))


def test_flags_are_0_or_1() -> None:
    assert decode(Reader.flag)(b"\0") is False
    assert decode(Reader.flag)(b"\1") is True
    for value in range(2, 256):
        assert f"flag {value}" in refused(decode(Reader.flag), bytes([value]))


@given(data=st.binary(max_size=64))
@wire_settings
def test_blobs(data: bytes) -> None:
    assert decode(lambda reader: reader.blob(64))(blob(data)) == data
    if data:
        assert "at most" in refused(decode(lambda reader: reader.blob(len(data) - 1)), blob(data))


@pytest.mark.parametrize("size", [65, 2**31 - 1, 2**31, 2**32 - 1])
def test_claimed_length_is_checked_before_allocation(size: int) -> None:
    short = struct.pack(">I", size) + b"body"
    assert "at most 64" in refused_cheaply(decode(lambda reader: reader.blob(64)), short)
    assert "needs" in refused_cheaply(decode(lambda reader: reader.blob(2**32)), short)


@pytest.mark.parametrize("count", [9, 2**31 - 1, 2**31, 2**32 - 1])
def test_claimed_count_is_checked_before_any_loop(count: int) -> None:
    body = struct.pack(">I", count) + bytes(16)
    assert "at most 8" in refused_cheaply(decode(lambda reader: reader.count(8, 2)), body)
    assert "do not fit" in refused_cheaply(decode(lambda reader: reader.count(2**32, 2)), body)


@given(count=st.integers(0, 20), size=st.integers(1, 5), there=st.integers(0, 60))
@wire_settings
def test_count_fits_exactly_if_the_items_do(count: int, size: int, there: int) -> None:
    def read(reader: Reader) -> int:
        found = reader.count(20, size)
        reader.rest()
        return found

    data = struct.pack(">I", count) + bytes(there)
    if count * size <= there:
        assert decode(read)(data) == count
    else:
        refused(decode(read), data)


def test_options() -> None:
    assert (option(None), option(b""), option(b"x")) == (b"\0", b"\1", b"\1x")


def test_views_share_memory_and_copies_do_not() -> None:
    data = bytearray(b"abcd")
    reader = Reader(data, "thing")
    copy, view, rest = reader.fixed(1), reader.view(1), reader.rest()
    data[:] = b"wxyz"
    assert (copy, bytes(view), bytes(rest)) == (b"a", b"x", b"yz")


def test_a_refused_read_consumes_nothing() -> None:
    reader = Reader(b"ab", "thing")
    with pytest.raises(InvalidEncoding, match="thing: needs 3 bytes, got 2"):
        reader.fixed(3)
    assert reader.fixed(2) == b"ab"
    reader.finish()


def test_golden_files_that_differ_say_how_to_write_them_anew() -> None:
    compare("thing", "a 00ff\nb\n", {"a": b"\x00\xff", "b": b""})
    for stored in ("a 00fe\nb\n", "a 00ff\n", "a 00ff\nb\nc 01\n", ""):
        with pytest.raises(pytest.fail.Exception, match=r"pytest tests/types --rewrite-golden"):
            compare("thing", stored, {"a": b"\x00\xff", "b": b""})
