"""Turns by power: exact shares, and always three good leaders in a row."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotstuff.consensus.leaders import MAX_SLOTS, RoundRobin, Weighted

POWERS = st.lists(st.integers(1, 30), min_size=1, max_size=7)


def table(powers: list[int], views: int) -> list[int]:
    leaders = Weighted(powers)
    return [leaders.leader(view) for view in range(views)]


@pytest.mark.parametrize("n", [1, 4, 7, 100])
@pytest.mark.parametrize("power", [1, 5, 10**17])
def test_equal_powers_take_equal_turns(n: int, power: int) -> None:
    assert table([power] * n, 3 * n) == list(range(n)) * 3


@given(POWERS)
def test_shares_are_exact(powers: list[int]) -> None:
    total = sum(powers)
    assert Counter(table(powers, total)) == dict(enumerate(powers))


@given(POWERS)
def test_turns_are_spread_evenly(powers: list[int]) -> None:
    """No validator waits much longer for its next turn than its share of the turns says."""
    total = sum(powers)
    turns = table(powers, 2 * total)
    for i, power in enumerate(powers):
        places = [view for view, leader in enumerate(turns) if leader == i]
        gaps = [later - earlier for earlier, later in pairwise(places)]
        assert max(gaps) <= 2 * total // power + len(powers)


@given(POWERS)
def test_any_faulty_minority_leaves_three_good_leaders_in_a_row(powers: list[int]) -> None:
    total = sum(powers)
    turns = table(powers, 2 * total + 3)
    for size in range(len(powers)):
        for faulty in combinations(range(len(powers)), size):
            if 3 * sum(powers[i] for i in faulty) < total:
                good = [leader not in faulty for leader in turns]
                assert any(all(good[view : view + 3]) for view in range(len(good) - 2))


@pytest.mark.parametrize("powers", [[1, 10**15], [10**15, 3 * 10**15 + 7, 11], list(range(10**12, 10**12 + 100))])
def test_large_powers_are_rounded_to_a_table_of_fixed_size(powers: list[int]) -> None:
    counts = Counter(table(powers, MAX_SLOTS))
    assert all(abs(counts[i] - power * MAX_SLOTS / sum(powers)) < 1 for i, power in enumerate(powers))
    assert table(powers, 2 * MAX_SLOTS)[MAX_SLOTS:] == table(powers, MAX_SLOTS)


def test_turns_by_power_and_spread() -> None:
    assert table([3, 1, 1, 1], 6) == [0, 0, 1, 2, 3, 0]
    assert table([1, 2], 6) == [1, 0, 1, 1, 0, 1]


def test_each_leader_has_several_views_in_a_row() -> None:
    for leaders in (Weighted([1, 1, 1], sticky=2), RoundRobin(3, sticky=2)):
        assert [leaders.leader(view) for view in range(8)] == [0, 0, 1, 1, 2, 2, 0, 0]


def test_only_the_ratio_of_powers_counts() -> None:
    # Not one assertion on two tables: pytest would look for their differences for minutes.
    same = table([10**15, 2 * 10**15], MAX_SLOTS + 9) == table([1, 2], MAX_SLOTS + 9)
    assert same
