from __future__ import annotations

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from hotstuff.app.ordered_log import OrderedLog

ROOTS = st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, 1000)), max_size=20)


def test_the_state_is_a_chain_of_hashes() -> None:
    log = OrderedLog()
    assert (log.state, log.executed) == (bytes(32), 0)
    expected = bytes(32)
    for root, count in ((b"\1" * 32, 5), (b"\2" * 32, 7)):
        log.execute(root, count)
        expected = sha256(b"PHS1/state".ljust(16, b"\0") + expected + root).digest()
        assert log.state == expected
    assert log.executed == 12


@given(ROOTS, st.integers(0, 20))
def test_a_log_goes_on_from_its_stored_state(roots: list[tuple[bytes, int]], at: int) -> None:
    whole, resumed = OrderedLog(), OrderedLog()
    for i, (root, count) in enumerate(roots):
        if i == at:
            resumed = OrderedLog(resumed.state, resumed.executed)
        whole.execute(root, count)
        resumed.execute(root, count)
    assert (whole.state, whole.executed) == (resumed.state, resumed.executed)


@given(ROOTS)
def test_order_matters(roots: list[tuple[bytes, int]]) -> None:
    forwards, backwards = OrderedLog(), OrderedLog()
    for root, count in roots:
        forwards.execute(root, count)
    for root, count in reversed(roots):
        backwards.execute(root, count)
    ordered = [root for root, _ in roots]
    assert (forwards.state == backwards.state) == (ordered == ordered[::-1])
    assert forwards.executed == backwards.executed
