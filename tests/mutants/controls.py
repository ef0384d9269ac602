"""Tests that fail whatever the code is: what must not pass for a kill. Not collected, because of the file's name."""

from __future__ import annotations

import pytest


def test_that_always_fails() -> None:
    raise AssertionError("as always")


@pytest.fixture
def broken() -> None:
    raise AssertionError("not the test itself")


@pytest.mark.usefixtures("broken")
def test_with_a_broken_fixture() -> None:
    from hotstuff.consensus import safety

    assert safety.VOTE_RULES
