from __future__ import annotations

import dataclasses

import orjson
import pytest
from fake_replicas import FakeReplica, answer, replicas
from network_helpers import run, until

from hotstuff.client import ReplicaAddress, fetch_status
from hotstuff.errors import NotConnected
from hotstuff.network import FrameProtocol
from hotstuff.types.client import ClientKind, encode_answers


@pytest.mark.parametrize("tls", [False, True])
def test_a_status(tls: bool) -> None:
    async def main() -> None:
        async with replicas(1, tls=tls) as (fake,):
            fake.on_status = lambda conn: conn.send(ClientKind.STATUS, orjson.dumps({"view": 7}))
            assert await fetch_status(fake.address, tls=tls) == {"view": 7}
            await until(lambda: fake.lost == 1)

    run(main)


def test_other_frames_before_it_are_ignored() -> None:
    async def main() -> None:
        async with replicas(1) as (fake,):

            def on_status(conn: FrameProtocol) -> None:
                conn.send(ClientKind.ANSWERS, encode_answers([answer(1)]))
                conn.send(ClientKind.STATUS, b'{"view": 1}')
                conn.send(ClientKind.STATUS, b'{"view": 2}')

            fake.on_status = on_status
            assert await fetch_status(fake.address, tls=False) == {"view": 1}

    run(main)


def test_nobody_there() -> None:
    async def main() -> None:
        with pytest.raises(NotConnected, match=r"^127\.0\.0\.1:1: "):
            await fetch_status(ReplicaAddress("127.0.0.1", 1, bytes(32)), tls=False)

    run(main)


def test_no_answer_in_time() -> None:
    async def main() -> None:
        async with replicas(1) as (fake,):
            with pytest.raises(NotConnected, match=r"^127\.0\.0\.1:\d+: no answer within 0\.05 s$"):
                await fetch_status(fake.address, tls=False, timeout_s=0.05)
            await until(lambda: fake.lost == 1)

    run(main)


def test_a_connection_that_ends() -> None:
    async def main() -> None:
        async with replicas(1) as (fake,):
            fake.on_status = lambda conn: conn.close("not today")
            with pytest.raises(NotConnected, match='the replica says "not today"'):
                await fetch_status(fake.address, tls=False)

    run(main)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[1]", b'"x"', b"null"])
def test_a_status_that_is_none(body: bytes) -> None:
    async def main() -> None:
        async with replicas(1) as (fake,):
            fake.on_status = lambda conn: conn.send(ClientKind.STATUS, body)
            with pytest.raises(NotConnected, match=r"^127\.0\.0\.1:\d+: its status is not (a )?JSON"):
                await fetch_status(fake.address, tls=False)

    run(main)


def test_another_replica_at_the_address() -> None:
    async def main() -> None:
        async with replicas(1, tls=True) as (fake,):
            other = FakeReplica(1, tls=True).address.node_key
            with pytest.raises(NotConnected, match="not one of a known node key"):
                await fetch_status(dataclasses.replace(fake.address, node_key=other))

    run(main)
