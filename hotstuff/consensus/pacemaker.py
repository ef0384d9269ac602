"""How long a view may take.

The view itself is not kept here: it follows from the highest certificates (`SafetyRecord.current_view`) and from
nothing else, so no claim of a peer can move it. This is only the clock beside it.

Backoff is a function of the view and the last committed view, not a private counter: replicas with the same
certificates wait equally long, also right after a restart. It is reset by a *commit*; if a QC were enough, an
adversary could allow lone QCs for ever and keep every timer at its minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

# Views without a commit before timers grow: a few crashed leaders in a row are no reason to slow down.
BACKOFF_SLACK_VIEWS = 6
# 1.5^12 = 130: liveness needs base_timeout * 130 >= 5 network delays; without a cap, one long partition would make
# the next failed leader cost hours.
BACKOFF_STEPS_MAX = 12
# Growth 1.5^k as integer 1024ths, so that every platform computes the same.
GROWTH_1024: tuple[int, ...] = tuple(1024 * int(3**k) // int(2**k) for k in range(BACKOFF_STEPS_MAX + 1))
# A leader whose last view failed gets this fraction of the time at its next turns, so that a crashed replica costs
# little; a view of a healthy network takes far less.
SUSPECT_DIVISOR = 8
# Every so many turns it gets the whole time again: a leader that is only slow must be able to clear itself.
SUSPECT_PARDON_TURNS = 8
# hotstuff2: after a failed view the leader waits for a third of the view's length. A view is at least six network
# delays long: two for this wait (everybody enters, everybody's highest QC arrives), four for proposal, votes, QC and
# reserve.
LEADER_WAIT_DIVISOR = 3
# A timeout that was lost is sent again this often at the latest.
REBROADCAST_MAX_US = 2_000_000


@dataclass
class Pacemaker:
    """Deadlines of the current view, in microseconds of the driver's monotonic clock."""

    base_timeout_us: int
    commit_depth: int
    view: int = 0
    view_deadline_us: int | None = None
    rebroadcast_us: int | None = None
    propose_from_us: int | None = None

    def timeout_us(self, last_commit_view: int, *, suspect: bool = False) -> int:
        """Length of the current view: base * 1.5^k, k = views without a commit beyond the normal depth.

        A suspect's view is shorter, but only while commits go on (k = 0): when the whole network is slow, nobody is
        cut short. Timers are local, so replicas may suspect differently without harm.
        """
        excess = self.view - last_commit_view - self.commit_depth - BACKOFF_SLACK_VIEWS
        steps = min(max(excess, 0), BACKOFF_STEPS_MAX)
        if suspect and steps == 0:
            return self.base_timeout_us // SUSPECT_DIVISOR
        return self.base_timeout_us * GROWTH_1024[steps] // 1024

    def enter(self, view: int) -> None:
        """A new view: no timer runs until there is something to wait for."""
        self.view = view
        self.view_deadline_us = None
        self.rebroadcast_us = None
        self.propose_from_us = None

    def hold_proposal(self, last_commit_view: int, now_us: int) -> None:
        """We lead this view and must hear of every honest lock first: wait as long as that can take (rule 3.4)."""
        self.propose_from_us = now_us + self.timeout_us(last_commit_view) // LEADER_WAIT_DIVISOR

    def may_propose(self, now_us: int) -> bool:
        """Is there no wait, or is it over?"""
        if self.propose_from_us is not None and self.propose_from_us <= now_us:
            self.propose_from_us = None
        return self.propose_from_us is None

    def keep(self, *, running: bool, last_commit_view: int, now_us: int, suspect: bool = False) -> None:
        """Run the view timer while there is work, and not while the cluster is idle."""
        if not running:
            self.view_deadline_us = None
        elif self.view_deadline_us is None:
            self.view_deadline_us = now_us + self.timeout_us(last_commit_view, suspect=suspect)

    def timed_out(self, last_commit_view: int, now_us: int) -> None:
        """Our timeout of this view was sent; send it again until the view ends."""
        self.view_deadline_us = None
        self.rebroadcast_us = now_us + min(self.timeout_us(last_commit_view), REBROADCAST_MAX_US)


class Suspects:
    """Leaders whose last view failed, as far as this replica saw."""

    def __init__(self, validators: int) -> None:
        self._validators = validators
        self._failed: set[int] = set()

    def failed(self, leader: int) -> None:
        """A view of this leader ended in a TC."""
        self._failed.add(leader)

    def succeeded(self, leader: int) -> None:
        """A block of this leader was certified."""
        self._failed.discard(leader)

    def suspect(self, leader: int, view: int) -> bool:
        """Does this leader get less time in this view?"""
        pardoned = view // self._validators % SUSPECT_PARDON_TURNS == 0
        return leader in self._failed and not pardoned
