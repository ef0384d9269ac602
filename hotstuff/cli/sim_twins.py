"""`hotstuff sim twins`. Heavy imports happen inside the functions, as in `main`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hotstuff.cli.main import EXIT_FAILED, EXIT_OK, PROTOCOLS
from hotstuff.cli.output import ProgressLine, summary_block, write_json

DESCRIPTION = """Carries out Twins scenarios (arXiv 2004.10617): some validators run twice with the same keys, and for
each view somebody is chosen to lead and the network is cut into two parts. One scenario of each kind: what differs only
in names is the same. After its last view everybody is connected and must go on."""

EPILOG = """exit status: 0 no scenario was unsafe or stuck (with a third or more of twins: there were forks, and
evidence explains each of them); 1 not so, or Ctrl-C came first; 2 a mistake in the arguments"""


def add_twins(subjects: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command and its options."""
    twins = subjects.add_parser(
        "twins",
        help="Twins scenarios instead of random faults; see hotstuff sim twins --help",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # or it would undo what was given before the word "twins"
    )
    add = twins.add_argument
    add("--protocol", choices=(*PROTOCOLS, "all"), help="(default: chained)")
    add("--nodes", type=int, metavar="N", help="validators (default: 4)")
    add("--twins", type=int, default=1, metavar="T", help="how many of them run twice (default: %(default)s)")
    add("--views", type=int, default=3, metavar="V", help="views of a scenario (default: %(default)s)")
    add("--sample", type=int, default=None, metavar="M", help="so many scenarios by chance (default: one of each kind)")
    add("--seed", type=int, metavar="N", help="another sample (default: 0)")
    add("--late", action="store_true", default=False, help="what a cut keeps back arrives a view later")
    add("--one-way", action="store_true", default=False, help="the second part is heard by the first")
    add("--restarts", action="store_true", default=False, help="twins may start again from an empty disk")
    add("--json", metavar="FILE", help="write the summary as JSON; - for standard output")
    add("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    add("--resume", type=Path, metavar="DIR", help="record what is done in DIR, and go on from there")
    twins.set_defaults(run=run_sim_twins)


def run_sim_twins(options: argparse.Namespace) -> int:
    """hotstuff sim twins"""
    from hotstuff.cli.sim_options import check_twins, protocols_of
    from hotstuff.simulator.twins import good

    check_twins(options)
    summaries: list[dict[str, Any]] = []
    for protocol in protocols_of(options):
        summaries.append(_run(options, protocol))
        if options.json != "-":
            print(summary_block(_rows(summaries[-1])))
    write_json(options.json, summaries if options.protocol == "all" else summaries[0])
    return EXIT_OK if all(map(good, summaries)) else EXIT_FAILED


def _run(options: argparse.Namespace, protocol: str) -> dict[str, Any]:
    from hotstuff.cli.sim_options import resume_of
    from hotstuff.simulator.scenarios import Variant
    from hotstuff.simulator.twins import run_twins
    from hotstuff.types.hashing import Mode

    with ProgressLine() as line:
        return run_twins(
            Mode[protocol.upper()],
            options.nodes,
            options.twins,
            options.views,
            options.sample,
            options.seed or 0,
            options.jobs,
            lambda progress: line.update(f"{protocol} twins", [(f" {progress.line}", "")]),
            resume_of(options, protocol),
            variant=Variant(late=options.late, one_way=options.one_way, restarts=options.restarts),
        )


def _rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Figures first, then what was found."""
    for name, value in summary.items():
        if not isinstance(value, list):
            counted = isinstance(value, int) and not isinstance(value, bool)
            yield name.replace("_", " "), f"{value:,}" if counted else str(value)
    for value in summary.values():
        for finding in value if isinstance(value, list) else ():
            yield "found", str(finding)
