"""Scenarios judged: one by one, or all of one size together.

One by one: every view is carried out, then the calm after it. Together: scenarios that begin alike share what they
begin with, and beginnings that come to the same (`fingerprint`) go on as one, with the number of scenarios
that they stand for. Either way each kind of scenario is judged and counted once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from hotstuff.consensus.audit import audit
from hotstuff.simulator.fingerprint import copy_of, fingerprint
from hotstuff.simulator.observer import Violation
from hotstuff.simulator.rounds import Arena, Execution
from hotstuff.simulator.scenarios import Round, Scenario, Shape, Space, Turn
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC, TC
from hotstuff.types.evidence import Evidence
from hotstuff.types.messages import BlockResponse, ChainResponse, Message, Proposal, Timeout, Vote

# Failures that are described in full; the others are counted.
MAX_FINDINGS = 10
# Violations that are no danger: a view that nobody can leave, or that does not come to rest.
LIVENESS = ("I15", "spin")
# Violations that contradict a commit: honest chains differ, or an honest replica saw it coming and stopped.
FORKS = ("I1", "halt")


# ---- what comes of it -----------------------------------------------------------------------------------------------


@dataclass
class Finding:
    """A scenario that went wrong (leader, restart and part of each view). `accused`: after a fork, by evidence."""

    scenario: list[list[Any]]
    what: str
    accused: list[int] | None = None


@dataclass
class Tally:
    """What came of so many scenarios.

    `unsafe`: safety was violated. `stuck`: a view does not end, or no commits in the calm. `leaves`: executions of a
    last view, fewer than scenarios where some were merged. `committed`: an honest replica had committed before the
    calm. `diverged`: honest replicas had different highest QCs then. `longest_calm`: views until all had committed
    enough. `forks`: a commit was contradicted; `proven`: of these, those with evidence against a third of the power or
    more, and nobody honest.
    """

    scenarios: int = 0
    unsafe: int = 0
    stuck: int = 0
    leaves: int = 0
    committed: int = 0
    diverged: int = 0
    longest_calm: int = 0
    forks: int = 0
    proven: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Takes in what came of others."""
        longest, findings = max(self.longest_calm, other.longest_calm), self.findings + other.findings
        for name, value in vars(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        self.longest_calm, self.findings = longest, findings[:MAX_FINDINGS]

    def encode(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Tally:
        """Inverse of `encode`."""
        return cls(**{**data, "findings": [Finding(**finding) for finding in data["findings"]]})


class Goal(NamedTuple):
    """What has to happen in the calm: so many blocks committed everywhere within so many views."""

    blocks: int
    max_views: int


class Outcome(NamedTuple):
    """How the calm ended: views it took (None: stuck), or the violation."""

    views: int | None
    violation: Violation | None = None


class Beginning(NamedTuple):
    """Views that are carried out, the turn chosen for the next one, and how many beginnings it stands for."""

    rounds: Scenario
    turn: Turn
    weight: int

    def encode(self) -> list[Any]:
        """For a file."""
        return [encode_scenario(self.rounds), list(self.turn), self.weight]

    @classmethod
    def decode(cls, data: list[Any]) -> Beginning:
        """Inverse of `encode`."""
        rounds, turn, weight = data
        return cls(decode_scenario(rounds), Turn(*turn), weight)


def encode_scenario(scenario: Scenario) -> list[list[Any]]:
    """Leader, restart and part of each view."""
    return [[this.turn.leader, this.turn.restart, this.part] for this in scenario]


def decode_scenario(data: Iterable[Iterable[Any]]) -> Scenario:
    """Inverse of `encode_scenario`."""
    return tuple(Round(Turn(leader, restart), part) for leader, restart, part in data)


# ---- judging --------------------------------------------------------------------------------------------------------


def carry_out(execution: Execution, scenario: Scenario, following: int | None = None) -> None:
    """All views of a scenario (or of a beginning, with the leader of the view after it), without the calm."""
    leaders = [this.turn.leader for this in scenario] + ([] if following is None else [following])
    execution.begin(leaders[0])
    for view, this in enumerate(scenario, 1):
        execution.play(this, leaders[view] if view < len(leaders) else None)


OnFork = Callable[[Execution], list[Evidence]]


class Judge:
    """Judges scenarios of one size. `tally` is what came of all so far."""

    def __init__(self, arena: Arena, goal: Goal, on_fork: OnFork | None = None) -> None:
        """`on_fork` is given a forked execution, with all its messages, and finds whom to blame."""
        self.arena = arena
        self.goal = goal
        self.tally = Tally()
        self._on_fork = on_fork or evidence_of
        self._outcomes: dict[bytes, Outcome] = {}

    def judge(self, scenario: Scenario) -> None:
        """One scenario, from its first view on."""
        self.arena.forget()
        execution = Execution(self.arena)
        self.tally.leaves += 1
        try:
            carry_out(execution, scenario)
        except Violation as violation:
            self._unsafe(scenario, violation, 1)
            return
        self._look(execution, 1)
        self._conclude(scenario, self._calm(execution), 1)

    def expand(self, space: Space, beginning: Beginning) -> dict[str, Beginning]:
        """Carries out one more view in every way; beginnings that come to the same are merged, by their keys.

        After the last view there are none: these scenarios are judged.
        """
        self.arena.forget()
        rounds, turn, weight = beginning
        base = Execution(self.arena)
        carry_out(base, rounds, turn.leader)
        found: dict[str, Beginning] = {}
        left = space.views - len(rounds) - 1
        for part, cut in space.cuts(led(space, beginning), rounds):
            scenario = (*rounds, Round(turn, part))
            turns = space.turns(cut) if left else [(None, cut)]
            for leader, same in groupby(turns, key=lambda choice: choice[0] and choice[0].leader):
                following = list(same)
                execution = copy_of(base)
                self.tally.leaves += not left
                try:
                    execution.play(scenario[-1], leader)
                except Violation as violation:
                    kinds = sum(space.cut_completions(shape, left - 1) for _, shape in following) if left else 1
                    self._unsafe(scenario, violation, weight * kinds)
                    continue
                if left:
                    _merge(found, _continued(execution, scenario, following, weight))
                else:
                    self._finish(execution, scenario, weight)
        return found

    def _finish(self, execution: Execution, scenario: Scenario, weight: int) -> None:
        """Executions that are alike have the same calm."""
        key = fingerprint(execution)
        self._look(execution, weight)
        if key not in self._outcomes:
            self._outcomes[key] = self._calm(execution)
        self._conclude(scenario, self._outcomes[key], weight)

    def _look(self, execution: Execution, weight: int) -> None:
        replicas = [instance.replica for instance in execution.instances if instance.honest]
        highest = {replica.safety.record.high_qc.block_id for replica in replicas if replica is not None}
        self.tally.committed += weight * (len(execution.chain) > 0)
        self.tally.diverged += weight * (len(highest) > 1)

    def _calm(self, execution: Execution) -> Outcome:
        """The execution is used up."""
        try:
            return Outcome(execution.calm(self.goal.blocks, self.goal.max_views))
        except Violation as violation:
            return Outcome(None, violation)

    def _conclude(self, scenario: Scenario, outcome: Outcome, weight: int) -> None:
        if outcome.violation is not None:
            self._unsafe(scenario, outcome.violation, weight)
            return
        self.tally.scenarios += weight
        if outcome.views is None:
            self.tally.stuck += weight
            self._describe(scenario, f"no {self.goal.blocks} commits in {self.goal.max_views} views", None)
        else:
            self.tally.longest_calm = max(self.tally.longest_calm, outcome.views)

    def _unsafe(self, scenario: Scenario, violation: Violation, weight: int) -> None:
        self.tally.scenarios += weight
        if violation.invariant in LIVENESS:
            self.tally.stuck += weight
            self._describe(scenario, str(violation), None)
            return
        self.tally.unsafe += weight
        accused = None
        if violation.invariant in FORKS:
            self.tally.forks += weight
            accused = self._accuse(scenario)
            culprits = self.arena.validators.has_honest(accused) and max(accused) < self.arena.twins
            self.tally.proven += weight * culprits
        self._describe(scenario, str(violation), accused)

    def _accuse(self, scenario: Scenario) -> list[int]:
        """The same once more, to see what there is to see."""
        execution = Execution(self.arena, record=True)
        try:
            carry_out(execution, scenario, None if len(scenario) == self.arena.views else 0)
            execution.calm(*self.goal)
        except Violation:
            pass
        return sorted({culprit for evidence in self._on_fork(execution) for culprit in evidence.culprits})

    def _describe(self, scenario: Scenario, what: str, accused: list[int] | None) -> None:
        if len(self.tally.findings) < MAX_FINDINGS:
            self.tally.findings.append(Finding(encode_scenario(scenario), what, accused))


def led(space: Space, beginning: Beginning) -> Shape:
    """The shape after all choices of a beginning."""
    shape = space.root
    for view, this in enumerate(beginning.rounds):
        shape = dict(space.cuts(dict(space.turns(shape))[this.turn], beginning.rounds[:view]))[this.part]
    return dict(space.turns(shape))[beginning.turn]


def _continued(
    execution: Execution, rounds: Scenario, following: Iterable[tuple[Turn | None, Shape]], weight: int
) -> Iterator[tuple[str, Beginning]]:
    """What comes of a beginning also depends on how many kinds of continuations it has, so on its shape."""
    state = fingerprint(execution)
    for turn, shape in following:
        if turn is not None:
            key = hashlib.blake2b(state + repr((turn, shape)).encode(), digest_size=16).hexdigest()
            yield key, Beginning(rounds, turn, weight)


def _merge(found: dict[str, Beginning], more: Iterable[tuple[str, Beginning]]) -> None:
    """Adds beginnings to those with the same keys."""
    for key, beginning in more:
        known = found.get(key)
        found[key] = beginning if known is None else known._replace(weight=known.weight + beginning.weight)


def merge(layers: Iterable[dict[str, Beginning]]) -> dict[str, Beginning]:
    """Beginnings from several calls of `expand`; of those that are alike the first one stays."""
    found: dict[str, Beginning] = {}
    for layer in layers:
        _merge(found, layer.items())
    return found


# ---- after a fork ---------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What the honest have sent, received or stored, all of them together."""

    blocks: list[Block] = field(default_factory=list)
    qcs: list[QC] = field(default_factory=list)
    tcs: list[TC] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    timeouts: list[Timeout] = field(default_factory=list)

    @classmethod
    def of(cls, execution: Execution) -> Seen:
        """Needs an execution that recorded its messages."""
        seen = cls()
        for message in execution.messages or ():
            seen._add(message)
        for instance in execution.instances:
            if instance.honest and instance.replica is not None:
                record = instance.replica.safety.record
                seen.blocks += instance.executed
                seen.qcs += [*instance.commit_qcs.values(), record.high_qc, record.locked_qc]
                seen.tcs += [] if record.high_tc is None else [record.high_tc]
        return seen

    def _add(self, message: Message) -> None:
        if isinstance(message, Vote):
            self.votes.append(message)
        elif isinstance(message, Timeout):
            self.timeouts.append(message)
            self.qcs.append(message.high_qc)
        elif isinstance(message, Proposal):
            self.blocks.append(message.block)
        elif isinstance(message, (BlockResponse, ChainResponse)):
            self.blocks += message.blocks
        for name in ("high_qc", "commit_qc"):
            qc = getattr(message, name, None)
            self.qcs += [] if qc is None else [qc]
        for name in ("entry_tc", "prev_tc", "high_tc"):
            tc = getattr(message, name, None)
            self.tcs += [] if tc is None else [tc]


def evidence_of(execution: Execution) -> list[Evidence]:
    """Whatever the honest can prove together, verified."""
    arena, seen = execution.arena, Seen.of(execution)
    headers = [block.header for block in seen.blocks]
    votes, timeouts = list(dict.fromkeys(seen.votes)), list(dict.fromkeys(seen.timeouts))
    mode, genuine = arena.context.mode, arena.verifier.check
    return audit(mode, headers, seen.qcs, seen.tcs, votes=votes, timeouts=timeouts, genuine=genuine)
