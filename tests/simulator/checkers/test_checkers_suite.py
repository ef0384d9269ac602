"""The checkers together: what they hear of, what they import, and that real runs keep every invariant."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

import hotstuff.simulator.checkers
from hotstuff.consensus import effects as fx
from hotstuff.simulator import simulate
from hotstuff.simulator.checkers.base import HOOKS, Checker
from hotstuff.simulator.checkers.power import Powers
from hotstuff.simulator.checkers.suite import checkers
from hotstuff.simulator.observer import Observer
from hotstuff.simulator.setup import Setup
from hotstuff.simulator.world import World
from hotstuff.types.hashing import Mode

FOLDER = Path(hotstuff.simulator.checkers.__file__).parent
INVARIANTS = {f"I{i}" for i in range(1, 17)} - {"I13"}


# ---- independence ----------------------------------------------------------------------------------------------------

# What they check must not be what they check with. Evidence is the exception: an audit is run and its verdicts are
# compared with what only a simulation knows.
ALLOWED = {"hotstuff.consensus.effects"}
AUDIT = {"hotstuff.consensus.audit", "hotstuff.consensus.proof"}
# Predicates of the production code on data that checkers handle.
PREDICATES = {"is_quorum", "has_honest", "power", "signers", "safe", "commit_id", "lock", "refusal", "check", "flaw"}


def runtime_imports(path: Path) -> set[str]:
    """Modules that a file imports when it runs (not for annotations alone)."""
    tree = ast.parse(path.read_text())
    annotations = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in annotations for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(name if name in ALLOWED | AUDIT else node.module for name in names)
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_checkers_share_no_rule_with_what_they_check(path: Path) -> None:
    allowed = ALLOWED | AUDIT if path.stem == "accountability" else ALLOWED
    core = ("hotstuff.consensus", "hotstuff.mempool", "hotstuff.node", "hotstuff.app", "hotstuff.storage")
    assert not {name for name in runtime_imports(path) if name.startswith(core)} - allowed


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_checkers_ask_the_production_code_nothing(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PREDICATES:
            owner = ast.unparse(node.func.value).rpartition(".")[2]
            assert owner == "powers", f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    ("powers", "quorum", "third"),
    [((1,) * 4, 3, 2), ((1,) * 5, 4, 2), ((1,) * 6, 5, 2), ((1,) * 7, 5, 3), ((1, 1, 1), 3, 1), ((5, 1, 1, 1), 6, 3)],
)
def test_powers_of_sets(powers: tuple[int, ...], quorum: int, third: int) -> None:
    found = Powers(powers, frozenset())
    assert next(filter(found.is_quorum, range(found.total + 1))) == quorum
    assert next(filter(found.is_third, range(found.total + 1))) == third


@pytest.mark.parametrize(
    ("n", "bitmap", "signers"),
    [
        (4, b"\x0d", (0, 2, 3)),
        (4, b"\x10", None),
        (4, b"", None),
        (8, b"\x80", (7,)),
        (9, b"\1\1", (0, 8)),
        (9, b"\1", None),
    ],
)
def test_bitmaps(n: int, bitmap: bytes, signers: tuple[int, ...] | None) -> None:
    assert Powers((1,) * n, frozenset()).signers(bitmap) == signers


# ---- what they hear --------------------------------------------------------------------------------------------------


class Listener(Checker):
    """Writes down what it hears."""

    invariant = "none"

    def __init__(self) -> None:
        self.heard: list[str] = []


def _hearing(name: str) -> Any:
    return lambda listener, *_: listener.heard.append(name)


for _name in HOOKS:
    setattr(Listener, _name, _hearing(_name))


@pytest.fixture
def stage() -> Stage:
    return Stage(Listener())


def heard(stage: Stage) -> list[str]:
    """What it has heard since last asked."""
    (listener,) = stage.observer.checkers
    assert isinstance(listener, Listener)
    found, listener.heard = listener.heard, []
    return found


def test_byzantine_validators_are_not_heard_of(stage: Stage) -> None:
    assert heard(stage) == ["started"] * 3
    stage.votes((3,), stage.proposes(stage.block(3)))
    stage.writes(3)
    stage.steps(3)
    stage.executes(3)
    stage.restarts(3)
    assert heard(stage) == []


def test_a_broadcast_is_one_message(stage: Stage) -> None:
    vote = stage.vote(0, stage.proposes(stage.block(3)))
    heard(stage)
    for _ in range(3):
        stage.sends(0, vote)
    assert heard(stage) == ["voted", "sent"]


def test_what_is_signed_counts_when_it_is_durable_and_in_order(stage: Stage) -> None:
    block = stage.proposes(stage.block(3))
    heard(stage)
    stage.steps(
        0, fx.Send(1, stage.vote(0, block)), fx.Broadcast(stage.timeout(0, 3)), fx.Send(2, stage.vote(0, block))
    )
    assert heard(stage) == ["stepped"]
    stage.writes(0)
    assert heard(stage) == ["voted", "timed_out", "persisted"]
    stage.sends(0, stage.vote(0, block))
    assert heard(stage) == ["sent"]


def test_a_certificate_is_possible_once(stage: Stage) -> None:
    block = stage.proposes(stage.block(3))
    heard(stage)
    stage.votes((0, 1, 2), block)
    assert heard(stage) == ["voted", "sent", "voted", "certifiable", "sent", "voted", "sent"]


# ---- real runs -------------------------------------------------------------------------------------------------------


def test_all_invariants_have_a_checker() -> None:
    assert {checker.invariant for checker in checkers().checkers} == INVARIANTS
    assert {checker.invariant for checker in checkers(control=True).checkers} >= {"I1", "I3", "I8", "I9", "I16"}


@pytest.mark.parametrize("mode", list(Mode))
def test_a_good_run_breaks_nothing(mode: Mode) -> None:
    suite = checkers()
    result = World(Setup(protocol=mode, duration_us=500_000, wire=mode is Mode.JOLTEON), observers=[suite]).run()
    assert result.violations == []
    assert result.commits > 10


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("life", ["safety", "liveness"])
def test_a_bad_run_breaks_nothing(mode: Mode, life: Any) -> None:
    setup = Setup(seed=11, protocol=mode, byzantine=(2,), mode=life, duration_us=500_000)
    result = simulate.simulate(setup)
    assert result.violations == []


class Silent(Observer):
    """Watches nothing."""


def test_watching_changes_nothing() -> None:
    setup = Setup(seed=3, duration_us=300_000)
    watched, alone = (World(setup, observers=[observer]).run() for observer in (checkers(), Silent()))
    assert watched.trace_hash == alone.trace_hash


@pytest.mark.parametrize("mode", list(Mode))
def test_a_fork_is_noted_and_its_authors_are_named(mode: Mode) -> None:
    case = simulate.split_case(Setup(seed=2, protocol=mode, byzantine=(0, 2), duration_us=300_000))
    result = simulate.run(case)
    assert result.violations == []
    assert result.coverage["fork"] == 1
