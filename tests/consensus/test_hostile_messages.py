"""Whatever decodes may be sent: no field of any message, changed in any way, gets an exception out of `step`.

Messages are recorded from a run with failed views, catching up and recovery. Each field of each is changed in turn, as
it is and signed anew with the keys of the peer who sends it. One replica hears them all and goes on afterwards.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from cluster import Cluster, Disk

from hotstuff.consensus.effects import Received
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.errors import InvalidEncoding
from hotstuff.types.batch import Batch
from hotstuff.types.block import Block, payload_root
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import BatchMessage, BlockResponse, Message, Proposal, Timeout, Vote, decode_message

NUMBERS = (0, 1, 2, 3, 4, 5, 255, 65535, 2**31, 2**32 - 1, 2**62, 2**63 - 1)


def changed(value: Any) -> Iterator[Any]:
    """Hostile values in place of `value`, of the same type or what the type allows."""
    if isinstance(value, (Phase, Mode)):
        yield from (other for other in type(value) if other != value)
    elif isinstance(value, int):
        yield from (n for n in {*NUMBERS, value + 1, value - 1} if n >= 0 and n != value)
    elif isinstance(value, bytes):
        yield bytes(len(value))
        yield b"\xff" * len(value)
        if value:
            yield bytes([value[0] ^ 1]) + value[1:]
            yield value[:-1] + bytes([value[-1] ^ 0x80])
        if len(value) < 3:  # a bitmap
            yield from (b"", b"\0", b"\x0f", b"\x10", b"\x0f\0", b"\xff" * 128)
    elif isinstance(value, tuple):
        yield ()
        yield value[::-1]
        yield value + value
        yield value[1:]
        for k, item in enumerate(value[:3]):
            yield from ((*value[:k], other, *value[k + 1 :]) for other in changed(item))
    elif isinstance(value, Batch):
        for name in ("epoch", "author", "seq", "signature"):
            yield from (replace(value, **{name: other}) for other in changed(getattr(value, name)))
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            present = getattr(value, field.name)
            if field.name.endswith("_tc") or field.name == "commit_qc":
                yield replace(value, **{field.name: None})
            yield from (replace(value, **{field.name: other}) for other in changed(present))


def resigned(cluster: Cluster, peer: int, message: Message) -> Message:
    """The same claim by `peer` itself, who signs anything, with hashes inside made to fit."""
    context, member = cluster.context, cluster.members[peer]
    if isinstance(message, Vote):
        body = context.vote_message(message.view, message.phase, message.block_id, message.commit_id)
        return replace(message, signer=peer, signature=member.bls.sign(body))
    if isinstance(message, Timeout):
        body = context.timeout_message(message.view, message.high_qc.view)
        return replace(message, signer=peer, signature=member.bls.sign(body))
    if isinstance(message, Proposal):
        entry = bytes(32) if message.entry_tc is None else message.entry_tc.key
        block = message.block
        header = replace(
            block.header,
            entry_tc_hash=entry,
            payload_root=payload_root(block.payload),
            proposer=peer,
            parent_id=block.header.justify.block_id,
        )
        signature = member.node.sign(context.proposal_message(header.view, header.id))
        return Proposal(Block(header, block.payload), signature, message.entry_tc)
    if isinstance(message, BatchMessage):
        batch = replace(message.batch, author=peer)
        return BatchMessage(replace(batch, signature=member.node.sign(batch.message(context))))
    return message


def arrivals(cluster: Cluster, peer: int, message: Message) -> Iterator[Message]:
    """As it is and signed anew by `peer`; what cannot be encoded or decoded never reaches the core."""
    for sign in (False, True):
        with suppress(InvalidEncoding, OverflowError, struct.error):
            final = resigned(cluster, peer, message) if sign else message
            yield decode_message(final.kind, bytes(final.encoding))


def recorded() -> dict[str, list[tuple[int, Message]]]:
    """(sender, message) by kind; a few of each, from a run in which everything happens."""
    cluster = Cluster(fast=True)
    heard: dict[str, list[tuple[int, Message]]] = {}

    def listen(envelope: Any) -> bool:
        known = heard.setdefault(type(envelope.message).__name__, [])
        if len(known) < 400:
            known.append((envelope.sender, envelope.message))
        return False

    cluster.drop = listen
    cluster.kill(3)
    for k in range(6):
        cluster.submit(k % 3)
        cluster.advance(1200)
    cluster.start(3)
    cluster.advance(3000)
    for i in range(3):
        cluster.kill(i)
    cluster.disks[3] = Disk(SafetyRecord.initial(cluster.context, passive=True))
    for i in range(3):
        cluster.start(i)
    cluster.kill(3)
    cluster.start(3)
    cluster.submit(0)
    cluster.advance(5000)
    return heard


HEARD = recorded()


def sample(kind: str) -> list[tuple[int, Message]]:
    """The longest ones have the most in them; and the first ones."""
    found = sorted(HEARD[kind], key=lambda item: -len(item[1].encoding))
    return [*found[:2], *HEARD[kind][:2]]


def test_every_kind_of_message_is_tried() -> None:
    assert set(HEARD) == {
        "Proposal",
        "Vote",
        "Timeout",
        "NewView",
        "BlockRequest",
        "BlockResponse",
        "ChainRequest",
        "ChainResponse",
        "RecoveryRequest",
        "RecoveryResponse",
        "BatchMessage",
        "Ack",
        "BatchRequest",
    }


@pytest.mark.parametrize("passive", [False, True])
@pytest.mark.parametrize("kind", sorted(HEARD))
def test_no_change_of_any_field_raises(kind: str, passive: bool) -> None:
    cluster = Cluster(fast=True, passive=0 if passive else None)
    tried = 0
    for sender, message in sample(kind):
        for peer in {sender, 1}:
            if peer == 0:
                continue
            for other in (message, *changed(message)):
                for arrived in arrivals(cluster, peer, other):
                    tried += 1
                    cluster.step(0, Received(peer, arrived))
                    cluster.settle()
    assert tried > 0
    cluster.advance(10_000)
    assert cluster.replicas[0] is not None
    assert cluster.replicas[0].view < 10**6
    cluster.submit(1)
    cluster.advance(20_000)
    cluster.assert_agreement()


@pytest.mark.parametrize("kind", ["BlockResponse", "ChainResponse"])
def test_no_change_of_an_answer_that_is_waited_for_raises(kind: str) -> None:
    """As above, by the very peer who was asked for it."""
    cluster = Cluster(fast=True)
    replica = cluster.replicas[0]
    assert replica is not None
    for _, message in sample(kind):
        for other in (*changed(message), message):
            for arrived in arrivals(cluster, 1, other):
                if isinstance(arrived, BlockResponse):
                    replica._sync.want(arrived.block_id, (), 10**6, 0)
                else:
                    replica._sync.start_chain((1,), 0)
                    replica._sync._owing.add(1)
                cluster.step(0, Received(1, arrived))
                cluster.settle()
    if kind == "ChainResponse":
        assert replica.tree.root.height > 0, "the unchanged one is believed"
    else:
        assert len(replica.tree) > 1 or replica._sync._orphans, "the unchanged one is believed"
