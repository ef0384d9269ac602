"""`hotstuff sim`: whole networks in virtual time. Heavy imports happen inside the functions, as in `main`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from hotstuff.cli.main import EXIT_FAILED, EXIT_OK, PROTOCOLS
from hotstuff.cli.output import ProgressLine, summary_block, write_json
from hotstuff.cli.sim_twins import add_twins

if TYPE_CHECKING:
    from hotstuff.simulator.campaign import Campaign, Means, Progress
    from hotstuff.simulator.simulate import Case
    from hotstuff.simulator.summary import Summary

DESCRIPTION = """Runs the core that ships in virtual time: delays, losses, partitions, crashes, bad clocks and Byzantine
replicas, all from one seed, while checkers watch every step. The same options and seed give the same run.

"safety": anything goes until the end, and no invariant may break. "liveness": after a while the network becomes good
for a quorum of honest replicas, and each of them must commit something new within a bound."""

EPILOG = """--control runs each Byzantine validator twice, once in each half of a network, and enough of them that both
halves commit: the run must fork and evidence must name the culprits, or else the simulator itself is broken.

--trace, --shrink and --picture need --seed. With --resume, finished seeds are recorded in DIR and not run again; a
directory belongs to one campaign. --minutes holds for each protocol.

exit status: 0 all seeds done and no violation (--control: and at least one fork); 1 a violation (--control: a fork
without enough evidence, or no fork at all), or Ctrl-C came first; 2 a mistake in the arguments"""

VIOLATIONS_SHOWN = 20


def add_sim(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command and its options."""
    sim = commands.add_parser(
        "sim",
        help="simulate networks in which much goes wrong",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = sim.add_argument
    add("--protocol", choices=(*PROTOCOLS, "all"), default="chained", help="(default: %(default)s)")
    add("--nodes", type=int, default=4, metavar="N", help="validators (default: %(default)s)")
    add("--byzantine", type=int, metavar="K", help="how many of them (default: as many as may be)")
    seeds = sim.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", metavar="A-B", help="both included (default: 0-99; with --minutes, 0 and on)")
    seeds.add_argument("--seed", type=int, metavar="N", help="only this one")
    add("--mode", choices=("safety", "liveness"), default="safety", help="what is checked (default: %(default)s)")
    add("--minutes", type=float, metavar="M", help="begin no new seed after that time")
    add("--json", metavar="FILE", help="write the summary as JSON; - for standard output")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: %(default)s)")
    add("--resume", type=Path, metavar="DIR", help="record what is done in DIR, and go on from there")
    add("--duration", type=float, default=2.0, metavar="S", help="simulated seconds of faults (default: %(default)s)")
    add("--signatures", choices=("stand-in", "bls"), default="stand-in", help="bls: real ones, and slow")
    add("--powers", metavar="P,P,...", help="voting power of each validator (default: 1 each)")
    add("--sticky", type=int, metavar="VIEWS", help="views that each leader has in a row (default: by the seed)")
    add("--strategy", metavar="NAME", help="Byzantine replicas do only that (default: one to three, by the seed)")
    add("--list-strategies", action="store_true", help="show what --strategy may be, and end")
    add("--control", action="store_true", help="too many Byzantine validators: forks must be seen and explained")
    add("--trace", action="store_true", help="show what happens, as a timeline")
    add("--shrink", action="store_true", help="take away from a failing run what the failure does not need")
    add("--picture", type=Path, metavar="FILE.svg", help="draw the block tree as it is at the end")
    sim.set_defaults(run=run_sim)
    subjects = sim.add_subparsers(dest="subject", metavar="[twins]")
    add_twins(subjects)


def run_sim(options: argparse.Namespace) -> int:
    """hotstuff sim"""
    from hotstuff.cli.sim_options import campaigns_of, means_of
    from hotstuff.simulator.campaign import report
    from hotstuff.simulator.strategies import described

    if options.list_strategies:
        for name, what in sorted(described().items()):
            print(f"{name:<22}{what}")
        return EXIT_OK
    campaigns = campaigns_of(options)
    if options.trace or options.shrink or options.picture is not None:
        summary = _run_one(options, campaigns[0])
        write_json(options.json, report(campaigns[0], summary))
        return EXIT_OK if _good(campaigns[0], summary) else EXIT_FAILED
    reports: list[dict[str, Any]] = []
    good = whole = True
    for campaign in campaigns:
        if whole:
            summary, whole = _run_many(campaign, means_of(options, campaign))
            reports.append(report(campaign, summary))
            good = good and whole and _good(campaign, summary)
            if options.json != "-":
                print(told(reports[-1], interrupted=not whole))
    write_json(options.json, reports if options.protocol == "all" else reports[0])
    return EXIT_OK if good else EXIT_FAILED


def _good(campaign: Campaign, summary: Summary) -> bool:
    """Nothing broke; and in a control run, something was seen."""
    return not summary.failures and (not campaign.control or summary.coverage["fork"] > 0)


# ---- many seeds -----------------------------------------------------------------------------------------------------


def _run_many(campaign: Campaign, means: Means) -> tuple[Summary, bool]:
    from hotstuff.simulator.campaign import run_campaign

    with ProgressLine() as line:
        summary, whole = run_campaign(campaign, means, lambda progress: line.update(*_moment(campaign, progress)))
    _show_failures(campaign, summary)
    return summary, whole


def _moment(campaign: Campaign, progress: Progress) -> tuple[str, list[tuple[str, str]]]:
    summary, left_s = progress.summary, progress.left_s
    of = "" if progress.endless else f"/{progress.total:,}"
    parts = [
        (f" {summary.seeds:,}{of} seeds ", ""),
        (f" {progress.rate:,.1f} seeds/s ", "cyan"),
        (f" {summary.commits:,} commits  {summary.views:,} views ", "green"),
        ("" if left_s is None else f" {_span(left_s)} left ", "dim"),
        (f" {len(summary.failures)} violations" if summary.failures else "", "bold red"),
    ]
    return f"{campaign.protocol} {campaign.mode}", parts


def _span(seconds: float) -> str:
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def _show_failures(campaign: Campaign, summary: Summary) -> None:
    from hotstuff.cli.sim_options import command

    for failure in summary.failures[:VIOLATIONS_SHOWN]:
        print(f"violation: seed {failure.seed}: {failure}", file=sys.stderr)
        print(f"           {command(campaign, failure.seed)} --shrink", file=sys.stderr)
    more = len(summary.failures) - VIOLATIONS_SHOWN
    if more > 0:
        print(f"           and {more} more", file=sys.stderr)


def told(report: Mapping[str, Any], *, interrupted: bool) -> str:
    """The summary block that people read."""
    failing = report["failing_seeds"]
    which = f"{report['violations']}, seeds {' '.join(map(str, failing[:VIOLATIONS_SHOWN]))}" if failing else "none"
    rows = [
        ("CONFIG", ""),
        ("protocol", report["protocol"]),
        ("validators", f"{report['nodes']}, {report['byzantine']} of them Byzantine"),
        ("mode", report["mode"]),
        ("", ""),
        ("RESULT", ""),
        ("seeds", f"{report['seeds']:,}" + (", INTERRUPTED" if interrupted else "")),
        ("violations", which),
        ("commits", f"{report['commits']:,} in {report['views']:,} views"),
        ("crashes", f"{report['crashes']:,}"),
        ("time", f"{report['simulated_s']:,.1f} s simulated in {report['wall_s']:,.1f} s"),
    ]
    seen = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report["coverage"].items())
    rows += [("" if i else "seen", line) for i, line in enumerate(wrap(seen, 56))]
    return summary_block(rows)


# ---- one seed -------------------------------------------------------------------------------------------------------


def _run_one(options: argparse.Namespace, campaign: Campaign) -> Summary:
    from hotstuff.cli.sim_options import command
    from hotstuff.simulator.picture import Recorder, draw
    from hotstuff.simulator.simulate import run
    from hotstuff.simulator.summary import Summary
    from hotstuff.simulator.timeline import Timeline

    case = campaign.case(campaign.first)
    if options.shrink:
        case = _shrunk(case)
    timeline, recorder = Timeline(), Recorder()
    result = run(case, [*([timeline] if options.trace else []), *([recorder] if options.picture else [])])
    for line in timeline.lines:
        print(line)
    summary = Summary(wall_s=result.wall_s)
    summary.add(result)
    violated = " and ".join(map(str, summary.failures))
    if options.picture:
        title = f"{campaign.protocol}, {campaign.nodes} validators, seed {campaign.first}"
        options.picture.write_text(draw(recorder, title, violated))
    print(f"{command(campaign, campaign.first)}: {violated or 'no violation'}")
    figures = f"{result.commits:,} commits, {result.views:,} views, {result.crashes:,} crashes"
    print(f"{figures}, {result.simulated_s:g} s simulated, trace {result.trace_hash[:16]}")
    return summary


def _shrunk(case: Case) -> Case:
    """The case reduced, and shown."""
    from hotstuff.simulator.shrink import Shrinker
    from hotstuff.simulator.summary import Failure
    from hotstuff.simulator.timeline import describe

    with ProgressLine() as line:
        found = Shrinker(case, show=lambda now, runs: line.update("shrinking", [(_size(now, runs), "cyan")])).shrink()
    if found is None:
        print("no violation, so there is nothing to take away")
        return case
    least = found.case
    print(f"{Failure.of(least.setup.seed, found.violation)}")
    print(f"from {_size(case, 0)}\nto   {_size(least, found.runs)}\n")
    parameters = least.plan.parameters
    print(
        f"delay {parameters.delay_us} us, {parameters.spread_us} more on some links, jitter {parameters.jitter_us} us"
    )
    print(f"write {parameters.disk_us} us, view timeout {parameters.view_timeout_ms} ms")
    for instance, names in least.strategies:
        print(f"n{instance} is Byzantine: {', '.join(names) or 'nothing that matters'}")
    instances = least.setup.nodes + len(least.setup.twins)
    for action in least.plan.actions:
        print(f"{action.at_us / 1_000_000:>12.6f}  {describe(action, instances)}")
    print()
    return least


def _size(case: Case, runs: int) -> str:
    strategies = sum(len(names) for _, names in case.strategies)
    after = f" after {runs} runs" if runs else ""
    duration_s = case.setup.duration_us / 1_000_000
    return f"{len(case.plan.actions)} actions, {strategies} strategies, {duration_s:g} s{after}"
