from __future__ import annotations

import asyncio
import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_helpers import frame, run, until

from hotstuff.errors import ConfigError, InvalidMessage
from hotstuff.network.framing import GOODBYE, Body, FrameProtocol, encode_app_frame, encode_frame, gather
from hotstuff.network.limits import PeerLimits
from hotstuff.network.ratelimit import QuietLog, RateLimiter, printable

MAX = 64 * 1024


class FakeTransport(asyncio.Transport):
    """Remembers what is written; whatever is written stays in its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[bytes]] = []
        self.closed = self.aborted = self.paused = False

    def writelines(self, chunks: list[bytes]) -> None:  # type: ignore[override]
        self.writes.append([bytes(chunk) for chunk in chunks])

    def get_write_buffer_size(self) -> int:
        return sum(len(chunk) for write in self.writes for chunk in write)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Log:
    """A `FrameHandler` that writes everything down."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, Body]] = []
        self.invalid: list[InvalidMessage] = []
        self.closed: list[str] = []
        self.crashes: list[Exception] = []
        self.error: Exception | None = None
        self.pause_at: int | None = None

    def on_open(self, conn: FrameProtocol) -> None:
        pass

    def on_frame(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        if self.error is not None:
            raise self.error
        self.frames.append((kind, body))
        if len(self.frames) == self.pause_at:
            conn.pause_reading()

    def on_invalid(self, conn: FrameProtocol, error: InvalidMessage) -> None:
        self.invalid.append(error)

    def on_close(self, conn: FrameProtocol, reason: str) -> None:
        self.closed.append(reason)

    def on_crash(self, error: Exception) -> None:
        self.crashes.append(error)


def connection(
    *, frame_timeout_s: float = 60, handshake_timeout_s: float | None = None
) -> tuple[FrameProtocol, FakeTransport, Log]:
    log, transport = Log(), FakeTransport()
    conn = FrameProtocol(
        log,
        max_frame_bytes=MAX,
        max_buffered_bytes=4 * MAX,
        frame_timeout_s=frame_timeout_s,
        handshake_timeout_s=handshake_timeout_s,
    )
    conn.connection_made(transport)
    return conn, transport, log


def feed(conn: FrameProtocol, data: bytes) -> None:
    """Deliver as a transport does: into whatever buffer the protocol offers, as much as fits."""
    while data:
        buffer = conn.get_buffer(-1)
        assert len(buffer) > 0
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        conn.buffer_updated(size)
        data = data[size:]


def plain(frames: list[tuple[int, Body]]) -> list[tuple[int, bytes]]:
    return [(kind, bytes(body)) for kind, body in frames]


SIZES = st.one_of(st.integers(0, 40), st.integers(16 * 1024 - 8, 16 * 1024 + 8), st.integers(0, MAX - 1))
FRAMES = st.lists(st.tuples(st.integers(0, 255), SIZES), max_size=8)


@settings(max_examples=150, deadline=None)
@given(FRAMES, st.lists(st.integers(0, 300_000), max_size=12))
def test_any_split_of_the_stream_gives_the_same_frames(shape: list[tuple[int, int]], cuts: list[int]) -> None:
    frames = [(kind, bytes([number + 1]) * size) for number, (kind, size) in enumerate(shape)]
    stream = b"".join(frame(kind, body) for kind, body in frames)

    async def main() -> None:
        conn, _, log = connection()
        edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        for start, stop in itertools.pairwise(edges):
            feed(conn, stream[start:stop])
        assert plain(log.frames) == frames  # compared at the end: no body was overwritten by a later one
        assert all(isinstance(body, bytes) or body.readonly for _, body in log.frames)
        conn.connection_lost(None)

    run(main)


def test_one_byte_at_a_time() -> None:
    frames = [(1, b""), (2, b"x"), (3, b"y" * 17_000), (4, b"z" * 300)]

    async def main() -> None:
        conn, _, log = connection()
        for byte in b"".join(frame(kind, body) for kind, body in frames):
            feed(conn, bytes([byte]))
        assert plain(log.frames) == frames
        conn.connection_lost(None)

    run(main)


@pytest.mark.parametrize("length", [0, MAX + 1, 2**31, 2**32 - 1])
def test_a_bad_length_is_refused_before_the_kind_is_even_there(length: int) -> None:
    async def main() -> None:
        conn, transport, log = connection()
        feed(conn, frame(7, b"good"))
        feed(conn, struct.pack(">I", length))
        assert plain(log.frames) == [(7, b"good")]
        assert [str(error) for error in log.invalid] == [f"frame length: got {length}, allowed: 1..{MAX}"]
        assert transport.closed
        feed(conn, frame(7, b"more"))
        assert len(log.frames) == 1
        conn.connection_lost(None)

    run(main)


def test_the_largest_frame_passes() -> None:
    async def main() -> None:
        conn, _, log = connection()
        feed(conn, frame(9, b"b" * (MAX - 1)) * 3)
        assert plain(log.frames) == [(9, b"b" * (MAX - 1))] * 3
        conn.connection_lost(None)

    run(main)


def test_a_large_body_is_received_into_memory_of_its_own() -> None:
    async def main() -> None:
        conn, _, _ = connection()
        feed(conn, struct.pack(">IB", MAX, 9))
        assert len(conn.get_buffer(-1)) == MAX - 1  # exactly the rest of the frame, so nothing is copied afterwards
        conn.connection_lost(None)

    run(main)


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_pause_holds_back_what_was_already_received(size: int) -> None:
    async def main() -> None:
        conn, transport, log = connection(frame_timeout_s=0.02)
        log.pause_at = 2
        frames = [(number, bytes([number]) * size) for number in range(1, 30)]
        feed(conn, b"".join(frame(kind, body) for kind, body in frames))  # a transport may deliver although paused
        assert transport.paused
        assert plain(log.frames) == frames[:2]
        await asyncio.sleep(0.05)  # longer than the frame timeout: a pause is our fault, not the sender's
        assert not log.invalid
        log.pause_at = None
        conn.resume_reading()
        await until(lambda: plain(log.frames) == frames)
        await until(lambda: not transport.paused)
        conn.connection_lost(None)

    run(main)


def test_invalid_messages_close_and_anything_else_crashes() -> None:
    async def main() -> None:
        conn, transport, log = connection()
        log.error = InvalidMessage("bad vote")
        feed(conn, frame(1, b"") * 2)
        assert [str(error) for error in log.invalid] == ["bad vote"]
        assert transport.closed
        assert transport.writes == [[frame(GOODBYE, b"bad vote")]]
        conn.connection_lost(None)
        assert log.closed == ["bad vote"]

        conn, transport, log = connection()
        log.error = ZeroDivisionError()
        feed(conn, frame(1, b"") * 2)
        assert log.crashes == [log.error]
        assert transport.aborted
        assert not log.invalid
        conn.connection_lost(None)

    run(main)


def test_many_sends_in_one_turn_are_one_write() -> None:
    async def main() -> None:
        conn, transport, _ = connection()
        for number in range(100):
            assert conn.send(5, bytes([number]), b"tail")
        assert conn.buffered_bytes == 100 * 10
        await until(lambda: transport.writes)
        assert transport.writes == [[b"".join(frame(5, bytes([number]) + b"tail") for number in range(100))]]
        assert (conn.frames_out, conn.bytes_out) == (100, 1000)
        conn.connection_lost(None)

    run(main)


def test_large_parts_are_not_copied() -> None:
    large = b"x" * 20_000
    chunks = gather([b"a", b"b", large, b"c"])
    assert chunks == [b"ab", large, b"c"]
    assert chunks[1] is large


@given(st.lists(st.binary(max_size=30), max_size=5), st.integers(0, 255))
def test_encode_frame_is_the_layout(parts: list[bytes], kind: int) -> None:
    encoded = encode_frame(kind, [memoryview(part) for part in parts])
    assert b"".join(encoded.parts) == frame(kind, b"".join(parts))
    assert encoded.size_bytes == len(b"".join(encoded.parts))


@pytest.mark.parametrize("kind", [-1, 0, 254, 255, 256])
def test_reserved_kinds_are_the_callers_mistake(kind: int) -> None:
    with pytest.raises(ValueError, match=r"kind: got -?\d+, allowed: 1..253"):
        encode_app_frame(kind, [])
    with pytest.raises(ValueError, match="frame: got kind 256"):
        encode_frame(256, [])


def test_the_write_buffer_is_bounded() -> None:
    async def main() -> None:
        conn, transport, _ = connection()
        body = b"x" * 1000
        assert sum(conn.try_send(encode_frame(5, [body])) for _ in range(1000)) == 4 * MAX // 1005
        await until(lambda: transport.writes)
        assert not conn.try_send(encode_frame(5, [body]))
        assert not conn.closing
        assert not conn.send(5, body)  # the impatient form
        assert transport.aborted
        assert not conn.send(5, b"")
        conn.connection_lost(None)
        assert conn.buffered_bytes == 0

    run(main)


def test_a_dripping_frame_is_cut_off_and_an_idle_connection_is_not() -> None:
    async def main() -> None:
        drip, drip_transport, drip_log = connection(frame_timeout_s=0.1)
        idle, idle_transport, _ = connection(frame_timeout_s=0.02)
        busy, busy_transport, _ = connection(frame_timeout_s=0.1)
        feed(drip, struct.pack(">IB", 1000, 1))
        while not drip_log.invalid:  # one byte at a time, for ever
            feed(drip, b"x")
            feed(busy, frame(1, b"whole") + b"\0\0")
            feed(busy, frame(1, b"")[2:])
            await asyncio.sleep(0.005)
        assert str(drip_log.invalid[0]) == "a frame took longer than 0.1 s"
        assert drip_transport.closed
        assert not idle_transport.closed
        assert not busy_transport.closed
        for conn in (drip, idle, busy):
            conn.connection_lost(None)

    run(main)


def test_a_connection_must_authenticate_in_time() -> None:
    async def main() -> None:
        late, late_transport, late_log = connection(handshake_timeout_s=0.05)
        good, good_transport, _ = connection(handshake_timeout_s=0.05)
        good.authenticated()
        await until(lambda: late_transport.closed)
        assert str(late_log.invalid[0]) == "not authenticated within 0.05 s"
        await until(lambda: late_transport.aborted)  # nobody answered the close: it does not linger
        assert not good_transport.closed
        late.connection_lost(None)
        good.connection_lost(None)

    run(main)


def test_rates_are_per_key_and_recover() -> None:
    limiter = RateLimiter(per_second=10, burst=3, keys_max=2)
    assert [limiter.allow("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert limiter.allow("b", 0.0)
    assert [limiter.allow("a", 0.11) for _ in range(2)] == [True, False]
    assert [limiter.allow("a", 9.0) for _ in range(4)] == [True, True, True, False]
    limiter.allow("c", 9.0)
    limiter.allow("d", 9.0)
    assert limiter.allow("a", 9.0)  # the table is bounded: a was forgotten


def test_the_log_is_quiet_and_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    now = 0.0
    log = QuietLog(logging.getLogger("test"), lambda: now)
    for _ in range(100):
        log.warning("a", "bad\nINFO all is well\x1b[0m")
    now = 1.5
    log.warning("a", "bad")
    assert caplog.messages == ["bad?INFO all is well?[0m", "bad (99 more like this left out)"]
    assert printable("\u202e€ok") == "??ok"


def test_limits_contradicting_each_other_are_named() -> None:
    with pytest.raises(ConfigError, match="max_frame_bytes: got 100"):
        PeerLimits(max_frame_bytes=100, max_buffered_bytes=104)
    with pytest.raises(ConfigError, match="backoff_min_s"):
        PeerLimits(backoff_min_s=3.0)
    with pytest.raises(ConfigError, match="strikes_max"):
        PeerLimits(strikes_max=0)
