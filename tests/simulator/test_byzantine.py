"""How strategies stand between a core and the network, whatever they do."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from attack import attack, strategy

from hotstuff.simulator.byzantine import MAX_ACTS, MAX_COPIES, WINDOW_US, Outgoing, Strategy, decoded
from hotstuff.types.block import payload_root
from hotstuff.types.messages import ChainRequest, Message, Proposal, RecoveryRequest, Vote


class Marker(Strategy):
    """Adds a request for the height `mode` to each vote, and to each mark of those before it."""

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        yield to, message
        if isinstance(message, (Vote, ChainRequest)):
            yield to, ChainRequest(int(self.mode))


class Flood(Strategy):
    """Far too much of everything."""

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        return [(to, message)] * 1000

    def acting(self) -> Iterable[Outgoing]:
        return [(to, RecoveryRequest()) for to in self.others] * 1000


class Deaf(Strategy):
    """Its core hears nothing."""

    def receiving(self, peer: int, message: Message) -> Iterable[Message]:
        return ()


class Unreadable(Strategy):
    """Proposals whose bytes nobody can decode."""

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, Proposal):
            header = replace(
                message.block.header, payload_root=payload_root(()) if message.block.payload else bytes(32)
            )
            message = replace(message, block=replace(message.block, header=header))
        return ((to, message),)


def test_the_default_strategy_changes_nothing() -> None:
    plain, masked = attack({1: []}, seconds=0.3), attack({1: [Strategy(random.Random(1))]}, seconds=0.3)
    assert plain.result.commits == masked.result.commits > 10
    assert [lie.message for lie in plain.seen.lies] == [lie.message for lie in masked.seen.lies]


def test_what_leaves_one_strategy_goes_through_those_after_it() -> None:
    run = attack({1: [Marker(random.Random(1), "5"), Marker(random.Random(1), "7")]}, seconds=0.1)
    votes = len(run.lies(Vote))
    marks = [message.from_height for _, message in run.lies(ChainRequest)]
    assert votes > 0
    assert marks.count(5) == votes, "made by the first, once for each vote"
    assert marks.count(7) == 2 * votes, "made by the second, for each vote and for each mark of the first"


def test_what_comes_out_of_nothing_goes_through_the_strategies_after_it_only() -> None:
    silent = strategy("vote-withholder", "all")
    assert not attack({1: [strategy("double-voter"), silent]}, seconds=0.2).lies(Vote)
    assert attack({1: [silent, strategy("double-voter")]}, seconds=0.2).lies(Vote)


def test_output_is_bounded_in_time_and_for_each_message() -> None:
    run = attack({1: [Flood(random.Random(1))]}, seconds=0.1)
    windows = Counter(lie.at_us // WINDOW_US for lie in run.seen.lies if isinstance(lie.message, RecoveryRequest))
    votes = Counter(run.lies(Vote))
    assert max(windows.values()) == MAX_ACTS
    assert max(votes.values()) == MAX_COPIES
    run.assert_harmless()


def test_a_node_may_be_kept_from_hearing() -> None:
    run = attack({1: [Deaf(random.Random(1))]}, seconds=0.5)
    assert not run.world.nodes[1].disk.executed
    run.assert_harmless()


def test_what_nobody_can_decode_does_not_arrive() -> None:
    run = attack({1: [Unreadable(random.Random(1))]}, seconds=0.5)
    assert run.world.coverage["undecodable"] > 0
    assert not run.lies(Proposal)
    run.assert_harmless()


def test_what_is_decoded_is_what_was_sent() -> None:
    run = attack({1: []}, seconds=0.1)
    for word in run.seen.words:
        again = decoded(word.message)
        assert again is not None and bytes(again.encoding) == bytes(word.message.encoding)


def test_the_coalition_remembers_what_any_member_sees() -> None:
    run = attack({1: [], 2: []}, nodes=7, seconds=0.3)
    proposals = [proposal for _, proposal in run.words(Proposal) if proposal.block.header.view < run.result.views - 2]
    assert len(proposals) > 100
    assert all(proposal.block.id in run.forger.blocks for proposal in proposals)
    heard = {(vote.signer, vote.view) for to, vote in run.words(Vote) if to in (1, 2)}
    remembered = {(i, view) for view, slots in run.forger.votes.items() for votes in slots.values() for i in votes}
    recent = {vote for vote in heard if run.result.views - 20 < vote[1] < run.result.views - 2}
    assert len(recent) > 20 and recent <= remembered


def test_the_same_seed_gives_the_same_attack() -> None:
    names = ("mutator", "equivocating-leader", "ack-liar")
    runs = [attack({1: [strategy(name, seed=seed) for name in names]}, seconds=0.4) for seed in (3, 3, 4)]
    lies = [[(lie.at_us, lie.to, bytes(lie.message.encoding)) for lie in run.seen.lies] for run in runs]
    assert lies[0] == lies[1] != lies[2]
