"""The `hotstuff` command. Heavy imports happen inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hotstuff import __version__

if TYPE_CHECKING:
    from hotstuff.client import ReplicaAddress

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_STORAGE, EXIT_BUG = 0, 1, 2, 3, 70

# As in genesis files; here too, because their module is slow to import.
PROTOCOLS = ("basic", "chained", "hotstuff2", "jolteon")
# After so many seconds without a result a command says what it waits for.
NOTICE_S = 2.0

EPILOG = """exit status: 0 done; 1 failed; 2 a mistake in arguments, config, genesis or keys;
3 the data directory cannot be used; 70 a broken invariant (a bug, or too many faults)"""


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    from hotstuff.cli.inspect import add_inspect  # they need our exit statuses
    from hotstuff.cli.sim import add_sim

    parser = argparse.ArgumentParser(
        prog="hotstuff",
        description="Byzantine fault tolerant replication: chained HotStuff with BLS aggregate certificates.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    testnet = commands.add_parser("testnet", help="write the files of a new network")
    testnet.add_argument("directory", metavar="DIR", type=Path, help="a new or empty directory")
    testnet.add_argument("--nodes", type=int, default=4, help="validators (default: %(default)s)")
    testnet.add_argument("--name", default="testnet", help="name of the network (default: %(default)s)")
    testnet.add_argument("--host", default="127.0.0.1", help="address of every node (default: %(default)s)")
    testnet.add_argument(
        "--base-port", type=int, default=7100, help="node i: this + 2i for peers, + 2i + 1 for clients"
    )
    testnet.add_argument("--protocol", choices=PROTOCOLS, default="chained", help="(default: %(default)s)")
    testnet.add_argument(
        "--sticky", type=int, default=1, metavar="VIEWS", help="views that each leader has in a row (default: 1)"
    )
    testnet.set_defaults(run=run_testnet)

    node = commands.add_parser("node", help="run one replica in the foreground, until SIGTERM or SIGINT")
    node.add_argument("--home", type=Path, required=True, help="directory with config.json")
    node.set_defaults(run=run_node)

    init = commands.add_parser("init", help="make the data directory of a validator that has never signed anything")
    init.add_argument("--home", type=Path, required=True, help="directory with config.json")
    init.set_defaults(run=run_init)

    client = commands.add_parser("client", help="send transactions and wait until they are committed")
    client.add_argument("--home", type=Path, required=True, help="any node's directory: genesis and addresses")
    client.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds (default: %(default)s)")
    client.add_argument("transactions", nargs="+", metavar="TEXT", help="one transaction each")
    client.set_defaults(run=run_client)

    status = commands.add_parser("status", help="ask the replicas where they stand")
    status.add_argument("--home", type=Path, required=True, help="any node's directory: genesis and addresses")
    status.add_argument("--json", action="store_true", help="one JSON object for each replica")
    status.set_defaults(run=run_status)

    add_inspect(commands)
    add_sim(commands)

    version = commands.add_parser("version", help="versions of this package, its native code and its BLS library")
    version.set_defaults(run=run_version)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    return guarded(lambda: int(options.run(options)))


def guarded(run: Callable[[], int]) -> int:
    """Runs a command; expected errors become one line on standard error and an exit status."""
    from hotstuff.errors import ConfigError, HotstuffError, InvariantViolation, StorageError

    statuses = ((ConfigError, EXIT_USAGE), (StorageError, EXIT_STORAGE), (InvariantViolation, EXIT_BUG))
    try:
        return run()
    except KeyboardInterrupt:
        return EXIT_FAILED
    except HotstuffError as error:
        print(f"error: {error}", file=sys.stderr)
        return next((status for kind, status in statuses if isinstance(error, kind)), EXIT_FAILED)
    except Exception:
        traceback.print_exc()
        return EXIT_BUG


def run_testnet(options: argparse.Namespace) -> int:
    """hotstuff testnet"""
    from hotstuff.node.genesis import Rotation
    from hotstuff.node.testnet import TestnetPlan, create_testnet

    plan = TestnetPlan(
        options.nodes,
        name=options.name,
        protocol=options.protocol,
        rotation=Rotation(sticky=options.sticky),
        host=options.host,
        base_port=options.base_port,
    )
    genesis = create_testnet(options.directory, plan)
    print(f"network {plan.name!r}, chain id {genesis.chain_id.hex()}, {plan.nodes} validators in {options.directory}")
    print("start each of them with:")
    for i in range(plan.nodes):
        print(f"  hotstuff node --home {options.directory}/node{i}")
    return EXIT_OK


def run_node(options: argparse.Namespace) -> int:
    """hotstuff node"""
    from hotstuff.cli.loop import run_loop
    from hotstuff.node.config import NodeConfig
    from hotstuff.node.logs import start_logging
    from hotstuff.node.node import run_node as run_replica

    start_logging(NodeConfig.load(options.home).log_level)
    run_loop(run_replica(options.home))
    return EXIT_OK


def run_init(options: argparse.Namespace) -> int:
    """hotstuff init"""
    from hotstuff.node.node import Home
    from hotstuff.node.testnet import create_data

    home = Home.load(options.home)
    create_data(home.config.data, home.genesis, home.index)
    print(f"{home.config.data}: empty data directory of validator {home.index} of network {home.genesis.name!r}")
    return EXIT_OK


def replicas_of(home: Path) -> tuple[list[ReplicaAddress], bool]:
    """Addresses for clients, and whether they speak TLS, from a node's directory."""
    from hotstuff.client import ReplicaAddress
    from hotstuff.node.config import NodeConfig
    from hotstuff.node.genesis import Genesis

    config = NodeConfig.load(home)
    members = Genesis.load(config.genesis).validators
    config.require_members(members)
    entries = [(config.validators[member.node_key].client, member) for member in members.validators]
    return [ReplicaAddress(*address, member.node_key, member.power) for address, member in entries], config.tls


def run_client(options: argparse.Namespace) -> int:
    """hotstuff client"""
    import asyncio

    from hotstuff.cli.loop import run_loop
    from hotstuff.client import Client
    from hotstuff.errors import ConfigError

    replicas, tls = replicas_of(options.home)

    async def send() -> None:
        client = Client(replicas, tls=tls)

        def still_waiting() -> None:
            reached = f"{client.connected} of {len(replicas)} replicas reached"
            print(f"waiting up to {options.timeout:g} s: {reached}", file=sys.stderr)

        notice = asyncio.get_running_loop().call_later(NOTICE_S, still_waiting)
        try:
            await client.start(options.timeout)
            receipt = await client.submit([text.encode() for text in options.transactions], timeout_s=options.timeout)
        except ValueError as error:
            raise ConfigError("TEXT", "these transactions", str(error)) from None
        finally:
            notice.cancel()
            await client.close()
        print(f"committed {receipt.count} at height {receipt.height}, state {receipt.state.hex()}")

    run_loop(send())
    return EXIT_OK


def run_status(options: argparse.Namespace) -> int:
    """hotstuff status"""
    import orjson

    from hotstuff.cli.loop import run_loop
    from hotstuff.client import fetch_status
    from hotstuff.errors import NotConnected

    replicas, tls = replicas_of(options.home)
    missing = 0

    async def ask() -> None:
        nonlocal missing
        for index, replica in enumerate(replicas):
            try:
                status = {**await fetch_status(replica, tls=tls), "validator": index}
            except NotConnected as error:
                missing += 1
                status = {"validator": index, "error": str(error)}
            if options.json:
                print(orjson.dumps(status).decode())
            else:
                print(status_line(status))

    run_loop(ask())
    return EXIT_OK if missing == 0 else EXIT_FAILED


def status_line(status: dict[str, object]) -> str:
    """One replica in one line. It says of itself what it likes: missing fields are question marks."""
    if "error" in status:
        return f"validator {status['validator']}: not reached ({status['error']})"
    notes = [name for name in ("passive", "disk_full") if status.get(name)]
    peers = status.get("peers")
    view, height, executed = (status.get(name, "?") for name in ("view", "executed_height", "executed_tx"))
    return (
        f"validator {status['validator']}: view {view}, height {height}, {executed} transactions, "
        f"{len(peers) if isinstance(peers, list) else '?'} peers, state {str(status.get('state', '?'))[:16]}"
        f"{''.join(f', {note}' for note in notes)}"
    )


def run_version(_options: argparse.Namespace) -> int:
    """hotstuff version"""
    from hotstuff import native
    from hotstuff.crypto import bls

    print(f"hotstuff {__version__}, {native.IMPLEMENTATION} code, {bls.BACKEND_NAME}, Python {sys.version.split()[0]}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
