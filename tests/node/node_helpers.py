"""What the tests of a node share: a loop that fails on anything left behind, batches, blocks, JSON files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from hotstuff import native
from hotstuff.node.genesis import FIRST_EPOCH, Genesis
from hotstuff.node.keys import Keys
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block, Header, payload_root
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Context, Mode
from hotstuff.types.validators import Validator, ValidatorSet

NETWORK = b"\7" * 32
CONTEXT = Context(Mode.CHAINED, NETWORK, 1, b"\5" * 32)

Frames = Sequence[tuple[bytes, int, int]]
"""(client id, first number, count) of each."""


def run(main: Callable[[], Coroutine[Any, Any, None]], timeout_s: float = 30) -> None:
    """Run; fail on a task left behind and on anything that reaches the loop's exception handler."""
    noise: list[dict[str, Any]] = []

    async def guarded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        await asyncio.wait_for(main(), timeout_s)
        assert not asyncio.all_tasks() - {asyncio.current_task()}

    asyncio.run(guarded())
    assert not noise


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Wait until `condition()` is true."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(poll(), timeout_s)


def transaction(client_id: bytes, number: int) -> bytes:
    return b"%s says %d" % (client_id[:1], number)


def frame_data(client_id: bytes, first: int, count: int) -> bytes:
    return native.build_frame(client_id, first, [transaction(client_id, first + i) for i in range(count)])


def make_batch(author: int, seq: int, frames: Frames) -> Batch:
    body = b"".join(frame_data(*frame) for frame in frames)
    return Batch(1, author, seq, bytes(64), body, tuple(native.parse_body(body, 1000)))


def make_block(height: int, parent: bytes, refs: Sequence[BatchRef] = ()) -> Block:
    place = (height, height, parent, QC.genesis(CONTEXT), ZERO_HASH)
    return Block(Header(Mode.CHAINED, NETWORK, 1, CONTEXT.vset_hash, *place, payload_root(tuple(refs)), 0), tuple(refs))


def make_chain(payloads: Sequence[Sequence[Batch]]) -> tuple[Block, ...]:
    """One block for each list of batches."""
    blocks: list[Block] = []
    for height, batches in enumerate(payloads, 1):
        parent = blocks[-1].id if blocks else CONTEXT.root_id
        blocks.append(make_block(height, parent, [batch.ref for batch in batches]))
    return tuple(blocks)


def make_genesis(count: int = 4, name: str = "testnet") -> tuple[Genesis, list[Keys]]:
    """A genesis and the keys of its validators, in the order of the set."""
    everyone = sorted(
        (Keys.generate(bytes([i + 1]) * 32) for i in range(count)), key=lambda k: k.bls.public_key().to_bytes()
    )
    members = tuple(Validator(k.node.public_key(), k.bls.public_key().to_bytes(), 1) for k in everyone)
    possessions = tuple(keys.possession(name) for keys in everyone)
    return Genesis(name, "chained", ValidatorSet(FIRST_EPOCH, members), possessions), everyone


def write(path: Path, value: object, mode: int = 0o644) -> Path:
    """Any JSON into a file."""
    path.write_text(json.dumps(value))
    path.chmod(mode)
    return path
