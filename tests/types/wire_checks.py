"""What must be true of every type with bytes of its own. Each test module runs these on its types."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import CODECS, Codec
from wire_examples import EXAMPLES

from hotstuff.errors import InvalidEncoding

# No deadline and no complaint about slow data: a busy machine is not a failure. The checks are inherited on purpose.
wire_settings = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)

# Integers that count something and stay below 2**63. (Powers, sizes and indices have bounds of their own.)
COUNTERS = ("epoch", "view", "height", "seq", "high_qc_view", "above_height", "from_height", "first_seq")
# More than any example takes to decode, far less than what a claimed count would.
FEW_BYTES = 128 * 1024
HOW = """the bytes of {name} changed.
  {changes}
Networks that run, and data directories that exist, hold the old bytes. If they may break, write the file anew with
  pytest tests/types --rewrite-golden"""


def plain(value: Any) -> Any:
    """`value` as nested tuples, so that comparing does not rely on the `__eq__` of what is tested."""
    if is_dataclass(value):
        return (type(value).__name__, *(plain(getattr(value, f.name)) for f in fields(value) if f.init))
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def refused(decode: Callable[[bytes], Any], data: bytes) -> str:
    """The text of the refusal; fails if `data` is accepted or raises anything but `InvalidEncoding`."""
    with pytest.raises(InvalidEncoding) as caught:
        decode(data)
    assert type(caught.value) is InvalidEncoding
    assert str(caught.value)
    return str(caught.value)


def accepted(decode: Callable[[bytes], Any], data: bytes) -> bool:
    """Whether `data` is accepted; then it must be the one encoding of what it decodes to."""
    try:
        value = decode(data)
    except InvalidEncoding:
        return False
    assert value.encoding == data
    return True


def peak_bytes(run: Callable[[], object]) -> int:
    """The most memory that `run` held at any time."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused_cheaply(decode: Callable[[bytes], Any], data: bytes) -> str:
    """Like `refused`, before anything is allocated for what `data` claims to hold."""
    texts: list[str] = []
    assert peak_bytes(lambda: texts.append(refused(decode, data))) < FEW_BYTES
    return texts[0]


def variants(value: Any, name: str, new: Any) -> Iterator[Any]:
    """`value` with one field called `name` set to `new`, at each place where there is one, nested ones included."""
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from ((*value[:i], changed, *value[i + 1 :]) for changed in variants(item, name, new))
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            if field.name == name:
                yield replace(value, **{name: new})
            else:
                inner = variants(getattr(value, field.name), name, new)
                yield from (replace(value, **{field.name: changed}) for changed in inner)


def compare(name: str, stored: str, given: dict[str, bytes]) -> None:
    """Fails with the labels that differ and how to write the file anew."""
    pairs = (line.partition(" ") for line in stored.splitlines())
    expected = {label: bytes.fromhex(digits) for label, _, digits in pairs}
    labels = [label for label in {**expected, **given} if expected.get(label) != given.get(label)]
    changes = [f"{label}: {_text(expected.get(label))} -> {_text(given.get(label))}" for label in labels]
    if changes:
        pytest.fail(HOW.format(name=name, changes="\n  ".join(changes)), pytrace=False)


def _text(data: bytes | None) -> str:
    return "nothing" if data is None else data.hex() or "no bytes"


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` after up to four hits: bytes set, flipped, cut out, put in or copied elsewhere."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted((draw(st.integers(0, len(result))), draw(st.integers(0, len(result)))))
        hit = draw(st.sampled_from(("set", "flip", "cut", "put", "copy")))
        if hit == "put" or at == len(result):
            result[at:at] = draw(st.binary(max_size=8))
        elif hit == "set":
            result[at] = draw(st.integers(0, 255))
        elif hit == "flip":
            result[at] ^= 1 << draw(st.integers(0, 7))
        elif hit == "cut":
            del result[at:end]
        else:
            result[at:at] = result[at:end]
    return bytes(result)


class WireChecks:
    """Inherit, and set `names` to the codecs of the module; `pytest_generate_tests` in conftest.py does the rest."""

    names: tuple[str, ...] = ()

    @given(data=st.data())
    @wire_settings
    def test_decoding_inverts_encoding(self, codec: Codec, data: st.DataObject) -> None:
        value = data.draw(codec.values)
        encoded = value.encoding
        for buffer in (encoded, bytearray(encoded), memoryview(encoded)):
            decoded = codec.decode(buffer)
            assert type(decoded) is type(value)
            assert plain(decoded) == plain(value)
            assert decoded.encoding == encoded

    @given(data=st.data())
    @wire_settings
    def test_damage_is_refused_or_harmless(self, codec: Codec, data: st.DataObject) -> None:
        accepted(codec.decode, data.draw(damaged(data.draw(codec.values).encoding)))

    @given(data=st.binary(max_size=1000))
    @wire_settings
    def test_random_bytes_are_refused_or_canonical(self, codec: Codec, data: bytes) -> None:
        accepted(codec.decode, data)

    @given(data=st.data())
    @wire_settings
    def test_any_cut_and_any_tail_is_refused(self, codec: Codec, data: st.DataObject) -> None:
        encoded = data.draw(codec.values).encoding
        if encoded:
            refused(codec.decode, encoded[: data.draw(st.integers(0, len(encoded) - 1))])
        refused(codec.decode, encoded + data.draw(st.binary(min_size=1, max_size=100)))

    def test_every_cut_of_the_examples_is_refused(self, codec: Codec) -> None:
        for value in EXAMPLES[codec.name].values():
            for size in range(len(value.encoding)):
                refused(codec.decode, value.encoding[:size])

    def test_every_trailing_byte_is_refused(self, codec: Codec) -> None:
        for value in EXAMPLES[codec.name].values():
            for extra in range(256):
                refused(codec.decode, value.encoding + bytes([extra]))

    def test_every_changed_byte_of_the_examples_is_refused_or_harmless(self, codec: Codec) -> None:
        for value in EXAMPLES[codec.name].values():
            encoded = value.encoding
            for at, old in enumerate(encoded):
                for new in {0, 1, 2, 0x7F, 0x80, 0xFF, old ^ 1, old ^ 0x80} - {old}:
                    accepted(codec.decode, encoded[:at] + bytes([new]) + encoded[at + 1 :])

    def test_counters_end_below_two_to_the_63rd(self, codec: Codec) -> None:
        for value in EXAMPLES[codec.name].values():
            for name in COUNTERS:
                for new in (2**63, 2**64 - 1):
                    for changed in variants(value, name, new):
                        # A changed entry TC no longer has the key that its header names; both refusals are right.
                        text = refused(codec.decode, changed.encoding)
                        assert "counter" in text or "first_seq" in text

    def test_phases_and_modes_are_the_known_ones(self, codec: Codec) -> None:
        for value in EXAMPLES[codec.name].values():
            for new in (0, 5, 255):
                for changed in (*variants(value, "phase", new), *variants(value, "mode", new)):
                    assert "allowed" in refused(codec.decode, changed.encoding)

    def test_golden(self, codec: Codec, golden: Callable[[str, dict[str, bytes]], None]) -> None:
        golden(codec.name, {name: value.encoding for name, value in EXAMPLES[codec.name].items()})


assert EXAMPLES.keys() == CODECS.keys()
