"""Timers: backoff by the last commit, its cap, rebroadcast, silence."""

from __future__ import annotations

from hotstuff.consensus.pacemaker import (
    BACKOFF_SLACK_VIEWS,
    BACKOFF_STEPS_MAX,
    GROWTH_1024,
    REBROADCAST_MAX_US,
    Pacemaker,
)

BASE = 1_000_000


def at(view: int) -> Pacemaker:
    pacemaker = Pacemaker(BASE, 3)
    pacemaker.enter(view)
    return pacemaker


def test_views_within_the_slack_take_the_base_timeout() -> None:
    assert at(3 + BACKOFF_SLACK_VIEWS).timeout_us(0) == BASE
    assert at(100 + 3 + BACKOFF_SLACK_VIEWS).timeout_us(100) == BASE


def test_each_further_view_without_a_commit_takes_half_as_long_again() -> None:
    first = 3 + BACKOFF_SLACK_VIEWS
    lengths = [at(first + k).timeout_us(0) for k in range(4)]
    assert lengths == [BASE, BASE * 3 // 2, BASE * 9 // 4, BASE * 27 // 8]


def test_the_backoff_is_capped() -> None:
    cap = BASE * GROWTH_1024[BACKOFF_STEPS_MAX] // 1024
    assert at(3 + BACKOFF_SLACK_VIEWS + BACKOFF_STEPS_MAX).timeout_us(0) == cap
    assert at(10**15).timeout_us(0) == cap
    assert 129 * BASE < cap < 130 * BASE


def test_a_commit_resets_the_backoff() -> None:
    pacemaker = at(1000)
    assert pacemaker.timeout_us(0) > BASE
    assert pacemaker.timeout_us(997) == BASE


def test_a_commit_above_the_view_is_no_negative_backoff() -> None:
    assert at(5).timeout_us(50) == BASE


def test_no_timer_runs_without_work() -> None:
    pacemaker = at(1)
    pacemaker.keep(running=True, last_commit_view=0, now_us=7)
    assert pacemaker.view_deadline_us == 7 + BASE
    pacemaker.keep(running=True, last_commit_view=0, now_us=500)
    assert pacemaker.view_deadline_us == 7 + BASE, "more work does not prolong the view"
    pacemaker.keep(running=False, last_commit_view=0, now_us=500)
    assert pacemaker.view_deadline_us is None


def test_a_new_view_stops_both_timers() -> None:
    pacemaker = at(1)
    pacemaker.keep(running=True, last_commit_view=0, now_us=0)
    pacemaker.timed_out(0, 0)
    pacemaker.enter(2)
    assert (pacemaker.view_deadline_us, pacemaker.rebroadcast_us) == (None, None)


def test_a_timeout_is_sent_again_soon_whatever_the_backoff() -> None:
    short, long = at(1), at(10**6)
    short.timed_out(0, 5)
    long.timed_out(0, 5)
    assert (short.view_deadline_us, short.rebroadcast_us) == (None, 5 + BASE)
    assert long.rebroadcast_us == 5 + REBROADCAST_MAX_US
