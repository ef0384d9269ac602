"""Throughput and latency over time as a picture. Needs the `plot` extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hotstuff.errors import ConfigError

SUFFIXES = (".png", ".svg")


def check_plot(path: Path) -> None:
    """Fails before the run, not after it."""
    if path.suffix not in SUFFIXES:
        raise ConfigError("--plot", str(path), f"a file name ending in {' or '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("--plot", str(path), "the plot extra: pip install 'hotstuff[plot]'") from None


def draw(path: Path, report: dict[str, Any], timeline: list[tuple[float, float, float, float]]) -> None:
    """Writes PNG or SVG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    times = [row[0] for row in timeline]
    upper.plot(times, [row[1] for row in timeline], color="tab:blue")
    upper.set_ylabel("transactions/s")
    upper.set_ylim(bottom=0)
    lower.plot(times, [row[2] for row in timeline], color="tab:green", label="p50")
    lower.plot(times, [row[3] for row in timeline], color="tab:red", label="p99")
    lower.set_ylabel("latency, ms")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("seconds")
    lower.legend()
    switches = f"TLS {'on' if report['tls'] else 'off'}, fsync {'on' if report['fsync'] else 'off'}"
    upper.set_title(f"{report['nodes']} replicas, {report['protocol']}, {report['tx_size']} B, {switches}")
    figure.savefig(path)
