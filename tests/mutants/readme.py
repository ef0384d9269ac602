"""The table of mutants for people."""

from __future__ import annotations

from pathlib import Path

from mutants.mutant import Mutant
from mutants.table import MUTANTS, SECTIONS

README = Path(__file__).with_name("README.md")

INTRODUCTION = """\
# Mutants

Each line is the code with one rule taken out of it or one number wrong, and the tests that fail on it. All {count} are
killed: `pytest tests/mutants -n 2` tries them all, each in a process of its own, and fails if one survives, if one
does not even run, or if a test that should kill one fails without it, too. Some controls show that the harness can
tell: with a change that changes nothing, it must say "survived".

    cd tests && python -m mutants                   try all, print what became of each, write this file
    cd tests && python -m mutants lock "chain page" only those with this in their name or place
    cd tests && python -m mutants --readme          write this file

A mutant is a text that stands exactly once in one definition, and what stands there instead (`mutant.py`): the module
is changed while it is imported, so whoever uses it gets the mutant. Code that has moved on makes its mutant fail, and
says so. Who changes a rule changes its mutants.

*What breaks*: agreement or durability (safety), progress (liveness), memory and work (bounds), or evidence (blame).
*Rule*: a section of the protocol's rules ("12" is its list of subtle errors), or what `docs/design.md` promises.
*Also*: random schedules or simulator seeds in which a run with the mutant was seen to break, not tried here.
"""


def text() -> str:
    """The whole file."""
    parts = [INTRODUCTION.format(count=len(MUTANTS))]
    for title, mutants in SECTIONS.items():
        parts.append(f"## {title} ({len(mutants)})\n")
        parts.append("| mutant | what breaks | rule | where | killed by | also |")
        parts.append("|---|---|---|---|---|---|")
        parts += [_row(mutant) for mutant in mutants]
        parts.append("")
    return "\n".join(parts)


def _row(mutant: Mutant) -> str:
    killers = "<br>".join(f"`{_short(killer)}`" for killer in mutant.kill)
    where = mutant.where.replace(":", " ")
    return f"| {mutant.name} | {mutant.kind} | {mutant.rule} | `{where}` | {killers} | {mutant.also} |"


def _short(killer: str) -> str:
    """The file without its folder is enough: names of test files are unique."""
    return killer.partition("/")[2].replace(".py::", "::")
