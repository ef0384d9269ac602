from __future__ import annotations

from hotstuff.consensus.effects import Received, Tick
from hotstuff.node.inbox import PEER_BYTES, PEER_EVENTS, Inbox
from hotstuff.types.messages import RecoveryRequest

MESSAGE = RecoveryRequest()


def test_first_in_first_out_over_all_sources() -> None:
    inbox = Inbox()
    inbox.put_message(1, MESSAGE, 5)
    inbox.put(Tick())
    inbox.put_message(2, MESSAGE, 5)
    assert [inbox.take() for _ in range(3)] == [Received(1, MESSAGE), Tick(), Received(2, MESSAGE)]
    assert len(inbox) == 0


def test_one_peers_flood_is_cut_and_costs_nobody_else() -> None:
    inbox = Inbox()
    assert [inbox.put_message(1, MESSAGE, 1) for _ in range(PEER_EVENTS + 3)].count(False) == 3
    assert inbox.put_message(2, MESSAGE, 1)
    inbox.put(Tick())
    assert len(inbox) == PEER_EVENTS + 2


def test_bytes_are_bounded_too() -> None:
    inbox = Inbox()
    assert inbox.put_message(1, MESSAGE, PEER_BYTES)
    assert not inbox.put_message(1, MESSAGE, 1)


def test_what_was_taken_makes_room() -> None:
    inbox = Inbox()
    for _ in range(3):
        assert inbox.put_message(1, MESSAGE, PEER_BYTES)
        assert not inbox.put_message(1, MESSAGE, 1)
        inbox.take()


def test_our_own_messages_to_ourselves_are_never_dropped() -> None:
    inbox = Inbox()
    for _ in range(PEER_EVENTS + 1):
        inbox.put(Received(0, MESSAGE))
    for _ in range(PEER_EVENTS + 1):
        inbox.take()
    assert inbox.put_message(0, MESSAGE, PEER_BYTES)
