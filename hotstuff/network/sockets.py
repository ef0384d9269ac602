"""Small helpers around socket addresses and options."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from hotstuff.errors import ConfigError

# A peer that vanished without a word (power, cable, blackhole) must be noticed within the time of a few views.
KEEPALIVE_IDLE_S = 5
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_PROBES = 3
_USER_TIMEOUT_MS = 1000 * (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_PROBES)

_OPTIONS = (  # names, because macOS and Windows lack some of them
    ("IPPROTO_TCP", "TCP_NODELAY", 1),  # votes are small and urgent
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
    ("IPPROTO_TCP", "TCP_KEEPCNT", KEEPALIVE_PROBES),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),  # the same bound while our own data is unacknowledged
)


def tune(transport: asyncio.BaseTransport) -> None:
    """No delay, and notice a vanished peer within 20 s (where the platform has the options)."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None):
        return
    for level, name, value in _OPTIONS:
        if hasattr(socket, name):
            try:
                sock.setsockopt(getattr(socket, level), getattr(socket, name), value)
            except OSError:  # the other side has already reset the connection: connection_lost follows
                return


def address_text(address: object) -> str:
    """``host:port`` of a socket address, for logs."""
    if not isinstance(address, tuple):
        return "unknown address"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def address_group(host: str) -> str:
    """What counts as one source of connections: an IPv4 address, or the /64 that one IPv6 subscriber owns."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


def require_loopback(field: str, host: str) -> None:
    """Without TLS nothing may leave this machine.

    Raises:
        ConfigError: `host` is not a loopback address.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(field, host, "a loopback address (127.0.0.1, ::1, localhost) when TLS is off")


async def open_listener(host: str, port: int, *, field: str, backlog: int) -> socket.socket:
    """A listening, non-blocking socket; port 0 lets the system choose.

    Raises:
        ConfigError: the address cannot be bound.
    """
    loop = asyncio.get_running_loop()
    if not 0 <= port < 2**16:
        raise ConfigError(field, f"{host}:{port}", "a port in 0..65535")
    try:
        infos = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = infos[0][0], infos[0][4]
        sock = socket.create_server(address[:2], family=family, backlog=backlog)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(field, f"{host}:{port}", f"a free address of this machine ({exc})") from exc
    sock.setblocking(False)
    return sock
