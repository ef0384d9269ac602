"""Coming back without a safety record (rule 2.4).

A replica that lost its record may have voted or timed out in any view up to now. It asks the others how far they are:
the view it lost was entered with a certificate made by a quorum, and two thirds of the power answering now share an
honest member with that quorum, so its highest view is at most one above the highest answer. A QC above that is above
everything it can have signed, and above every lock it can have had; with it, it may take part again.
"""

from __future__ import annotations

from hotstuff.consensus.effects import Effect, Send
from hotstuff.types.certificates import QC
from hotstuff.types.messages import RecoveryRequest
from hotstuff.types.validators import ValidatorSet


class Recovery:
    """Collects the answers while the safety record is passive."""

    def __init__(self, index: int, validators: ValidatorSet, effects: list[Effect]) -> None:
        self._index = index
        self._validators = validators
        self._effects = effects
        self._views: dict[int, int] = {}
        self.threshold_view: int | None = None

    def ask(self, peer: int) -> None:
        """Ask one peer, unless it has answered or enough others have."""
        if self.threshold_view is None and peer not in self._views:
            self._effects.append(Send(peer, RecoveryRequest()))

    def answered(self, peer: int, view: int) -> None:
        """The first answer of each peer counts. The threshold is fixed by the first two thirds."""
        if peer == self._index or peer in self._views or self.threshold_view is not None:
            return
        self._views[peer] = view
        if 3 * self._validators.power(self._views) >= 2 * self._validators.total_power:
            self.threshold_view = 1 + max(self._views.values())

    def may_rejoin(self, high_qc: QC) -> bool:
        """Is the highest QC above everything that the lost record can hold?"""
        return self.threshold_view is not None and high_qc.view > self.threshold_view
