"""Seeds worth keeping, from `seeds.json`: those that once found a bug, and those that together show everything.

A seed means what the code makes of it: after a change of the simulator or the core it is another run. If one of them
does not show any more what it stands for, another has to take its place.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hotstuff.simulator.campaign import Campaign, run_seed

KEPT: list[dict[str, Any]] = json.loads(Path(__file__).with_name("seeds.json").read_text())
# What must happen somewhere in these runs, or the checkers have not seen much.
EVERYTHING = {
    *("submitted", "committed", "view_entered", "qc_formed", "tc_formed", "timeouts", "view_change"),
    *("crash", "crash_planned", "power_loss", "restart", "amnesia", "passive_rejoin", "pause", "clock"),
    *("partition", "one-way", "clog", "cut", "loss", "loss_phase", "duplicate", "duplicate_phase", "disk", "bodies"),
    *("block_fetch", "chain_fetch", "body_fetch", "help"),
    *("strike", "bad_share", "equivocation", "evidence", "lock_refused"),
}


def run(kept: dict[str, Any]) -> Any:
    which = {name: kept[name] for name in ("protocol", "nodes", "byzantine", "mode", "duration_s")}
    return run_seed(Campaign(**which), kept["seed"])


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: "{protocol}-{nodes}-{mode}-{seed}".format(**kept))
def test_a_kept_seed(kept: dict[str, Any]) -> None:
    result = run(kept)
    assert result.violations == [], kept["why"]
    assert [name for name in kept["shows"] if not result.coverage[name]] == [], "it is another run now: replace it"


def test_together_they_show_everything() -> None:
    shown = {name for kept in KEPT for name in kept["shows"]}
    assert EVERYTHING - shown == set()
    assert {(kept["protocol"], kept["mode"]) for kept in KEPT} == {
        (protocol, mode) for protocol in ("basic", "chained", "hotstuff2", "jolteon") for mode in ("safety", "liveness")
    }
    assert {kept["nodes"] for kept in KEPT} >= {4, 7}


def test_each_says_why_it_is_kept() -> None:
    assert all(len(kept["why"]) > 10 for kept in KEPT)
    assert len({json.dumps(kept) for kept in KEPT}) == len(KEPT)
