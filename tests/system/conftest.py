"""Networks that end with the test, and the length of an overload as an option."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import MakeTestnet, Testnet

FLOOD_S = 4.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--flood", type=float, default=FLOOD_S, help="seconds of overload")


@pytest.fixture
def flood_s(pytestconfig: pytest.Config) -> float:
    """How long the cluster is offered far more than it carries."""
    return float(pytestconfig.getoption("--flood", default=FLOOD_S))


@pytest.fixture
def make_net(tmp_path: Path) -> Iterator[MakeTestnet]:
    """Makes networks, not started yet, with these settings in their config files."""
    made: list[Testnet] = []

    def make(size: int = 4, **settings: object) -> Testnet:
        net = Testnet(tmp_path / f"net{len(made)}", size, **settings)
        made.append(net)
        return net

    yield make
    for net in made:
        net.close()


@pytest.fixture
def net(make_net: MakeTestnet) -> Testnet:
    """Four replicas, running and connected."""
    net = make_net()
    net.start()
    return net
