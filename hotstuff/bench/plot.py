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
    upper.set_title(_title(report))
    figure.savefig(path)


def draw_sweep(path: Path, report: dict[str, Any]) -> None:
    """Latency over throughput, the knee marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = report["points"]
    for name, color in (("p50", "tab:green"), ("p99", "tab:red")):
        carried = [point["tps"] for point in points]
        axes.plot(carried, [point["latency_ms"][name] for point in points], color=color, marker="o", label=name)
    if report["knee"] is not None:
        axes.axvline(report["knee"]["tps"], color="tab:gray", linestyle=":", label="knee")
    axes.set_xlabel("transactions/s")
    axes.set_ylabel("latency, ms")
    axes.set_xlim(left=0)
    axes.set_yscale("log")
    axes.legend()
    axes.set_title(_title(report))
    figure.savefig(path)


def _title(report: dict[str, Any]) -> str:
    switches = f"TLS {'on' if report['tls'] else 'off'}, fsync {'on' if report['fsync'] else 'off'}"
    return f"{report['nodes']} replicas, {report['protocol']}, {report['tx_size']} B, {switches}"
