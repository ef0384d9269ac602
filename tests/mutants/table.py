"""All mutants."""

from __future__ import annotations

from mutants import voting
from mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (*voting.MUTANTS,)
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
