"""Opening one connection."""

from __future__ import annotations

import asyncio
import ssl

from hotstuff.network.framing import FrameProtocol


async def dial(conn: FrameProtocol, host: str, port: int, *, context: ssl.SSLContext | None, timeout_s: float) -> None:
    """Connect `conn`, TLS handshake included. Resolves the name each time, since a peer may have moved.

    Raises:
        OSError, asyncio.TimeoutError: not reached, or TLS failed.
    """
    connecting = asyncio.get_running_loop().create_connection(
        lambda: conn,
        host,
        port,
        ssl=context,
        server_hostname=None if context is None else "",  # the key is the identity, so send no name
    )
    try:
        await asyncio.wait_for(connecting, timeout_s)
    except UnicodeError as exc:  # a name that IDNA cannot encode
        raise OSError(f"not a host name: {host!r}") from exc
    except BaseException:
        # Cancelled between connection_made and the end of create_connection, uvloop closes the socket and calls
        # nobody. Whoever counts open connections would wait for this one for ever.
        conn.connection_lost(None)
        raise


def connect_error_text(error: BaseException) -> str:
    """One line for an error during connecting or the TLS handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not one of a known node key ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"not the TLS we speak ({error.reason or error})"
    return str(error) or type(error).__name__
