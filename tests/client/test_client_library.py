from __future__ import annotations

import asyncio
import dataclasses
from itertools import pairwise
from typing import Any

import pytest
from fake_replicas import STATE, FakeReplica, answer, connected, replicas
from network_helpers import run, until

from hotstuff.app.sessions import MAX_GAPS
from hotstuff.client import Client, Receipt, ReplicaAddress
from hotstuff.client import client as module
from hotstuff.errors import ConfigError, NotConnected, RequestTimeout, TooManyGaps
from hotstuff.network import ClientLimits
from hotstuff.types.client import ClientKind, Refusal, encode_answers

NEVER_S = 3600.0


def submit(client: Client, *transactions: bytes, timeout_s: float = 20) -> asyncio.Task[Receipt]:
    return asyncio.create_task(client.submit(transactions or (b"x",), timeout_s=timeout_s))


async def ping(client: Client, fakes: list[FakeReplica]) -> None:
    """Until everything that was said before has been read: replicas say one thing more, which decides it."""
    first = client._next_seq
    task = submit(client)
    await until(lambda: any(first in fake.numbers for fake in fakes))
    for fake in fakes:
        fake.answer(answer(first, height=99))
    await task


# ---- answers


@pytest.mark.parametrize("tls", [False, True])
def test_a_receipt(tls: bool) -> None:
    async def main() -> None:
        async with replicas(4, tls=tls) as fakes, connected(fakes, tls=tls) as client:
            task = submit(client, b"one", b"two")
            await until(lambda: fakes[0].frames)
            for fake in fakes:
                fake.answer(answer(1, 2, fresh=1))
            assert await task == Receipt(first_seq=1, count=2, height=7, state=STATE, fresh=1)
            assert fakes[0].frames == [(1, [b"one", b"two"])]
            assert [fake.frames for fake in fakes[1:]] == [[]] * 3

    run(main)


def test_one_answer_of_four_is_not_enough() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            fakes[2].answer(answer(1))
            await ping(client, fakes)
            assert not task.done()
            fakes[1].answer(answer(1))
            assert (await task).height == 7

    run(main)


def test_the_same_replica_counts_once() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            fakes[2].answer(answer(1), answer(1))
            fakes[2].answer(answer(1))
            await ping(client, fakes)
            assert not task.done()
            fakes[3].answer(answer(1))
            await task

    run(main)


DIFFERENT = [
    answer(1, height=8),
    answer(1, state=b"\6" * 32),
    answer(1, fresh=0),
    answer(1, count=2, fresh=1),
]


@pytest.mark.parametrize("other", DIFFERENT)
def test_answers_that_differ_do_not_add_up(other: Any) -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            fakes[0].answer(answer(1))
            fakes[1].answer(other)
            await ping(client, fakes)
            assert not task.done()
            fakes[2].answer(other)
            assert (await task).state == other.state

    run(main)


@pytest.mark.parametrize(
    ("powers", "few", "enough"),
    [
        ([5, 1, 1, 1], [1, 2], [3]),
        ([5, 1, 1, 1], [], [0]),
        ([1, 1, 1], [], [2]),
        ([1, 1, 1, 1, 1], [4], [2]),
        ([2, 2, 2, 1], [3], [0]),
    ],
)
def test_a_third_of_the_power_decides(powers: list[int], few: list[int], enough: list[int]) -> None:
    async def main() -> None:
        async with replicas(len(powers), powers=powers) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            for i in few:
                fakes[i].answer(answer(1))
            await ping(client, fakes)
            assert not task.done()
            for i in enough:
                fakes[i].answer(answer(1))
            await task

    run(main)


def test_frames_under_way_together() -> None:
    async def main() -> None:
        async with replicas(2) as fakes, connected(fakes) as client:
            tasks = [submit(client, *[b"x"] * count) for count in (3, 1, 2)]
            await until(lambda: len(fakes[0].frames) == 3)
            assert fakes[0].numbers == [1, 4, 5]
            fakes[1].answer(answer(5, 2, height=3), answer(4, 1, height=2), answer(1, 3, height=1), answer(77))
            receipts = await asyncio.gather(*tasks)
            assert [(r.first_seq, r.count, r.height) for r in receipts] == [(1, 3, 1), (4, 1, 2), (5, 2, 3)]

    run(main)


def test_much_at_once_waits_for_a_replica_that_reads_slowly() -> None:
    async def main() -> None:
        async with replicas(2) as fakes, connected(fakes) as client:
            (conn,) = fakes[0].clients
            conn.pause_reading()
            tasks = [submit(client, *[bytes(1000)] * 300) for _ in range(40)]  # 12 MB: three times what a link buffers
            mine = client._conns[0]
            await until(lambda: mine.buffered_bytes > module.UNSENT_BYTES)
            await asyncio.sleep(10 * module.NO_ROOM_S)
            assert mine.buffered_bytes < 2 * module.UNSENT_BYTES
            conn.resume_reading()
            await until(lambda: len(fakes[0].frames) == 40)
            assert fakes[0].lost == 0 and not fakes[1].frames
            fakes[1].answer(*(answer(first, 300) for first in range(1, 40 * 300, 300)))
            await asyncio.gather(*tasks)

    run(main)


def test_no_more_frames_under_way_than_gaps_may_be_open() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            tasks = [submit(client) for _ in range(MAX_GAPS + 2)]
            await until(lambda: len(fakes[0].frames) == MAX_GAPS)
            with pytest.raises(RequestTimeout, match=r"^not sent: 64 requests before it had no answer in 0\.01 s$"):
                await client.submit([b"x"], timeout_s=0.01)
            for fake in fakes:
                fake.answer(answer(MAX_GAPS))
            await until(lambda: len(fakes[0].frames) == MAX_GAPS + 1)
            for fake in fakes:
                fake.answer(*(answer(first) for first in range(1, MAX_GAPS + 2)))
            await until(lambda: len(fakes[0].frames) == MAX_GAPS + 2)
            for fake in fakes:
                fake.answer(answer(MAX_GAPS + 2))
            receipts = await asyncio.gather(*tasks)
            assert [receipt.first_seq for receipt in receipts] == list(range(1, MAX_GAPS + 3))

    run(main)


def test_what_was_ordered_and_not_executed_is_no_receipt() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            no = dataclasses.replace(answer(1, fresh=0), executed=False)
            fakes[0].answer(no)
            fakes[1].answer(answer(1, fresh=0))
            await ping(client, fakes)
            assert not task.done()
            fakes[2].answer(no)
            with pytest.raises(TooManyGaps, match="transactions from 1 on were not executed"):
                await task

    run(main)


def test_answers_nobody_waits_for_are_ignored() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            for fake in fakes:
                fake.answer(answer(50), answer(51))
                fake.refuse(90, 1)
            task = submit(client)
            await until(lambda: fakes[0].frames)
            assert not task.done()
            for fake in fakes:
                fake.answer(answer(1))
            await task
            for fake in fakes:
                fake.answer(answer(1))
            await ping(client, fakes)
            assert client.connected == 4

    run(main)


def test_one_replica_cannot_fill_the_memory() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            fakes[3].answer(*(answer(1, height=height) for height in range(100, 1100)))
            await ping(client, fakes)
            (pending,) = client._pending.values()
            assert len(pending.supporters) <= module.ANSWERS_EACH_MAX
            fakes[1].answer(answer(1))
            fakes[2].answer(answer(1))
            assert (await task).height == 7

    run(main)


# ---- trying again


def test_the_next_replica_gets_the_frame_if_no_answer_comes() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes, author=2, retry_s=0.02) as client:
            fakes[1].on_submit = lambda first, count: [fake.answer(answer(first, count)) for fake in fakes]
            await submit(client, b"a", b"b")
            for i in (2, 3, 0, 1):
                assert fakes[i].frames[0] == (1, [b"a", b"b"]), "the same frame with the same number"

    run(main)


def test_slow_answers_make_it_patient() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes, author=2) as client:
            slow = submit(client, b"a")
            await until(lambda: len(fakes[2].frames) == 1)
            await asyncio.sleep(0.05)  # how slow it is
            fakes[0].answer(answer(1))
            fakes[1].answer(answer(1))
            await slow
            assert client._patience_s == module.DEFAULT_RETRY_S
            client._retry_s = 0.01
            patience_s = client._patience_s
            assert patience_s >= 0.1
            quick = submit(client, b"b")
            await until(lambda: len(fakes[2].frames) == 2)
            fakes[0].answer(answer(2))
            fakes[1].answer(answer(2))
            await quick
            assert client._patience_s < patience_s, "never forgotten"

    run(main)


def test_two_tries_with_different_outcomes() -> None:
    """The first try was executed but its answers were lost; the second one is answered with fresh=0."""

    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes, retry_s=0.02) as client:
            fakes[1].on_submit = lambda first, count: [f.answer(answer(first, fresh=0, height=9)) for f in fakes[1:]]
            task = submit(client)
            await until(lambda: fakes[0].frames)
            fakes[3].answer(answer(1))
            receipt = await task
            assert (receipt.fresh, receipt.height) == (0, 9)

    run(main)


def test_a_refused_frame_is_sent_again_after_the_wait() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes, retry_s=NEVER_S) as client:
            loop, times = asyncio.get_running_loop(), []

            def on_submit(first: int, _count: int) -> None:
                times.append(loop.time())
                if len(times) < 3:
                    fakes[0].refuse(first, 40)
                else:
                    for fake in fakes:
                        fake.answer(answer(first))

            fakes[0].on_submit = on_submit
            await submit(client)
            assert all(later - earlier >= 0.035 for earlier, later in pairwise(times))
            assert fakes[0].numbers == [1, 1, 1]
            assert client.refused == 2
            assert [fake.frames for fake in fakes[1:]] == [[]] * 3

    run(main)


@pytest.mark.parametrize("retry_ms", [0, 5, 1000, 2**32 - 1])
def test_one_that_always_refuses_does_not_keep_the_frame(retry_ms: int) -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes, retry_s=0.06) as client:
            fakes[0].on_submit = lambda first, _count: fakes[0].refuse(first, retry_ms)
            fakes[1].on_submit = lambda first, count: [fake.answer(answer(first, count)) for fake in fakes]
            await submit(client)
            assert len(fakes[0].frames) <= 8, "asked again as fast as it refused"

    run(main)


def test_one_that_is_not_ready_is_left_alone() -> None:
    """A passive replica may refuse for hours: neither this frame nor the next one waits for it."""

    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes, retry_s=NEVER_S) as client:
            fakes[0].on_submit = lambda first, _count: fakes[0].refuse(first, 1000, Refusal.NOT_READY)
            fakes[1].on_submit = lambda first, count: [fake.answer(answer(first, count)) for fake in fakes]
            await submit(client)
            await submit(client)
            assert fakes[0].numbers == [1]
            assert fakes[1].numbers == [1, 2]

    run(main)


def test_a_cancelled_submit_is_cancelled_also_when_the_answer_comes_at_that_moment() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            client._pending[1].done.set_result(answer(1))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not client._pending

    run(main)


def test_refusals_of_others_change_nothing() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes, retry_s=NEVER_S) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            planned = client._pending[1].retry
            for fake in fakes[1:]:
                fake.refuse(1, 0)
            await ping(client, fakes)
            await until(lambda: client.refused == 3)
            assert client._pending[1].retry is planned
            for fake in fakes:
                fake.answer(answer(1))
            await task

    run(main)


def test_no_answers_in_time() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            fakes[0].on_submit = lambda first, _count: fakes[3].answer(answer(first, 3))
            text = r"^transactions 1 to 3: 1 matching answers within 0\.1 s; whether they commit is unknown$"
            with pytest.raises(RequestTimeout, match=text):
                await client.submit([b"a", b"b", b"c"], timeout_s=0.1)
            assert client._pending == {}
            fakes[0].on_submit = lambda _first, _count: None
            with pytest.raises(RequestTimeout, match=r"^transactions 4 to 4: 0 matching answers"):
                await client.submit([b"d"], timeout_s=0.01)

    run(main)


def test_a_caller_that_gives_up_leaves_nothing() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._pending == {}

    run(main)


# ---- connections


def test_a_restarted_replica_is_reached_again() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes, retry_s=0.05) as client:
            await fakes[0].stop()
            await until(lambda: client.connected == 3)
            fakes[1].on_submit = lambda first, count: [fake.answer(answer(first, count)) for fake in fakes]
            await submit(client)
            assert fakes[1].numbers == [1]
            await fakes[0].start()
            await until(lambda: client.connected == 4)
            await until(lambda: client.client_id in fakes[0].clients.values())
            fakes[0].on_submit = fakes[1].on_submit
            await submit(client)
            assert fakes[0].numbers == [2], "its author is the first choice again"

    run(main)


def test_a_frame_that_waits_goes_out_when_somebody_is_back() -> None:
    async def main() -> None:
        async with replicas(2) as fakes, connected(fakes, retry_s=0.05) as client:
            for fake in fakes:
                await fake.stop()
            await until(lambda: client.connected == 0)
            task = submit(client)
            await asyncio.sleep(0)
            for fake in fakes:
                fake.on_submit = lambda first, count: [f.answer(answer(first, count)) for f in fakes]
                await fake.start()
            await task

    run(main)


def test_enough_replicas_are_enough_to_start() -> None:
    async def main() -> None:
        async with replicas(2) as fakes:
            addresses = [fake.address for fake in fakes]
            await fakes[0].stop()
            async with Client([*addresses, *addresses], tls=False) as client:
                await until(lambda: client.connected == 2)
            await fakes[0].start()

    run(main)


def test_too_few_replicas() -> None:
    async def main() -> None:
        async with replicas(1) as fakes:
            nobody = ReplicaAddress("127.0.0.1", 1, fakes[0].address.node_key)
            client = Client([fakes[0].address, nobody, nobody, nobody], tls=False)
            with pytest.raises(NotConnected, match=r"^reached 1 of 4 replicas within 0\.2 s$"):
                await client.start(timeout_s=0.2)
            await until(lambda: fakes[0].lost == 1)

    run(main)


def test_a_start_that_is_given_up_leaves_nothing() -> None:
    async def main() -> None:
        client = Client([ReplicaAddress("127.0.0.1", 1, bytes(32))], tls=False)
        task = asyncio.create_task(client.start())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        assert not client._tasks or all(task.done() for task in client._tasks)

    run(main)  # fails on tasks that are left


@pytest.mark.parametrize("pause", range(12))
def test_close_ends_while_a_connection_is_refused(pause: int) -> None:
    """Before Python 3.12, `wait_for` loses a cancellation that arrives together with the result."""

    async def main() -> None:
        async with replicas(1) as (fake,):
            nobody = ReplicaAddress("127.0.0.1", 1, bytes(32))
            client = Client([nobody, fake.address, nobody], tls=False)
            await client.start()
            for _ in range(pause):
                await asyncio.sleep(0)
            await asyncio.wait_for(client.close(), 1)

    run(main)


def test_plain_tcp_leaves_this_machine_for_nobody() -> None:
    async def main() -> None:
        client = Client([ReplicaAddress("192.0.2.1", 1, bytes(32))], tls=False)
        with pytest.raises(ConfigError, match=r"host: got '192\.0\.2\.1', allowed: a loopback"):
            await client.start()

    run(main)


def test_another_replica_at_the_address_is_not_reached() -> None:
    async def main() -> None:
        async with replicas(2, tls=True) as fakes:
            swapped = [
                ReplicaAddress("127.0.0.1", fakes[i].address.port, fakes[1 - i].address.node_key) for i in (0, 1)
            ]
            with pytest.raises(NotConnected, match="reached 0 of 2"):
                await Client(swapped).start(timeout_s=0.3)

    run(main)


def test_close_fails_what_is_pending() -> None:
    async def main() -> None:
        async with replicas(4) as fakes:
            async with connected(fakes) as client:
                tasks = [submit(client, timeout_s=NEVER_S) for _ in range(3)]
                await until(lambda: len(fakes[0].frames) == 3)
            for task in tasks:
                with pytest.raises(NotConnected, match="the client was closed"):
                    await task
            assert (client._pending, client.connected) == ({}, 0)
            await until(lambda: all(fake.lost == 1 for fake in fakes))
            await client.close()

    run(main)


def test_close_fails_what_waits_for_its_turn_and_what_comes_later() -> None:
    async def main() -> None:
        async with replicas(4) as fakes:
            async with connected(fakes) as client:
                tasks = [submit(client, timeout_s=NEVER_S) for _ in range(MAX_GAPS + 3)]
                await until(lambda: len(fakes[0].frames) == MAX_GAPS)
            for task in tasks:
                with pytest.raises(NotConnected, match="the client was closed"):
                    await asyncio.wait_for(task, 5)
            with pytest.raises(NotConnected, match="the client was closed"):
                await asyncio.wait_for(client.submit([b"x"]), 5)
            assert client._pending == {}

    run(main)


GARBAGE = [
    (ClientKind.ANSWERS, b""),
    (ClientKind.ANSWERS, b"\xff" * 100),
    (ClientKind.ANSWERS, encode_answers([answer(1)])[:-1]),
    (ClientKind.ANSWERS, encode_answers([answer(1)]) + b"\0"),
    (ClientKind.REFUSED, b"x"),
    (ClientKind.REFUSED, b"\0" * 13),
    (ClientKind.HELLO, b""),
    (99, b"hello"),
]


@pytest.mark.parametrize(("kind", "body"), GARBAGE)
def test_garbage_costs_only_the_connection_it_came_on(kind: int, body: bytes) -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            task = submit(client)
            await until(lambda: fakes[0].frames)
            fakes[3].say(kind, body)
            await until(lambda: fakes[3].lost == 1)
            assert not task.done()
            for fake in fakes[:2]:
                fake.answer(answer(1))
            await task
            assert [fake.lost for fake in fakes] == [0, 0, 0, 1]
            await until(lambda: client.connected == 4)

    run(main)


def test_a_status_on_this_connection_is_ignored() -> None:
    async def main() -> None:
        async with replicas(4) as fakes, connected(fakes) as client:
            fakes[1].say(ClientKind.STATUS, b"{}")
            await ping(client, fakes)
            assert client.connected == 4

    run(main)


# ---- what no replica would take


def test_transactions_that_no_replica_would_take() -> None:
    async def main() -> None:
        async with replicas(1) as fakes, connected(fakes) as client:
            limit = ClientLimits().max_frame_bytes - 1
            for wrong in ([], [b""], [b"x" * (256 * 1024 + 1)], [b"x" * 256 * 1024] * 4):
                with pytest.raises(ValueError, match="allowed: "):
                    await client.submit(wrong)
            with pytest.raises(TypeError):
                await client.submit(["text"])  # type: ignore[list-item]
            fakes[0].on_submit = lambda first, count: fakes[0].answer(answer(first, count))
            largest = [b"x" * 250_000] * 4
            largest.append(b"x" * (limit - 32 - 5 * 4 - 1_000_000))
            receipt = await client.submit(largest, timeout_s=20)
            assert (receipt.first_seq, receipt.count) == (1, 5), "what was refused took no numbers"
            with pytest.raises(ValueError, match=f"got {limit + 1} bytes together, allowed: at most {limit}"):
                await client.submit([*largest[:-1], largest[-1] + b"x"])

    run(main)


def test_the_client_id_decides_the_author() -> None:
    async def main() -> None:
        async with replicas(4) as fakes:
            for i in range(4):
                client_id = bytes(15) + bytes([4 * 9 + i])
                async with connected(fakes, author=None, client_id=client_id) as client:
                    assert client.client_id == client_id
                    task = submit(client)
                    await until(lambda i=i: fakes[i].frames)
                    for fake in fakes:
                        fake.answer(answer(1))
                    await task
            assert [len(fake.frames) for fake in fakes] == [1, 1, 1, 1]

    run(main)


def test_clients_have_random_ids() -> None:
    addresses = [ReplicaAddress("127.0.0.1", 1, bytes(32))]

    async def main() -> None:
        ids = {Client(addresses).client_id for _ in range(10)}
        assert len(ids) == 10
        assert {len(client_id) for client_id in ids} == {16}

    run(main)
