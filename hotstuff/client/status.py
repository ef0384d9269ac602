"""Asking one replica how it is."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from hotstuff.client.client import ReplicaAddress
from hotstuff.errors import NotConnected
from hotstuff.network import Body, connect_client
from hotstuff.types.client import ClientKind


async def fetch_status(replica: ReplicaAddress, *, tls: bool = True, timeout_s: float = 5.0) -> dict[str, Any]:
    """The replica's own account of itself (see `Node.status`). Raises `NotConnected`."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_frame(kind: int, body: Body) -> None:
        if kind == ClientKind.STATUS and not answer.done():
            answer.set_result(bytes(body))

    lost = asyncio.Event()

    def on_lost(reason: str) -> None:
        lost.set()
        if not answer.done():
            answer.set_exception(NotConnected(f"{replica.host}:{replica.port}: {reason}"))

    conn = await connect_client(
        replica.host, replica.port, node_key=replica.node_key, on_frame=on_frame, on_lost=on_lost, tls=tls
    )
    try:
        conn.send(ClientKind.STATUS_REQUEST)
        status = orjson.loads(await asyncio.wait_for(answer, timeout_s))
        if not isinstance(status, dict):
            raise NotConnected(f"{replica.host}:{replica.port}: its status is not a JSON object")
        return status
    except asyncio.TimeoutError:
        raise NotConnected(f"{replica.host}:{replica.port}: no answer within {timeout_s} s") from None
    except orjson.JSONDecodeError:
        raise NotConnected(f"{replica.host}:{replica.port}: its status is not JSON") from None
    finally:
        conn.close("done")
        await lost.wait()  # at most a second: the loop may be closed right after this
