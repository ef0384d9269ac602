"""What a run is made from. The same setup and plan give the same run, event for event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hotstuff.simulator.scheme import Signatures
from hotstuff.types.hashing import Mode

SECOND_US = 1_000_000
# As `node` or `peer` of an action: every instance.
ALL = -1


@dataclass(frozen=True)
class Setup:
    """The configuration: what is simulated, and the seed that decides everything else.

    `sticky`: views in a row for each leader. `powers`: empty for one each. `byzantine`: validator indices. `twins`:
    validators that run as two instances. `wire`: encode and decode every message.
    "safety": anything may happen until the end. "liveness": faults of all kinds until some time before `duration_us`;
    from then on a core of honest validators with quorum power works, and the run goes on until each of them has
    committed something new, or has failed to do so for very long.
    """

    seed: int = 0
    protocol: Mode = Mode.CHAINED
    nodes: int = 4
    sticky: int = 1
    powers: tuple[int, ...] = ()
    byzantine: tuple[int, ...] = ()
    twins: tuple[int, ...] = ()
    mode: Literal["safety", "liveness"] = "safety"
    signatures: Signatures = "stand-in"
    wire: bool = False
    duration_us: int = 10 * SECOND_US


@dataclass(frozen=True)
class Parameters:
    """What stays the same during a run. Durations in us, unless the name says otherwise.

    `delay_us`, `spread_us`: one-way delay between two nodes is `delay_us` plus up to `spread_us` fixed for the link.
    `jitter_us`: mean of what comes on top for each message, exponentially distributed, or with `tail` as a power law
    (sometimes a hundred times the mean). `ordered`: a link delivers in order, as TCP does.
    `silent_heals`: links that come back lose messages without telling either end.
    `body_us`: writing a large body apart; up to `small_body_bytes` they go with the record of a vote.
    `bytes_per_ms`: so much of large bodies a node writes, one after the other; 0: any amount, side by side.
    `tx_bytes`: size of the client's transactions at least.
    `wake_us`: from an event to the turn that handles it, so that some events share a turn.
    `ppm`: how much faster than true each node's clock runs; empty for exact clocks.
    `gst_us`, `core`: liveness runs only; from then on these validators are up and connected.
    """

    delay_us: int = 300
    spread_us: int = 300
    jitter_us: int = 100
    tail: bool = False
    ordered: bool = True
    silent_heals: bool = False
    disk_us: int = 200
    body_us: int = 400
    small_body_bytes: int = 16 * 1024
    bytes_per_ms: int = 0
    tx_bytes: int = 0
    check_us: int = 100
    wake_us: int = 20
    client_us: int = 20_000
    view_timeout_ms: int = 1000
    spread_ms: int = 50
    fetch_retry_ms: int = 100
    ppm: tuple[int, ...] = ()
    gst_us: int = 0
    core: tuple[int, ...] = ()


@dataclass(frozen=True)
class Action:
    """Something done to the world at `at_us`; `for_us` is how long it lasts (0: to the end of the run).

    What `node`, `peer` and `argument` mean depends on `kind`; see `actions`. No action depends on another one, so any
    of them may be left out.
    """

    at_us: int
    kind: str
    node: int = 0
    peer: int = 0
    argument: int = 0
    for_us: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything that goes wrong in a run."""

    parameters: Parameters = Parameters()
    actions: tuple[Action, ...] = ()
