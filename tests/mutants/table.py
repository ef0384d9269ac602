"""All mutants."""

from __future__ import annotations

from mutants import blame, certificates, chain, durability, messages, payload, views, voting
from mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *voting.MUTANTS,
    *certificates.MUTANTS,
    *messages.MUTANTS,
    *views.MUTANTS,
    *chain.MUTANTS,
    *payload.MUTANTS,
    *durability.MUTANTS,
    *blame.MUTANTS,
)
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
