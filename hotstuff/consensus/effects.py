"""What goes into the core and what comes out of it.

    effects = replica.step(event, now_us)      # one event in, an ordered list of effects out
    replica.step(event, now_us, more=True)     # the same, and another event follows before anything of it is finished
    replica.deadline_us()                      # when to call step(Tick()) at the latest; None: no timer is running

The driver finishes effects in this order, over everything that one or more steps returned:

    1. `Persist`           all of them in one transaction, synced before anything below happens; if all are `lazy`,
                           they may wait for the next transaction
    2. `Send`, `Broadcast`, `SpreadBatch` in order; a `Send` to ourselves comes back as `Received`, after the sync
                           like any other
    3. `Commit`            to the application, in height order, then the answers to clients
    4. `Check`, `Collect`, `StoreBatch` may run in threads at any time; each comes back as an event
    5. `Strike`, `Report`  bookkeeping

`now_us` is a monotonic integer in microseconds. The core has no clock, no randomness and no I/O of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hotstuff.consensus.safety import SafetyRecord
from hotstuff.native import Frame
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import Buffer
from hotstuff.types.evidence import Evidence
from hotstuff.types.messages import Message, Proposal

Checkable = QC | TC | Proposal | Batch | Evidence
"""What carries a signature that somebody else must be able to rely on."""


@dataclass(frozen=True)
class Share:
    """One validator's signature over `message` (32 B)."""

    signer: int
    message: bytes
    signature: bytes


# ---- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """First event of a life: re-send what the safety record allows, ask for what was missed."""


@dataclass(frozen=True)
class Tick:
    """Time passed. Delivered after every message that had already arrived (a stall must not become a timeout)."""


@dataclass(frozen=True)
class Received:
    """A message whose sender the channel has authenticated."""

    peer: int
    message: Message


@dataclass(frozen=True)
class Connected:
    """The link to a peer is up, after any number of lost messages."""

    peer: int


@dataclass(frozen=True)
class Checked:
    """Answer to `Check`."""

    job: int
    valid: bool


@dataclass(frozen=True)
class Collected:
    """Answer to `Collect`: `signature` aggregates exactly the shares of `good` and was verified, or is None."""

    job: int
    signature: bytes | None
    good: tuple[int, ...]
    bad: tuple[int, ...]


@dataclass(frozen=True)
class Submitted:
    """A client's frame, already parsed and checked: one element of the body of our next batch."""

    data: Buffer
    frame: Frame


@dataclass(frozen=True)
class BatchStored:
    """Answer to `StoreBatch`: the batch is durable."""

    batch: Batch


@dataclass(frozen=True)
class Executed:
    """The application's state (32 B) after the block at `height`, a checkpoint (see `divergence`)."""

    height: int
    state: bytes


Event = Start | Tick | Received | Connected | Checked | Collected | Submitted | BatchStored | Executed


# ---- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Persist:
    """Make durable: a new safety record, blocks, a certificate that commits the block at `commit_height`, evidence,
    small batches.

    `lazy`: nothing that is sent before the next one that is not lazy depends on it, so it may be written with that, or
    be lost. One that is not lazy makes everything before it durable, also if it holds nothing itself.
    """

    safety: SafetyRecord | None = None
    blocks: tuple[Block, ...] = ()
    commit_qc: QC | None = None
    commit_height: int = 0
    evidence: tuple[Evidence, ...] = ()
    batches: tuple[Batch, ...] = ()
    lazy: bool = False


@dataclass(frozen=True)
class Send:
    """Send to one validator, possibly ourselves."""

    to: int
    message: Message


@dataclass(frozen=True)
class Broadcast:
    """Send to every other validator."""

    message: Message


@dataclass(frozen=True)
class Commit:
    """Execute these blocks, in this order. Every body they refer to is here."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Check:
    """Verify the signature of `item`; comes back as `Checked`."""

    job: int
    item: Checkable


@dataclass(frozen=True)
class Collect:
    """Aggregate `shares`, verify the result, find the bad ones; comes back as `Collected`."""

    job: int
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class StoreBatch:
    """Make a batch durable without holding up votes; comes back as `BatchStored`."""

    batch: Batch


@dataclass(frozen=True)
class SpreadBatch:
    """Send the body of a batch that is durable here; the core itself keeps no bodies."""

    ref: BatchRef
    to: tuple[int, ...]


@dataclass(frozen=True)
class Strike:
    """A peer broke a rule. Costs the peer, never us."""

    peer: int
    reason: str


@dataclass(frozen=True)
class Report:
    """Something worth counting or logging: a name and its figures."""

    name: str
    fields: dict[str, int | str] = field(default_factory=dict)


Effect = Persist | Send | Broadcast | Commit | Check | Collect | StoreBatch | SpreadBatch | Strike | Report
