"""A whole network in one process and in virtual time: a function of setup and plan."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hotstuff.consensus import effects as fx
from hotstuff.consensus.desk import Desk, item_key
from hotstuff.consensus.leaders import Leaders, Weighted
from hotstuff.consensus.payload import Payload
from hotstuff.consensus.replica import Timing
from hotstuff.consensus.rules import RULES
from hotstuff.consensus.safety import Safety
from hotstuff.consensus.tree import Node
from hotstuff.consensus.verifier import Verifier
from hotstuff.mempool.mempool import Mempool, MempoolConfig
from hotstuff.simulator.actions import act
from hotstuff.simulator.client import Client
from hotstuff.simulator.coverage import Coverage
from hotstuff.simulator.network import Network
from hotstuff.simulator.node import SimNode, Strategy
from hotstuff.simulator.observer import HOOKS, Observer, Violation
from hotstuff.simulator.scheme import members, scheme_of, validator_set
from hotstuff.simulator.setup import Action, Parameters, Plan, Setup
from hotstuff.simulator.stabilisation import VIEWS_MAX, FirstCommit, Stabilisation
from hotstuff.simulator.trace import TraceHash
from hotstuff.types.hashing import Context
from hotstuff.types.messages import Kind
from hotstuff.types.validators import ValidatorSet

__all__ = ["Action", "Observer", "Parameters", "Plan", "Result", "Setup", "Violation", "World"]

PayloadFactory = Callable[[SimNode, Safety, Node, list[fx.Effect], Desk], Payload]
CHAIN_ID = b"simulated".ljust(32, b"\0")
DATA_PLANE = (Kind.BATCH, Kind.ACK, Kind.BATCH_REQUEST)
# Processes are not started at the same moment.
START_US = 5000


@dataclass
class Result:
    """What came of a run. `commits` and `views` are those of the honest node that is furthest."""

    seed: int
    violations: list[Violation] = field(default_factory=list)
    commits: int = 0
    views: int = 0
    crashes: int = 0
    simulated_s: float = 0.0
    wall_s: float = 0.0
    coverage: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    trace_hash: str = ""

    @property
    def consensus_messages(self) -> int:
        """Messages that carry blocks, votes and certificates, between different instances."""
        return sum(self.messages.values()) - self.data_messages

    @property
    def data_messages(self) -> int:
        """Messages of the data plane: batches, acknowledgements, requests for bodies."""
        return sum(self.messages[kind.name.lower()] for kind in DATA_PLANE)


class OneCheck(Verifier):
    """Each distinct item is checked once for all nodes: they would all get the same answer."""

    def __init__(self, context: Context, validators: ValidatorSet, setup: Setup) -> None:
        super().__init__(context, validators, scheme_of(setup.signatures))
        self._known: dict[bytes, bool] = {}

    def check(self, item: fx.Checkable) -> bool:
        """As `Verifier.check`."""
        key = item_key(item)
        valid = self._known.get(key)
        if valid is None:
            valid = self._known[key] = super().check(item)
        return valid


class World:
    """Time, events, nodes, and those who watch. Arm Byzantine nodes, then `run` once."""

    def __init__(
        self,
        setup: Setup,
        plan: Plan | None = None,
        observers: Sequence[Observer] = (),
        *,
        leaders: Leaders | None = None,
        payload: PayloadFactory | None = None,
    ) -> None:
        """`leaders`, `payload`: something else than turns by power and the real mempool."""
        self.setup = setup
        self.plan = plan or Plan()
        self.parameters = self.plan.parameters
        self.members = members(setup.nodes, setup.signatures)
        self.validators = validator_set(self.members, setup.powers)
        self.context = Context(setup.protocol, CHAIN_ID, 1, self.validators.hash)
        self.rules = RULES[setup.protocol]
        self.leaders: Leaders = leaders or Weighted([v.power for v in self.validators.validators], setup.sticky)
        parameters = self.parameters
        self.timing = Timing(parameters.view_timeout_ms, parameters.spread_ms, parameters.fetch_retry_ms)
        self.mempool_config = MempoolConfig(
            small_body_bytes=parameters.small_body_bytes, fetch_retry_ms=parameters.fetch_retry_ms
        )
        self.acting_us = parameters.view_timeout_ms * 100
        self.payload = payload or self._mempool
        self.verifier = OneCheck(self.context, self.validators, setup)
        self.byzantine = frozenset(setup.byzantine)
        self.tolerable = 3 * self.validators.power(sorted(self.byzantine)) < self.validators.total_power
        self.now_us = 0
        self.gst_us = parameters.gst_us
        self.core = parameters.core
        self.gst_views: dict[int, int] = {}
        self.first_commits: dict[int, FirstCommit] = {}
        self.wiped: int | None = None
        self.coverage: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.count = [0] * (max(Kind) + 1)
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._trace = TraceHash()
        self._stabilisation = Stabilisation()
        self.end_us = setup.duration_us
        if setup.mode == "liveness":
            self.end_us = self.gst_us + VIEWS_MAX * parameters.view_timeout_ms * 1000
            observers = (self._stabilisation, *observers)
        self._watch((self._trace, Coverage(), *observers))
        self._make_nodes()
        self.network = Network(self)

    def _watch(self, observers: Sequence[Observer]) -> None:
        self.observers = observers
        found: dict[str, list[Callable[..., None]]] = {
            name: [getattr(o, name) for o in observers if getattr(type(o), name) is not getattr(Observer, name)]
            for name in HOOKS
        }
        self.on_started, self.on_crashed = found["started"], found["crashed"]
        self.on_stepped, self.on_persisted = found["stepped"], found["persisted"]
        self.on_sent, self.on_executed, self.on_acted = found["sent"], found["executed"], found["acted"]

    def _make_nodes(self) -> None:
        indices = [*range(self.setup.nodes), *self.setup.twins]
        self.nodes = [SimNode(self, i, index, honest=index not in self.byzantine) for i, index in enumerate(indices)]
        self.instances = [[node for node in self.nodes if node.index == i] for i in range(self.setup.nodes)]
        self.others = [[i for i in range(self.setup.nodes) if i != index] for index in range(self.setup.nodes)]

    def _mempool(self, node: SimNode, safety: Safety, root: Node, effects: list[fx.Effect], desk: Desk) -> Payload:
        return Mempool(
            validators=self.validators,
            safety=safety,
            config=self.mempool_config,
            executed=root.included,
            held=node.disk.held_above(root.included),
            effects=effects,
            desk=desk,
        )

    def arm(self, strategies: Mapping[int, Sequence[Strategy]]) -> None:
        """Gives instances their strategies (attached already)."""
        for instance, chosen in sorted(strategies.items()):
            self.nodes[instance].strategies = tuple(chosen)

    # ---- time

    def schedule(self, at_us: int, what: Callable[..., None], *arguments: Any) -> None:
        """Calls `what(*arguments)` at a time; what is scheduled first comes first among equals."""
        self._scheduled += 1
        heapq.heappush(self._events, (at_us, self._scheduled, what, arguments))

    def advance(self) -> None:
        """Everything that happens up to `end_us`, in order; some of it may bring the end closer."""
        events = self._events
        while events and events[0][0] <= self.end_us:
            self.now_us, _, what, arguments = heapq.heappop(events)
            what(*arguments)
        self.now_us = self.end_us

    def run(self) -> Result:
        """The whole run."""
        started = time.perf_counter()
        try:
            self._run()
        except Violation as violation:
            self.violations.append(violation)
        return self._result(time.perf_counter() - started)

    def _run(self) -> None:
        chance = random.Random(f"{self.setup.seed}/start")
        for node in self.nodes:
            self.schedule(chance.randrange(START_US), node.start)
        Client(self).begin()
        if self.setup.mode == "liveness":
            self.schedule(self.gst_us, self._stabilisation.begin, self)
        for action in self.plan.actions:
            self.schedule(action.at_us, act, self, action)
        self.advance()
        for observer in self.observers:
            observer.finished(self)

    # ---- what came of it

    def ppm(self, index: int) -> int:
        """How much too fast this validator's clock runs in the long run."""
        return self.parameters.ppm[index] if self.parameters.ppm else 0

    def honest(self) -> list[SimNode]:
        """Instances of honest validators."""
        return [node for node in self.nodes if node.honest]

    def _result(self, wall_s: float) -> Result:
        honest = self.honest()
        return Result(
            seed=self.setup.seed,
            violations=self.violations,
            commits=max((len(node.disk.executed) for node in honest), default=0),
            views=max((node.view for node in honest), default=0),
            crashes=self.coverage["crash"],
            simulated_s=self.now_us / 1_000_000,
            wall_s=wall_s,
            coverage=self.coverage,
            trace_hash=self._trace.hexdigest,
            messages=Counter({kind.name.lower(): self.count[kind] for kind in Kind if self.count[kind]}),
        )
