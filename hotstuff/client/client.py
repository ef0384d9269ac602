"""The client: sends transactions, accepts what f+1 replicas say alike.

    async with Client(replicas) as client:
        receipt = await client.submit([b"hello"])

A frame of transactions goes to one replica (its author). Every replica that executes it answers on the client's own
connection to it. Equal answers from more than a third of the power include one of an honest replica, so what they say
is true. If they do not come in time, the frame goes to the next replica; replicas execute each number once, however
often it arrives.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from hotstuff import native
from hotstuff.app.sessions import MAX_GAPS
from hotstuff.errors import ConfigError, InvalidMessage, NotConnected, RequestTimeout, TooManyGaps
from hotstuff.network import Body, ClientLimits, FrameProtocol, connect_client
from hotstuff.types.client import Answer, ClientKind, Refusal, Refused, decode_answers

RECONNECT_MIN_S, RECONNECT_MAX_S = 0.05, 2.0
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_RETRY_S = 3.0
# A replica that asks for its frame again at once would get it as fast as the network goes.
RESEND_MIN_S = 0.01
# Bytes that may wait on one connection: what a replica reads at once. More would wait there instead of here, and a
# connection with too much on it is dropped.
UNSENT_BYTES = 1024 * 1024
# How soon a frame that had no room on the connection is tried again.
NO_ROOM_S = 0.005
# Different answers to one frame that count from one replica: an honest one gives one for each time it was ordered.
ANSWERS_EACH_MAX = 16


@dataclass(frozen=True)
class ReplicaAddress:
    """Where a validator takes clients, its Ed25519 node key (32 B) and its voting power."""

    host: str
    port: int
    node_key: bytes
    power: int = 1


@dataclass(frozen=True)
class Receipt:
    """Transactions `first_seq` … `first_seq + count - 1` of this client are committed and executed.

    `height`: of the block. `state`: the replicated state right after them (32 B). `fresh`: how many were executed
    there; the others had been executed before, through an earlier try.
    """

    first_seq: int
    count: int
    height: int
    state: bytes
    fresh: int


@dataclass
class _Pending:
    frame: bytes
    done: asyncio.Future[Answer]
    supporters: dict[Answer, set[int]] = field(default_factory=dict)
    author: int = 0
    sent_to: int | None = None
    since: float = 0.0
    retry: asyncio.TimerHandle | None = None


class Client:
    """One client identity, connected to all replicas. Use it from one event loop.

    Args:
        replicas: every validator, in any order.
        client_id: 16 bytes; random by default. Two clients must not share one at the same time.
        tls: off on loopback only.
        author: index in `replicas` of the replica that gets new frames; by default the client id decides.
        retry_s: how long to wait for answers before the next replica gets the frame, or twice as long as answers take
            lately, if that is more: under overload, the same frames once more would be the last thing that helps.
        on_answer: called with the replica's index and its answer to something that is under way. What one replica says
            may be a lie; `submit` returns when enough of them say the same.
    """

    def __init__(
        self,
        replicas: Sequence[ReplicaAddress],
        *,
        client_id: bytes | None = None,
        tls: bool = True,
        author: int | None = None,
        retry_s: float = DEFAULT_RETRY_S,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> None:
        self.client_id = client_id or os.urandom(native.CLIENT_ID_BYTES)
        self._replicas = list(replicas)
        self._tls = tls
        self._author = int.from_bytes(self.client_id, "big") % len(replicas) if author is None else author
        self._retry_s = retry_s
        self._answered = on_answer
        self._usual_s = 0.0
        self._total_power = sum(replica.power for replica in replicas)
        self._conns: dict[int, FrameProtocol] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._pending: dict[int, _Pending] = {}
        self._next_seq = 1
        self._turns = asyncio.Semaphore(MAX_GAPS)
        self._mistake: ConfigError | None = None
        self._closed = False
        self._open: set[asyncio.Event] = set()
        self.refused = 0

    # ---- life

    async def start(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Connects; returns when enough replicas are reached to confirm a transaction.

        Raises `NotConnected`, and `ConfigError` if an address cannot be used as asked.
        """
        self._closed = False
        self._tasks = [asyncio.create_task(self._stay_connected(i)) for i in range(len(self._replicas))]
        try:
            await asyncio.wait_for(self._until_enough(), timeout_s)
        except asyncio.TimeoutError:
            reached = len(self._conns)
            await self.close()
            raise NotConnected(f"reached {reached} of {len(self._replicas)} replicas within {timeout_s} s") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends all connections; what was pending fails with `NotConnected`."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for conn in self._conns.values():
            conn.close("client closed")
        self._conns.clear()
        for pending in self._pending.values():
            if pending.retry is not None:
                pending.retry.cancel()
            if not pending.done.done():
                pending.done.set_exception(NotConnected("the client was closed"))
                pending.done.exception()  # the caller may be gone already
        # The loop may be closed right after this; a transport that is still shutting down would make that fail.
        while self._open:
            await next(iter(self._open)).wait()

    async def __aenter__(self) -> Client:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- use

    async def submit(self, transactions: Sequence[bytes], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Receipt:
        """Sends transactions together and waits until they are committed and executed.

        At most `MAX_GAPS` calls are under way at a time; more wait for their turn. Raises `ValueError` for what no
        replica would take, `RequestTimeout` if f+1 matching answers did not come (then the outcome is unknown), and
        `TooManyGaps` after too many of those.
        """
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + timeout_s
        try:
            if self._turns.locked():
                await asyncio.wait_for(self._turns.acquire(), timeout_s)
            else:
                await self._turns.acquire()
        except asyncio.TimeoutError:
            raise RequestTimeout(f"not sent: {MAX_GAPS} requests before it had no answer in {timeout_s} s") from None
        try:
            return await self._submit(transactions, max(give_up_s - loop.time(), 0))
        finally:
            self._turns.release()

    async def _submit(self, transactions: Sequence[bytes], timeout_s: float) -> Receipt:
        if self._closed:
            raise NotConnected("the client was closed")
        frame = native.build_frame(self.client_id, self._next_seq, transactions)
        limit = ClientLimits().max_frame_bytes - 1
        if len(frame) > limit:
            raise ValueError(f"transactions: got {len(frame)} bytes together, allowed: at most {limit}")
        first_seq, self._next_seq = self._next_seq, self._next_seq + len(transactions)
        pending = _Pending(frame, asyncio.get_running_loop().create_future(), author=self._author)
        self._pending[first_seq] = pending
        self._send(first_seq, pending)
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that meets the answer.
            await asyncio.wait({pending.done}, timeout=timeout_s)
            if not pending.done.done():
                supporters = max((len(s) for s in pending.supporters.values()), default=0)
                raise RequestTimeout(
                    f"transactions {first_seq} to {first_seq + len(transactions) - 1}: {supporters} matching answers "
                    f"within {timeout_s:.3g} s; whether they commit is unknown"
                )
            answer = pending.done.result()
        finally:
            del self._pending[first_seq]
            if pending.retry is not None:
                pending.retry.cancel()
        if not answer.executed:
            raise TooManyGaps(f"transactions from {first_seq} on were not executed: start again with a new client id")
        return Receipt(first_seq, answer.count, answer.height, answer.state, answer.fresh)

    @property
    def connected(self) -> int:
        """Replicas reached now."""
        return len(self._conns)

    # ---- sending

    def _send(self, first_seq: int, pending: _Pending, delay_s: float = 0.0) -> None:
        """To its author, or the next replica that is connected; again elsewhere if no answer comes."""
        loop = asyncio.get_running_loop()
        if pending.retry is not None:
            pending.retry.cancel()
        if delay_s:
            pending.retry = loop.call_later(delay_s, self._send, first_seq, pending)
            return
        count = len(self._replicas)
        choices = [(pending.author + i) % count for i in range(count)]
        target = next((i for i in choices if i in self._conns), None)
        if target is not None:
            pending.author = target
            if target != pending.sent_to:
                pending.sent_to, pending.since = target, loop.time()
            conn = self._conns[target]
            if conn.buffered_bytes > UNSENT_BYTES and loop.time() < pending.since + self._patience_s:
                pending.retry = loop.call_later(NO_ROOM_S, self._send, first_seq, pending)
                return
            conn.send(ClientKind.SUBMIT, pending.frame)
        pending.retry = loop.call_later(
            self._patience_s if target is not None else 0.1, self._try_next, first_seq, pending
        )

    @property
    def _patience_s(self) -> float:
        return max(self._retry_s, 2 * self._usual_s)

    def _try_next(self, first_seq: int, pending: _Pending) -> None:
        pending.author = (pending.author + 1) % len(self._replicas)
        self._send(first_seq, pending)

    # ---- receiving

    def _on_frame(self, replica: int, kind: int, body: Body) -> None:
        if kind == ClientKind.ANSWERS:
            for answer in decode_answers(body):
                self._on_answer(replica, answer)
        elif kind == ClientKind.REFUSED:
            self._on_refused(replica, Refused.decode(body))
        elif kind != ClientKind.STATUS:
            raise InvalidMessage(f"replica message: got kind {kind}, allowed: answers, refusals, status")

    def _on_answer(self, replica: int, answer: Answer) -> None:
        pending = self._pending.get(answer.first_seq)
        if pending is None or pending.done.done():
            return
        if self._answered is not None:
            self._answered(replica, answer)
        if sum(replica in others for others in pending.supporters.values()) >= ANSWERS_EACH_MAX:
            return
        supporters = pending.supporters.setdefault(answer, set())
        supporters.add(replica)
        if 3 * sum(self._replicas[i].power for i in supporters) >= self._total_power:
            took_s = asyncio.get_running_loop().time() - pending.since
            self._usual_s = max(took_s, 0.95 * self._usual_s)  # the slowest of late, forgotten by and by
            pending.done.set_result(answer)

    def _on_refused(self, replica: int, refused: Refused) -> None:
        pending = self._pending.get(refused.first_seq)
        self.refused += 1
        if pending is None or pending.author != replica or pending.done.done():
            return
        delay_s = min(max(refused.retry_ms / 1000, RESEND_MIN_S), self._retry_s)
        if refused.reason is Refusal.NOT_READY:
            # It may stay so for long: this frame goes elsewhere now, and new ones with it.
            following = (replica + 1) % len(self._replicas)
            self._author = following if self._author == replica else self._author
            pending.author, delay_s = following, RESEND_MIN_S
        # One that keeps refusing gets no longer than one that is silent.
        elif asyncio.get_running_loop().time() + delay_s >= pending.since + self._retry_s:
            pending.author = (pending.author + 1) % len(self._replicas)
        self._send(refused.first_seq, pending, delay_s=delay_s)

    # ---- connections

    async def _stay_connected(self, index: int) -> None:
        delay_s = RECONNECT_MIN_S
        replica = self._replicas[index]
        # Before Python 3.12, a cancellation that meets the end of connecting is lost: hence `_closed`.
        while True:
            lost = asyncio.Event()

            def on_lost(_reason: str, lost: asyncio.Event = lost) -> None:
                lost.set()
                self._open.discard(lost)

            try:
                conn = await connect_client(
                    replica.host,
                    replica.port,
                    node_key=replica.node_key,
                    on_frame=lambda kind, body: self._on_frame(index, kind, body),
                    on_lost=on_lost,
                    tls=self._tls,
                )
                self._open.add(lost)
                if self._closed:
                    conn.close("client closed")
                    return
                conn.send(ClientKind.HELLO, self.client_id)
                self._conns[index] = conn
                self._changed.set()
                delay_s = RECONNECT_MIN_S
                await lost.wait()
                self._conns.pop(index, None)
            except NotConnected:
                if self._closed:
                    return
            except ConfigError as error:
                self._mistake = error
                self._changed.set()
                return
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RECONNECT_MAX_S)

    async def _until_enough(self) -> None:
        while 3 * sum(self._replicas[i].power for i in self._conns) < self._total_power:
            if self._mistake is not None:
                raise self._mistake
            self._changed.clear()
            await self._changed.wait()
