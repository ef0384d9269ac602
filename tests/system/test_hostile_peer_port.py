"""Strangers at the ports of a running network: shown out quickly and with one line in the log, while work goes on."""

from __future__ import annotations

import random
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from harness import Node, Testnet

from hotstuff.network import tls
from hotstuff.node.genesis import Genesis
from hotstuff.node.keys import Keys
from hotstuff.storage.datadir import DataDir

# Of the handshake in `AcceptLimits`, and how long a closed connection may take to show on a busy machine.
HANDSHAKE_S, SLACK_S = 5.0, 10.0
# Lines about one address come at most once in this time; the next stranger waits so that his is not left out.
LOG_INTERVAL_S = 1.1
ATTACKED = 0
NOISE = random.Random(5).randbytes(100_000)


def silence(_sock: socket.socket, _key: bytes) -> None:
    """Connects and says nothing."""


def http(sock: socket.socket, _key: bytes) -> None:
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


def garbage(sock: socket.socket, _key: bytes) -> None:
    sock.sendall(NOISE)


def unknown_key(sock: socket.socket, key: bytes) -> None:
    """Knows the replica's key, and has a certificate of its own that nobody knows."""
    talk(sock, tls.peer_context(Ed25519PrivateKey.generate(), [key]))


def no_certificate(sock: socket.socket, _key: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    talk(sock, context)


def half_a_handshake(sock: socket.socket, _key: bytes) -> None:
    """The first bytes of a TLS client's greeting, and no more."""
    sock.sendall(bytes.fromhex("1603010200010001fc0303"))


def talk(sock: socket.socket, context: ssl.SSLContext) -> None:
    # In TLS 1.3 the client's handshake ends before the server has looked at its certificate.
    with context.wrap_socket(sock.dup(), server_hostname=None) as encrypted:
        encrypted.sendall(NOISE[:1000])
        read_to_end(encrypted)


STRANGERS = [silence, http, garbage, unknown_key, no_certificate, half_a_handshake]


def read_to_end(sock: socket.socket) -> None:
    """Until the other side closes, whatever it says before that."""
    while sock.recv(65536):
        pass


def visit(port: int, key: bytes, stranger: Callable[[socket.socket, bytes], None]) -> float:
    """How long it took until the connection was closed. Raises TimeoutError if it was not."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=HANDSHAKE_S + SLACK_S) as sock:
        try:
            stranger(sock, key)
            read_to_end(sock)
        except TimeoutError:
            raise
        except OSError:  # closed with a reset, or a TLS alert
            pass
    return time.monotonic() - started


def open_files(node: Node) -> int:
    return len(list(Path(f"/proc/{node.pid}/fd").iterdir()))


def warnings(node: Node) -> list[str]:
    return [
        line["message"] for line in node.lines() if line["level"] != "info" and line["logger"] == "hotstuff.network"
    ]


def has_more(node: Node, before: int) -> bool:
    return len(warnings(node)) > before


def test_strangers_at_the_peer_port(net: Testnet) -> None:
    load = net.load()
    load.wait_more()
    node = net.nodes[ATTACKED]
    files = open_files(node)
    for stranger in STRANGERS:
        before = len(warnings(node))
        took_s = visit(net.peer_ports[ATTACKED], net.addresses[ATTACKED].node_key, stranger)
        assert took_s < HANDSHAKE_S + SLACK_S
        net.wait(f"a line about {stranger.__name__}", partial(has_more, node, before))
        load.wait_more(20)
        new = warnings(node)[before:]
        assert len(new) == 1, new
        assert "connection from 127.0.0.1" in new[0]
        assert "refused" in new[0]
        time.sleep(LOG_INTERVAL_S)
    net.wait("all that was opened is closed", lambda: open_files(node) <= files + 1)
    assert net.value(ATTACKED, "peers") == [1, 2, 3]
    load.stop()
    load.assert_all_kept()


def test_crowd_at_the_peer_port(net: Testnet) -> None:
    """More connections than may wait without identity: a replica that restarts gets in all the same."""
    load = net.load()
    load.wait_more()
    crowd = [socket.create_connection(("127.0.0.1", net.peer_ports[ATTACKED]), timeout=SLACK_S) for _ in range(400)]
    try:
        net.kill(2)
        net.start(2)
        net.wait_progress(2)
        load.wait_more()
    finally:
        for sock in crowd:
            sock.close()
    load.stop()
    load.assert_all_kept()


@pytest.mark.parametrize("stranger", [http, garbage], ids=["http", "garbage"])
def test_strangers_at_the_client_port(net: Testnet, stranger: Callable[[socket.socket, bytes], None]) -> None:
    address = net.addresses[ATTACKED]
    visit(address.port, address.node_key, stranger)
    net.wait("a line about it", lambda: warnings(net.nodes[ATTACKED]))
    assert len(warnings(net.nodes[ATTACKED])) == 1
    net.submit(b"still there", author=ATTACKED)
    net.stop_and_compare()


def test_validator_with_another_genesis(net: Testnet) -> None:
    """Right keys and addresses, wrong network: it dials and is dialled, and nobody lets it in."""
    lost = 1
    load = net.load()
    load.wait_more()
    net.kill(lost)
    stranger = stranger_of(net, lost)
    try:
        stranger.start()
        net.wait("it was refused by whom it dials", lambda: net.nodes[0].said("refused: network id: got"))
        net.wait("it refused who dials it", lambda: stranger.said("refused: network id: got"))
        load.wait_more()
        assert all(lost not in status["peers"] for i, status in net.statuses().items() if i != lost)
        assert "Traceback" not in stranger.log.read_text()
    finally:
        stranger.kill()
    net.start(lost)
    load.stop()
    load.assert_all_kept()


def stranger_of(net: Testnet, replica: int) -> Node:
    """A replica with the keys and addresses of another, in a network of the same validators with another name."""
    original = net.nodes[replica].home
    home = original.with_name("stranger")
    home.mkdir()
    for name in ("keys.json", "config.json"):
        shutil.copy2(original / name, home)
    everyone = [Keys.load(node.home / "keys.json") for node in net.nodes]
    possessions = tuple(keys.possession("elsewhere") for keys in everyone)
    genesis = Genesis("elsewhere", net.genesis.protocol, net.genesis.validators, possessions)
    genesis.save(home / "genesis.json")
    DataDir.create(home / "data", genesis.chain_id, replica)
    return Node(replica, home)
