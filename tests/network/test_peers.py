from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import random
import socket
import ssl
import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from network_helpers import (
    FAST,
    KEYS,
    NETWORK_ID,
    SECRETS,
    STRANGER,
    Cluster,
    RawPeer,
    Recorder,
    dial_handshake,
    frame,
    raw_link,
    run,
    until,
)

from hotstuff.errors import ConfigError, InvalidMessage
from hotstuff.network import AcceptLimits, Body, PeerAddress, PeerNetwork, tls
from hotstuff.network.framing import GOODBYE, HELLO
from hotstuff.network.handshake import Hello

MODES = pytest.mark.parametrize("encrypted", [True, False], ids=["tls", "plain"])


def raw_context(index: int, encrypted: bool, peer: int = 0) -> ssl.SSLContext | None:
    return tls.peer_context(SECRETS[index], [KEYS[peer]]) if encrypted else None


@MODES
def test_everybody_reaches_everybody(encrypted: bool) -> None:
    async def main() -> None:
        async with Cluster(tls=encrypted) as cluster:
            await cluster.start(4)
            for index, network in cluster.networks.items():
                assert network.broadcast(7, b"from ", bytes([index])) == 3
                assert network.broadcast(8, b"x" * 300_000, bulk=True) == 3
                assert network.send((index + 1) % 4, 9, memoryview(b"only you"))
                assert not network.send(index, 9, b"myself")
            for index, recorder in cluster.recorders.items():
                await until(partial(recorder.has_frames, 7))
                others = [other for other in range(4) if other != index]
                expected = [(other, 7, b"from " + bytes([other])) for other in others]
                expected += [(other, 8, b"x" * 300_000) for other in others]
                assert sorted(recorder.frames) == sorted([*expected, ((index - 1) % 4, 9, b"only you")])
                assert sorted(recorder.events) == [("up", other) for other in others]
                stats = cluster.networks[index].stats()
                assert (stats["connects"], stats["losses"], stats["strikes"], stats["drops"]) == (3, 0, 0, 0)
                assert stats["bytes_out"] > 900_000 < stats["bytes_in"]

    run(main)


@MODES
def test_a_frame_is_never_seen_before_its_peer(encrypted: bool) -> None:
    """The acceptor is up first and may send at once; the dialler must hear of the peer before of the frame."""

    limits = dataclasses.replace(FAST, sessions_burst=100)

    async def main() -> None:
        async with Cluster(tls=encrypted, limits=limits) as cluster:
            cluster.size = 2
            await cluster.start_one(0)
            cluster.recorders[0].on_connect = lambda peer: cluster.networks[0].send(peer, 5, b"early")
            for _ in range(20):
                network = await cluster.start_one(1)
                await until(lambda: cluster.recorders[1].frames == [(0, 5, b"early")])  # Recorder checks the order
                await network.stop()
                await until(lambda: not cluster.networks[0].connected)
            await cluster.start_one(1)

    run(main)


@MODES
def test_reconnect_after_the_other_side_restarts(encrypted: bool) -> None:
    async def main() -> None:
        async with Cluster(tls=encrypted) as cluster:
            await cluster.start(3)
            await cluster.networks[1].stop()  # 1 is dialled by 2 and dials 0
            await until(lambda: cluster.recorders[2].events[-1] == ("lost", 1))
            await until(lambda: cluster.recorders[0].events[-1] == ("lost", 1))
            assert not cluster.networks[0].send(1, 5, b"nobody there")
            await cluster.start_one(1)
            await cluster.all_connected()
            await until(lambda: cluster.recorders[0].events[-1] == ("up", 1))
            await until(lambda: cluster.recorders[2].events[-1] == ("up", 1))
            assert cluster.networks[2].send(1, 5, b"welcome back")
            await until(lambda: cluster.recorders[1].frames == [(2, 5, b"welcome back")])

    run(main)


@MODES
def test_losing_one_channel_loses_the_link_and_a_new_session_replaces_an_old_one(encrypted: bool) -> None:
    async def main() -> None:
        async with Cluster(tls=encrypted) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            events = cluster.recorders[0].events
            context = raw_context(1, encrypted)
            first = await raw_link(network.bound_port, 1, 0, session=1, context=context)
            await until(lambda: events == [("up", 1)])
            # the first one never said bye
            second = await raw_link(network.bound_port, 1, 0, session=2, context=context)
            await until(lambda: events == [("up", 1), ("lost", 1), ("up", 1)])
            for conn in first:
                assert (await conn.rest()).endswith(frame(GOODBYE, b"replaced by a new session"))
                await conn.close()
            await second[1].close()
            await until(lambda: events[3:] == [("lost", 1)])
            assert await second[0].rest() != b""
            await second[0].close()
            assert network.stats()["losses"] == 2

    run(main)


@MODES
def test_a_second_connection_for_a_channel_of_the_same_session_is_refused(encrypted: bool) -> None:
    async def main() -> None:
        async with Cluster(tls=encrypted) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            context = raw_context(1, encrypted)
            conns = await raw_link(network.bound_port, 1, 0, session=1, context=context)
            third = await RawPeer.connect(network.bound_port, context)
            tls_key = KEYS[0] if encrypted else None
            refused: list[tuple[int, bytes]] = []
            handshake = dial_handshake(1, 0, 0, 1, tls_key=tls_key)
            third.send(*handshake.opening()[0])
            while not refused or refused[-1][0] != GOODBYE:
                refused.append(await third.receive())
                if refused[-1][0] != GOODBYE:
                    for answer in handshake.receive(*refused[-1]):
                        third.send(*answer)
            assert b"got a second 0 in one session" in refused[-1][1]
            assert network.connected == {1}
            for conn in (*conns, third):
                await conn.close()
            await until(lambda: not network.connected)

    run(main)


def goodbye_logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any("the other side says" in message and text in message for message in caplog.messages)


@MODES
def test_another_network_is_refused_and_both_logs_say_why(encrypted: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Cluster(tls=encrypted) as cluster:
            cluster.size = 2
            await cluster.start_one(0)
            await cluster.start_one(1, network_id=bytes(32))
            text = f"network id: got {bytes(32).hex()}, expected {NETWORK_ID.hex()}"
            await until(lambda: goodbye_logged(caplog, text))
            await until(lambda: any(m.startswith("connection from 127.0.0.1") and text in m for m in caplog.messages))
            await until(lambda: cluster.networks[0].stats()["refused"] >= 4)
            assert len([m for m in caplog.messages if m.startswith("connection from")]) == 1  # one line per second
            assert not cluster.networks[0].connected | cluster.networks[1].connected

    run(main)


def test_an_unknown_key_does_not_get_past_tls(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Cluster(tls=True) as cluster:
            cluster.size = 2
            await cluster.start_one(0)
            await cluster.start_one(1, secret=STRANGER)
            await until(lambda: any("its certificate is not one of a known node key" in m for m in caplog.messages))
            await until(lambda: any("peer 0 at 127.0.0.1" in m and "not reached" in m for m in caplog.messages))
            assert cluster.recorders[0].events == cluster.recorders[1].events == []

    run(main)


def test_a_wrong_key_in_plain_mode_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Cluster(tls=False) as cluster:
            cluster.size = 2
            await cluster.start_one(0)
            await cluster.start_one(1, secret=STRANGER)
            await until(lambda: goodbye_logged(caplog, "proof of index 1"))
            assert cluster.recorders[0].events == cluster.recorders[1].events == []

    run(main)


def test_a_validator_cannot_claim_another_ones_index(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Cluster(tls=True) as cluster:
            cluster.size = 3
            network = await cluster.start_one(0)
            conn = await RawPeer.connect(network.bound_port, raw_context(1, True))
            conn.send(HELLO, Hello(NETWORK_ID, 2, 0, 1, b"").encode())
            kind, text = await conn.receive()
            assert (kind, text.decode()) == (
                GOODBYE,
                f"node key of index 2: got {KEYS[1].hex()}, expected {KEYS[2].hex()}",
            )
            await conn.close()

    run(main)


def test_a_validator_cannot_lend_its_name_to_a_stranger(tmp_path: Path) -> None:
    """A leaf for the stranger's key, issued by validator 1: OpenSSL accepts it, the network does not."""
    from test_tls import context_with, forged_leaf, pem_of

    pem = pem_of(STRANGER) + forged_leaf(STRANGER.public_key(), KEYS[1], SECRETS[1])
    context = context_with(pem, ssl.PROTOCOL_TLS_CLIENT, tmp_path)

    async def main() -> None:
        async with Cluster(tls=True) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            conn = await RawPeer.connect(network.bound_port, context)
            conn.send(HELLO, Hello(NETWORK_ID, 1, 0, 1, b"").encode())
            kind, text = await conn.receive()
            assert kind == GOODBYE
            assert text.startswith(b"node key of index 1: got " + tls.public_bytes(STRANGER).hex().encode())
            await conn.close()

    run(main)


SHORT = dataclasses.replace(FAST, handshake_timeout_s=0.2, accept=AcceptLimits(handshake_timeout_s=0.2))
GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\0" * 500,
    b"\xff" * 500,
    random.Random(1).randbytes(5000),
    b"\x16\x03\x01",
]


def open_sockets() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


@MODES
@pytest.mark.parametrize("data", [*GARBAGE, b""], ids=["http", "zeros", "ones", "random", "half a record", "silence"])
def test_strangers_are_closed_in_time_with_one_line(
    encrypted: bool, data: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with Cluster(tls=encrypted, limits=SHORT) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            open_files = open_sockets()
            conn = await RawPeer.connect(network.bound_port)
            conn.writer.write(data)
            await asyncio.wait_for(conn.rest(), 2)
            await conn.close()
            await until(lambda: network.stats()["refused"] == 1)
            await until(lambda: open_sockets() == open_files)

    run(main)
    assert len([message for message in caplog.messages if "refused" in message]) == 1
    assert all(record.exc_info is None for record in caplog.records)
    assert capfd.readouterr().err == ""


@MODES
def test_a_stranger_who_authenticates_half_is_closed_in_time(encrypted: bool) -> None:
    async def main() -> None:
        async with Cluster(tls=encrypted, limits=SHORT) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            conn = await RawPeer.connect(network.bound_port, raw_context(1, encrypted))
            await conn.handshake(dial_handshake(1, 0, 0, 9, tls_key=KEYS[0] if encrypted else None))
            assert b"not authenticated within 0.2 s" in await asyncio.wait_for(conn.rest(), 3)  # BULK never came
            await conn.close()
            assert cluster.recorders[0].events == []

    run(main)


def test_a_large_frame_before_authentication_allocates_nothing() -> None:
    async def main() -> None:
        async with Cluster(tls=False) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            conn = await RawPeer.connect(network.bound_port)
            conn.writer.write(struct.pack(">IB", 1_000_000, 0))
            assert b"frame length: got 1000000, allowed: 1..201" in await conn.rest()
            await conn.close()

    run(main)


def test_slow_strangers_cannot_keep_a_validator_out(caplog: pytest.LogCaptureFixture) -> None:
    limits = dataclasses.replace(FAST, accept=AcceptLimits(unauthenticated_max=20))

    async def main() -> None:
        async with Cluster(tls=True, limits=limits) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            slow = [await RawPeer.connect(network.bound_port) for _ in range(60)]  # they never say a word
            await until(lambda: network.stats()["refused"] >= 40)
            await cluster.start_one(1)
            await cluster.all_connected()
            for conn in slow:
                await conn.close()

    run(main)
    assert any("holds too many connections" in message for message in caplog.messages)


def test_one_address_cannot_connect_too_often() -> None:
    limits = dataclasses.replace(FAST, accept=AcceptLimits(per_address_s=1, per_address_burst=5))

    async def main() -> None:
        async with Cluster(tls=True, limits=limits) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            conns = [await RawPeer.connect(network.bound_port) for _ in range(30)]
            await until(lambda: network.stats()["refused"] == 25)  # closed before any TLS
            for conn in conns:
                await conn.close()

    run(main)


@MODES
def test_a_peer_that_reconnects_all_the_time_is_slowed_down(encrypted: bool) -> None:
    limits = dataclasses.replace(FAST, sessions_burst=3)

    async def main() -> None:
        async with Cluster(tls=encrypted, limits=limits) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            for session in range(3):
                for conn in await raw_link(network.bound_port, 1, 0, session, context=raw_context(1, encrypted)):
                    await conn.close()
            with pytest.raises(Exception, match="frame kind: got 255"):  # Goodbye instead of the answer
                await raw_link(network.bound_port, 1, 0, 99, context=raw_context(1, encrypted))

    run(main)


@MODES
def test_a_peer_that_stops_reading_is_dropped_and_costs_nobody_else(encrypted: bool) -> None:
    limits = dataclasses.replace(FAST, max_frame_bytes=100_000, max_buffered_bytes=1_000_000)

    async def main() -> None:
        async with Cluster(tls=encrypted, limits=limits) as cluster:
            cluster.size = 3
            network = await cluster.start_one(0)
            await cluster.start_one(1)
            deaf = await raw_link(network.bound_port, 2, 0, 1, context=raw_context(2, encrypted))
            await until(lambda: network.connected == {1, 2})
            body, sent = b"x" * 50_000, 0
            while 2 in network.connected:
                assert network.broadcast(5, body) in (1, 2)
                sent += 1
                await until(lambda: network._up[1][0].buffered_bytes < 200_000)
            assert sent * len(body) < 12_000_000  # our limit and what two kernels buffer
            assert network.send(1, 6, b"after")
            await until(lambda: cluster.recorders[1].frames[-1:] == [(0, 6, b"after")])
            assert len(cluster.recorders[1].frames) == sent + 1
            assert cluster.recorders[0].events[-1] == ("lost", 2)
            assert network.stats()["drops"] == 1
            for conn in deaf:
                await conn.close()

    run(main)


def test_a_full_bulk_channel_only_refuses() -> None:
    limits = dataclasses.replace(FAST, max_frame_bytes=100_000, max_buffered_bytes=1_000_000)

    async def main() -> None:
        async with Cluster(tls=False, limits=limits) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            control, bulk = await raw_link(network.bound_port, 1, 0, 1)
            await until(lambda: network.connected)
            while network.send(1, 5, b"x" * 50_000, bulk=True):
                await asyncio.sleep(0)
            assert network.connected == {1}
            assert network.send(1, 5, b"vote")
            assert await control.receive() == (5, b"vote")
            await bulk.close()
            await control.close()

    run(main)


@MODES
def test_strikes_close_the_link_and_keep_it_closed_for_a_while(
    encrypted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    limits = dataclasses.replace(FAST, strikes_max=3, penalty_s=0.3)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Cluster(tls=encrypted, limits=limits) as cluster:
            await cluster.start(3)
            for judge, culprit in ((0, 1), (2, 0)):  # once as the acceptor, once as the dialler
                network = cluster.networks[judge]
                network.strike(culprit, "bad vote")
                network.strike(culprit, "bad vote")
                assert culprit in network.connected
                since = loop.time()
                network.strike(culprit, "bad vote")
                assert culprit not in network.connected
                await until(partial(cluster.recorders[judge].ends_with, ("lost", culprit), ("up", culprit)))
                assert loop.time() - since >= 0.29
                assert network.stats()["strikes"] == 3

    run(main)
    assert len([m for m in caplog.messages if m.startswith("peer 1: strike: bad vote")]) == 1


@MODES
def test_an_invalid_message_costs_the_peer_one_strike_and_its_connection(encrypted: bool) -> None:
    def refuse(peer: int, kind: int, body: Body) -> None:
        if kind == 13:
            raise InvalidMessage("thirteen")

    async def main() -> None:
        async with Cluster(tls=encrypted) as cluster:
            await cluster.start(3)
            recorder = cluster.recorders[0]
            recorder.on_frame = refuse
            cluster.networks[1].send(0, 13, b"")
            await until(lambda: recorder.events[-2:] == [("lost", 1), ("up", 1)])
            assert cluster.networks[0].stats()["strikes"] == 1
            assert ("lost", 2) not in recorder.events

    run(main)


@pytest.mark.parametrize("kind", [0, 254])
def test_handshake_frames_after_the_handshake_are_strikes(kind: int) -> None:
    async def main() -> None:
        async with Cluster(tls=False) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            control, bulk = await raw_link(network.bound_port, 1, 0, 1)
            control.send(kind, b"")
            assert f"frame kind: got {kind}".encode() in await control.rest()
            assert network.stats()["strikes"] == 1
            await control.close()
            await bulk.close()

    run(main)


def test_our_own_bug_is_loud() -> None:
    bug = ZeroDivisionError("a bug")

    def crash(*_: object) -> None:
        raise bug

    async def main() -> None:
        async with Cluster(tls=False) as cluster:
            await cluster.start(2)
            cluster.recorders[0].on_frame = crash
            cluster.networks[1].send(0, 5, b"")
            await until(lambda: cluster.recorders[0].crashes == [bug])
            cluster.recorders[0].crashes.clear()
            await cluster.networks[1].stop()
            handler = Recorder()
            handler.on_connect = crash
            await cluster.start_one(1, handler=handler)
            await until(lambda: handler.crashes == [bug])

    run(main)


def test_many_sends_in_one_turn_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Cluster(tls=False) as cluster:
            await cluster.start(2)
            control = cluster.networks[0]._up[1][0]
            writes: list[int] = []
            transport: Any = control._transport

            class Spy:
                def writelines(self, chunks: list[bytes]) -> None:
                    writes.append(len(chunks))
                    transport.writelines(chunks)

                def __getattr__(self, name: str) -> object:
                    return getattr(transport, name)

            control._transport = Spy()  # type: ignore[assignment]
            for number in range(500):
                assert cluster.networks[0].send(1, 5, bytes([number % 256]))
            await until(lambda: len(cluster.recorders[1].frames) == 500)
            assert writes == [1]

    run(main)


def test_a_vanished_peer_is_noticed_by_keepalive() -> None:
    async def main() -> None:
        async with Cluster(tls=True) as cluster:
            await cluster.start(2)
            for conn in (*cluster.networks[0]._up[1], *cluster.networks[1]._up[0]):
                sock = conn.get_extra_info("socket")
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                options = [socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
                assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [1, 5, 5, 3]
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000

    run(main)


def test_out_of_file_descriptors_pauses_accepting(caplog: pytest.LogCaptureFixture) -> None:
    import resource

    async def main() -> None:
        async with Cluster(tls=False) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            conn = socket.socket()
            spare = os.dup(0)
            os.close(spare)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))  # not one more
            try:
                conn.connect(("127.0.0.1", network.bound_port))  # the kernel answers, so this does not block
                await until(lambda: any("accepting is paused" in message for message in caplog.messages))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                conn.close()
            await cluster.start_one(1)
            await cluster.all_connected()

    run(main)


def test_a_moved_peer_is_found_and_names_are_resolved() -> None:
    async def main() -> None:
        async with Cluster(tls=True) as cluster:
            cluster.size = 2
            peers = [PeerAddress(0, "no such host.invalid", 1, KEYS[0])]
            network = await cluster.start_one(1, peers=peers)
            await cluster.start_one(0)
            network.set_address(0, "localhost", cluster.ports[0])
            await cluster.all_connected()

    run(main)


def test_stopping_is_quick_even_if_nobody_answers() -> None:
    async def main() -> None:
        async with Cluster(tls=False) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            deaf = await raw_link(network.bound_port, 1, 0, 1)
            await until(lambda: network.connected)
            network.send(1, 5, b"x" * 4_000_000, bulk=True)
            await asyncio.wait_for(network.stop(), 2)
            for conn in deaf:
                await conn.close()

    run(main)


CONTRADICTIONS = [
    ({"peers": [PeerAddress(0, "127.0.0.1", 1, KEYS[1])]}, r"peers.index: got 0"),
    ({"peers": [PeerAddress(1, "127.0.0.1", 1, KEYS[1])] * 2}, r"peers.index: got 1"),
    ({"peers": [PeerAddress(70000, "127.0.0.1", 1, KEYS[1])]}, r"peers.index: got 70000, allowed: 0..65535"),
    ({"peers": [PeerAddress(1, "127.0.0.1", 1, KEYS[0])]}, r"peers\[1\].node_key: got .* own"),
    ({"peers": [PeerAddress(1, "127.0.0.1", 1, b"short")]}, r"peers\[1\].node_key: .* 32 bytes"),
    ({"network_id": b"short"}, "network_id: .* 32 bytes"),
    ({"bind": ("0.0.0.0", 0)}, r"bind: got '0.0.0.0', allowed: a loopback address"),
    ({"peers": [PeerAddress(1, "192.0.2.1", 1, KEYS[1])]}, r"peers\[1\].host: got '192.0.2.1', allowed: a loopback"),
    (
        {"peers": [PeerAddress(1, "example.org", 1, KEYS[1])]},
        r"peers\[1\].host: got 'example.org', allowed: a loopback",
    ),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS)
def test_configuration_errors_name_the_field(changes: dict[str, object], message: str) -> None:
    async def main() -> None:
        cluster = Cluster(tls=False)
        cluster.size = 2
        with pytest.raises(ConfigError, match=message):
            cluster.make(0, **changes)
        network = cluster.make(0)
        with pytest.raises(ConfigError, match=r"peers\[1\].host: got '192.0.2.1'"):
            network.set_address(1, "192.0.2.1", 1)

    run(main)


def test_a_taken_or_foreign_address_is_named() -> None:
    async def main() -> None:
        async with Cluster(tls=True) as cluster:
            cluster.size = 2
            network = await cluster.start_one(0)
            for host, port in (("127.0.0.1", network.bound_port), ("192.0.2.1", 0), ("127.0.0.1", 70000)):
                with pytest.raises(ConfigError, match=f"bind: got '{host}:{port}', allowed: a "):
                    await cluster.make(1, bind=(host, port)).start()

    run(main)


def test_too_large_a_frame_is_the_callers_mistake() -> None:
    async def main() -> None:
        async with Cluster(tls=False) as cluster:
            cluster.size = 1
            network: PeerNetwork = await cluster.start_one(0)
            with pytest.raises(ValueError, match="frame: got 4194305 bytes, allowed: 4194304"):
                network.broadcast(5, bytes(4 * 1024 * 1024))
            with pytest.raises(ValueError, match="kind: got 255"):
                network.broadcast(255)
            assert network.broadcast(5, bytes(4 * 1024 * 1024 - 1)) == 0

    run(main)


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hotstuff.network")
