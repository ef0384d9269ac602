"""Every Byzantine strategy by name, and how to mix them."""

from __future__ import annotations

import random
from collections.abc import Iterable

from hotstuff.simulator.byzantine import Strategy
from hotstuff.simulator.strategies.batches import AckLiar, BatchEquivocator, BatchWithholder
from hotstuff.simulator.strategies.certificates import (
    MalformedBitmaps,
    SignatureTransplant,
    SmallQuorum,
    ViewInflater,
    WrongContext,
)
from hotstuff.simulator.strategies.coordinated import HiddenQc, SplitBrain
from hotstuff.simulator.strategies.delivery import (
    Amnesia,
    Impersonator,
    LyingSyncServer,
    Mutator,
    SelectiveDelivery,
    StateLiar,
)
from hotstuff.simulator.strategies.floods import FutureFlooder, HelpFlooder, Replayer
from hotstuff.simulator.strategies.proposals import (
    EquivocatingLeader,
    SilentLeader,
    SlowLeader,
    StaleQcLeader,
    TimerDoubling,
)
from hotstuff.simulator.strategies.votes import (
    CancellingShares,
    DoubleVoter,
    InvalidShares,
    LowestHighQc,
    VoteWithholder,
)

STRATEGIES: dict[str, type[Strategy]] = {
    "ack-liar": AckLiar,
    "amnesia": Amnesia,
    "batch-equivocator": BatchEquivocator,
    "batch-withholder": BatchWithholder,
    "cancelling-shares": CancellingShares,
    "double-voter": DoubleVoter,
    "equivocating-leader": EquivocatingLeader,
    "future-flooder": FutureFlooder,
    "help-flooder": HelpFlooder,
    "hidden-qc": HiddenQc,
    "impersonator": Impersonator,
    "invalid-shares": InvalidShares,
    "lowest-high-qc": LowestHighQc,
    "lying-sync-server": LyingSyncServer,
    "malformed-bitmaps": MalformedBitmaps,
    "mutator": Mutator,
    "replayer": Replayer,
    "selective-delivery": SelectiveDelivery,
    "signature-transplant": SignatureTransplant,
    "silent-leader": SilentLeader,
    "slow-leader": SlowLeader,
    "small-quorum": SmallQuorum,
    "split-brain": SplitBrain,
    "stale-qc-leader": StaleQcLeader,
    "state-liar": StateLiar,
    "timer-doubling": TimerDoubling,
    "view-inflater": ViewInflater,
    "vote-withholder": VoteWithholder,
    "wrong-context": WrongContext,
}
"""By the names that the command line uses."""

MIXED_MAX = 3


def described() -> dict[str, str]:
    """One line about each strategy."""
    return {name: (strategy.__doc__ or "").partition("\n")[0] for name, strategy in STRATEGIES.items()}


def make(names: Iterable[str], chance: random.Random) -> tuple[Strategy, ...]:
    """New strategies of these names, each with its own stream."""
    return tuple(STRATEGIES[name](random.Random(chance.getrandbits(64))) for name in names)


def mix(chance: random.Random, count: int = 0) -> tuple[Strategy, ...]:
    """That many different strategies for one node, or one to three (0)."""
    return make(chance.sample(list(STRATEGIES), count or chance.randrange(MIXED_MAX) + 1), chance)
