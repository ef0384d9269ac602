"""After a fork: what was stored names a third of the power or more, and never an honest validator.

The runs are random. Honest validators sign with the real `Safety` under the real rules; those who are Byzantine sign
everything, report nothing in timeouts, lead every view, and keep the honest ones apart on several sides.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pytest
from cluster import Cluster
from test_schedules import ACTIONS, act

from hotstuff.consensus.audit import audit
from hotstuff.consensus.contradictions import Contradictions
from hotstuff.consensus.effects import Share
from hotstuff.consensus.rules import RULES
from hotstuff.consensus.safety import Safety, SafetyRecord
from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.consensus.verifier import Verifier
from hotstuff.simulator.scheme import STAND_IN, members, validator_set
from hotstuff.types.block import Block, Header, payload_root
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.evidence import Evidence, EvidenceKind
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import BatchMessage, Message, NewView, Proposal, Timeout, Vote
from hotstuff.types.statements import SignedBatch

VIEWS = 14
SEEDS = 40


@dataclass
class Heard:
    """Statements and headers, from wherever."""

    headers: list[Header] = field(default_factory=list)
    qcs: list[QC] = field(default_factory=list)
    tcs: list[TC] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    timeouts: list[Timeout] = field(default_factory=list)

    def saw_record(self, record: SafetyRecord) -> None:
        """What a stored safety record and the testimony taken from it hold."""
        self.qcs += (record.high_qc, record.locked_qc)
        self.tcs += () if record.high_tc is None else (record.high_tc,)


@dataclass
class Side:
    """Honest validators that hear of each other, and what they know."""

    honest: tuple[int, ...]
    high_qc: QC
    high_tc: TC | None = None


class Run:
    """One random run. `stored` is what the honest validators have on disk, `everything` all that was ever signed."""

    def __init__(self, mode: Mode, seed: int, byzantine: Sequence[int], sides: Sequence[tuple[int, ...]]) -> None:
        self.chance = random.Random(f"{seed}/audit")
        self.byzantine = tuple(byzantine)
        count = len(byzantine) + sum(map(len, sides))
        self.members = members(count)
        self.validators = validator_set(self.members)
        self.context = Context(mode, b"\7" * 32, 1, self.validators.hash)
        self.verifier = Verifier(self.context, self.validators, STAND_IN)
        self.rules = RULES[mode]
        genesis = QC.genesis(self.context)
        self.tree = BlockTree(Node(self.context.root_id, ZERO_HASH, 0, 0, (), 0, None))
        self.sides = [Side(honest, genesis) for honest in sides]
        self.safety = {i: self._safety(i) for side in self.sides for i in side.honest}
        self.everything, self.stored = Heard(), Heard()

    def _safety(self, i: int) -> Safety:
        record = SafetyRecord.initial(self.context, passive=False)
        return Safety(i, self.context, self.rules, self.members[i].bls, self.members[i].node, record)

    def play(self, *, in_turn: bool = False) -> Run:
        """Views one after the other; in each, every side proposes something or times out.

        `in_turn`: a side works for some views while the others time out, so that no view has two certificates.
        """
        for view in range(1, VIEWS + 1):
            for turn, side in enumerate(self.sides):
                its_turn = view // 5 % len(self.sides) == turn
                if self.chance.random() < (0.95 * its_turn if in_turn else 0.6):
                    self._propose(side, view)
                if self.chance.random() < 0.15:
                    self._leak(side)
                self._end_view(side, view)
        for i, safety in self.safety.items():
            record = safety.record
            self.stored.saw_record(record)
            self.stored.votes += () if record.last_vote is None else (record.last_vote,)
            self.stored.timeouts += () if record.last_timeout is None else (record.last_timeout,)
            assert i not in self.byzantine
        return self

    # ---- a view

    def _propose(self, side: Side, view: int) -> None:
        header = self._header(side, view)
        node = None if header is None else self.tree.add(Block(header, ()), ())
        if header is None or node is None:
            return
        self.everything.headers.append(header)
        tc = None if header.entry_tc_hash == ZERO_HASH else side.high_tc
        for i in side.honest:
            self._learn(i, header.justify, tc)
        previous: QC | None = None
        for phase in self.rules.phases:
            qc = self._certify(side, node, phase, previous, tc)
            if qc is None:
                return
            self.everything.qcs.append(qc)
            if self.chance.random() < 0.1:
                return  # certified, and nobody is told
            side.high_qc = previous = qc
            for i in side.honest:
                self._learn(i, qc, None)

    def _header(self, side: Side, view: int) -> Header | None:
        """On the side's highest QC, or on any other that the rules might let through."""
        justify = side.high_qc
        older = [qc for qc in self.everything.qcs if qc.view < view and qc.block_id != ZERO_HASH]
        if older and self.chance.random() < 0.2:
            justify = self.chance.choice(older)
        proven = justify.phase.ends_view and justify.view + 1 == view
        entered = side.high_tc is not None and side.high_tc.view + 1 == view
        if justify.view >= view or not (proven or entered):
            return None
        tc = None if proven else side.high_tc
        parent = self.tree.get(justify.block_id)
        assert parent is not None
        context = self.context
        place = (view, parent.height + 1, parent.id, justify, ZERO_HASH if tc is None else tc.key)
        # The proposer's index tells blocks of different sides apart.
        leader = self.byzantine[self.sides.index(side) % len(self.byzantine)]
        return Header(
            context.mode, context.chain_id, context.epoch, context.vset_hash, *place, payload_root(()), leader
        )

    def _certify(self, side: Side, node: Node, phase: Phase, previous: QC | None, tc: TC | None) -> QC | None:
        commit_id = self.rules.commit_id(self.tree, node, phase)
        assert node.block is not None
        votes = []
        for i in side.honest:
            safety = self.safety[i]
            if previous is None:
                vote = safety.vote(node.block.header, tc, commit_id)
            else:
                vote = safety.later_vote(previous, commit_id)
            if vote is not None:
                votes.append(vote)
                self.stored.saw_record(safety.record)
                self.stored.headers.append(node.block.header)
        message = self.context.vote_message(node.view, phase, node.id, commit_id)
        votes += [
            Vote(1, node.view, phase, node.id, commit_id, i, self.members[i].bls.sign(message)) for i in self.byzantine
        ]
        self.everything.votes += votes
        signers = [vote.signer for vote in votes]
        if not self.validators.is_quorum(signers):
            return None
        signature = self._sum(Share(vote.signer, message, vote.signature) for vote in votes)
        return QC(1, node.view, phase, node.id, commit_id, self.validators.bitmap(signers), signature)

    def _end_view(self, side: Side, view: int) -> None:
        """Whoever is left in the view hears of its QC, if its side has one, or times out with the others."""
        if side.high_qc.leads_to > view:
            for i in side.honest:
                self._learn(i, side.high_qc, None)
            return
        timeouts = []
        for i in side.honest:
            if self.safety[i].record.current_view == view:
                timeout = self.safety[i].timeout()
                assert timeout is not None
                timeouts.append(timeout)
                self.stored.saw_record(self.safety[i].record)
        genesis = QC.genesis(self.context)
        signature = [self.members[i].bls.sign(self.context.timeout_message(view, 0)) for i in self.byzantine]
        timeouts += [Timeout(1, view, i, s, genesis, None) for i, s in zip(self.byzantine, signature, strict=True)]
        self.everything.timeouts += timeouts
        if self.validators.is_quorum({timeout.signer for timeout in timeouts}):
            side.high_tc = self._tc(view, timeouts)
            self.everything.tcs.append(side.high_tc)
            for i in side.honest:
                self._learn(i, None, side.high_tc)

    def _tc(self, view: int, timeouts: list[Timeout]) -> TC:
        by_view: dict[int, list[int]] = {}
        for timeout in timeouts:
            by_view.setdefault(timeout.high_qc.view, []).append(timeout.signer)
        groups = [TimeoutGroup(high, self.validators.bitmap(by_view[high])) for high in sorted(by_view, reverse=True)]
        shares = (Share(t.signer, self.context.timeout_message(view, t.high_qc.view), t.signature) for t in timeouts)
        highest = max((timeout.high_qc for timeout in timeouts), key=lambda qc: qc.rank)
        return TC(1, view, tuple(groups), self._sum(shares), highest)

    def _sum(self, shares: Iterable[Share]) -> bytes:
        signature = self.verifier.collect(shares).signature
        assert signature is not None
        return signature

    def _leak(self, side: Side) -> None:
        """Something from another side gets through to one of this."""
        if self.everything.qcs:
            self._learn(self.chance.choice(side.honest), self.chance.choice(self.everything.qcs), None)

    def _learn(self, i: int, qc: QC | None, tc: TC | None) -> None:
        """As a replica does; a QC that commits is stored."""
        safety = self.safety[i]
        for each in (qc, None if tc is None else tc.high_qc):
            if each is not None:
                lock = self.rules.lock(each, self.tree.get(each.block_id))
                safety.learn(high_qc=each, locked_qc=lock)
                if each.commit_id != ZERO_HASH:
                    self.stored.qcs.append(each)
        safety.learn(high_tc=tc)

    # ---- what came of it

    @cached_property
    def forked(self) -> bool:
        """Have the honest validators stored certificates that commit conflicting blocks?"""
        committed = sorted({qc.commit_id for qc in self.stored.qcs if qc.commit_id != ZERO_HASH})
        chains = [self._ancestors(block_id) for block_id in committed]
        return any(a[0] not in b and b[0] not in a for a in chains for b in chains)

    def _ancestors(self, block_id: bytes) -> list[bytes]:
        found = [block_id]
        while (node := self.tree.get(found[-1])) is not None and node.block is not None:
            found.append(node.parent_id)
        return found

    def audit(self, heard: Heard) -> list[Evidence]:
        return audit(
            self.context.mode,
            heard.headers,
            heard.qcs,
            heard.tcs,
            votes=heard.votes,
            timeouts=heard.timeouts,
            genuine=self.verifier.check,
        )

    def culprits(self, found: Iterable[Evidence]) -> set[int]:
        return {i for evidence in found for i in evidence.culprits}


CONTROLS = {
    "2 of 4": ((2, 3), ((0,), (1,))),
    "3 of 7": ((1, 4, 6), ((0, 2), (3, 5))),
    "4 of 7 on three sides": ((0, 1, 2, 3), ((4,), (5,), (6,))),
}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("mode", Mode)
def test_a_fork_convicts_a_third_of_the_power_and_nobody_honest(mode: Mode, control: str) -> None:
    byzantine, sides = CONTROLS[control]
    forks = 0
    for seed in range(SEEDS):
        run = Run(mode, seed, byzantine, sides).play()
        for heard in (run.stored, run.everything):
            guilty = run.culprits(run.audit(heard))
            assert guilty <= set(byzantine), f"seed {seed}: accuses {guilty}"
            if run.forked:
                assert run.validators.has_honest(guilty), f"seed {seed}: a fork, and only {guilty} are to blame"
        forks += run.forked
    assert forks >= SEEDS // 4, "hardly any fork: nothing was shown"


@pytest.mark.parametrize("mode", Mode)
def test_below_a_third_nothing_forks_and_nobody_honest_is_accused(mode: Mode) -> None:
    commits = 0
    for seed in range(SEEDS):
        run = Run(mode, seed, (3,), ((0, 1, 2),)).play()
        assert not run.forked
        assert run.culprits(run.audit(run.everything)) <= {3}
        commits += any(qc.commit_id != ZERO_HASH for qc in run.everything.qcs)
    assert commits >= SEEDS // 2


LOCKS = {EvidenceKind.DOUBLE_VOTE, EvidenceKind.LOCK_VIOLATION}
SUFFICIENT = {
    Mode.BASIC: LOCKS,
    Mode.CHAINED: LOCKS,
    Mode.HOTSTUFF2: LOCKS,
    Mode.JOLTEON: {EvidenceKind.DOUBLE_VOTE, EvidenceKind.TIMEOUT_LIE},
}


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("mode", Mode)
def test_the_kinds_that_the_argument_names_are_enough(mode: Mode, in_turn: bool) -> None:
    """Those who lie in timeouts are convicted anyway; with locks there must be enough without that."""
    alone: Counter[EvidenceKind] = Counter()
    forks = 0
    for seed in range(SEEDS):
        run = Run(mode, seed, *CONTROLS["2 of 4"]).play(in_turn=in_turn)
        if run.forked:
            forks += 1
            found = [evidence for evidence in run.audit(run.stored) if evidence.kind in SUFFICIENT[mode]]
            assert run.validators.has_honest(run.culprits(found)), f"seed {seed}"
            for kind in SUFFICIENT[mode]:
                alone[kind] += run.validators.has_honest(run.culprits(e for e in found if e.kind is kind))
    assert forks >= SEEDS // 4
    if in_turn:
        assert alone[EvidenceKind.DOUBLE_VOTE] < forks / 2, "double votes alone would have been enough"


class Listener(Cluster):
    """Hears every message that any replica sends in any of its lives."""

    heard: Heard
    batches: Contradictions

    def send(self, sender: int, to: int, message: Message) -> None:
        super().send(sender, to, message)
        if isinstance(message, Proposal):
            self.heard.headers.append(message.block.header)
            self.heard.tcs += () if message.entry_tc is None else (message.entry_tc,)
        elif isinstance(message, Vote):
            self.heard.votes.append(message)
        elif isinstance(message, Timeout):
            self.heard.timeouts.append(message)
            self.heard.qcs.append(message.high_qc)
        elif isinstance(message, NewView):
            self.heard.qcs.append(message.high_qc)
            self.heard.tcs += () if message.high_tc is None else (message.high_tc,)
        elif isinstance(message, BatchMessage):
            assert self.batches.batch(SignedBatch.of(message.batch), verified=True) == []


@pytest.mark.parametrize("mode", Mode)
def test_real_replicas_that_crash_and_lose_messages_never_contradict_themselves(mode: Mode) -> None:
    votes = timeouts = 0
    for seed in range(4):
        chance = random.Random(f"{seed}/{int(mode)}")
        Listener.heard, Listener.batches = Heard(), Contradictions(mode)
        cluster = Listener(chance.choice([4, 5]), fast=True, mode=mode)
        cluster.keep_lazy = False
        for _ in range(150):
            act(cluster, chance.choice(ACTIONS), chance.randrange(2**16))
        heard = cluster.heard
        assert audit(mode, heard.headers, heard.qcs, heard.tcs, votes=heard.votes, timeouts=heard.timeouts) == []
        assert [report for _, report in cluster.reports if report.name == "evidence"] == []
        votes, timeouts = votes + len(heard.votes), timeouts + len(heard.timeouts)
    assert votes > 200 and timeouts > 100, "nothing happened"


def test_nothing_is_said_twice() -> None:
    run = Run(Mode.CHAINED, 1, *CONTROLS["3 of 7"]).play()
    found = run.audit(run.everything)
    assert len({evidence.offence for evidence in found}) == len(found) > 0
    assert run.audit(Heard(*(2 * list(getattr(run.everything, f)) for f in Heard.__dataclass_fields__))) == found


def test_what_does_not_verify_is_left_out_and_hides_nothing() -> None:
    """Somebody adds garbage to the data that is audited: certificates in the names of the honest."""
    run = Run(Mode.CHAINED, 1, *CONTROLS["3 of 7"]).play()
    clean = run.culprits(run.audit(run.stored))
    dirty = Heard(*(list(getattr(run.stored, f)) for f in Heard.__dataclass_fields__))
    everyone = run.validators.bitmap(range(7))
    for qc in run.stored.qcs:
        if qc.view > 0:
            dirty.qcs.insert(0, QC(1, qc.view, qc.phase, b"\1" * 32, ZERO_HASH, everyone, bytes(96)))
    assert run.culprits(run.audit(dirty)) == clean
