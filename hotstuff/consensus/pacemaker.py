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

    def timeout_us(self, last_commit_view: int) -> int:
        """Length of the current view: base * 1.5^k, k = views without a commit beyond the normal depth."""
        excess = self.view - last_commit_view - self.commit_depth - BACKOFF_SLACK_VIEWS
        steps = min(max(excess, 0), BACKOFF_STEPS_MAX)
        return self.base_timeout_us * GROWTH_1024[steps] // 1024

    def enter(self, view: int) -> None:
        """A new view: no timer runs until there is something to wait for."""
        self.view = view
        self.view_deadline_us = None
        self.rebroadcast_us = None

    def keep(self, *, running: bool, last_commit_view: int, now_us: int) -> None:
        """Run the view timer while there is work, and not while the cluster is idle."""
        if not running:
            self.view_deadline_us = None
        elif self.view_deadline_us is None:
            self.view_deadline_us = now_us + self.timeout_us(last_commit_view)

    def timed_out(self, last_commit_view: int, now_us: int) -> None:
        """Our timeout of this view was sent; send it again until the view ends."""
        self.view_deadline_us = None
        self.rebroadcast_us = now_us + min(self.timeout_us(last_commit_view), REBROADCAST_MAX_US)
