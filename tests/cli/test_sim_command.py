"""`hotstuff sim` as people and scripts use it: exit statuses, JSON, timelines, pictures, mistakes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hotstuff.cli import sim, sim_options
from hotstuff.cli.main import EXIT_FAILED, EXIT_OK, EXIT_USAGE, build_parser, main
from hotstuff.simulator import campaign as campaigns
from hotstuff.simulator import simulate
from hotstuff.simulator.campaign import Campaign, Means
from hotstuff.simulator.observer import Violation
from hotstuff.simulator.simulate import Case
from hotstuff.simulator.strategies import STRATEGIES
from hotstuff.simulator.world import Result

KEYS = [
    *("protocol", "nodes", "byzantine", "mode", "seeds", "violations", "failing_seeds", "commits", "views", "crashes"),
    *("simulated_s", "wall_s", "coverage"),
]
SHORT = ["--duration", "0.2", "--jobs", "2"]

Capture = pytest.CaptureFixture[str]


def failing_seed(campaign: Campaign, seed: int) -> Result:
    """In the place of `campaign.run_seed`: every third seed is a violation. Importable, so that it gets everywhere."""
    violations = [Violation("I1", f"chains of seed {seed} differ", 1_500_000)] if seed % 3 == 2 else []
    return Result(seed, violations, commits=10, views=12, simulated_s=2.0)


def sim_json(capsys: Capture, *arguments: str) -> tuple[int, Any]:
    status = main(["sim", *arguments, "--json", "-"])
    return status, json.loads(capsys.readouterr().out)


# ---- campaigns


def test_json_is_the_contract(capsys: Capture) -> None:
    status, report = sim_json(capsys, "--seeds", "3-6", *SHORT)
    assert status == EXIT_OK
    assert [*report] == KEYS
    assert (report["protocol"], report["nodes"], report["byzantine"], report["mode"]) == ("chained", 4, 1, "safety")
    assert (report["seeds"], report["violations"], report["failing_seeds"]) == (4, 0, [])
    assert 0 < report["commits"] <= report["views"]
    assert report["simulated_s"] == pytest.approx(0.8)
    assert report["wall_s"] > 0
    assert {"view_change", "tc_formed", "block_fetch", "evidence", "restart"} <= {*report["coverage"]}


def test_options_reach_the_runs(capsys: Capture) -> None:
    more = ["--nodes", "7", "--byzantine", "1", "--mode", "liveness", "--seed", "9", "--protocol", "jolteon"]
    status, report = sim_json(capsys, *more, *SHORT)
    assert status == EXIT_OK
    assert [report[name] for name in KEYS[:6]] == ["jolteon", 7, 1, "liveness", 1, 0]


def test_all_protocols_make_a_list(capsys: Capture) -> None:
    status, reports = sim_json(capsys, "--protocol", "all", "--seeds", "0-1", *SHORT)
    assert status == EXIT_OK
    assert [report["protocol"] for report in reports] == ["basic", "chained", "hotstuff2", "jolteon"]
    assert {report["seeds"] for report in reports} == {2}


def test_a_summary_for_people_and_json_in_a_file(tmp_path: Path, capsys: Capture) -> None:
    assert main(["sim", "--seeds", "0-2", *SHORT, "--json", str(tmp_path / "r.json")]) == EXIT_OK
    text = capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    assert [*report] == KEYS
    assert re.search(r"^  validators +4, 1 of them Byzantine$", text, re.MULTILINE)
    assert re.search(r"^  seeds +3$", text, re.MULTILINE)
    assert re.search(r"^  violations +none$", text, re.MULTILINE)
    assert f"commits         {report['commits']:,} in {report['views']:,} views" in text


def test_a_violation_is_an_exit_status_and_a_command_to_look_at_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(campaigns, "run_seed", failing_seed)
    assert main(["sim", "--seeds", "0-9", "--protocol", "basic", *SHORT]) == EXIT_FAILED
    captured = capsys.readouterr()
    assert re.search(r"^  violations +3, seeds 2 5 8$", captured.out, re.MULTILINE)
    assert "violation: seed 5: I1 at 1.500000 s: chains of seed 5 differ\n" in captured.err
    again = next(line for line in captured.err.splitlines() if "--seed 5" in line).strip()
    assert again == "hotstuff sim --protocol basic --byzantine 1 --duration 0.2 --seed 5 --shrink"
    status, report = sim_json(capsys, "--seeds", "0-9", *SHORT)
    assert (status, report["violations"], report["failing_seeds"]) == (EXIT_FAILED, 3, [2, 5, 8])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--protocol", "hotstuff2", "--nodes", "7", "--byzantine", "0", "--mode", "liveness"],
        ["--powers", "3,1,1,1", "--sticky", "2", "--strategy", "mutator", "--duration", "1.5", "--signatures", "bls"],
        ["--control", "--nodes", "7"],
    ],
)
def test_the_command_shown_runs_the_same_seed(arguments: list[str]) -> None:
    parse = build_parser().parse_args
    (campaign,) = sim_options.campaigns_of(parse(["sim", *arguments, "--seeds", "0-99"]))
    words = sim_options.command(campaign, 17).split()
    assert words[0] == "hotstuff"
    (again,) = sim_options.campaigns_of(parse(words[1:]))
    assert again.case(17) == campaign.case(17)
    assert (again.first, again.last) == (17, 17)


def test_finished_seeds_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    arguments = ["--seeds", "0-4", *SHORT, "--resume", str(tmp_path / "kept")]
    status, first = sim_json(capsys, *arguments)
    monkeypatch.setattr(campaigns, "run_seed", failing_seed)
    again_status, again = sim_json(capsys, *arguments)
    assert (status, again_status) == (EXIT_OK, EXIT_OK)
    assert {**again, "wall_s": 0} == {**first, "wall_s": 0}
    assert main(["sim", *arguments, "--nodes", "7"]) == EXIT_USAGE
    assert "nodes was 4, is now 7" in capsys.readouterr().err
    assert main(["sim", *arguments, "--protocol", "all"]) == EXIT_USAGE
    assert "this is that of one" in capsys.readouterr().err


def test_a_control_must_fork(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def outcome(forks: int, failures: int) -> Callable[..., Any]:
        def run(campaign: Campaign, means: Means, show: object) -> Any:
            summary = campaigns.Summary(seeds=1)
            summary.coverage["fork"] = forks
            summary.add(failing_seed(campaign, 2 if failures else 0))
            return summary, True

        return run

    for forks, failures, status in ((1, 0, EXIT_OK), (0, 0, EXIT_FAILED), (1, 1, EXIT_FAILED)):
        monkeypatch.setattr(campaigns, "run_campaign", outcome(forks, failures))
        assert main(["sim", "--control"]) == status
        assert re.search(r"^  validators +4, 2 of them Byzantine$", capsys.readouterr().out, re.MULTILINE)


def test_ctrl_c_ends_with_what_was_done(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hotstuff.cli.main", "sim", "--seeds", "0-100000", "--duration", "0.05"]
    process = subprocess.Popen(
        [*command, "--jobs", "2", "--resume", str(tmp_path), "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + 60
        while not (tmp_path / "seeds.jsonl").exists() and time.monotonic() < deadline_s:
            signal.sigtimedwait([signal.SIGCHLD], 0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == EXIT_FAILED
    assert err == ""
    report = json.loads(out)
    assert [*report] == KEYS
    assert 0 < report["seeds"] < 100_000


# ---- one seed


def test_a_timeline(capsys: Capture) -> None:
    assert main(["sim", "--seed", "3", "--duration", "0.2", "--trace"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r" +0\.\d{6}  n\d!? +\d+[* ]  proposes .*", line) for line in lines)
    assert lines[-2] == "hotstuff sim --byzantine 1 --duration 0.2 --seed 3: no violation"
    assert re.fullmatch(r"\d+ commits, \d+ views, \d+ crashes, 0.2 s simulated, trace [0-9a-f]{16}", lines[-1])


def test_a_picture_and_json(tmp_path: Path, capsys: Capture) -> None:
    files = ["--picture", str(tmp_path / "tree.svg"), "--json", str(tmp_path / "r.json")]
    assert main(["sim", "--seed", "3", "--duration", "0.2", *files]) == EXIT_OK
    assert ElementTree.parse(tmp_path / "tree.svg").getroot().tag.endswith("svg")
    assert [*json.loads((tmp_path / "r.json").read_text())] == KEYS


def test_shrinking_shows_what_is_left(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    from hotstuff.simulator import shrink

    def fails_with_a_crash(case: Case, observers: object = ()) -> Result:
        crashes = [action for action in case.plan.actions if action.kind == "crash"]
        violations = [Violation("I3", "voted twice", crashes[0].at_us + 5)] if crashes else []
        return Result(case.setup.seed, violations)

    monkeypatch.setattr(simulate, "run", fails_with_a_crash)
    monkeypatch.setattr(shrink, "run", fails_with_a_crash)
    plans = [[action.kind for action in Campaign().case(seed).plan.actions] for seed in range(60)]
    seed = next(seed for seed, kinds in enumerate(plans) if "crash" in kinds and len(kinds) > 9)
    assert main(["sim", "--seed", str(seed), "--shrink"]) == EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": voted twice")
    assert re.fullmatch(r"from \d{2,} actions, [123] strategies, 2 s", lines[1])
    assert re.fullmatch(r"to   1 actions, 0 strategies, [\d.e-]+ s after \d+ runs", lines[2])
    (left,) = (line for line in lines if re.fullmatch(r" +\d\.\d{6}  .*", line))
    assert re.search(r"  crash n\d", left)


def test_nothing_to_shrink(capsys: Capture) -> None:
    assert main(["sim", "--seed", "3", "--duration", "0.1", "--shrink"]) == EXIT_OK
    assert "nothing to take away" in capsys.readouterr().out


def test_strategies_are_listed(capsys: Capture) -> None:
    assert main(["sim", "--list-strategies"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(STRATEGIES)
    assert all(len(line.split()) > 2 for line in lines)


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--nodes", "0"], "--nodes: got 0, allowed: 1 to 256"),
        (["--byzantine", "2"], "--byzantine: got 2, allowed: 0 to 1: less than a third of the power (see --control)"),
        (["--byzantine", "-1"], "--byzantine: got -1, allowed: 0 to 1"),
        (["--byzantine", "3", "--nodes", "9"], "--byzantine: got 3, allowed: 0 to 2"),
        (["--control", "--byzantine", "1"], "--byzantine: got 1, allowed: 2 to 2 of 4 validators with --control"),
        (["--control", "--nodes", "3"], "--nodes: got 3, allowed: enough for two honest ones"),
        (["--control", "--mode", "liveness"], "--control: got 'with --mode liveness, --strategy or --powers'"),
        (["--seeds", "5-3"], "--seeds: got '5-3', allowed: two ascending numbers"),
        (["--seeds", "a-b"], "--seeds: got 'a-b', allowed: two numbers like 0-99"),
        (["--seeds", "5-"], "--seeds: got '5-', allowed: two numbers like 0-99"),
        (["--seed", "-4"], "--seed: got -4, allowed: 0 to"),
        (["--minutes", "0"], "--minutes: got 0.0, allowed: 0.001 to"),
        (["--duration", "nan"], "--duration: got nan, allowed: 0.01 to"),
        (["--jobs", "0"], "--jobs: got 0, allowed: 1 to 1024"),
        (["--sticky", "0"], "--sticky: got 0, allowed: 1 to 64"),
        (["--strategy", "kind"], "--strategy: got 'kind', allowed: ack-liar, amnesia"),
        (["--strategy", "mutator", "--byzantine", "0"], "--strategy: got 'mutator', allowed: only with Byzantine"),
        (["--powers", "1,2"], "--powers: got '1,2', allowed: 4 positive numbers"),
        (["--powers", "1,2,x,4"], "--powers: got '1,2,x,4', allowed: 4 positive numbers"),
        (["--powers", "1,2,0,4"], "--powers: got '1,2,0,4', allowed: 4 positive numbers"),
        (["--trace"], "--trace: got 'without --seed, or with --protocol all'"),
        (["--shrink", "--seeds", "0-3"], "--shrink: got 'without --seed"),
        (["--picture", "x.svg", "--seed", "1", "--protocol", "all"], "--picture: got 'without --seed"),
        (["--picture", "x.png", "--seed", "1"], "--picture: got 'x.png', allowed: a name that ends in .svg"),
        (["--picture", "no/such/x.svg", "--seed", "1"], "--picture: got 'no/such/x.svg'"),
        (["--trace", "--seed", "1", "--json", "-"], "--json: got '-', allowed: a file, together with --trace"),
        (["--trace", "--seed", "1", "--resume", "x"], "--resume: got 'x', allowed: not together with --trace"),
        (["--json", "no/such/file"], "--json: got 'no/such/file', allowed: a file in a directory that exists"),
        (["twins", "--nodes", "0"], "--nodes: got 0"),
        (["twins", "--twins", "5"], "--twins: got 5, allowed: 0 to 4"),
        (["twins", "--twins", "2"], "--sample: got 'not given', allowed: a number"),
        (["twins", "--views", "0"], "--views: got 0"),
        (["twins", "--sample", "0"], "--sample: got 0"),
        (["--mode", "liveness", "twins"], "--mode: got 'liveness', allowed: not together with twins"),
        (["--seeds", "0-5", "twins"], "--seeds: got '0-5', allowed: not together with twins"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(arguments: list[str], told: str, capsys: Capture) -> None:
    assert main(["sim", *arguments]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {told}")


@pytest.mark.parametrize("arguments", [["--seed", "1", "--seeds", "0-1"], ["--protocol", "raft"], ["twinz"]])
def test_what_the_parser_refuses(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sim", *arguments])
    assert ended.value.code == EXIT_USAGE
    assert capsys.readouterr().err.startswith("usage: hotstuff sim")


# ---- twins


def test_twins(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["sim", "--protocol", "jolteon", "twins", "--views", "1", "--jobs", "1"]
    assert main([*arguments, "--json", "-", "--resume", str(tmp_path)]) == EXIT_OK
    report = json.loads(capsys.readouterr().out)
    assert (report["protocol"], report["nodes"], report["twins"], report["views"]) == ("jolteon", 4, 1, 1)
    assert report["scenarios"] == report["total"] > 10
    assert (report["unsafe"], report["stuck"]) == (0, 0)
    assert main(arguments) == EXIT_OK
    assert re.search(r"^  unsafe +0$", capsys.readouterr().out, re.MULTILINE)


def test_options_before_the_word_twins_count(capsys: Capture) -> None:
    parse = build_parser().parse_args
    options = parse(
        ["sim", "--nodes", "7", "--seed", "3", "--json", "x", "--protocol", "all", "twins", "--sample", "9"]
    )
    found = (options.nodes, options.seed, options.json, options.protocol, options.sample, options.twins)
    assert found == (7, 3, "x", "all", 9, 1)
    assert (parse(["sim", "twins", "--nodes", "7"]).nodes, parse(["sim", "twins"]).nodes) == (7, 4)


# ---- progress


def test_one_moment_of_progress() -> None:
    summary = campaigns.Summary(seeds=50, commits=1234, views=2000)
    what, parts = sim._moment(Campaign(mode="liveness"), campaigns.Progress(summary, 100, 40, 20.0))
    assert what == "chained liveness"
    text = "".join(piece for piece, _ in parts)
    assert text == " 50/100 seeds  2.0 seeds/s  1,234 commits  2,000 views  25 s left "
    summary.add(failing_seed(Campaign(), 2))
    endless = campaigns.Progress(summary, campaigns.ENDLESS + 1, 40, 20.0)
    text = "".join(piece for piece, _ in sim._moment(Campaign(), endless)[1])
    assert text == " 51 seeds  2.0 seeds/s  1,244 commits  2,012 views  1 violations"


@pytest.mark.parametrize(("seconds", "told"), [(5.9, "5 s"), (61, "1 min 01 s"), (3723, "1 h 02 min")])
def test_spans_of_time(seconds: float, told: str) -> None:
    assert sim._span(seconds) == told
