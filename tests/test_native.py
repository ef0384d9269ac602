"""`hotstuff.native`: both twins against hashlib and RFC 6962, and against each other on hostile input."""

from __future__ import annotations

import hashlib
import importlib
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from inspect import signature
from types import ModuleType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotstuff import _pure, native
from hotstuff.errors import InvalidEncoding

CLIENT = bytes(range(16))
FORCED_PURE = os.environ.get("HOTSTUFF_PURE") == "1"
compiled: ModuleType | None = None if FORCED_PURE else importlib.import_module("hotstuff._native")
TWINS = [_pure] if compiled is None else [_pure, compiled]
SHA256_NAMES = ("portable", "sha-ni", "avx512")


@pytest.fixture(params=["pure", *SHA256_NAMES])
def twin(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Each implementation in turn; the compiled one with each SHA-256 that this CPU has."""
    if request.param == "pure":
        yield _pure
    elif compiled is None:
        pytest.skip("HOTSTUFF_PURE is set")
    else:
        chosen = compiled.select_sha256(request.param)
        try:
            if chosen != request.param:
                pytest.skip(f"this CPU has no {request.param}")
            yield compiled
        finally:
            compiled.select_sha256(SHA256_NAMES[-1])


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def rfc6962(leaves: list[bytes]) -> bytes:
    """Section 2.1, word for word: k is the largest power of two smaller than n."""
    n = len(leaves)
    if n == 1:
        return leaves[0]
    k = 1 << (n - 1).bit_length() - 1
    return sha(b"\1", rfc6962(leaves[:k]), rfc6962(leaves[k:]))


def expected_root(client_id: bytes, first_seq: int, txs: list[bytes]) -> bytes:
    tree = rfc6962([sha(b"\0", tx) for tx in txs])
    return sha(b"\2", client_id, struct.pack(">QI", first_seq, len(txs)), tree)


def raw_frame(payload: bytes, *, first_seq: int = 1, count: int = 1, size: int | None = None) -> bytes:
    return CLIENT + struct.pack(">QII", first_seq, count, len(payload) if size is None else size) + payload


def prefixed(tx: bytes) -> bytes:
    return struct.pack(">I", len(tx)) + tx


def outcome(module: ModuleType, body: bytes, max_frames: int = 8) -> list[native.Frame] | str:
    """What `parse_body` gives: frames, or the text of the one error it may raise."""
    try:
        frames: list[native.Frame] = module.parse_body(body, max_frames)
    except InvalidEncoding as error:
        return str(error)
    return frames


def agreed(body: bytes, max_frames: int = 8) -> list[native.Frame] | str:
    outcomes = [outcome(module, body, max_frames) for module in TWINS]
    assert all(other == outcomes[0] for other in outcomes)
    return outcomes[0]


# -- which twin ------------------------------------------------------------------------------------------------------


def test_the_compiled_twin_is_used_unless_it_is_switched_off() -> None:
    assert native.IMPLEMENTATION == ("pure" if FORCED_PURE else "native")
    assert native.parse_body is (_pure if compiled is None else compiled).parse_body


def test_the_environment_forces_the_pure_twin() -> None:
    program = "from hotstuff import native; print(native.IMPLEMENTATION, native.parse_body.__module__)"
    environment = {**os.environ, "HOTSTUFF_PURE": "1"}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert output.split() == ["pure", "hotstuff._pure"]


@pytest.mark.parametrize("name", ["parse_body", "merkle_root", "slice_root", "transactions", "build_frame"])
def test_both_twins_name_their_parameters_alike(twin: ModuleType, name: str) -> None:
    assert list(signature(getattr(twin, name)).parameters) == list(signature(getattr(_pure, name)).parameters)


# -- SHA-256 and the Merkle tree --------------------------------------------------------------------------------------


def test_roots_of_rfc_6962_as_published_by_certificate_transparency(twin: ModuleType) -> None:
    """The eight leaves and their roots from the test data of google/certificate-transparency."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    leaves = [sha(b"\0", bytes.fromhex(text)) for text in inputs]
    for count, root in roots.items():
        assert twin.merkle_root(b"".join(leaves[:count])).hex() == root


def test_two_leaves_are_one_known_node(twin: ModuleType) -> None:
    left, right = sha(b"left"), sha(b"right")
    assert twin.merkle_root(left + right) == sha(b"\1", left, right)


@pytest.mark.parametrize("count", [*range(1, 35), 63, 64, 65, 1000, 1025])
def test_merkle_root_of_every_shape(twin: ModuleType, count: int) -> None:
    leaves = [sha(struct.pack(">I", index)) for index in range(count)]
    assert twin.merkle_root(b"".join(leaves)) == rfc6962(leaves)


def test_the_root_of_one_hash_is_that_hash(twin: ModuleType) -> None:
    assert twin.merkle_root(CLIENT * 2) == CLIENT * 2


@pytest.mark.parametrize("size", [0, 1, 31, 33, 65])
def test_merkle_root_wants_whole_hashes(twin: ModuleType, size: int) -> None:
    with pytest.raises(ValueError, match=f"hashes: got {size} bytes, allowed: a positive multiple of 32"):
        twin.merkle_root(bytes(size))


@pytest.mark.parametrize("length", [*range(1, 200), 511, 512, 513, 4096, 65_535, native.MAX_TX_BYTES])
def test_every_padding_of_sha256(twin: ModuleType, length: int) -> None:
    """Lengths around the block borders take different ways through the hash: all must give hashlib's answer."""
    tx = bytes(index * 7 & 0xFF for index in range(length))
    (frame,) = twin.parse_body(raw_frame(prefixed(tx)), 1)
    assert frame.root == expected_root(CLIENT, 1, [tx])


# -- frames and bodies ------------------------------------------------------------------------------------------------

transaction_lists = st.lists(st.binary(min_size=1, max_size=150), min_size=1, max_size=12)
frames_to_build = st.tuples(st.binary(min_size=16, max_size=16), st.integers(1, 2**63 - 12), transaction_lists)


@given(st.lists(frames_to_build, min_size=1, max_size=4))
def test_round_trip(contents: list[tuple[bytes, int, list[bytes]]]) -> None:
    built = [[module.build_frame(*content) for content in contents] for module in TWINS]
    assert all(other == built[0] for other in built)
    body = b"".join(built[0])
    frames = agreed(body)
    assert isinstance(frames, list)
    offset = 0
    for frame, (client_id, first_seq, txs), encoded in zip(frames, contents, built[0], strict=True):
        root = expected_root(client_id, first_seq, txs)
        assert frame == native.Frame(client_id, first_seq, len(txs), offset, len(encoded), root)
        assert all(module.transactions(body, frame) == txs for module in TWINS)
        offset += len(encoded)


@st.composite
def damaged_bodies(draw: st.DrawFn) -> bytes:
    contents = draw(st.lists(frames_to_build, min_size=1, max_size=3))
    body = bytearray(b"".join(_pure.build_frame(*content) for content in contents))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        cut = draw(st.integers(0, 8))
        body[at : at + cut] = draw(st.binary(max_size=8))
    return bytes(body[: draw(st.one_of(st.none(), st.integers(0, len(body))))])


@settings(max_examples=500)
@given(damaged_bodies() | st.binary(max_size=120))
@example(b"")
@example(raw_frame(b"\xff\xff\xff\xff" * 3, count=0xFFFFFFFF))
@example(raw_frame(b"", count=1, size=0xFFFFFFFF))
def test_damage_is_refused_or_means_exactly_what_the_bytes_say(body: bytes) -> None:
    frames = agreed(body, max_frames=4)
    if isinstance(frames, list):
        again = (_pure.build_frame(f.client_id, f.first_seq, _pure.transactions(body, f)) for f in frames)
        assert b"".join(again) == body


GOOD = raw_frame(prefixed(b"tx"))
REFUSED = {
    "": "bytes left for a frame header at byte 0: got 0, allowed: at least 32",
    GOOD[:31].hex(): "bytes left for a frame header at byte 0: got 31, allowed: at least 32",
    (GOOD + b"\0").hex(): "bytes left for a frame header at byte 38: got 1, allowed: at least 32",
    (GOOD * 3).hex(): "number of frames at byte 76: got 3, allowed: at most 2",
    raw_frame(b"", count=0).hex(): "count at byte 0: got 0, allowed: at least 1",
    raw_frame(prefixed(b"x"), first_seq=0).hex(): f"first_seq at byte 0: got 0, allowed: 1 to {2**63 - 1}",
    raw_frame(prefixed(b"x"), first_seq=2**64 - 1).hex(): (
        f"first_seq at byte 0: got {2**64 - 1}, allowed: 1 to {2**63 - 1}"
    ),
    raw_frame(prefixed(b"x") * 2, first_seq=2**63 - 1, count=2).hex(): (
        f"first_seq at byte 0: got {2**63 - 1}, allowed: 1 to {2**63 - 2}"
    ),
    raw_frame(b"", size=4_194_305).hex(): "size at byte 0: got 4194305, allowed: at most 4194304",
    GOOD[:-1].hex(): "bytes left for the transactions of a frame at byte 32: got 5, allowed: at least 6",
    raw_frame(b"").hex(): "bytes left for the length of a transaction at byte 32: got 0, allowed: at least 4",
    raw_frame(prefixed(b"tx"), count=2**32 - 1).hex(): (
        "bytes left for the length of a transaction at byte 38: got 0, allowed: at least 4"
    ),
    raw_frame(prefixed(b"")).hex(): "length of a transaction at byte 32: got 0, allowed: 1 to 262144",
    raw_frame(struct.pack(">I", 262_145) + b"x").hex(): (
        "length of a transaction at byte 32: got 262145, allowed: 1 to 262144"
    ),
    raw_frame(prefixed(b"tx")[:-1]).hex(): "bytes left for a transaction at byte 36: got 1, allowed: at least 2",
    raw_frame(prefixed(b"tx") + b"\0\0").hex(): (
        "bytes after the last transaction of a frame at byte 38: got 2, allowed: exactly 0"
    ),
}


@pytest.mark.parametrize(("body", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_each_rule_says_what_where_given_and_allowed(twin: ModuleType, body: str, message: str) -> None:
    assert outcome(twin, bytes.fromhex(body), max_frames=2) == message


def test_every_rule_has_a_case_above() -> None:
    words = {message.split(" at byte ")[0] for message in REFUSED.values()}
    assert words == {what for what, _ in _pure.RULES}


def test_limits_are_inclusive(twin: ModuleType) -> None:
    last = twin.build_frame(CLIENT, 2**63 - 1, [b"x"])
    assert twin.parse_body(last, 1)[0].first_seq == 2**63 - 1
    txs = [bytes(native.MAX_TX_BYTES)] * 15 + [bytes(native.MAX_TX_BYTES - 16 * 4)]
    full = twin.build_frame(CLIENT, 1, txs)
    assert len(full) == 32 + native.MAX_FRAME_BYTES
    assert twin.parse_body(full, 1)[0].root == expected_root(CLIENT, 1, txs)


@pytest.mark.parametrize("max_frames", [0, -1])
def test_max_frames_must_be_positive(twin: ModuleType, max_frames: int) -> None:
    with pytest.raises(ValueError, match=f"max_frames: got {max_frames}, allowed: at least 1"):
        twin.parse_body(GOOD, max_frames)


def test_max_frames_may_exceed_any_integer_of_c(twin: ModuleType) -> None:
    assert len(twin.parse_body(GOOD * 2, 10**30)) == 2


@pytest.mark.parametrize(
    "make", [bytearray, memoryview, lambda body: memoryview(b"??" + body)[2:], lambda body: memoryview(body).cast("b")]
)
def test_any_contiguous_buffer_will_do(twin: ModuleType, make: type[memoryview]) -> None:
    body = make(GOOD)
    (frame,) = twin.parse_body(body, 1)
    assert frame == _pure.parse_body(GOOD, 1)[0]
    assert twin.transactions(body, frame) == [b"tx"]
    assert twin.slice_root(body, frame, 0, 1) == frame.root
    assert twin.merkle_root(make(CLIENT * 2)) == CLIENT * 2
    assert type(frame.client_id) is type(frame.root) is bytes


def test_other_objects_are_the_callers_mistake(twin: ModuleType) -> None:
    with pytest.raises(BufferError, match="got a strided memoryview, allowed: contiguous bytes"):
        twin.parse_body(memoryview(GOOD)[::2], 1)
    with pytest.raises(TypeError, match="a bytes-like object is required"):
        twin.parse_body("text", 1)


def test_a_bytearray_is_free_again_after_the_call(twin: ModuleType) -> None:
    body = bytearray(GOOD)
    twin.parse_body(body, 1)
    with pytest.raises(InvalidEncoding):
        twin.parse_body(body[:-1], 1)
    body.clear()


def test_a_large_body(twin: ModuleType) -> None:
    txs = [struct.pack(">I", index) * 128 for index in range(4064)]
    body = b"".join(twin.build_frame(CLIENT, 1 + index * len(txs), txs) for index in range(4))
    assert len(body) > 8_000_000
    frames = twin.parse_body(body, 4)
    assert [frame.root for frame in frames] == [expected_root(CLIENT, frame.first_seq, txs) for frame in frames]
    assert twin.transactions(body, frames[-1]) == txs


def test_hashing_lets_other_threads_run() -> None:
    """Python never takes the GIL away here, so the other thread only moves while the call has given it up."""
    if compiled is None:
        pytest.skip("HOTSTUFF_PURE is set")
    body = compiled.build_frame(CLIENT, 1, [bytes(1000)] * 4000) * 8
    ticks, running = 0, True

    def count() -> None:
        nonlocal ticks
        while running:
            ticks += 1
            time.sleep(0)

    def moved_during_call() -> bool:
        before = ticks
        compiled.parse_body(body, 8)
        return ticks > before

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert any(moved_during_call() for _ in range(50))
    finally:
        running = False
        thread.join()
        sys.setswitchinterval(interval)


def test_a_body_that_changes_while_it_is_parsed_is_read_inside_its_bounds() -> None:
    """Lengths are flipped between small and huge during the call: any answer is fine, a crash is not."""
    if compiled is None:
        pytest.skip("HOTSTUFF_PURE is set")
    body = bytearray(compiled.build_frame(CLIENT, 1, [bytes(60)] * 60_000))
    running = True

    def disturb() -> None:
        at = 32
        while running:
            body[at : at + 4] = b"\x00\x03\xff\xff"
            body[at : at + 4] = b"\x00\x00\x00\x3c"
            at = 32 + (at + 64 * 7919 - 32) % (64 * 60_000)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(30):
            outcome(compiled, body, 1)  # type: ignore[arg-type]
    finally:
        running = False
        thread.join()


# -- slices -----------------------------------------------------------------------------------------------------------


@given(frames_to_build, st.data())
def test_slice_root_is_the_root_of_the_rebuilt_frame(
    content: tuple[bytes, int, list[bytes]], data: st.DataObject
) -> None:
    client_id, first_seq, txs = content
    start = data.draw(st.integers(0, len(txs) - 1))
    stop = data.draw(st.integers(start + 1, len(txs)))
    body = GOOD + _pure.build_frame(*content)
    frame = _pure.parse_body(body, 2)[1]
    (rebuilt,) = _pure.parse_body(_pure.build_frame(client_id, first_seq + start, txs[start:stop]), 1)
    assert all(module.slice_root(body, frame, start, stop) == rebuilt.root for module in TWINS)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (-1, 1), (0, 2), (1, 1), (1, 0), (2**70, 2**71)])
def test_slices_outside_the_frame(twin: ModuleType, start: int, stop: int) -> None:
    (frame,) = twin.parse_body(GOOD, 1)
    with pytest.raises(ValueError, match=rf"slice: got \[{start}, {stop}\), allowed: a non-empty part of \[0, 1\)"):
        twin.slice_root(GOOD, frame, start, stop)


def frame_calls(module: ModuleType, body: bytes, frame: native.Frame) -> list[Callable[[], object]]:
    return [lambda: module.transactions(body, frame), lambda: module.slice_root(body, frame, 0, 1)]


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": bytes(16)},
        {"first_seq": 2},
        {"count": 2},
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**70},
        {"size": 39},
        {"size": 0},
        {"size": 2**70},
    ],
    ids=str,
)
def test_a_frame_of_another_body_is_refused(twin: ModuleType, change: dict[str, object]) -> None:
    frame = twin.parse_body(GOOD, 1)[0]._replace(**change)
    for call in frame_calls(twin, GOOD, frame):
        with pytest.raises(ValueError, match=f"frame at byte {frame.offset}, {frame.size} bytes: not a frame of this"):
            call()


def test_a_frame_with_the_same_header_but_other_lengths_is_refused(twin: ModuleType) -> None:
    (frame,) = twin.parse_body(GOOD, 1)
    other = raw_frame(struct.pack(">I", 3) + b"tx")
    for call in frame_calls(twin, other, frame):
        with pytest.raises(ValueError, match="not a frame of this body"):
            call()


# Around every edge of a 64-byte block, with the tag in front and the length behind.
@pytest.mark.parametrize("size", [1, 54, 55, 56, 62, 63, 64, 118, 119, 126, 127, 128, 512])
def test_transactions_of_one_length_are_hashed_in_groups(twin: ModuleType, size: int) -> None:
    for count in (*range(1, 18), 31, 32, 33, 64, 127, 128, 129, 128 + 64 + 5, 300):
        txs = [hashlib.shake_128(b"%d/%d" % (size, i)).digest(size) for i in range(count)]
        (frame,) = twin.parse_body(twin.build_frame(CLIENT, 7, txs), 1)
        assert frame.root == expected_root(CLIENT, 7, txs)
        for skip in range(min(count, 6)):
            body = twin.build_frame(CLIENT, 7, txs)
            assert twin.slice_root(body, frame, skip, count) == expected_root(CLIENT, 7 + skip, txs[skip:])


@pytest.mark.parametrize("odd", [*range(9), 15, 16, 17, 31, 32, 127, 128, 129])
def test_a_transaction_of_another_length_breaks_its_group(twin: ModuleType, odd: int) -> None:
    txs = [bytes([i]) * (70 if i == odd else 100) for i in range(150)]
    (frame,) = twin.parse_body(twin.build_frame(CLIENT, 1, txs), 1)
    assert frame.root == expected_root(CLIENT, 1, txs)


@pytest.mark.parametrize("length", range(1, 200))
def test_every_padding_side_by_side(twin: ModuleType, length: int) -> None:
    txs = [hashlib.shake_128(bytes([i])).digest(length) for i in range(16)]
    (frame,) = twin.parse_body(twin.build_frame(CLIENT, 1, txs), 1)
    assert frame.root == expected_root(CLIENT, 1, txs)


READS_UP_TO_A_HOLE = """
import ctypes, importlib, mmap, sys

name, sha256 = sys.argv[1:]
twin = importlib.import_module(name)
if sha256 != "pure":
    assert twin.select_sha256(sha256) == sha256
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 2 * page)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + page), ctypes.c_size_t(page), 0) == 0
for length in range(1, 130):
    body = twin.build_frame(bytes(16), 1, [bytes(length)] * 16)
    memory[page - len(body) : page] = body
    assert twin.parse_body(memoryview(memory)[page - len(body) : page], 1) == twin.parse_body(body, 1)
"""


def test_nothing_behind_a_body_is_read(twin: ModuleType, request: pytest.FixtureRequest) -> None:
    command = [sys.executable, "-c", READS_UP_TO_A_HOLE, twin.__name__, request.node.callspec.params["twin"]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_head_of_a_frame_is_read_without_the_rest() -> None:
    frame = native.build_frame(CLIENT, 9, [b"x"])
    assert native.frame_head(frame) == native.frame_head(frame[:32]) == (CLIENT, 9)
    with pytest.raises(InvalidEncoding, match="bytes left for a frame header at byte 0: got 31"):
        native.frame_head(frame[:31])
    for first_seq in (0, 2**63):
        with pytest.raises(InvalidEncoding, match=f"first_seq at byte 0: got {first_seq}"):
            native.frame_head(CLIENT + struct.pack(">QII", first_seq, 1, 5))


def test_memory_is_kept_where_the_c_library_can(twin: ModuleType) -> None:
    assert twin.keep_memory(1 << 20) in (True, False)
    for size in (-(2**31) - 1, 2**31):
        with pytest.raises(OverflowError):
            twin.keep_memory(size)


# -- building ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client_id", "first_seq", "txs", "message"),
    [
        (bytes(15), 1, [b"x"], "client_id: got .*, allowed: exactly 16 bytes"),
        (bytearray(16), 1, [b"x"], "client_id: got .*, allowed: exactly 16 bytes"),
        (CLIENT, 1, [], "transactions: got none, allowed: at least 1"),
        (CLIENT, 0, [b"x"], "first_seq: got 0, allowed: 1 to"),
        (CLIENT, 2**63 - 1, [b"x", b"y"], f"first_seq: got {2**63 - 1}, allowed: 1 to {2**63 - 2}"),
        (CLIENT, 1, [b"x", b""], "transaction 1: got 0 bytes, allowed: 1 to 262144"),
        (CLIENT, 1, [bytes(262_145)], "transaction 0: got 262145 bytes, allowed: 1 to 262144"),
        (CLIENT, 1, [bytes(262_140)] * 16 + [b"x"], "transactions: got 4194309 bytes .* at most 4194304"),
    ],
)
def test_build_frame_refuses(
    twin: ModuleType, client_id: bytes, first_seq: int, txs: list[bytes], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        twin.build_frame(client_id, first_seq, txs)


@pytest.mark.parametrize("txs", [["text"], [bytearray(b"x")], b"x", [None]])
def test_build_frame_takes_bytes_only(twin: ModuleType, txs: list[bytes]) -> None:
    with pytest.raises(TypeError, match=r"transaction 0: got \w+, allowed: bytes"):
        twin.build_frame(CLIENT, 1, txs)
