"""What the protocol costs: messages for each block grow with n, not with its square."""

from __future__ import annotations

import pytest

from hotstuff.simulator.setup import Parameters, Plan, Setup
from hotstuff.simulator.world import Result, World
from hotstuff.types.hashing import Mode


def run(nodes: int, duration_us: int, protocol: Mode = Mode.CHAINED) -> Result:
    """Fault-free, with little to order, so that consensus is most of it."""
    plan = Plan(Parameters(client_us=50_000))
    result = World(Setup(nodes=nodes, protocol=protocol, duration_us=duration_us), plan).run()
    assert result.violations == [] and result.commits > 0
    return result


@pytest.mark.parametrize("protocol", list(Mode))
def test_consensus_messages_are_linear(protocol: Mode) -> None:
    costs = []
    for nodes, duration_us in ((4, 600_000), (7, 600_000), (16, 400_000), (31, 300_000)):
        result = run(nodes, duration_us, protocol)
        costs.append(result.consensus_messages / result.commits / nodes)
    # Proposals, votes to two leaders, and now and then a QC for everybody: a constant for each node.
    limit = 9 if protocol is Mode.BASIC else 5
    assert all(1 < cost < limit for cost in costs), costs
    assert max(costs) < 2 * min(costs), costs


def test_a_hundred_nodes_work() -> None:
    assert run(100, 120_000).commits >= 3
