"""All mutants."""

from __future__ import annotations

from mutants import certificates, chain, messages, views, voting
from mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (*voting.MUTANTS, *certificates.MUTANTS, *messages.MUTANTS, *views.MUTANTS, *chain.MUTANTS)
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
