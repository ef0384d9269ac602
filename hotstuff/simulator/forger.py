"""What all Byzantine validators know and can sign together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from hotstuff import native
from hotstuff.consensus import effects as fx
from hotstuff.crypto.bls import SecretKey, Signature
from hotstuff.simulator.scheme import Member, encode_sum
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block, Header, payload_root
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Context, Phase
from hotstuff.types.messages import (
    Ack,
    BatchMessage,
    BlockResponse,
    ChainResponse,
    Message,
    NewView,
    Proposal,
    RecoveryResponse,
    Timeout,
    Vote,
)
from hotstuff.types.validators import NODE_SIGNATURE_BYTES

if TYPE_CHECKING:
    from hotstuff.simulator.world import World

# How far back the coalition remembers: enough for every attack on what is not yet committed.
REMEMBERED_VIEWS = 64
REMEMBERED_BLOCKS = 1024
REMEMBERED_CERTIFICATES = 256
REMEMBERED_REFS = 256
REMEMBERED_SECRETS = 16

CLIENT = b"byzantine-client"

Slot = tuple[int, Phase, bytes, bytes]
"""View, phase, block id and commit id: what the votes of one QC have in common."""

K = TypeVar("K")
V = TypeVar("V")


class Memory(OrderedDict[K, V]):
    """The last `limit` things, oldest first."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def keep(self, key: K, value: V) -> None:
        """Remember one more, and forget the oldest if there are too many."""
        self[key] = value
        if len(self) > self._limit:
            self.popitem(last=False)


class Forger:
    """The common memory and the keys of all Byzantine validators.

    It signs anything in their names, and makes certificates of what it has seen and its own signatures. Asked to sign
    for anybody else it raises `KeyError`: it never was given the key.
    """

    def __init__(self, world: World, members: Mapping[int, Member]) -> None:
        """`members`: both keys of each Byzantine validator, by index."""
        self.context: Context = world.context
        self.blocks: Memory[bytes, Block] = Memory(REMEMBERED_BLOCKS)
        self.qcs: Memory[bytes, QC] = Memory(REMEMBERED_CERTIFICATES)
        self.tcs: Memory[bytes, TC] = Memory(REMEMBERED_CERTIFICATES)
        self.refs: Memory[BatchRef, bool] = Memory(REMEMBERED_REFS)
        self.proposals: dict[int, dict[bytes, Proposal]] = {}
        self.votes: dict[int, dict[Slot, dict[int, Vote]]] = {}
        self.timeouts: dict[int, dict[int, Timeout]] = {}
        self.hidden: dict[bytes, Phase] = {}
        """Blocks whose certificates the coalition keeps to itself, from this phase on."""
        self.secrets: Memory[bytes, QC] = Memory(REMEMBERED_SECRETS)
        """Their certificates, also after they have come out."""
        self.heads: dict[int, QC] = {}
        """The highest certificate that each side of a divided network was shown."""
        self._validators = world.validators
        self._verifier = world.verifier
        self._members = dict(sorted(members.items()))
        self._newest_view = 0
        self._next_tx = 1

    @property
    def signers(self) -> tuple[int, ...]:
        """The validators whose keys are here."""
        return tuple(self._members)

    # ---- memory

    def saw(self, message: Message) -> None:
        """Remember what an honest core said: ours before it is twisted, or another replica's."""
        if isinstance(message, Proposal):
            self._saw_block(message.block)
            self._saw_certificates(None, message.entry_tc)
            self._in_view(self.proposals, message.block.header.view)[message.block.id] = message
        elif isinstance(message, Vote):
            slot = (message.view, message.phase, message.block_id, message.commit_id)
            self._in_view(self.votes, message.view).setdefault(slot, {}).setdefault(message.signer, message)
        elif isinstance(message, Timeout):
            self._saw_certificates(message.high_qc, message.prev_tc)
            self._in_view(self.timeouts, message.view).setdefault(message.signer, message)
        elif isinstance(message, (NewView, RecoveryResponse)):
            self._saw_certificates(message.high_qc, message.high_tc)
        elif isinstance(message, (BlockResponse, ChainResponse)):
            for block in message.blocks:
                self._saw_block(block)
        elif isinstance(message, BatchMessage):
            self._saw_refs((message.batch.ref,))
        elif isinstance(message, Ack):
            self._saw_refs(message.refs)

    def _saw_block(self, block: Block) -> None:
        self.blocks.keep(block.id, block)
        self._saw_certificates(block.header.justify, None)
        self._saw_refs(block.payload)

    def _saw_certificates(self, qc: QC | None, tc: TC | None) -> None:
        if tc is not None:
            self.tcs.keep(tc.key, tc)
        for found in (qc, None if tc is None else tc.high_qc):
            if found is not None:
                self.qcs.keep(found.key, found)

    def _saw_refs(self, refs: Iterable[BatchRef]) -> None:
        for ref in refs:
            self.refs.keep(ref, True)

    def _in_view(self, memory: dict[int, dict[K, V]], view: int) -> dict[K, V]:
        if view > self._newest_view:
            self._newest_view = view
            for views in (self.proposals, self.votes, self.timeouts):
                for old in [v for v in views if v < view - REMEMBERED_VIEWS]:
                    del views[old]
        return memory.setdefault(view, {})

    @property
    def high_qc(self) -> QC:
        """The highest certificate that anybody showed us."""
        return max(self.qcs.values(), key=lambda qc: qc.rank, default=QC.genesis(self.context))

    def height(self, block_id: bytes) -> int | None:
        """Height of a block that we have seen; 0 for the root."""
        if block_id == self.context.root_id:
            return 0
        block = self.blocks.get(block_id)
        return None if block is None else block.header.height

    # ---- signatures

    def signed(self, message: V, context: Context | None = None) -> V:
        """`message` with the right signature of the validator it claims to be from; KeyError if that one is honest."""
        context = context or self.context
        changed: Any = message
        if isinstance(message, Vote):
            text = context.vote_message(message.view, message.phase, message.block_id, message.commit_id)
            changed = replace(message, signature=self._members[message.signer].bls.sign(text))
        elif isinstance(message, Timeout):
            text = context.timeout_message(message.view, message.high_qc.view)
            changed = replace(message, signature=self._members[message.signer].bls.sign(text))
        elif isinstance(message, Proposal):
            header = message.block.header
            text = context.proposal_message(header.view, header.id)
            changed = replace(message, signature=self._members[header.proposer].node.sign(text))
        elif isinstance(message, Batch):
            changed = replace(message, signature=self._members[message.author].node.sign(message.message(context)))
        return changed  # type: ignore[no-any-return]

    def vote(self, signer: int, view: int, phase: Phase, block_id: bytes, commit_id: bytes) -> Vote:
        """A Byzantine validator's vote for anything."""
        return self.signed(Vote(self.context.epoch, view, phase, block_id, commit_id, signer, b""))

    def shifted(self, vote: Vote) -> bytes:
        """A wrong share: two colluding signers that both do this get s1+d and s2-d, whose sum is right.

        `d` is a signature, too, so that each of the two shares is a proper point.
        """
        place = self.signers.index(vote.signer)
        partner = self.signers[place - place % 2]
        difference = self.vote(partner, vote.view, vote.phase, vote.commit_id, vote.block_id).signature
        real = isinstance(self._members[vote.signer].bls, SecretKey)
        shift = _shift_point if real else _shift_stand_in
        return shift(vote.signature, difference, opposite=place % 2 == 1)

    def timeout(self, signer: int, view: int, high_qc: QC, prev_tc: TC | None) -> Timeout:
        """A Byzantine validator's timeout with any content."""
        return self.signed(Timeout(self.context.epoch, view, signer, b"", high_qc, prev_tc))

    def proposal(
        self, proposer: int, view: int, justify: QC, refs: tuple[BatchRef, ...], entry_tc: TC | None
    ) -> Proposal | None:
        """A Byzantine leader's block on any QC; None if its parent's height is not known."""
        height = self.height(justify.block_id)
        if height is None:
            return None
        context = self.context
        header = Header(
            context.mode,
            context.chain_id,
            context.epoch,
            context.vset_hash,
            view,
            height + 1,
            justify.block_id,
            justify,
            ZERO_HASH if entry_tc is None else entry_tc.key,
            payload_root(refs),
            proposer,
        )
        return self.signed(Proposal(Block(header, refs), b"", entry_tc))

    def frame(self) -> fx.Submitted:
        """A client's frame with one transaction that nobody asked for; each call makes another one."""
        number, self._next_tx = self._next_tx, self._next_tx + 1
        body = native.build_frame(CLIENT, number, [b"byzantine-%d" % number])
        (frame,) = native.parse_body(body, 1)
        return fx.Submitted(body, frame)

    def batch(self, author: int, seq: int) -> Batch:
        """A Byzantine author's batch; each call makes another one."""
        made = self.frame()
        return self.signed(
            Batch(self.context.epoch, author, seq, bytes(NODE_SIGNATURE_BYTES), made.data, (made.frame,))
        )

    # ---- certificates

    def qc(self, slot: Slot, without: tuple[int, ...] = ()) -> QC | None:
        """A QC of the votes that we saw and our own, leaving out some signers; None if that is no quorum."""
        seen = self.votes.get(slot[0], {}).get(slot, {})
        signers = sorted({*seen, *self._members} - {*without})
        if not self._validators.is_quorum(signers):
            return None
        qc = self._make_qc(slot, signers)
        self._saw_certificates(qc, None)
        return qc

    def small_qc(self, slot: Slot) -> QC | None:
        """The right signatures of as many as are not quite a quorum; None if we saw too few votes for that."""
        signers = self._almost(self.votes.get(slot[0], {}).get(slot, {}))
        return None if signers is None else self._make_qc(slot, signers)

    def small_tc(self, view: int) -> TC | None:
        """As `small_qc`: everybody reports what they did report, and we the highest of that."""
        seen = self.timeouts.get(view, {})
        signers = self._almost(seen)
        honest = {i: seen[i] for i in signers or () if i not in self._members}
        if signers is None or not honest:
            return None
        highest = max(timeout.high_qc.view for timeout in honest.values())
        reported = {i: honest[i].high_qc.view if i in honest else highest for i in signers}
        return self._make_tc(view, reported, honest)

    def _almost(self, seen: Iterable[int]) -> list[int] | None:
        """Ourselves and some of those, one short of a quorum; None if they are too few."""
        is_quorum = self._validators.is_quorum
        signers = {*self._members}
        for i in sorted({*seen} - signers):
            if not is_quorum({*signers, i}):
                signers.add(i)
        nearly = any(is_quorum({*signers, i}) for i in range(len(self._validators)))
        return sorted(signers) if nearly else None

    def _make_qc(self, slot: Slot, signers: Sequence[int]) -> QC | None:
        seen = self.votes.get(slot[0], {}).get(slot, {})
        votes = [self.vote(i, *slot) if i in self._members else seen[i] for i in signers]
        text = self.context.vote_message(*slot)
        shares = [fx.Share(vote.signer, text, vote.signature) for vote in votes]
        found = self._verifier.collect(shares)
        if found.signature is None or len(found.good) != len(shares):
            return None
        return QC(self.context.epoch, *slot, self._validators.bitmap(found.good), found.signature)

    def tc(self, view: int) -> TC | None:
        """The TC of a view that hides the most: our own signatures report nothing, then the lowest of the others.

        A TC proves only its highest report, so ours may name view 0.
        """
        seen = self.timeouts.get(view, {})
        others = sorted((t.high_qc.view, i) for i, t in seen.items() if i not in self._members)
        reported = dict.fromkeys(self._members, 0)
        for high_qc_view, i in others:
            if self._validators.is_quorum(reported) and len(reported) > len(self._members):
                break
            reported[i] = high_qc_view
        if not others or not self._validators.is_quorum(reported):
            return None
        tc = self._make_tc(view, reported, {i: seen[i] for i in reported if i not in self._members})
        self._saw_certificates(None, tc)
        return tc

    def _make_tc(self, view: int, reported: dict[int, int], honest: dict[int, Timeout]) -> TC | None:
        shares = []
        for i, high_qc_view in sorted(reported.items()):
            text = self.context.timeout_message(view, high_qc_view)
            shares.append(fx.Share(i, text, honest[i].signature if i in honest else self._members[i].bls.sign(text)))
        found = self._verifier.collect(shares)
        if found.signature is None or len(found.good) != len(shares):
            return None
        views = sorted(set(reported.values()), reverse=True)
        bitmap = self._validators.bitmap
        groups = tuple(TimeoutGroup(v, bitmap(i for i, high in reported.items() if high == v)) for v in views)
        high_qcs = [t.high_qc for t in honest.values() if t.high_qc.view == views[0]]
        return TC(self.context.epoch, view, groups, found.signature, high_qcs[0])


def _shift_point(share: bytes, difference: bytes, *, opposite: bool) -> bytes:
    if opposite:  # the bit that says which of the two square roots is meant
        difference = bytes([difference[0] ^ 0x20]) + difference[1:]
    return Signature.total([Signature.from_bytes(share), Signature.from_bytes(difference)]).to_bytes()


def _shift_stand_in(share: bytes, difference: bytes, *, opposite: bool) -> bytes:
    number = int.from_bytes(difference, "big")
    return encode_sum([int.from_bytes(share, "big"), -number if opposite else number])
