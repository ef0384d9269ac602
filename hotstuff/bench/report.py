"""The summary block that people read."""

from __future__ import annotations

from typing import Any


def summary(report: dict[str, Any]) -> str:
    """What was run, what came out, and whether the replicas agree."""
    latency = report["latency_ms"]
    offered = "as fast as answers come" if report["offered_tps"] is None else f"{report['offered_tps']:,.0f} tx/s"
    machine = report["machine"]
    rows = [
        ("CONFIG", ""),
        ("protocol", report["protocol"]),
        ("replicas", report["nodes"]),
        ("transaction", f"{report['tx_size']} B"),
        ("offered", offered),
        ("TLS", "on" if report["tls"] else "OFF"),
        ("fsync", "on" if report["fsync"] else "OFF"),
        ("measured", f"{report['duration_s']:.1f} s"),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"),
        ("", ""),
        ("RESULT", ""),
        ("throughput", f"{report['tps']:,.0f} tx/s ({report['tps'] * report['tx_size'] / 1e6:,.1f} MB/s)"),
        ("latency", "  ".join(f"{name} {latency[name]:,.1f}" for name in latency) + "  ms, send to f+1 answers"),
        ("", f"p50 is {report['p50_in_bls_verifications']:.0f} BLS checks ({report['bls_verification_ms']:.2f} ms)"),
        ("first answer", f"p50 {report['first_answer_ms']['p50']:,.1f} ms, of one replica: a receipt needs f+1"),
        ("transactions", f"{report['committed']:,} of {report['submitted']:,} committed, {report['failed']:,} failed"),
        ("blocks", f"{report['blocks']:,}, one every {report['block_interval_ms']:.1f} ms"),
        ("views", f"{report['views']:,}, {report['timeouts']:,} timed out"),
        ("CPU", f"{report['cpu_s_per_100k_tx']:.2f} s for 100,000 tx; clients use {report['client_cpu_share']:.0%}"),
        ("memory", f"{report['rss_mib_max']:.0f} MiB in the largest replica, pages of its database included"),
        ("", f"without them, by tenths of the time: {_series(report['own_mib'])}"),
        ("agreement", "every block of every replica is the same" if report["agreement"] else "BROKEN: chains differ"),
    ]
    lines = [f"  {name:<14}{value}" if value != "" else f" {name}".rstrip() for name, value in rows]
    line = "-" * 72
    return "\n".join([line, " SUMMARY", line, *lines, line])


def _series(values: list[float]) -> str:
    return " ".join(f"{value:.0f}" for value in values)
