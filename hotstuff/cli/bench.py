"""The `hotstuff-bench` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotstuff.cli.main import EXIT_FAILED, EXIT_OK, PROTOCOLS, guarded

if TYPE_CHECKING:
    from hotstuff.bench.run import BenchPlan, Progress

DESCRIPTION = """Start N replica processes and load clients on this machine and measure what they do together.

Latency is the client's: from sending a transaction (with --tps RATE: from the moment it should have been sent) until
f+1 replicas have given the same answer. The default is the production configuration: TLS and fsync on."""

EPILOG = "exit status: 0 done and all replicas agree; 1 not; 2 a mistake in the arguments"


def build_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        prog="hotstuff-bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--nodes", type=int, default=4, metavar="N", help="replicas (default: %(default)s)")
    add(
        "--tps",
        nargs="?",
        const=0.0,
        type=float,
        metavar="RATE",
        help="alone: find out what the cluster carries; with RATE: offer that many transactions a second",
    )
    add("--tx-size", type=int, default=512, metavar="BYTES", help="bytes of a transaction (default: %(default)s)")
    add("--duration", type=float, default=10.0, metavar="S", help="seconds measured (default: %(default)s)")
    add("--warmup", type=float, default=2.0, metavar="S", help="seconds before that (default: %(default)s)")
    add("--protocol", choices=PROTOCOLS, default="chained", help="(default: %(default)s)")
    add("--fsync", action=argparse.BooleanOptionalAction, default=True, help="sync every durable write to disk")
    add("--no-tls", dest="tls", action="store_false", help="plain TCP, to compare with systems without encryption")
    add(
        "--in-flight",
        type=int,
        metavar="N",
        help="frames of 128 KiB that each closed-loop client keeps under way: fewer for latency, more for throughput "
        "(default: 240 over all of them)",
    )
    add("--sweep", action="store_true", help="find the maximum, then measure fixed rates up to it; marks the knee")
    add("--compare", nargs=2, type=Path, metavar=("A", "B"), help="run nothing: set two JSON reports side by side")
    add("--json", metavar="FILE", help="write the report as one JSON object; - for standard output")
    add("--plot", type=Path, metavar="FILE", help="draw throughput and latency over time, or of a sweep (.png or .svg)")
    add("--data-dir", type=Path, metavar="DIR", help="keep keys, configs, logs and data here (default: temporary)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from hotstuff.bench.plot import check_plot

    if options.compare is not None:
        return _compare(options)
    plan = make_plan(options)
    if options.plot is not None:
        check_plot(options.plot)
    return _sweep(plan, options) if options.sweep else _measure(plan, options)


def _measure(plan: BenchPlan, options: argparse.Namespace) -> int:
    from hotstuff.bench.plot import draw
    from hotstuff.bench.report import summary
    from hotstuff.bench.run import run_bench
    from hotstuff.cli.loop import run_loop

    with ExitStack() as stack:
        show = stack.enter_context(ProgressLine())
        outcome = run_loop(run_bench(plan, show.update))
    if options.plot is not None:
        draw(options.plot, outcome.report, outcome.timeline)
    _tell(outcome.report, summary(outcome.report), options.json)
    return _verdict([outcome.report], outcome.errors)


def _sweep(plan: BenchPlan, options: argparse.Namespace) -> int:
    from hotstuff.bench.plot import draw_sweep
    from hotstuff.bench.sweep import run_sweep, sweep_table
    from hotstuff.cli.loop import run_loop

    with ExitStack() as stack:
        show = stack.enter_context(ProgressLine())
        outcome = run_loop(run_sweep(plan, show.update))
    report = outcome.report
    if options.plot is not None:
        draw_sweep(options.plot, report)
    _tell(report, sweep_table(report), options.json)
    return _verdict([report["closed_loop"], *report["points"]], outcome.errors)


def _compare(options: argparse.Namespace) -> int:
    from hotstuff.bench.compare import compare, comparison_table, load_report

    first, second = options.compare
    result = compare(load_report(first), load_report(second))
    _tell(result, comparison_table(result, (str(first), str(second))), options.json)
    return EXIT_OK


def _tell(report: dict[str, Any], text: str, json: str | None) -> None:
    """JSON where it is asked for; text for people unless JSON has standard output."""
    import orjson

    encoded = orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()
    print(encoded if json == "-" else text)
    if json not in (None, "-"):
        Path(json).write_text(encoded + "\n")


def _verdict(reports: Sequence[dict[str, Any]], errors: Sequence[str]) -> int:
    for error in errors:
        print(f"failed: {error}", file=sys.stderr)
    good = all(report["agreement"] and not report["failed"] for report in reports)
    return EXIT_OK if good else EXIT_FAILED


def make_plan(options: argparse.Namespace) -> BenchPlan:
    """Checks what argparse does not."""
    from hotstuff.app.sessions import MAX_GAPS
    from hotstuff.bench.load import default_in_flight
    from hotstuff.bench.run import BenchPlan
    from hotstuff.errors import ConfigError
    from hotstuff.native import MAX_TX_BYTES
    from hotstuff.types.validators import MAX_VALIDATORS

    in_flight = default_in_flight(options.nodes) if options.in_flight is None else options.in_flight
    limits = (
        ("--nodes", options.nodes, 1, MAX_VALIDATORS),
        ("--tx-size", options.tx_size, 1, MAX_TX_BYTES),
        ("--duration", options.duration, 0.5, 86_400),
        ("--warmup", options.warmup, 0, 3600),
        ("--tps", options.tps or 0, 0, 10_000_000),
        ("--in-flight", in_flight, 1, MAX_GAPS),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise ConfigError(name, value, f"{low} to {high}")
    if options.sweep and options.tps:
        raise ConfigError("--sweep", f"--tps {options.tps:g}", "no rate: a sweep chooses its own")
    return BenchPlan(
        nodes=options.nodes,
        rate=options.tps or None,
        tx_size=options.tx_size,
        duration_s=options.duration,
        warmup_s=options.warmup,
        in_flight=in_flight,
        protocol=options.protocol,
        fsync=options.fsync,
        tls=options.tls,
        data_dir=options.data_dir,
    )


class ProgressLine:
    """A live line on standard error; nothing if that is not a terminal."""

    def __enter__(self) -> ProgressLine:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), refresh_per_second=8, transient=True)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show one moment."""
        from rich.text import Text

        if not progress.total_s:
            self._live.update(Text(f"{progress.phase} …", style="dim"))
            return
        line = Text(f"{progress.phase:<14}", style="bold")
        line.append(f" {min(progress.at_s, progress.total_s):5.1f}/{progress.total_s:.0f} s ", style="dim")
        line.append(f" {progress.tps:>9,.0f} tx/s ", style="green")
        line.append(f" p50 {progress.p50_ms:7.1f} ms ", style="cyan")
        line.append(f" {progress.committed:,} committed")
        if progress.failed:
            line.append(f"  {progress.failed:,} failed", style="bold red")
        self._live.update(line)


if __name__ == "__main__":
    sys.exit(main())
