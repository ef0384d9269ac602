"""Frames on a byte stream: ``u32 length of (kind + body) | u8 kind | body``, big-endian.

`FrameProtocol` is the only thing in this package that asyncio calls. It cuts the stream into frames, collects what is
sent within one turn of the event loop into one write (worth 4-5x on small frames), and enforces the three limits that
keep one connection harmless: frame size, bytes waiting to be written, and time in which a begun frame must be complete.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

from hotstuff.errors import InvalidMessage
from hotstuff.network.sockets import address_text, tune

Buffer = bytes | bytearray | memoryview
Body = bytes | memoryview

LENGTH_BYTES = 4
HEADER_BYTES = 5

HELLO = 0  # the network's own kinds; everything between belongs to the application
PROOF = 254
GOODBYE = 255
MIN_KIND = 1
MAX_KIND = 253

GOODBYE_TEXT_BYTES = 200  # a reason fits in a line; the other side logs it, so it must not be able to flood
HANDSHAKE_FRAME_BYTES = 1 + GOODBYE_TEXT_BYTES  # the largest frame before authentication; a Hello is smaller

_FIRST_BUFFER_BYTES = 16 * 1024  # most connections only ever see votes: 200 of them cost 3 MiB
_LAST_BUFFER_BYTES = 256 * 1024  # what uvloop reads from a TLS socket at once; larger gains nothing
_OWN_BODY_BYTES = 16 * 1024  # from here, receiving into the body's own memory beats copying it out of the buffer
_JOIN_BYTES = 16 * 1024  # one TLS record; joining smaller parts saves a record each, larger ones would only be copied
_LINGER_S = 1.0  # after close(): time for the other side to take what is still unsent

_LENGTH = struct.Struct(">I")
_HEADER = struct.Struct(">IB")


class Frame(NamedTuple):
    """A frame ready for any number of connections. `parts` are shared, so nobody may change them."""

    parts: tuple[Buffer, ...]
    size_bytes: int


def encode_frame(kind: int, parts: Sequence[Buffer]) -> Frame:
    """The frame whose body is the concatenation of `parts`.

    Raises:
        ValueError: `kind` is not in 0..255 or the body does not fit a u32 length.
    """
    body_bytes = 0
    for part in parts:
        body_bytes += len(part) if type(part) is bytes else memoryview(part).nbytes
    try:
        header = _HEADER.pack(body_bytes + 1, kind)
    except struct.error as exc:
        raise ValueError(f"frame: got kind {kind} and {body_bytes} bytes, allowed: kind 0..255, u32 length") from exc
    return Frame((header, *parts), body_bytes + HEADER_BYTES)


def encode_app_frame(kind: int, parts: Sequence[Buffer]) -> Frame:
    """Like `encode_frame`, for callers outside this package, who may not use its own kinds.

    Raises:
        ValueError: `kind` is reserved or out of range.
    """
    if not MIN_KIND <= kind <= MAX_KIND:
        raise ValueError(f"kind: got {kind}, allowed: {MIN_KIND}..{MAX_KIND}")
    return encode_frame(kind, parts)


def goodbye_text(body: Body) -> str:
    """What the other side gave as its reason. It is theirs: log it through `QuietLog` only."""
    return bytes(body[:GOODBYE_TEXT_BYTES]).decode("utf-8", "replace")


def gather(parts: Sequence[Buffer]) -> list[Buffer]:
    """Join neighbouring small parts, leave large ones alone."""
    chunks: list[Buffer] = []
    small: list[Buffer] = []
    for part in parts:
        if len(part) < _JOIN_BYTES:
            small.append(part)
            continue
        if small:
            chunks.append(b"".join(small))
            small = []
        chunks.append(part)
    if small:
        chunks.append(b"".join(small))
    return chunks


class FrameHandler(Protocol):
    """What `FrameProtocol` calls. Every call comes from the event loop."""

    def on_open(self, conn: FrameProtocol) -> None:
        """The transport is ready (TLS handshake included)."""

    def on_frame(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        """One frame. `body` is the receiver's to keep: its bytes are never overwritten.

        It is `bytes` if the frame was cut out of the receive buffer and a read-only `memoryview` over memory of its
        own if the frame was large. Raise `InvalidMessage` to close the connection.
        """

    def on_invalid(self, conn: FrameProtocol, error: InvalidMessage) -> None:
        """The other side broke a rule. The connection is closed right after this call."""

    def on_close(self, conn: FrameProtocol, reason: str) -> None:
        """The connection is gone. Called exactly once for each `on_open`."""

    def on_crash(self, error: Exception) -> None:
        """A handler raised something other than `InvalidMessage`: our own bug, the process should stop."""


class FrameProtocol(asyncio.BufferedProtocol):
    """One connection.

    Args:
        handler: receives the events.
        max_frame_bytes: largest accepted kind + body; may be changed between frames.
        max_buffered_bytes: bytes that may wait for the other side to read. The loop's TLS layer may hold up to one
            turn's writes more without reporting it, so the memory bound is twice this.
        frame_timeout_s: an incomplete frame must be complete after this time.
        handshake_timeout_s: `authenticated` must be called before this time, if not None.
    """

    def __init__(
        self,
        handler: FrameHandler,
        *,
        max_frame_bytes: int,
        max_buffered_bytes: int,
        frame_timeout_s: float,
        handshake_timeout_s: float | None = None,
    ) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.max_buffered_bytes = max_buffered_bytes
        self.peername = "unconnected"
        self.frames_in = self.frames_out = self.bytes_in = self.bytes_out = 0
        self._handler = handler
        self._frame_timeout_s = frame_timeout_s
        self._handshake_timeout_s = handshake_timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

        self._buffer = bytearray(_FIRST_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # the unparsed bytes are _buffer[_start:_end]
        self._body: bytearray | None = None  # a large body in the making, its kind, and how much is still to come
        self._body_kind = self._body_missing = 0
        self._partial_since: float | None = None
        self._authenticate_by: float | None = None
        self._watchdog: asyncio.TimerHandle | None = None

        self._pending: list[Buffer] = []
        self._pending_bytes = 0
        self._flush_scheduled = False
        self._paused = False
        self._closing = False
        self._reason = ""

    # -- connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peername = address_text(transport.get_extra_info("peername"))
        tune(transport)
        now = self._loop.time()
        if self._handshake_timeout_s is not None:
            self._authenticate_by = now + self._handshake_timeout_s
        if self._closing:
            self._transport.abort()
        else:
            self._watch()
        self._guard_open()

    def _guard_open(self) -> None:
        try:
            self._handler.on_open(self)
        except InvalidMessage as exc:
            self._refuse(exc)
        except Exception as exc:
            self._crash(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:  # `dial` and `Listener` call this too, see `dial`
            return
        self._closing = True
        self._reason = self._reason or (str(exc) if exc else "")
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._transport = None
        self._pending.clear()
        self._pending_bytes = 0
        self._body = None
        try:
            self._handler.on_close(self, self.close_reason)
        except Exception as error:
            self._handler.on_crash(error)

    def get_extra_info(self, name: str) -> Any:
        """The transport's extra info, None once the connection is gone."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    @property
    def closing(self) -> bool:
        """True from `close`, `abort` or the loss of the connection on."""
        return self._closing

    @property
    def close_reason(self) -> str:
        """Why the connection is `closing`."""
        return self._reason or "closed by the other side"

    def authenticated(self) -> None:
        """The other side has proved who it is: the handshake deadline no longer applies."""
        self._authenticate_by = None

    def close(self, reason: str) -> None:
        """Tell the other side why, send what is pending, and close. Aborts if that takes longer than a second."""
        if self._closing:
            return
        self._queue(encode_frame(GOODBYE, [reason.encode("utf-8", "replace")[:GOODBYE_TEXT_BYTES]]))
        self._flush()
        self._closing = True
        self._reason = reason
        if self._transport is not None:
            self._transport.close()
            self._rearm(self._loop.time() + _LINGER_S, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Drop the connection and whatever is unsent."""
        if not self._closing:
            self._closing = True
            self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    # -- deadlines: one timer per connection, not per frame ---------------------------------------------------------

    def _watch(self) -> None:
        """Close if a deadline has passed, else look again at the earliest moment one could pass."""
        now = self._loop.time()
        since = now if self._partial_since is None else self._partial_since
        deadline = since + self._frame_timeout_s
        if now >= deadline:
            self._refuse(InvalidMessage(f"a frame took longer than {self._frame_timeout_s:g} s"))
            return
        if self._authenticate_by is not None:
            if now >= self._authenticate_by:
                self._refuse(InvalidMessage(f"not authenticated within {self._handshake_timeout_s:g} s"))
                return
            deadline = min(deadline, self._authenticate_by)
        self._rearm(deadline, self._watch)

    def _rearm(self, when: float, callback: Callable[[], object]) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = self._loop.call_at(when, callback)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._body is not None and self._body_missing:
            return memoryview(self._body)[-self._body_missing :]
        if self._end == len(self._buffer):  # only if a paused transport delivers what it had already read
            self._make_room(2 * len(self._buffer))
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        self.bytes_in += nbytes
        if self._body_missing:
            self._body_missing -= nbytes
        else:
            self._end += nbytes
        if not self._paused:
            self._parse()

    def _parse(self) -> None:
        frames_before = self.frames_in
        try:
            self._take_body()
            self._take_frames()
        except InvalidMessage as exc:
            self._refuse(exc)
        except Exception as exc:
            self._crash(exc)
        if self._paused or (self._start == self._end and self._body is None):
            self._partial_since = None
        elif self._partial_since is None or self.frames_in != frames_before:
            self._partial_since = self._loop.time()

    def _take_body(self) -> None:
        body = self._body
        if body is None or self._body_missing:
            return
        self._body = None
        self.frames_in += 1
        self._handler.on_frame(self, self._body_kind, memoryview(body).toreadonly())

    def _take_frames(self) -> None:
        while self._body is None and not self._paused and not self._closing:
            start, available = self._start, self._end - self._start
            if available < LENGTH_BYTES:
                break
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if not 1 <= length <= self.max_frame_bytes:
                raise InvalidMessage(f"frame length: got {length}, allowed: 1..{self.max_frame_bytes}")
            stop = start + LENGTH_BYTES + length
            if stop > self._end:
                if length > _OWN_BODY_BYTES and available >= HEADER_BYTES:
                    self._begin_body(length - 1)
                break
            self._start = stop
            self.frames_in += 1
            self._handler.on_frame(self, self._buffer[start + LENGTH_BYTES], self._view[start + 5 : stop].tobytes())
        self._tidy()

    def _begin_body(self, size_bytes: int) -> None:
        body = bytearray(size_bytes)
        head = self._view[self._start + HEADER_BYTES : self._end]
        body[: len(head)] = head
        self._body, self._body_kind = body, self._buffer[self._start + LENGTH_BYTES]
        self._body_missing = size_bytes - len(head)
        self._start = self._end

    def _tidy(self) -> None:
        """Keep the rest at the front, and let the buffer grow while single reads fill it."""
        filled = self._end == len(self._buffer)
        if self._start == self._end:
            self._start = self._end = 0
        if filled and len(self._buffer) < _LAST_BUFFER_BYTES:
            self._make_room(2 * len(self._buffer))
        elif self._end > len(self._buffer) // 2:
            self._make_room(len(self._buffer))

    def _make_room(self, size_bytes: int) -> None:
        rest = self._end - self._start
        buffer = self._buffer if size_bytes == len(self._buffer) else bytearray(size_bytes)
        view = memoryview(buffer)
        view[:rest] = self._view[self._start : self._end]
        self._buffer, self._view, self._start, self._end = buffer, view, 0, rest

    def _refuse(self, error: InvalidMessage) -> None:
        try:
            self._handler.on_invalid(self, error)
        except Exception as exc:
            self._handler.on_crash(exc)
        self.close(str(error))

    def _crash(self, error: Exception) -> None:
        self.abort("internal error")
        self._handler.on_crash(error)

    def pause_reading(self) -> None:
        """Deliver no more frames (not even those already received) until `resume_reading`."""
        if self._paused:
            return
        self._paused = True
        self._partial_since = None  # it is us who are slow now
        if self._transport is not None and not self._closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`. Frames already received are delivered in the next turn of the loop."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._paused or self._closing or self._transport is None:
            return
        self._transport.resume_reading()
        self._parse()

    # -- sending -----------------------------------------------------------------------------------------------------

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the other side to read them."""
        if self._transport is None:
            return self._pending_bytes
        return self._pending_bytes + self._transport.get_write_buffer_size()

    def send(self, kind: int, *parts: Buffer) -> bool:
        """Send one frame; a connection whose other side does not read is dropped.

        Returns:
            False if the connection is closing or was dropped just now.

        Raises:
            ValueError: `kind` is reserved or out of range.
        """
        sent = self.try_send(encode_app_frame(kind, parts))
        if not sent and not self._closing:
            self.abort("the other side does not read")
        return sent

    def try_send(self, frame: Frame) -> bool:
        """Send one frame, or return False if the connection is closing or too much is waiting already."""
        if self._closing or self.buffered_bytes + frame.size_bytes > self.max_buffered_bytes:
            return False
        self._queue(frame)
        return True

    def send_control(self, kind: int, body: bytes) -> None:
        """Send one of the network's own small frames, whatever is waiting."""
        if not self._closing:
            self._queue(encode_frame(kind, [body]))

    def _queue(self, frame: Frame) -> None:
        self._pending += frame.parts
        self._pending_bytes += frame.size_bytes
        self.frames_out += 1
        self.bytes_out += frame.size_bytes
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if not self._pending or self._closing or self._transport is None or self._transport.is_closing():
            return
        parts, self._pending, self._pending_bytes = self._pending, [], 0
        self._transport.writelines(gather(parts))
