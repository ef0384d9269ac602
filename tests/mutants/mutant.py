"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["safety", "liveness", "bounds", "blame"]
"""What goes wrong without the rule: agreement or durability; progress; memory and work; evidence."""


@dataclass(frozen=True)
class Mutant:
    """The code with one change in it.

    `where`: module below `hotstuff` and a name in it ("consensus.safety:Safety.vote"); `old` stands exactly once in
    that definition and becomes `new`. `kill`: pytest ids below `tests/`; each of them must fail (of a parametrized
    test without brackets, at least one case). `rule`: the section of the protocol's rules, a number of the limits in
    `docs/design.md`, or what the module itself promises. `also`: what else was seen to find it; not run here.
    """

    name: str
    kind: Kind
    rule: str
    where: str
    old: str
    new: str
    kill: tuple[str, ...]
    also: str = ""

    @property
    def module(self) -> str:
        """Full name of the module that is changed."""
        return "hotstuff." + self.where.partition(":")[0]

    @property
    def attribute(self) -> str:
        """The definition in it, with dots for members of a class."""
        return self.where.partition(":")[2]
