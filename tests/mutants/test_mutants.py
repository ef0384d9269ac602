"""Every mutant is killed by the tests that its table names; nothing else passes for that."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from mutants.mutant import Mutant
from mutants.mutation import mutated, source_of
from mutants.readme import README, text
from mutants.table import BROKEN, CANARY, MUTANTS, PARTLY
from mutants.trial import TESTS, Verdict, try_mutant, try_nothing

KILLERS = sorted({killer for mutant in MUTANTS for killer in mutant.kill})
FOLDERS = sorted({killer.partition("/")[0] for killer in KILLERS})

# Where every function that decides something must have a mutant, and which of them need none.
GUARDED = ("safety", "rules", "validity", "verifier", "recovery", "desk", "collector", "pacemaker", "leaders", "tree")
GUARDED += ("sync", "replica", "divergence")
EXCEPT = {
    "safety:SafetyRecord.encode": "options are written as the types say; what is lost in reading has mutants",
    "tree:Node.justify": "for a caller that has made sure that there is one",
    "sync:Sync.__init__": "no rule",
    "sync:Sync.wants": "no rule",
    "sync:Sync.catching_up": "no rule",
    "sync:Sync.lowest_missing": "see Replica._abandon",
    "replica:Replica._learn_commit": "see Replica._commits_more",
    "replica:Replica._tell_leader": "telling ourselves is harmless",
    "replica:Replica._try_commit": "nothing to commit",
    "replica:Replica._resend_timeout": "an old timeout again is harmless: its bytes are the same",
    "replica:Replica._signers": "nobody signed the genesis certificate",
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_without_a_mutant_every_killer_passes(folder: str) -> None:
    trial = try_nothing([killer for killer in KILLERS if killer.startswith(f"{folder}/")])
    assert trial.verdict is Verdict.SURVIVED, trial.why


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_killed(mutant: Mutant) -> None:
    trial = try_mutant(mutant)
    assert trial.verdict is Verdict.KILLED, f"{mutant.where}: {mutant.old!r} -> {mutant.new!r}: {trial.why}"


# ---- the harness


@pytest.mark.parametrize("mutant", [CANARY, PARTLY], ids=lambda mutant: mutant.name)
def test_a_mutant_that_some_test_does_not_notice_survives(mutant: Mutant) -> None:
    assert try_mutant(mutant).verdict is Verdict.SURVIVED


@pytest.mark.parametrize("mutant", BROKEN, ids=lambda mutant: mutant.name)
def test_a_mutant_that_does_not_run_is_not_killed(mutant: Mutant) -> None:
    assert try_mutant(mutant).verdict is Verdict.BROKEN


@pytest.mark.parametrize("killer", ["test_that_always_fails", "test_with_a_broken_fixture", "test_nothing"])
def test_a_killer_that_fails_anyway_or_does_not_exist_is_noticed(killer: str) -> None:
    assert try_nothing([KILLERS[0], f"mutants/controls.py::{killer}"]).verdict is Verdict.BROKEN


# ---- the table


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []


def test_every_change_is_one() -> None:
    for mutant in MUTANTS:
        source = source_of(mutant)
        assert mutated(source, mutant) != source, mutant.name


def test_no_two_mutants_are_the_same() -> None:
    changes = Counter((mutant.where, mutant.old, mutant.new) for mutant in MUTANTS)
    assert [change for change, count in changes.items() if count > 1] == []


def test_every_function_with_a_condition_has_a_mutant() -> None:
    touched = {mutant.where for mutant in MUTANTS}
    untouched = {
        f"{module}:{name}"
        for module in GUARDED
        for name in conditional(TESTS.parent / "hotstuff" / "consensus" / f"{module}.py")
        if f"consensus.{module}:{name}" not in touched
    }
    assert untouched == EXCEPT.keys()


def conditional(path: Path) -> list[str]:
    """Functions and methods that decide something."""
    found: list[str] = []

    def walk(body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                walk(node.body, f"{owner}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                decides = (ast.If, ast.IfExp, ast.Compare, ast.BoolOp, ast.While)
                if any(isinstance(part, decides) for part in ast.walk(node)):
                    found.append(owner + node.name)

    walk(ast.parse(path.read_text()).body, "")
    return found


def test_the_readme_is_the_table() -> None:
    assert README.read_text() == text(), "python -m mutants, in tests/"
