"""Timers: backoff by the last commit, its cap, rebroadcast, silence."""

from __future__ import annotations

from hotstuff.consensus.pacemaker import (
    BACKOFF_SLACK_VIEWS,
    BACKOFF_STEPS_MAX,
    GROWTH_1024,
    REBROADCAST_MAX_US,
    SUSPECT_DIVISOR,
    SUSPECT_PARDON_TURNS,
    Pacemaker,
    Suspects,
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


def test_a_suspect_gets_less_time_while_commits_go_on_and_the_whole_time_otherwise() -> None:
    first = 3 + BACKOFF_SLACK_VIEWS
    assert at(first).timeout_us(0, suspect=True) == BASE // SUSPECT_DIVISOR
    assert at(first + 1).timeout_us(0, suspect=True) == at(first + 1).timeout_us(0)


def test_a_leader_is_suspect_from_a_failed_view_to_a_certified_one() -> None:
    suspects = Suspects(4)
    view = 4 * SUSPECT_PARDON_TURNS + 4
    assert not suspects.suspect(2, view)
    suspects.failed(2)
    assert suspects.suspect(2, view)
    assert not suspects.suspect(1, view)
    suspects.succeeded(2)
    assert not suspects.suspect(2, view)


def test_a_suspect_gets_the_whole_time_now_and_then_so_that_it_can_clear_itself() -> None:
    suspects = Suspects(4)
    suspects.failed(2)
    turns = [suspects.suspect(2, 4 * turn + 2) for turn in range(2 * SUSPECT_PARDON_TURNS)]
    assert turns.count(False) == 2
    assert turns[0] is turns[SUSPECT_PARDON_TURNS] is False


def test_a_new_view_has_its_own_time() -> None:
    pacemaker = at(1)
    pacemaker.keep(running=True, last_commit_view=0, now_us=0)
    pacemaker.hold_proposal(0, 0)
    pacemaker.enter(2)
    assert (pacemaker.view_deadline_us, pacemaker.propose_from_us) == (None, None)
    pacemaker.keep(running=True, last_commit_view=0, now_us=500)
    assert pacemaker.view_deadline_us == 500 + BASE
