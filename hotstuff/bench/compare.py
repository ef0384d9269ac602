"""Two reports side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from hotstuff.errors import ConfigError

# What must be equal for a comparison to mean anything.
CONFIG = ("nodes", "protocol", "tx_size", "fsync", "tls", "offered_tps", "machine")
# Single runs on a shared machine differ by this much for no reason.
NOISE = 0.05
# Field, its name for people, and whether more is better.
MEASURES: tuple[tuple[str, str, bool], ...] = (
    ("tps", "tx/s", True),
    ("latency_ms.p50", "p50 ms", False),
    ("p50_in_bls_verifications", "p50 in BLS checks", False),
    ("latency_ms.p90", "p90 ms", False),
    ("latency_ms.p99", "p99 ms", False),
    ("latency_ms.p999", "p99.9 ms", False),
    ("first_answer_ms.p50", "first answer p50 ms", False),
    ("block_interval_ms", "ms a block", False),
    ("cpu_s_per_100k_tx", "CPU s/100k tx", False),
    ("client_cpu_share", "load generator, cores", False),
    ("rss_mib_max", "MiB in a replica", False),
    ("timeouts", "timeouts", False),
    ("failed", "failed", False),
)


def load_report(path: Path) -> dict[str, Any]:
    """What `hotstuff-bench --json` wrote. Raises `ConfigError`."""
    try:
        report = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError("--compare", str(path), f"a readable file ({error.strerror})") from None
    except orjson.JSONDecodeError as error:
        raise ConfigError("--compare", str(path), f"a report in JSON ({error})") from None
    if not isinstance(report, dict) or not ("tps" in report or "closed_loop" in report):
        raise ConfigError("--compare", str(path), "a report of hotstuff-bench --json")
    return report


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """`differs`: what was not the same in both; `measures`: both values and the second as a multiple of the first.

    Of a sweep, the closed loop and the rates that both have by their place are compared.
    """
    if "closed_loop" in first and "closed_loop" in second:
        parts = [("closed loop", first["closed_loop"], second["closed_loop"])]
        pairs = zip(first["points"], second["points"], strict=False)
        parts += [(f"rate {number}", one, other) for number, (one, other) in enumerate(pairs, 1)]
        return {name: compare(one, other) for name, one, other in parts}
    if "closed_loop" in first or "closed_loop" in second:
        raise ConfigError("--compare", "a sweep and a single run", "two reports of one kind")
    differs = {name: [first.get(name), second.get(name)] for name in CONFIG if first.get(name) != second.get(name)}
    measures: dict[str, Any] = {}
    for field, _, _ in MEASURES:
        one, other = _of(first, field), _of(second, field)
        if one is not None and other is not None:
            measures[field] = {"values": [one, other], "ratio": round(other / one, 4) if one else None}
    return {"differs": differs, "measures": measures}


def _of(report: dict[str, Any], field: str) -> float | None:
    value: Any = report
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


def _verdict(ratio: float | None, more_is_better: bool) -> str:
    if ratio is None or abs(ratio - 1) <= NOISE:
        return ""
    return "better" if (ratio > 1) == more_is_better else "worse"


def comparison_table(result: dict[str, Any], names: tuple[str, str]) -> str:
    """For people: what got better and what worse."""
    if "measures" not in result:
        parts = [f"{name}\n{comparison_table(part, names)}" for name, part in result.items()]
        return "\n\n".join(parts)
    lines = [f"{'':<24}{'A':>14}{'B':>14}{'B / A':>9}", f"A: {names[0]}", f"B: {names[1]}"]
    for field, name, more_is_better in MEASURES:
        row = result["measures"].get(field)
        if row is None:
            continue
        one, other = row["values"]
        ratio = row["ratio"]
        shown = "-" if ratio is None else f"{ratio:.2f}"
        lines.append(f"{name:<24}{one:>14,.2f}{other:>14,.2f}{shown:>9}  {_verdict(ratio, more_is_better)}".rstrip())
    for name, (one, other) in result["differs"].items():
        lines.append(f"not the same in both: {name} ({one} and {other})")
    return "\n".join(lines)
