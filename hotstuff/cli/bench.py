"""The `hotstuff-bench` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

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
    add("--json", metavar="FILE", help="write the report as one JSON object; - for standard output")
    add("--plot", type=Path, metavar="FILE", help="draw throughput and latency over time (.png or .svg)")
    add("--data-dir", type=Path, metavar="DIR", help="keep keys, configs, logs and data here (default: temporary)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    import orjson

    from hotstuff.bench.plot import check_plot, draw
    from hotstuff.bench.report import summary
    from hotstuff.bench.run import run_bench
    from hotstuff.cli.loop import run_loop

    plan = make_plan(options)
    if options.plot is not None:
        check_plot(options.plot)
    with ExitStack() as stack:
        show = stack.enter_context(ProgressLine())
        outcome = run_loop(run_bench(plan, show.update))
    report = outcome.report
    if options.plot is not None:
        draw(options.plot, report, outcome.timeline)
    encoded = orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()
    if options.json == "-":
        print(encoded)
    else:
        print(summary(report))
        if options.json:
            Path(options.json).write_text(encoded + "\n")
    for error in outcome.errors:
        print(f"failed: {error}", file=sys.stderr)
    return EXIT_OK if report["agreement"] and not report["failed"] else EXIT_FAILED


def make_plan(options: argparse.Namespace) -> BenchPlan:
    """Checks what argparse does not."""
    from hotstuff.bench.run import BenchPlan
    from hotstuff.errors import ConfigError
    from hotstuff.native import MAX_TX_BYTES
    from hotstuff.types.validators import MAX_VALIDATORS

    limits = (
        ("--nodes", options.nodes, 1, MAX_VALIDATORS),
        ("--tx-size", options.tx_size, 1, MAX_TX_BYTES),
        ("--duration", options.duration, 0.5, 86_400),
        ("--warmup", options.warmup, 0, 3600),
        ("--tps", options.tps or 0, 0, 10_000_000),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise ConfigError(name, value, f"{low} to {high}")
    return BenchPlan(
        nodes=options.nodes,
        rate=options.tps or None,
        tx_size=options.tx_size,
        duration_s=options.duration,
        warmup_s=options.warmup,
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
        line = Text(f"{progress.phase:<10}", style="bold")
        line.append(f" {min(progress.at_s, progress.total_s):5.1f}/{progress.total_s:.0f} s ", style="dim")
        line.append(f" {progress.tps:>9,.0f} tx/s ", style="green")
        line.append(f" p50 {progress.p50_ms:7.1f} ms ", style="cyan")
        line.append(f" {progress.committed:,} committed")
        if progress.failed:
            line.append(f"  {progress.failed:,} failed", style="bold red")
        self._live.update(line)


if __name__ == "__main__":
    sys.exit(main())
