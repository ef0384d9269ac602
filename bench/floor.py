"""What this machine could do without consensus: the yardstick for throughput.

    python bench/floor.py [--nodes 4] [--tx-size 512] [--seconds 5]

As many replica and client processes as in a benchmark. A client sends batches to its replica, which forwards each to
all others; every replica hashes it, stores it in LMDB without sync and acknowledges the digest; with a quorum of these
the client is answered. No signatures, no encryption, no order, nothing for each transaction. A system's throughput
divided by this figure, measured right before or after, says what consensus costs on any machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import uvloop

from hotstuff.bench.processes import free_ports

HEADER = struct.Struct("<IB")
BATCH, RELAY, ACK, DONE = range(4)
BATCH_BYTES = 512 * 1024
IN_FLIGHT = 4
BUFFER_BYTES = 8 * 1024 * 1024
LISTEN_S, DIAL_S, WARMUP_S = 0.7, 0.5, 1.5


class Wire(asyncio.BufferedProtocol):
    """Frames over one TCP connection."""

    def __init__(self, on_frame: Callable[[Wire, int, memoryview], None]) -> None:
        self._on_frame, self._buffer, self._filled = on_frame, bytearray(BUFFER_BYTES), 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        at, view = 0, memoryview(self._buffer)
        while self._filled - at >= HEADER.size:
            length, kind = HEADER.unpack_from(view, at)
            end = at + HEADER.size + length
            if end > self._filled:
                break
            self._on_frame(self, kind, view[at + HEADER.size : end])
            at = end
        if at:
            rest = self._filled - at
            self._buffer[:rest] = self._buffer[at : self._filled]
            self._filled = rest

    def send(self, kind: int, *parts: bytes) -> None:
        self._transport.writelines([HEADER.pack(sum(map(len, parts)), kind), *parts])


class Replica:
    """Stores and forwards."""

    def __init__(self, index: int, ports: tuple[int, ...], tx_size: int, directory: Path, confirmed: Any) -> None:
        self._index, self._ports, self._tx_size, self._confirmed = index, ports, tx_size, confirmed
        self._env = lmdb.open(str(directory / str(index)), map_size=256 << 30, sync=False)
        self._quorum = len(ports) - (len(ports) - 1) // 3
        self._peers: list[Wire] = []
        self._acks: dict[bytes, tuple[list[int], Wire, int]] = {}

    async def run(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(lambda: Wire(self._on_frame), "127.0.0.1", self._ports[self._index])
        await asyncio.sleep(LISTEN_S)
        for port in self._ports:
            if port != self._ports[self._index]:
                _, wire = await loop.create_connection(lambda: Wire(self._on_frame), "127.0.0.1", port)
                self._peers.append(wire)
        await asyncio.sleep(DIAL_S + WARMUP_S + seconds + 2)

    def _store(self, batch: bytes | memoryview) -> bytes:
        digest = hashlib.sha256(batch).digest()
        with self._env.begin(write=True) as transaction:
            transaction.put(digest, batch)
        return digest

    def _acknowledged(self, digest: bytes) -> None:
        count, client, size = self._acks[digest]
        count[0] += 1
        if count[0] == self._quorum:
            client.send(DONE, digest)
            self._confirmed[self._index] += size // self._tx_size
        if count[0] == len(self._ports):
            del self._acks[digest]

    def _on_frame(self, wire: Wire, kind: int, body: memoryview) -> None:
        if kind == BATCH:
            batch = bytes(body)
            for peer in self._peers:
                peer.send(RELAY, batch)
            digest = self._store(batch)
            self._acks[digest] = ([0], wire, len(batch))
            self._acknowledged(digest)
        elif kind == RELAY:
            wire.send(ACK, self._store(body))
        else:
            self._acknowledged(bytes(body))


async def offer(index: int, port: int, tx_size: int, seconds: float) -> None:
    """One client: a few batches under way all the time."""
    body, sent = os.urandom(BATCH_BYTES // tx_size * tx_size - 16), 0
    stop = time.monotonic() + LISTEN_S + DIAL_S + WARMUP_S + seconds

    def submit(wire: Wire) -> None:
        nonlocal sent
        if time.monotonic() < stop:
            sent += 1
            wire.send(BATCH, struct.pack("<QQ", index, sent), body)

    await asyncio.sleep(LISTEN_S + DIAL_S)
    _, wire = await asyncio.get_running_loop().create_connection(
        lambda: Wire(lambda wire, _kind, _body: submit(wire)), "127.0.0.1", port
    )
    for _ in range(IN_FLIGHT):
        submit(wire)
    await asyncio.sleep(stop - time.monotonic() + 0.3)


def replica(index: int, ports: tuple[int, ...], tx_size: int, directory: Path, confirmed: Any, seconds: float) -> None:
    uvloop.run(Replica(index, ports, tx_size, directory, confirmed).run(seconds))


def client(index: int, port: int, tx_size: int, seconds: float) -> None:
    uvloop.run(offer(index, port, tx_size, seconds))


def floor_tps(nodes: int, tx_size: int, seconds: float) -> float:
    """Transactions a second."""
    spawn = multiprocessing.get_context("spawn")
    confirmed = spawn.Array("q", nodes, lock=False)
    ports = free_ports(nodes)
    with tempfile.TemporaryDirectory(prefix="hotstuff-floor-") as folder:
        processes = []
        for i in range(nodes):
            arguments = (i, ports, tx_size, Path(folder), confirmed, seconds)
            processes.append(spawn.Process(target=replica, args=arguments))
            processes.append(spawn.Process(target=client, args=(i, ports[i], tx_size, seconds)))
        for process in processes:
            process.start()
        try:
            while not sum(confirmed):
                if any(process.exitcode is not None for process in processes):
                    raise SystemExit("a process of the floor has ended before it did anything")
                time.sleep(0.05)
            time.sleep(WARMUP_S)
            before, begun = sum(confirmed), time.monotonic()
            time.sleep(seconds)
            return (sum(confirmed) - before) / (time.monotonic() - begun)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--tx-size", type=int, default=512, metavar="BYTES")
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    tps = floor_tps(arguments.nodes, arguments.tx_size, arguments.seconds)
    print(f"{tps:,.0f} tx/s of {arguments.tx_size} B over {arguments.nodes} replicas, without consensus")
    return 0


if __name__ == "__main__":
    sys.exit(main())
