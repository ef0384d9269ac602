"""Accepting connections in a way that strangers cannot starve.

The event loop's own server hides a connection until its TLS handshake is over, so nobody can count those that never
finish. Here every accepted socket is counted from `accept` until its owner calls `Listener.release`:

* one address may open only so many per second, before any cryptography is spent on it;
* when all places are taken, the address that holds most of them loses its oldest one. So a stranger who holds places
  competes with himself, and an honest handshake, which takes milliseconds, gets through.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from hotstuff.network.dialling import connect_error_text
from hotstuff.network.framing import FrameProtocol
from hotstuff.network.limits import AcceptLimits
from hotstuff.network.ratelimit import QuietLog, RateLimiter
from hotstuff.network.sockets import address_group, address_text, open_listener

_BACKLOG = 512  # all validators of a large network may come back at once
_ACCEPT_RETRY_S = 0.5  # out of file descriptors: others must close first


class Listener:
    """A bound address that turns accepted sockets into connections made by `factory`."""

    def __init__(
        self,
        factory: Callable[[], FrameProtocol],
        *,
        bind: tuple[str, int],
        context: ssl.SSLContext | None,
        limits: AcceptLimits,
        log: QuietLog,
        on_crash: Callable[[Exception], None],
    ) -> None:
        self._factory = factory
        self._bind = bind
        self._context = context
        self._limits = limits
        self._log = log
        self._on_crash = on_crash
        self._rate = RateLimiter(per_second=limits.per_address_s, burst=limits.per_address_burst)
        self._waiting: dict[FrameProtocol, str] = {}  # address group of each connection without identity, oldest first
        self._handshakes: dict[FrameProtocol, asyncio.Task[None]] = {}
        self._socket: socket.socket | None = None
        self._resume: asyncio.TimerHandle | None = None
        self.refused = 0

    async def start(self) -> None:
        """Bind and begin to accept.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self._socket = await open_listener(*self._bind, field="bind", backlog=_BACKLOG)
        self._watch(self._socket)

    @property
    def bound_port(self) -> int:
        """The port in use, also if 0 was asked for. Only between `start` and `stop`."""
        if self._socket is None:
            raise RuntimeError("bound_port: the listener is not started")
        return int(self._socket.getsockname()[1])

    def release(self, conn: FrameProtocol) -> None:
        """`conn` has proved who it is, or is gone: it no longer takes a stranger's place."""
        self._waiting.pop(conn, None)

    async def stop(self) -> None:
        """Stop accepting and drop every connection without identity."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._resume is not None:
            self._resume.cancel()
        for conn in self._waiting.keys() & self._handshakes.keys():
            self._handshakes[conn].cancel()
        await asyncio.gather(*self._handshakes.values(), return_exceptions=True)
        for conn in list(self._waiting):
            conn.abort("stopped")

    def _watch(self, listening: socket.socket) -> None:
        # Not sock_accept: a task cancelled in the wrong turn would lose the socket it was just given.
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            sock, address = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it went away again
        except OSError as exc:
            self._log.warning("accept", f"accepting is paused for {_ACCEPT_RETRY_S} s: {exc}")
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            self._resume = loop.call_later(_ACCEPT_RETRY_S, self._watch, listening)
            return
        try:
            sock.setblocking(False)
            self._admit(sock, address)
        except Exception as exc:
            sock.close()
            self._on_crash(exc)

    def _admit(self, sock: socket.socket, address: tuple[str, int]) -> None:
        group = address_group(address[0])
        if not self._rate.allow(group, asyncio.get_running_loop().time()):
            self.refused += 1
            self._log.warning(
                ("rate", group), f"{group}: more than {self._limits.per_address_s:g} connections a second"
            )
            sock.close()
            return
        if len(self._waiting) >= self._limits.unauthenticated_max:
            self._evict_one()
        conn = self._factory()
        self._waiting[conn] = group
        task = asyncio.create_task(self._open(conn, sock, address))
        self._handshakes[conn] = task
        task.add_done_callback(lambda task: self._opened(conn, sock, task))

    def _evict_one(self) -> None:
        ((crowd, _),) = Counter(self._waiting.values()).most_common(1)
        oldest = next(conn for conn, group in self._waiting.items() if group == crowd)
        self.refused += 1
        self._log.warning(("crowd", crowd), f"{crowd} holds too many connections without identity, dropping the oldest")
        self.release(oldest)
        if oldest in self._handshakes:
            self._handshakes[oldest].cancel()
        oldest.abort("too many connections without identity")

    async def _open(self, conn: FrameProtocol, sock: socket.socket, address: tuple[str, int]) -> None:
        timeout_s = None if self._context is None else self._limits.handshake_timeout_s
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: conn, sock, ssl=self._context, ssl_handshake_timeout=timeout_s
            )
        except (OSError, asyncio.TimeoutError) as exc:
            self.refused += 1
            self._log.warning(
                ("tls", address_group(address[0])),
                f"connection from {address_text(address)} refused: {connect_error_text(exc)}",
            )
            raise

    def _opened(self, conn: FrameProtocol, sock: socket.socket, task: asyncio.Task[None]) -> None:
        del self._handshakes[conn]
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        self.release(conn)
        conn.connection_lost(None)
        sock.close()  # a task that was cancelled before it began has not even looked at it
        if isinstance(error, Exception) and not isinstance(error, (OSError, asyncio.TimeoutError)):
            self._on_crash(error)
