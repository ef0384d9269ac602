"""Sockets: framing, TLS pinned to node keys, links between replicas, the listener for clients.

framing      bytes <-> frames, write coalescing, deadlines
tls          contexts that trust 32-byte node keys and nothing else
handshake    who is at the other end (no I/O)
connection   one connection between validators: handshake first, then frames
listener     accepting connections without being starved by strangers
dialling     opening one connection
peers        one process's links to all other validators
server       the listener for clients, and `connect_client` for their side
limits       every limit, with its reason
"""

from hotstuff.network.framing import MAX_KIND, MIN_KIND, Body, Buffer, FrameProtocol
from hotstuff.network.limits import AcceptLimits, ClientLimits, PeerLimits
from hotstuff.network.peers import PeerAddress, PeerHandler, PeerNetwork
from hotstuff.network.server import ClientHandler, FrameServer, connect_client

__all__ = [
    "MAX_KIND",
    "MIN_KIND",
    "AcceptLimits",
    "Body",
    "Buffer",
    "ClientHandler",
    "ClientLimits",
    "FrameProtocol",
    "FrameServer",
    "PeerAddress",
    "PeerHandler",
    "PeerLimits",
    "PeerNetwork",
    "connect_client",
]
