"""Certificates that prove nothing: wrong signers, old signatures, another context, or a view out of thin air."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from hotstuff.simulator.byzantine import Outgoing, Strategy
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import (
    BatchMessage,
    Message,
    NewView,
    Proposal,
    RecoveryResponse,
    Timeout,
    Vote,
)


class MalformedBitmaps(Strategy):
    """Shows certificates whose signers are not what the signature says, or not even a set of validators."""

    MODES = ("long", "short", "padding", "none", "all", "twice", "overlap")

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, NewView):
            message = NewView(self._qc(message.high_qc), self._tc(message.high_tc))
        elif isinstance(message, Timeout) and message.signer == self.index:
            message = replace(message, high_qc=self._qc(message.high_qc), prev_tc=self._tc(message.prev_tc))
        elif isinstance(message, Proposal) and message.block.header.proposer == self.index:
            header, entry_tc = message.block.header, self._tc(message.entry_tc)
            justify = header.justify if entry_tc is not None else self._qc(header.justify)
            changed = self.forger.proposal(self.index, header.view, justify, message.block.payload, entry_tc)
            message = changed or message
        return ((to, message),)

    def entering(self, view: int) -> Iterable[Outgoing]:
        """As if this view had succeeded or failed already: news to everybody, so everybody has to look at it."""
        tc = max(self.forger.tcs.values(), key=lambda tc: tc.view, default=None)
        if self.mode in ("twice", "overlap"):
            return self.to_all(NewView(self.forger.high_qc, self._tc(tc and replace(tc, view=view))))
        return self.to_all(NewView(self._qc(replace(self.forger.high_qc, view=view)), None))

    def _qc(self, qc: QC) -> QC:
        return replace(qc, signers=self._bitmap(qc.signers)) if qc.view else qc

    def _tc(self, tc: TC | None) -> TC | None:
        if tc is None:
            return None
        groups = tuple(TimeoutGroup(group.high_qc_view, self._bitmap(group.signers)) for group in tc.groups)
        if self.mode == "twice":
            groups += groups[-1:]
        elif self.mode == "overlap":
            groups += (TimeoutGroup(max(groups[-1].high_qc_view - 1, 0), groups[-1].signers),)
        return replace(tc, groups=groups)

    def _bitmap(self, signers: bytes) -> bytes:
        validators = self.world.validators
        everybody = validators.bitmap(range(len(validators)))
        changed = {
            "long": signers + b"\0",
            "short": signers[:-1],
            "padding": signers[:-1] + bytes([signers[-1] | 0x80]) if signers else b"\x80",
            "none": bytes(len(signers)),
            "all": everybody,
        }
        return changed.get(self.mode, signers)


class SignatureTransplant(Strategy):
    """Takes a genuine certificate, changes what it says and keeps the signature."""

    MODES = ("view", "phase", "commit_id", "block_id")

    def entering(self, view: int) -> Iterable[Outgoing]:
        tc = max(self.forger.tcs.values(), key=lambda tc: tc.view, default=None)
        yield from self.to_all(NewView(self._changed(view), tc and replace(tc, view=view)))

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, Timeout) and message.signer == self.index:
            message = self.forger.timeout(self.index, message.view, self._changed(message.view - 1), None)
        elif isinstance(message, Proposal) and message.block.header.proposer == self.index:
            header, justify = message.block.header, self._changed(message.block.header.view - 1)
            changed = self.forger.proposal(self.index, header.view, justify, message.block.payload, None)
            message = changed or message
        return ((to, message),)

    def _changed(self, view: int) -> QC:
        """A QC of `view` at least; the other changes come on top, or nobody would look at it."""
        qc = self.forger.high_qc
        other = next(reversed(self.forger.blocks), self.world.context.root_id)
        changes: dict[str, dict[str, Any]] = {
            "view": {},
            "phase": {"phase": Phase.COMMIT if qc.phase is not Phase.COMMIT else Phase.PRECOMMIT},
            "commit_id": {"commit_id": qc.block_id},
            "block_id": {"block_id": other},
        }
        return replace(qc, view=max(view, 1), **changes[self.mode])


class WrongContext(Strategy):
    """Signs for another epoch, network, validator set, protocol or phase."""

    MODES = ("epoch", "chain", "validators", "protocol", "phase")

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, Vote) and message.signer == self.index:
            phase = self._other_phase(message.phase) if self.mode == "phase" else message.phase
            epoch = self._context.epoch
            message = self.forger.signed(replace(message, phase=phase, epoch=epoch), self._context)
        elif isinstance(message, Timeout) and message.signer == self.index:
            message = self.forger.signed(replace(message, epoch=self._context.epoch), self._context)
        elif isinstance(message, Proposal) and message.block.header.proposer == self.index:
            message = self._proposal(message)
        elif isinstance(message, BatchMessage) and message.batch.author == self.index:
            batch = replace(message.batch, epoch=self._context.epoch)
            message = BatchMessage(self.forger.signed(batch, self._context))
        return ((to, message),)

    @property
    def _context(self) -> Context:
        ours = self.world.context
        changes: dict[str, dict[str, Any]] = {
            "epoch": {"epoch": ours.epoch + 1},
            "chain": {"chain_id": bytes(32)},
            "validators": {"vset_hash": bytes(32)},
            "protocol": {"mode": Mode.BASIC if ours.mode is not Mode.BASIC else Mode.CHAINED},
            "phase": {},
        }
        return replace(ours, **changes[self.mode])

    def _proposal(self, proposal: Proposal) -> Proposal:
        other = self._context
        header = replace(
            proposal.block.header,
            mode=other.mode,
            chain_id=other.chain_id,
            epoch=other.epoch,
            vset_hash=other.vset_hash,
        )
        return self.forger.signed(replace(proposal, block=replace(proposal.block, header=header)), other)

    def _other_phase(self, phase: Phase) -> Phase:
        return self.chance.choice([other for other in Phase if other is not phase])


class SmallQuorum(Strategy):
    """Shows certificates that are genuine in everything, except that their signers are one short of a quorum."""

    MODES = ("qc", "tc")

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._shown_view = 0

    def acting(self) -> Iterable[Outgoing]:
        view = self.view
        if view <= self._shown_view:
            return ()
        made = self._qc(view) if self.mode == "qc" else self._tc(view)
        if made is None:
            return ()
        self._shown_view = view
        return self.to_all(made)

    def _qc(self, view: int) -> NewView | None:
        for slot in self.forger.votes.get(view, ()):
            qc = self.forger.small_qc(slot)
            if qc is not None:
                return NewView(qc, None)
        return None

    def _tc(self, view: int) -> NewView | None:
        tc = self.forger.small_tc(view)
        return None if tc is None else NewView(tc.high_qc, tc)


FAR = (1, 2, 10, 11, 1000, 2**32, 2**62)
"""Views ahead: inside the vote window, at its edge, beyond it, and as far as a counter goes."""


class ViewInflater(Strategy):
    """Claims high views, with certificates that it made up."""

    CLAIMS: tuple[Callable[[QC, TC | None], Message], ...] = (
        lambda qc, tc: NewView(qc, None),
        lambda qc, tc: NewView(qc, tc),
        lambda qc, tc: RecoveryResponse(qc, tc),
    )

    def entering(self, view: int) -> Iterator[Outgoing]:
        high = view + self.chance.choice(FAR)
        qc = replace(self.forger.high_qc, view=high, signature=self.chance.randbytes(96))
        tc = max(self.forger.tcs.values(), key=lambda tc: tc.view, default=None)
        tc = tc and replace(tc, view=high + 1)
        claim = self.chance.choice(self.CLAIMS)(qc, tc)
        timeout = self.forger.timeout(self.index, high + 1, qc, None)
        for to in self.others:
            yield to, claim
            yield to, timeout
