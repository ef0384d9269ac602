"""All mutants, and those that show that the harness can tell."""

from __future__ import annotations

from mutants import blame, certificates, chain, durability, messages, payload, views, voting
from mutants.mutant import Mutant

SECTIONS: dict[str, tuple[Mutant, ...]] = {
    "Voting, locking, committing": voting.MUTANTS,
    "Power, shares, certificates": certificates.MUTANTS,
    "What a message must be": messages.MUTANTS,
    "Views, timers, leaders": views.MUTANTS,
    "Blocks: learned, committed, fetched": chain.MUTANTS,
    "Batches": payload.MUTANTS,
    "Durable before visible": durability.MUTANTS,
    "Evidence and divergence": blame.MUTANTS,
}
MUTANTS: tuple[Mutant, ...] = tuple(mutant for section in SECTIONS.values() for mutant in section)


def _control(name: str, old: str, new: str, *kill: str) -> Mutant:
    """A change of the rule that a view is voted in once."""
    test = "consensus/test_safety.py::test_one_vote_per_view_also_for_the_same_block"
    return Mutant(f"control: {name}", "safety", "-", "consensus.safety:phase_not_voted", old, new, kill or (test,))


CANARY = _control("nothing changed", "return (", "return (")
PARTLY = _control(
    "one of its tests does not notice",
    ") > (",
    ") >= (",
    "consensus/test_safety.py::test_one_vote_per_view_also_for_the_same_block",
    "consensus/test_safety.py::test_a_view_is_closed_by_the_timeout",
)
BROKEN = (
    _control("a name that does not exist", "return (", "return missing and ("),
    _control("no Python", "return (", "return return ("),
    _control("nothing to change", "return 7", "return 8"),
    _control("a test that does not exist", ") > (", ") >= (", "consensus/test_safety.py::test_nothing"),
    _control("a test file that does not exist", ") > (", ") >= (", "consensus/test_nothing.py"),
    _control("a fixture that fails", ") > (", ") >= (", "mutants/controls.py::test_with_a_broken_fixture"),
    _control("the mutant is not in what is tested", ") > (", ") >= (", "types/test_encoding.py"),
)
BY_NAME = {mutant.name: mutant for mutant in (*MUTANTS, CANARY, PARTLY, *BROKEN)}
