"""`hotstuff inspect`: what the data of stopped nodes says. Heavy imports happen inside the functions, as in `main`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hotstuff.cli.main import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from hotstuff.node.genesis import Genesis
    from hotstuff.storage.chain import ChainStore
    from hotstuff.types.block import Header
    from hotstuff.types.certificates import QC, TC
    from hotstuff.types.evidence import Evidence
    from hotstuff.types.messages import Timeout, Vote

EXIT_EVIDENCE = 4

# First line of an exported file: its format and the network.
EXPORT_HEAD = "hotstuff-evidence 1"

DESCRIPTION = """Shows who signed two statements that no honest validator makes both.

The nodes must be stopped: while this reads a data directory, it is locked for everybody else."""

EPILOG = f"""exit status: 0 nothing found; {EXIT_EVIDENCE} evidence found, and all of it verifies; 1 some of it does
not; 2 a mistake in arguments, config, genesis or file; 3 a data directory cannot be used (is its node running?)

An exported file is text: a line with the chain id, then one line of hexadecimal digits for each piece of evidence.
With the genesis file anybody can check it: hotstuff inspect evidence --check FILE --genesis GENESIS"""


def add_inspect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command and its options."""
    inspect = commands.add_parser("inspect", help="look into the data of stopped nodes")
    subjects = inspect.add_subparsers(dest="subject", metavar="SUBJECT", required=True)
    evidence = subjects.add_parser(
        "evidence",
        help="who has provably broken the rules",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evidence.add_argument("homes", nargs="*", type=Path, metavar="HOME", help="a node's directory, with config.json")
    evidence.add_argument(
        "--audit", action="store_true", help="also compare all certificates that these nodes have stored"
    )
    evidence.add_argument("--json", action="store_true", help="one JSON object for each piece of evidence")
    evidence.add_argument("--export", type=Path, metavar="FILE", help="write what verifies to a new file")
    evidence.add_argument("--check", type=Path, metavar="FILE", help="look at an exported file instead of nodes")
    evidence.add_argument("--genesis", type=Path, metavar="FILE", help="the network's genesis file, for --check")
    evidence.set_defaults(run=run_evidence)


def run_evidence(options: argparse.Namespace) -> int:
    """hotstuff inspect evidence"""
    from hotstuff.consensus.proof import verify
    from hotstuff.consensus.verifier import Verifier
    from hotstuff.errors import ConfigError

    if bool(options.homes) == (options.check is not None):
        raise ConfigError("HOME, --check", "both or neither", "directories of nodes, or a file to check")
    if (options.check is None) != (options.genesis is None):
        raise ConfigError("--genesis", "it alone or not at all", "together with --check")
    genesis = _genesis_of(options.homes, options.genesis)
    check = Verifier(genesis.context, genesis.validators).check

    def genuine(evidence: Evidence) -> bool:
        return verify(evidence, genesis.context, genesis.validators, check)

    if options.check is not None:
        found = list(read_export(options.check, genesis))
    else:
        stores = Stores(genesis, audited=options.audit)
        for home in options.homes:
            stores.read(home)
        found = stores.evidence
        if options.audit:
            found += stores.audit(genuine)
    verdicts = _without_repeats([(evidence, genuine(evidence)) for evidence in found])
    if options.export is not None:
        write_export(options.export, genesis, [evidence for evidence, valid in verdicts if valid])
    _show(verdicts, genesis, as_json=options.json)
    if not all(valid for _, valid in verdicts):
        return EXIT_FAILED
    return EXIT_EVIDENCE if verdicts else EXIT_OK


def _genesis_of(homes: Sequence[Path], path: Path | None) -> Genesis:
    """The one genesis of all these nodes, or of the file."""
    from hotstuff.errors import ConfigError
    from hotstuff.node.config import NodeConfig
    from hotstuff.node.genesis import Genesis

    found = [Genesis.load(each) for each in ([NodeConfig.load(h).genesis for h in homes] if path is None else [path])]
    for home, genesis in zip(homes, found, strict=False):
        if genesis.chain_id != found[0].chain_id:
            network, first = genesis.chain_id.hex(), found[0].chain_id.hex()
            raise ConfigError(str(home), f"network {network}", f"{first}, as the first")
    return found[0]


# ---- data directories -----------------------------------------------------------------------------------------------


class Stores:
    """What is read from one or more nodes of one network."""

    def __init__(self, genesis: Genesis, *, audited: bool) -> None:
        self.evidence: list[Evidence] = []
        self._genesis = genesis
        self._audited = audited
        self._headers: list[Header] = []
        self._qcs: list[QC] = []
        self._tcs: list[TC] = []
        self._votes: list[Vote] = []
        self._timeouts: list[Timeout] = []

    def read(self, home: Path) -> None:
        """One node's data; raises `StorageError` if a running node uses it."""
        with _opened(home, self._genesis) as store:
            self.evidence += store.load_evidence()
            if not self._audited:
                return
            self._headers += store.headers()
            qcs, tcs = store.certificates()
            record = store.load_safety()
        self._qcs += qcs
        self._tcs += tcs
        if record is None:
            return
        self._qcs += (record.high_qc, record.locked_qc)
        if record.high_tc is not None:
            self._tcs.append(record.high_tc)
        if record.last_vote is not None:
            self._votes.append(record.last_vote)
        if record.last_timeout is not None:
            self._timeouts.append(record.last_timeout)

    def audit(self, genuine: Callable[[Evidence], bool]) -> list[Evidence]:
        """What all of it together proves."""
        from hotstuff.consensus.audit import audit

        mode, votes, timeouts = self._genesis.context.mode, self._votes, self._timeouts
        return audit(mode, self._headers, self._qcs, self._tcs, votes=votes, timeouts=timeouts, genuine=genuine)


@contextmanager
def _opened(home: Path, genesis: Genesis) -> Iterator[ChainStore]:
    from hotstuff.errors import DataDirLocked, DataDirMismatch
    from hotstuff.node.config import NodeConfig
    from hotstuff.storage.chain import ChainStore
    from hotstuff.storage.datadir import DataDir

    path = NodeConfig.load(home).data
    try:
        data = DataDir.open_readonly(path)
    except DataDirLocked as error:
        raise DataDirLocked(f"{error}; stop the node first") from None
    try:
        if data.identity.network_id != genesis.chain_id:
            network = data.identity.network_id.hex()
            raise DataDirMismatch(f"{path}: belongs to network {network}, expected: {genesis.chain_id.hex()}")
        yield ChainStore(data)
    finally:
        data.close()


# ---- files ----------------------------------------------------------------------------------------------------------


def write_export(path: Path, genesis: Genesis, found: Sequence[Evidence]) -> None:
    """A new file with this evidence."""
    from hotstuff.errors import ConfigError

    try:
        with open(path, "x") as file:
            file.write(f"{EXPORT_HEAD} {genesis.chain_id.hex()}\n")
            file.writelines(f"{evidence.encoding.hex()}\n" for evidence in found)
    except FileExistsError:
        raise ConfigError("--export", str(path), "a new file: nothing is overwritten") from None
    except OSError as error:
        raise ConfigError("--export", f"{path}: {error.strerror}", "a writable file") from None


def read_export(path: Path, genesis: Genesis) -> Iterator[Evidence]:
    """The evidence in a file, from anybody and not verified yet."""
    from hotstuff.errors import ConfigError, InvalidEncoding
    from hotstuff.types.evidence import MAX_EVIDENCE_BYTES, decode_evidence

    try:
        with open(path, "rb") as file:
            head, expected = file.readline(256), f"{EXPORT_HEAD} {genesis.chain_id.hex()}\n"
            if head != expected.encode():
                raise ConfigError(f"{path}: line 1", head.decode(errors="replace").strip(), expected.strip())
            for number in range(2, 1 << 62):
                line = file.readline(2 * MAX_EVIDENCE_BYTES + 2)
                if not line:
                    return
                try:
                    yield decode_evidence(bytes.fromhex(line.decode("ascii").removesuffix("\n")))
                except (ValueError, InvalidEncoding) as error:
                    raise ConfigError(f"{path}: line {number}", str(error), "evidence in hexadecimal") from None
    except OSError as error:
        raise ConfigError(str(path), error.strerror or str(error), "a readable file") from None


# ---- output ---------------------------------------------------------------------------------------------------------


def _without_repeats(verdicts: Sequence[tuple[Evidence, bool]]) -> list[tuple[Evidence, bool]]:
    """One proof for each offence; one that verifies if there is one."""
    best: dict[bytes, tuple[Evidence, bool]] = {}
    for evidence, valid in verdicts:
        if evidence.offence not in best or (valid and not best[evidence.offence][1]):
            best[evidence.offence] = evidence, valid
    return [best[offence] for offence in sorted(best)]


def _show(verdicts: Sequence[tuple[Evidence, bool]], genesis: Genesis, *, as_json: bool) -> None:
    import orjson

    members = genesis.validators.validators
    for evidence, valid in verdicts:
        keys = {i: members[i].node_key.hex() for i in evidence.culprits if i < len(members)}
        if as_json:
            culprits = [{"validator": i, "node_key": keys.get(i)} for i in evidence.culprits]
            what = {"kind": evidence.kind.text, "epoch": evidence.epoch, "view": evidence.view, "said": evidence.said}
            fields = {**what, "culprits": culprits, "verified": valid, "evidence": evidence.encoding.hex()}
            print(orjson.dumps(fields).decode())
        else:
            print("\n".join(_lines(evidence, valid, keys)))
    if not as_json:
        guilty = {i for evidence, valid in verdicts if valid for i in evidence.culprits}
        power, total = genesis.validators.power(guilty), genesis.validators.total_power
        print(f"evidence against {len(guilty)} of {len(members)} validators, power {power} of {total}")


def _lines(evidence: Evidence, valid: bool, keys: dict[int, str]) -> list[str]:
    """One piece for people."""
    from hotstuff.types.evidence import EvidenceKind

    place = "batch" if evidence.kind is EvidenceKind.DOUBLE_BATCH else "view"
    verdict = "verified" if valid else "DOES NOT VERIFY"
    who = ", ".join(f"{i} (node key {keys[i][:16]})" if i in keys else f"{i} (unknown)" for i in evidence.culprits)
    first, second = evidence.said
    return [
        f"{evidence.kind.text}, epoch {evidence.epoch}, {place} {evidence.view}: {verdict}",
        f"  by validator {who}",
        f"  {first}",
        f"  {second}",
    ]
