"""Many seeds: each of them is run, all is added up, and whatever fails is named."""

from __future__ import annotations

import _thread
import json
import threading
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from broken import deadly_seed, seed_with_gaps

from hotstuff.cli.main import EXIT_FAILED, main
from hotstuff.errors import ConfigError
from hotstuff.simulator import campaign as module
from hotstuff.simulator.campaign import (
    CHUNK_SEEDS,
    COUNTERS,
    ENDLESS,
    Campaign,
    Means,
    Progress,
    byzantine_max,
    report,
    run_campaign,
    run_seed,
    splittable,
)
from hotstuff.simulator.scheme import members, validator_set
from hotstuff.simulator.summary import Summary

SHORT = Campaign(duration_s=0.2, last=5)


# ---- what a seed is


def test_everything_follows_from_campaign_and_seed() -> None:
    assert SHORT.case(3) == Campaign(duration_s=0.2).case(3)
    assert SHORT.case(3) != SHORT.case(4)
    assert run_seed(SHORT, 3).trace_hash == run_seed(SHORT, 3).trace_hash
    setup = Campaign("jolteon", 7, 2, "liveness", signatures="bls", sticky=3, duration_s=1.5).setup(9)
    assert (setup.protocol.name, setup.nodes, setup.mode, setup.signatures) == ("JOLTEON", 7, "liveness", "bls")
    assert (setup.sticky, setup.duration_us, setup.seed) == (3, 1_500_000, 9)


def test_seeds_differ_in_more_than_their_faults() -> None:
    setups = [SHORT.setup(seed) for seed in range(40)]
    assert {setup.byzantine for setup in setups} == {(0,), (1,), (2,), (3,)}
    assert {setup.wire for setup in setups} == {True, False}
    assert {setup.sticky for setup in setups} == {1, 4}


@pytest.mark.parametrize("powers", [(), (1, 1, 1, 1, 1, 1, 1), (5, 1, 1, 1, 3, 2, 2), (1, 2, 3, 4, 5, 6, 7)])
def test_byzantine_power_stays_below_a_third(powers: tuple[int, ...]) -> None:
    most = byzantine_max(7, powers)
    campaign = Campaign(nodes=7, byzantine=most, powers=powers)
    validators = validator_set(members(7), powers)
    counts = set()
    for seed in range(60):
        chosen = campaign.setup(seed).byzantine
        assert 3 * validators.power(chosen) < validators.total_power
        counts.add(len(chosen))
    assert max(counts) == most


@pytest.mark.parametrize("nodes", range(1, 30))
def test_limits_of_byzantine_counts(nodes: int) -> None:
    most = byzantine_max(nodes)
    assert 3 * most < nodes <= 3 * (most + 1)
    quorum = next(q for q in range(nodes + 1) if 3 * q > 2 * nodes)
    least = splittable(nodes)
    halves = [(least + k, least + nodes - least - k) for k in range(nodes - least + 1)]
    assert any(min(half) >= quorum for half in halves)
    assert least == 0 or least - 1 + (nodes - least + 1) // 2 < quorum


# ---- running


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_sum_is_that_of_the_seeds(jobs: int) -> None:
    moments: list[tuple[int, int, int]] = []

    def show(progress: Progress) -> None:
        moments.append((progress.seeds, progress.summary.seeds, progress.total))

    summary, whole = run_campaign(SHORT, Means(jobs=jobs), show)
    expected = Summary()
    for seed in range(6):
        expected.add(run_seed(SHORT, seed))
    assert whole
    assert summary.wall_s > 0
    assert replace(summary, wall_s=0.0) == expected
    assert summary.commits > 0 and summary.failures == []
    assert moments == [(i, i, 6) for i in range(7)]


def test_a_broken_core_fails_and_its_seeds_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The canary: if this passes, then where the command reports nothing it has looked."""
    campaign = Campaign(duration_s=0.3, last=7)
    broken = {seed: [str(v) for v in seed_with_gaps(campaign, seed).violations] for seed in range(8)}
    failing = [seed for seed, violations in broken.items() if violations]
    assert len(failing) >= 3
    monkeypatch.setattr(module, "run_seed", seed_with_gaps)
    status = main(["sim", "--seeds", "0-7", "--duration", "0.3", "--jobs", "2", "--json", "-"])
    assert status == EXIT_FAILED
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["seeds"], found["violations"], found["failing_seeds"]) == (8, len(failing), failing)
    assert all(f"violation: seed {seed}: " in captured.err for seed in failing)


def test_a_seed_that_kills_or_hangs_its_process_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_seed", deadly_seed)
    summary, whole = run_campaign(SHORT, Means(jobs=2, limit_s=5.0))
    assert whole
    assert [(failure.seed, str(failure)) for failure in summary.failures] == [
        (2, "crash at 0.000000 s: its process ended with exit status 7"),
        (3, "hang at 0.000000 s: no end after 5 s"),
    ]
    assert summary.seeds == 6
    assert summary.commits > 0


def test_no_new_seed_when_time_is_over() -> None:
    endless = replace(SHORT, last=ENDLESS)
    left: list[float | None] = []
    summary, whole = run_campaign(endless, Means(minutes=0.03), lambda progress: left.append(progress.left_s))
    assert whole
    assert 0 < summary.seeds < 1000
    assert {*left} == {None}


def test_an_interrupt_ends_it_with_what_was_done(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.seeds == 3:
            threading.Timer(0.0, _thread.interrupt_main).start()

    campaign = replace(SHORT, last=10_000)
    summary, whole = run_campaign(campaign, Means(resume=tmp_path), interrupt)
    assert not whole
    assert 3 <= summary.seeds < 100


def test_an_interrupted_campaign_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(duration_s=0.01, last=2 * CHUNK_SEEDS + 2)

    def stop(progress: Progress) -> None:
        if progress.seeds == CHUNK_SEEDS + 5:
            raise KeyboardInterrupt

    _, whole = run_campaign(campaign, Means(resume=tmp_path), stop)
    assert not whole
    news: list[int] = []
    summary, whole = run_campaign(campaign, Means(resume=tmp_path), lambda p: news.append(p.seeds))
    assert whole
    assert max(news) == CHUNK_SEEDS + 3, "the finished chunk was not run again"
    at_once, _ = run_campaign(campaign)
    assert replace(summary, wall_s=0.0) == replace(at_once, wall_s=0.0)
    monkeypatch.setattr(module, "run_seed", deadly_seed)
    again, _ = run_campaign(campaign, Means(resume=tmp_path))
    assert (again.seeds, again.failures) == (summary.seeds, [])
    with pytest.raises(ConfigError, match="nodes was 4, is now 7"):
        run_campaign(replace(campaign, nodes=7), Means(resume=tmp_path))


def test_a_directory_knows_every_option_that_results_depend_on(tmp_path: Path) -> None:
    run_campaign(replace(SHORT, last=0), Means(resume=tmp_path))
    stored = json.loads((tmp_path / "run.json").read_text())
    assert {*stored} == {"code", *asdict(SHORT)}


# ---- the report


def test_the_report_is_the_contract() -> None:
    summary = Summary(wall_s=1.23456, coverage=Counter(tc_formed=4, zebra=1))
    made = report(Campaign("basic", 7, 2, "liveness"), summary)
    assert [*made] == [
        *("protocol", "nodes", "byzantine", "mode", "seeds", "violations", "failing_seeds", "commits", "views"),
        *("crashes", "simulated_s", "wall_s", "coverage"),
    ]
    assert [made[name] for name in ("protocol", "nodes", "byzantine", "mode")] == ["basic", 7, 2, "liveness"]
    assert made["wall_s"] == 1.235
    assert made["coverage"] == {**dict.fromkeys(COUNTERS, 0), "tc_formed": 4, "zebra": 1}
    assert {"view_change", "tc_formed", "block_fetch", "evidence", "restart"} == {*COUNTERS}


@pytest.mark.parametrize("mode", ["safety", "liveness"])
@pytest.mark.parametrize("protocol", ["basic", "chained", "hotstuff2", "jolteon"])
def test_every_protocol_keeps_its_invariants(protocol: str, mode: str) -> None:
    campaign = Campaign(protocol, mode=mode, duration_s=0.5)  # type: ignore[arg-type]
    results = [*map(partial(run_seed, campaign), range(3))]
    assert [result.violations for result in results] == [[], [], []]
    assert sum(result.commits for result in results) > 10
