"""`hotstuff inspect evidence`: from the data of stopped nodes, or from a file that somebody else has sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from hotstuff.cli.inspect import EXIT_EVIDENCE, EXPORT_HEAD
from hotstuff.cli.main import EXIT_FAILED, EXIT_OK, EXIT_STORAGE, EXIT_USAGE, main
from hotstuff.consensus.effects import Persist
from hotstuff.crypto import bls
from hotstuff.node.genesis import Genesis
from hotstuff.node.keys import Keys
from hotstuff.node.testnet import TestnetPlan as Plan
from hotstuff.node.testnet import create_testnet
from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir
from hotstuff.types.block import Block, Header, payload_root
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.evidence import MAX_EVIDENCE_BYTES, DoubleBatch, DoubleProposal, DoubleVote, Evidence
from hotstuff.types.hashing import Phase
from hotstuff.types.messages import Vote
from hotstuff.types.statements import SignedBatch, SignedProposal

LOW, HIGH, THIRD = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32


class Network:
    """The files of four nodes, and all their keys."""

    def __init__(self, path: Path, name: str = "testnet") -> None:
        self.path = path
        self.genesis: Genesis = create_testnet(path, Plan(4, name=name))
        self.keys = [Keys.load(self.home(i) / "keys.json") for i in range(4)]

    def home(self, i: int) -> Path:
        return self.path / f"node{i}"

    def store(self, i: int, *writes: Persist) -> None:
        """Writes into a node's data directory."""
        data = DataDir.open(self.home(i) / "data", self.genesis.chain_id, i, fsync=False, create_if_missing=False)
        ChainStore(data).persist(writes)
        data.close()

    def vote(self, signer: int, view: int, block_id: bytes) -> Vote:
        message = self.genesis.context.vote_message(view, Phase.GENERIC, block_id, ZERO_HASH)
        return Vote(1, view, Phase.GENERIC, block_id, ZERO_HASH, signer, self.keys[signer].bls.sign(message))

    def qc(self, view: int, block_id: bytes, signers: Iterable[int], commit_id: bytes = ZERO_HASH) -> QC:
        chosen = sorted(signers)
        message = self.genesis.context.vote_message(view, Phase.GENERIC, block_id, commit_id)
        signature = bls.aggregate([self.keys[i].bls.sign(message) for i in chosen])
        return QC(1, view, Phase.GENERIC, block_id, commit_id, self.genesis.validators.bitmap(chosen), signature)

    def header(self, view: int, justify: QC, height: int) -> Header:
        c = self.genesis.context
        place = (view, height, justify.block_id, justify, ZERO_HASH, payload_root(()), 0)
        return Header(c.mode, c.chain_id, c.epoch, c.vset_hash, *place)

    def double_vote(self, signer: int = 1, view: int = 9) -> Evidence:
        return DoubleVote.of(self.vote(signer, view, LOW), self.vote(signer, view, HIGH))

    def pieces(self) -> list[Evidence]:
        """One of each sort that is printed in its own way."""
        context, node = self.genesis.context, self.keys[3].node
        proposals = [SignedProposal(1, 7, 3, i, node.sign(context.proposal_message(7, i))) for i in (LOW, HIGH)]
        batches = [SignedBatch(1, 3, 5, d, node.sign(context.batch_message(3, 5, d))) for d in (LOW, HIGH)]
        qcs = [self.qc(8, LOW, (0, 1, 2)), self.qc(8, HIGH, (1, 2, 3))]
        return [DoubleBatch.of(*batches), DoubleProposal.of(*proposals), DoubleVote.of(*qcs), self.double_vote()]


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path / "net")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `inspect evidence`: (status, standard output, standard error)."""

    def inspect(*arguments: object) -> tuple[int, str, str]:
        status = main(["inspect", "evidence", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return inspect


# ---- what was stored


def test_nothing_was_found(network: Network, run: Run) -> None:
    assert run(network.home(0)) == (EXIT_OK, "evidence against 0 of 4 validators, power 0 of 4\n", "")
    assert run(network.home(0), "--json") == (EXIT_OK, "", "")


def test_everything_that_was_stored_is_shown(network: Network, run: Run) -> None:
    network.store(0, Persist(evidence=tuple(network.pieces())))
    status, text, errors = run(network.home(0))
    assert (status, errors) == (EXIT_EVIDENCE, "")
    keys = [v.node_key.hex()[:16] for v in network.genesis.validators.validators]
    assert text.splitlines() == [
        "double batch, epoch 1, batch 5: verified",
        f"  by validator 3 (node key {keys[3]})",
        f"  signed batch {LOW.hex()[:16]} as number 5",
        f"  signed batch {HIGH.hex()[:16]} as number 5",
        "double proposal, epoch 1, view 7: verified",
        f"  by validator 3 (node key {keys[3]})",
        f"  proposed block {LOW.hex()[:16]}",
        f"  proposed block {HIGH.hex()[:16]}",
        "double vote, epoch 1, view 8: verified",
        f"  by validator 1 (node key {keys[1]}), 2 (node key {keys[2]})",
        f"  voted for block {LOW.hex()[:16]} in view 8 (in a QC)",
        f"  voted for block {HIGH.hex()[:16]} in view 8 (in a QC)",
        "double vote, epoch 1, view 9: verified",
        f"  by validator 1 (node key {keys[1]})",
        f"  voted for block {LOW.hex()[:16]} in view 9",
        f"  voted for block {HIGH.hex()[:16]} in view 9",
        "evidence against 3 of 4 validators, power 3 of 4",
    ]


def test_json_is_one_object_for_each_piece(network: Network, run: Run) -> None:
    evidence = network.double_vote(signer=2)
    network.store(0, Persist(evidence=(evidence,)))
    status, text, _ = run(network.home(0), "--json")
    assert status == EXIT_EVIDENCE
    assert json.loads(text) == {
        "kind": "double vote",
        "epoch": 1,
        "view": 9,
        "said": list(evidence.said),
        "culprits": [{"validator": 2, "node_key": network.genesis.validators.validators[2].node_key.hex()}],
        "verified": True,
        "evidence": evidence.encoding.hex(),
    }


def test_what_does_not_verify_is_called_so(network: Network, run: Run) -> None:
    good = network.double_vote()
    bad = DoubleVote.of(network.vote(1, 10, LOW), replace(network.vote(1, 10, HIGH), signer=2))
    unknown = DoubleVote.of(*(replace(network.vote(1, 11, i), signer=9) for i in (LOW, HIGH)))
    network.store(0, Persist(evidence=(good, bad, unknown)))
    status, text, _ = run(network.home(0))
    assert status == EXIT_FAILED
    assert "double vote, epoch 1, view 9: verified\n" in text
    assert "double vote, epoch 1, view 10: DOES NOT VERIFY\n" in text
    assert "  by validator 9 (unknown)\n" in text
    assert text.endswith("evidence against 1 of 4 validators, power 1 of 4\n")
    assert [json.loads(line)["verified"] for line in run(network.home(0), "--json")[1].splitlines()] == [
        True,
        False,
        False,
    ]


def test_several_nodes_say_it_once_and_the_proof_that_verifies_counts(network: Network, run: Run) -> None:
    good = network.double_vote()
    bad = DoubleVote.of(network.vote(1, 9, LOW), replace(network.vote(1, 9, THIRD), signature=bytes(96)))
    assert bad.offence == good.offence
    network.store(0, Persist(evidence=(bad,)))
    network.store(1, Persist(evidence=(good,)))
    assert run(network.home(0))[0] == EXIT_FAILED
    for homes in ((0, 1), (1, 0)):
        status, text, _ = run(*map(network.home, homes))
        assert (status, text.count("double vote")) == (EXIT_EVIDENCE, 1)


def test_a_running_node_keeps_its_data_to_itself(network: Network, run: Run) -> None:
    data = DataDir.open(network.home(0) / "data", network.genesis.chain_id, 0, create_if_missing=False)
    try:
        status, text, errors = run(network.home(0))
    finally:
        data.close()
    assert (status, text) == (EXIT_STORAGE, "")
    assert "in use by process" in errors and errors.endswith("stop the node first\n")
    assert run(network.home(0))[0] == EXIT_OK, "nothing was left locked"


def test_the_data_of_another_network_is_refused(network: Network, tmp_path: Path, run: Run) -> None:
    other = Network(tmp_path / "other", name="other")
    (network.home(0) / "data").rename(tmp_path / "away")
    (other.home(0) / "data").rename(network.home(0) / "data")
    status, _, errors = run(network.home(0))
    assert status == EXIT_STORAGE
    assert "belongs to network" in errors


def test_nodes_of_two_networks_are_refused(network: Network, tmp_path: Path, run: Run) -> None:
    other = Network(tmp_path / "other", name="other")
    status, _, errors = run(network.home(0), other.home(0))
    assert status == EXIT_USAGE
    assert f"{other.home(0)}: got 'network {other.genesis.chain_id.hex()}'" in errors


# ---- audit


def forked(network: Network) -> None:
    """Node 0 has committed one block at height 1, node 1 another: validators 2 and 3 helped both."""
    genesis = QC.genesis(network.genesis.context)
    for node, views in ((0, (1, 2, 3)), (1, (5, 6, 7))):
        qc, headers = genesis, []
        for height, view in enumerate(views, 1):
            header = network.header(view, qc, height)
            headers.append(header)
            qc = network.qc(view, header.id, (node, 2, 3), headers[0].id if height == 3 else ZERO_HASH)
        blocks = tuple(Block(header, ()) for header in headers)
        network.store(node, Persist(blocks=blocks, commit_qc=qc, commit_height=1))


def test_an_audit_of_two_nodes_finds_who_made_them_fork(network: Network, tmp_path: Path, run: Run) -> None:
    forked(network)
    assert run(network.home(0), network.home(1))[0] == EXIT_OK, "neither of them has seen anything"
    assert run(network.home(0), "--audit")[0] == EXIT_OK, "by itself each of them looks right"
    file = tmp_path / "evidence"
    status, text, _ = run(network.home(0), network.home(1), "--audit", "--export", file)
    assert status == EXIT_EVIDENCE
    assert text.startswith("lock violation, epoch 1, view 5: verified\n")
    assert text.endswith("evidence against 2 of 4 validators, power 2 of 4\n")
    assert run("--check", file, "--genesis", network.home(3) / "genesis.json")[:2] == (EXIT_EVIDENCE, text)


# ---- files


def test_an_exported_file_convinces_anybody(network: Network, tmp_path: Path, run: Run) -> None:
    network.store(0, Persist(evidence=tuple(network.pieces())))
    file = tmp_path / "evidence"
    shown = run(network.home(0), "--export", file)
    genesis = network.home(2) / "genesis.json"
    assert run("--check", file, "--genesis", genesis) == shown
    lines = file.read_text().splitlines()
    assert lines[0] == f"{EXPORT_HEAD} {network.genesis.chain_id.hex()}"
    assert lines[1:] == [piece.encoding.hex() for piece in network.pieces()]


def test_only_what_verifies_is_exported(network: Network, tmp_path: Path, run: Run) -> None:
    bad = DoubleVote.of(network.vote(1, 10, LOW), replace(network.vote(1, 10, HIGH), signer=2))
    network.store(0, Persist(evidence=(network.double_vote(), bad)))
    file = tmp_path / "evidence"
    assert run(network.home(0), "--export", file)[0] == EXIT_FAILED
    assert len(file.read_text().splitlines()) == 2
    assert run("--check", file, "--genesis", network.home(0) / "genesis.json")[0] == EXIT_EVIDENCE


def test_nothing_is_overwritten(network: Network, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "evidence"
    file.write_text("precious")
    status, text, errors = run(network.home(0), "--export", file)
    assert (status, text) == (EXIT_USAGE, "")
    assert "a new file: nothing is overwritten" in errors
    assert file.read_text() == "precious"
    assert run(network.home(0), "--export", tmp_path / "no" / "file")[0] == EXIT_USAGE


def exported(network: Network, *lines: str) -> str:
    return "\n".join([f"{EXPORT_HEAD} {network.genesis.chain_id.hex()}", *lines, ""])


def test_an_empty_file_proves_nothing(network: Network, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "evidence"
    file.write_text(exported(network))
    assert run("--check", file, "--genesis", network.home(0) / "genesis.json")[0] == EXIT_OK


def test_a_file_of_another_network_is_refused(network: Network, tmp_path: Path, run: Run) -> None:
    other = Network(tmp_path / "other", name="other")
    file = tmp_path / "evidence"
    file.write_text(exported(network, network.double_vote().encoding.hex()))
    status, text, errors = run("--check", file, "--genesis", other.home(0) / "genesis.json")
    assert (status, text) == (EXIT_USAGE, "")
    assert f"{file}: line 1: got" in errors
    # Whoever changes that line gains nothing: the signatures are for another network.
    file.write_text(exported(other, network.double_vote().encoding.hex()))
    assert run("--check", file, "--genesis", other.home(0) / "genesis.json")[0] == EXIT_FAILED


HOSTILE = {
    "no hexadecimal": "xyz",
    "an odd number of digits": "020",
    "half of it": "0200",
    "too much": "02" * (MAX_EVIDENCE_BYTES + 1),
    "a mebibyte": "0" * (1 << 20),
    "an empty line": "",
    "not ASCII": "\u00e4\u00e4",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_its_line(network: Network, tmp_path: Path, run: Run, name: str) -> None:
    file = tmp_path / "evidence"
    file.write_text(exported(network, network.double_vote().encoding.hex(), HOSTILE[name]))
    status, text, errors = run("--check", file, "--genesis", network.home(0) / "genesis.json")
    assert (status, text) == (EXIT_USAGE, "")
    assert f"{file}: line 3: got" in errors
    assert len(errors) < 1000


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\0" * 10_000, b"hotstuff-evidence 2 00\n"])
def test_what_is_no_exported_file_is_refused(network: Network, tmp_path: Path, run: Run, content: bytes) -> None:
    file = tmp_path / "evidence"
    file.write_bytes(content)
    status, _, errors = run("--check", file, "--genesis", network.home(0) / "genesis.json")
    assert status == EXIT_USAGE
    assert f"{file}: line 1: got" in errors
    assert run("--check", tmp_path / "missing", "--genesis", network.home(0) / "genesis.json")[0] == EXIT_USAGE


# ---- arguments


@pytest.mark.parametrize(
    "arguments",
    [(), ("x", "--check", "y", "--genesis", "z"), ("--check", "y"), ("x", "--genesis", "z"), ("--genesis", "z")],
)
def test_either_nodes_or_a_file_with_a_genesis(run: Run, arguments: tuple[str, ...]) -> None:
    status, text, errors = run(*arguments)
    assert (status, text) == (EXIT_USAGE, "")
    assert errors.startswith("error: ")


def test_the_help_says_what_the_statuses_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", "evidence", "--help"])
    text = capsys.readouterr().out
    assert f"0 nothing found; {EXIT_EVIDENCE} evidence found" in text
    assert "--check FILE --genesis GENESIS" in text
