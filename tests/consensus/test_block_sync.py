"""Missing blocks: asked for by hash with rotating sources, then in pages; nothing is asked for for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import Cluster
from forge import Forge

from hotstuff.consensus import replica as replica_module
from hotstuff.consensus import sync as sync_module
from hotstuff.consensus import tree as tree_module
from hotstuff.consensus.effects import Effect, Received, Send, Strike, Tick
from hotstuff.consensus.replica import Replica
from hotstuff.consensus.sync import MAX_BACKLOG_BLOCKS, MAX_ORPHANS, MAX_WANTED, Sync
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC
from hotstuff.types.messages import (
    BlockRequest,
    BlockResponse,
    ChainRequest,
    ChainResponse,
    Message,
    NewView,
    Proposal,
)

RETRY = 100


class World:
    def __init__(self, n: int = 4) -> None:
        self.forge = Forge(Cluster(4, fast=True))
        self.effects: list[Effect] = []
        self.sync = Sync(0, n, RETRY, self.effects)

    def asked(self, now_us: int, backlog: int = 0) -> list[tuple[int, Message]]:
        self.sync.ask(7, backlog, now_us)
        found = [(effect.to, effect.message) for effect in self.effects if isinstance(effect, Send)]
        self.effects.clear()
        return found


def test_signers_are_asked_first_and_then_everybody_in_turn() -> None:
    world = World(5)
    world.sync.want(b"a" * 32, (0, 3, 2), 8, 0)
    order = [world.asked(now)[0] for now in range(0, 5 * RETRY, RETRY)]
    assert [to for to, _ in order[:4]] == [3, 2, 1, 4]
    assert order[0][1] == BlockRequest(b"a" * 32, 7, 256)
    world.sync.want(b"b" * 32, (0, 3, 2), 9, 0)
    assert next(to for to, message in world.asked(0) if message.block_id == b"b" * 32) == 2, "another one each view"


def test_a_request_is_repeated_after_the_retry_time_and_not_before() -> None:
    world = World()
    world.sync.want(b"a" * 32, (1,), 9, 0)
    assert len(world.asked(0)) == 1
    assert world.asked(RETRY - 1) == []
    assert world.sync.deadline_us(0) == RETRY
    world.sync.want(b"a" * 32, (1,), 9, RETRY - 1)
    assert world.asked(RETRY - 1) == [], "wanting it again does not ask again"
    assert len(world.asked(RETRY)) == 1


def test_a_block_that_arrived_is_not_asked_for() -> None:
    world = World()
    world.sync.want(b"a" * 32, (), 9, 0)
    world.sync.forget(b"a" * 32)
    assert world.asked(0) == []
    assert world.sync.deadline_us(0) is None


def test_a_block_that_a_commit_left_behind_is_not_asked_for() -> None:
    world = World()
    world.sync.want(b"a" * 32, (), 9, 0)
    world.sync.want(b"b" * 32, (), 10, 0)
    world.sync.prune(5, 9)
    assert not world.sync.wants(b"a" * 32)
    assert world.sync.wants(b"b" * 32)


def test_what_is_wanted_and_held_is_bounded() -> None:
    world = World()
    for number in range(3 * MAX_WANTED):
        world.sync.want(number.to_bytes(32, "big"), (), 9, 0)
    assert len(world.asked(0)) == MAX_WANTED
    for number in range(2, MAX_ORPHANS + 10):
        world.sync.hold(world.forge.block(number, world.forge.genesis, number))
    assert len(world.sync._orphans) == MAX_ORPHANS


def test_held_blocks_come_out_with_their_parent_and_go_with_a_commit() -> None:
    world = World()
    blocks = [block for block, _ in world.forge.chain([1, 2, 3, 4])]
    for block in blocks[1:]:
        world.sync.hold(block)
    assert world.sync.children(blocks[0].id) == [blocks[1]]
    assert world.sync.children(blocks[0].id) == []
    world.sync.prune(3, 3)
    assert world.sync.children(blocks[1].id) == []
    assert world.sync.children(blocks[2].id) == [blocks[3]]


def test_wanting_a_held_block_asks_for_what_is_missing_below_it() -> None:
    world = World()
    blocks = [block for block, _ in world.forge.chain([1, 2, 3])]
    world.sync.hold(blocks[1])
    world.sync.hold(blocks[2])
    world.sync.want(blocks[2].id, (), 3, 0)
    assert [message.block_id for _, message in world.asked(0) if isinstance(message, BlockRequest)] == [blocks[0].id]


def test_the_chain_is_asked_for_after_everybody_was_asked_for_a_block_in_vain() -> None:
    world = World()
    world.sync.want(b"a" * 32, (), 9, 0)
    for now in (0, RETRY, 2 * RETRY):
        world.asked(now)
        assert not world.sync.catching_up
    assert any(isinstance(message, ChainRequest) for _, message in world.asked(3 * RETRY))


def test_the_chain_is_asked_for_from_one_peer_until_it_does_not_help() -> None:
    world = World()
    world.sync.start_chain((2,), 0)
    assert world.asked(0) == [(2, ChainRequest(8))]
    assert world.sync.awaits(2)
    assert not world.sync.awaits(1)
    world.sync.page_arrived(2, useful=True, now_us=5)
    assert not world.sync.awaits(2), "one page for one request"
    assert world.asked(5)[0][0] == 2
    world.sync.page_arrived(2, useful=False, now_us=6)
    assert world.asked(6)[0][0] == 1
    assert world.asked(6 + RETRY)[0][0] == 3, "no answer"


@pytest.mark.parametrize("answers", [True, False])
def test_the_chase_ends_after_a_whole_round_in_vain_whether_peers_answer_or_not(answers: bool) -> None:
    world = World()
    world.sync.start_chain((), 0)
    for now in (0, RETRY, 2 * RETRY):
        ((peer, _),) = world.asked(now)
        if answers:
            world.sync.page_arrived(peer, useful=False, now_us=now)
    assert world.asked(3 * RETRY) == []
    assert not world.sync.catching_up
    assert world.sync.deadline_us(0) is None


def test_a_useful_page_begins_a_new_round() -> None:
    world = World()
    world.sync.start_chain((), 0)
    for now, useful in enumerate((False, False, True, False, False)):
        ((peer, _),) = world.asked(now)
        world.sync.page_arrived(peer, useful=useful, now_us=now)
    assert world.sync.catching_up


@pytest.mark.parametrize("late", [1, 7])
def test_a_page_that_comes_after_the_retry_time_counts_also_when_the_chase_was_given_up(late: int) -> None:
    world = World()
    world.sync.start_chain((), 0)
    for now in range(0, late * RETRY, RETRY):
        world.asked(now)
    assert world.sync.awaits(1)
    world.sync.page_arrived(1, useful=True, now_us=late * RETRY)
    assert world.sync.catching_up
    assert world.asked(late * RETRY) != []


def test_a_useless_late_page_does_not_disturb_the_chase() -> None:
    world = World()
    world.sync.start_chain((), 0)
    world.asked(0)
    assert world.asked(RETRY)[0][0] == 2
    world.sync.page_arrived(1, useful=False, now_us=RETRY + 1)
    assert world.sync.awaits(2)
    assert world.asked(RETRY + 2) == []


def test_pages_wait_for_the_bodies_of_those_before() -> None:
    world = World()
    world.sync.start_chain((), 0)
    assert world.asked(0, backlog=MAX_BACKLOG_BLOCKS) == []
    assert world.sync.deadline_us(MAX_BACKLOG_BLOCKS) is None
    assert len(world.asked(0, backlog=MAX_BACKLOG_BLOCKS - 1)) == 1


def test_a_single_replica_has_nobody_to_ask() -> None:
    world = World(1)
    world.sync.want(b"a" * 32, (0,), 9, 0)
    world.sync.start_chain((0,), 0)
    assert world.asked(0) == []
    assert not world.sync.catching_up


# ---- the same in a cluster


def feed(cluster: Cluster, count: int, authors: list[int], step_ms: int = 30) -> None:
    for k in range(count):
        cluster.submit(authors[k % len(authors)])
        cluster.advance(step_ms)


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (replica_module, sync_module):
        monkeypatch.setattr(module, "MAX_PAGE_BLOCKS", 8)
    monkeypatch.setattr(tree_module, "RECENT_BLOCKS", 16)


def assert_caught_up(cluster: Cluster, lagging: int) -> None:
    replica = cluster.replicas[lagging]
    assert replica is not None
    assert cluster.ordered(lagging) == max(cluster.ordered(i) for i in range(len(cluster.members)))
    assert not replica._sync.catching_up
    assert replica.deadline_us() is None
    assert cluster.strikes == []
    votes = len([1 for what, signer, _ in cluster.signed if (what, signer) == ("vote", lagging)])
    cluster.submit(lagging)
    cluster.advance(10_000)
    assert len([1 for what, signer, _ in cluster.signed if (what, signer) == ("vote", lagging)]) > votes
    assert cluster.ordered(lagging) == max(cluster.ordered(i) for i in range(len(cluster.members)))


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.usefixtures("short_pages")
def test_a_replica_far_behind_catches_up_and_votes_again_l17(live: bool) -> None:
    cluster = Cluster(fast=True)
    cluster.kill(3)
    feed(cluster, 60, [0, 1, 2], 1500)
    cluster.start(3)
    if live:
        feed(cluster, 20, [0, 1, 2])
    cluster.advance(10_000)
    assert_caught_up(cluster, 3)


@pytest.mark.usefixtures("short_pages")
def test_catching_up_ends_although_one_replica_never_answers() -> None:
    cluster = Cluster(7, fast=True)
    cluster.kill(6)
    feed(cluster, 30, [0, 1, 2], 1500)
    cluster.kill(0)
    cluster.start(6)
    cluster.advance(20_000)
    assert_caught_up(cluster, 6)


def test_peers_that_restarted_still_bring_a_replica_up_to_date() -> None:
    cluster = Cluster(fast=True)
    feed(cluster, 3, [0, 1, 2])
    cluster.kill(3)
    feed(cluster, 10, [0, 1, 2], 1500)
    for i in range(3):
        cluster.kill(i)
    for i in range(3):
        cluster.start(i)
    cluster.advance(1000)
    cluster.start(3)
    cluster.advance(5000)
    assert_caught_up(cluster, 3)


@pytest.mark.parametrize("bad_page", ["stale", "foreign", "empty", "uncommitted"])
@pytest.mark.usefixtures("short_pages")
def test_a_peer_that_sends_useless_pages_is_not_asked_for_ever_s37(bad_page: str) -> None:
    cluster = Cluster(fast=True)
    cluster.kill(3)
    feed(cluster, 30, [0, 1, 2], 1500)
    honest = cluster.chain_page
    asked: list[int] = []
    liars: list[object] = []

    def page(disk: object, from_height: int, limit: int = 8) -> ChainResponse:
        liars.append(disk)
        if disk is not liars[0]:
            return honest(disk, from_height, limit)
        asked.append(from_height)
        first = {"stale": 1, "foreign": from_height + 2, "empty": 10**6, "uncommitted": from_height}[bad_page]
        response = honest(disk, first, limit)
        if bad_page == "uncommitted":
            return ChainResponse(from_height, response.blocks[:-1], response.commit_qc)
        return response

    cluster.chain_page = page  # type: ignore[method-assign]
    cluster.start(3)
    cluster.advance(20_000)
    assert asked != []
    assert len(asked) < 30
    assert cluster.ordered(3) == cluster.ordered(1)
    assert all(cluster.disks[strike.peer] is liars[0] for _, strike in cluster.strikes)
    assert (cluster.strikes != []) == (bad_page in ("foreign", "uncommitted"))


def test_a_certified_block_that_was_abandoned_is_not_chased_for_ever() -> None:
    cluster = Cluster(fast=True)
    feed(cluster, 1, [0])
    cluster.advance(1000)
    replica = cluster.replicas[0]
    assert replica is not None
    replica._sync.want(b"?" * 32, (1, 2), replica.view, cluster.now_us)
    cluster.advance(1000)
    assert replica._sync.wants(b"?" * 32), "it may still be committed"
    feed(cluster, 4, [1, 2, 3])
    cluster.advance(1000)
    assert not replica._sync.wants(b"?" * 32)
    assert replica.deadline_us() is None


def test_a_restarted_replica_commits_what_its_highest_qc_commits() -> None:
    """It learned the QC in its last life, but not the blocks. The cluster is idle, so no higher QC comes."""
    cluster = Cluster(7, fast=True)
    feed(cluster, 1, [0])
    cluster.advance(1000)
    cluster.kill(1)
    feed(cluster, 1, [2])
    cluster.advance(5000)
    assert cluster.views()[0] % 7 != 1, "its own turn would bring a new QC"
    cluster.drop = lambda e: e.to == 1 and isinstance(e.message, BlockResponse)
    cluster.start(1)
    cluster.advance(300)
    assert cluster.replicas[1].safety.record.high_qc.view == cluster.views()[0] - 1  # type: ignore[union-attr]
    assert cluster.ordered(1) == 1
    cluster.kill(1)
    cluster.drop = lambda _: False
    cluster.start(1)
    cluster.advance(500)  # less than a view: its own timeout would tell it, too
    assert cluster.ordered(1) == 2
    assert_caught_up(cluster, 1)


def test_a_block_response_with_another_block_costs_its_sender() -> None:
    cluster = Cluster(fast=True)
    forge = Forge(cluster)
    chain = forge.chain([1, 2, 3])
    cluster.step(0, Received(1, NewView(chain[2][1], None)))
    cluster.settle()
    replica = cluster.replicas[0]
    assert replica is not None
    assert replica._sync.wants(chain[2][0].id)
    wrong = BlockResponse(chain[2][0].id, (chain[2][0], chain[0][0]))
    effects = replica.step(Received(1, wrong), 0)
    assert [effect.peer for effect in effects if isinstance(effect, Strike)] == [1]
    assert replica._sync.wants(chain[2][0].id)
    replica.step(Received(1, BlockResponse(chain[2][0].id, tuple(b for b, _ in reversed(chain)))), 0)
    assert replica.tree.root.id == chain[0][0].id


def test_a_replica_takes_transactions_as_soon_as_it_has_caught_up() -> None:
    cluster = Cluster(fast=True)
    cluster.drop = lambda e: e.to == 3 and isinstance(e.message, (Proposal, NewView, BlockResponse))
    feed(cluster, 1, [0])
    cluster.advance(100)
    cluster.drop = lambda e: e.to == 3 and isinstance(e.message, BlockResponse)
    replica = cluster.replicas[3]
    assert replica is not None
    cluster.reconnect()
    cluster.advance(150)
    assert replica._payload.room_bytes() == 0, "the tip is unknown"  # type: ignore[attr-defined]
    cluster.drop = lambda _: False
    cluster.advance(1000)
    assert replica._payload.room_bytes() > 0  # type: ignore[attr-defined]


def test_a_page_with_a_forged_certificate_commits_nothing() -> None:
    cluster = Cluster(fast=True)
    chain = Forge(cluster).chain([1, 2, 3])
    replica = cluster.replicas[0]
    assert replica is not None
    blocks = tuple(block for block, _ in chain)
    forged = replace(chain[2][1], commit_id=blocks[2].id)
    replica._sync.start_chain((1,), 0)
    replica._sync._owing.add(1)
    cluster.step(0, Received(1, ChainResponse(1, blocks, forged)))
    cluster.settle()
    assert replica.tree.root.height == 0
    assert [strike.peer for _, strike in cluster.strikes] == [1]


def alone_with(cluster: Cluster, views: int) -> tuple[Replica, list[Block], list[QC]]:
    """Replica 0, and a chain that it has not seen."""
    blocks, qcs = zip(*Forge(cluster).chain(range(1, views + 1)), strict=True)
    replica = cluster.replicas[0]
    assert replica is not None
    return replica, list(blocks), list(qcs)


def test_blocks_that_nobody_asked_for_take_no_place() -> None:
    replica, blocks, _ = alone_with(Cluster(fast=True), 3)
    assert replica.step(Received(1, BlockResponse(blocks[0].id, (blocks[0],))), 0) == []
    assert len(replica.tree) == 1


def test_a_page_that_nobody_asked_for_is_not_even_checked() -> None:
    replica, blocks, qcs = alone_with(Cluster(fast=True), 3)
    assert replica.step(Received(1, ChainResponse(1, (blocks[0],), qcs[2])), 0) == []
    assert replica.tree.root.height == 0


@pytest.mark.usefixtures("short_pages")
def test_a_page_far_above_our_root_starts_a_chase_by_height() -> None:
    cluster = Cluster(fast=True)
    replica, blocks, qcs = alone_with(cluster, 20)
    cluster.step(0, Received(1, NewView(qcs[-1], None)))
    cluster.settle()
    replica.step(Received(1, BlockResponse(blocks[-1].id, tuple(blocks[-1:-8:-1]))), 0)
    assert replica._sync.catching_up


@pytest.mark.usefixtures("short_pages")
def test_an_answer_is_a_page_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    replica, blocks, _ = alone_with(Cluster(fast=True), 20)
    for block in blocks:
        replica._place(block)

    def asked_for(limit: int) -> int:
        effects = replica.step(Received(1, BlockRequest(blocks[-1].id, 0, limit)), 0)
        (answer,) = (e.message for e in effects if isinstance(e, Send) and isinstance(e.message, BlockResponse))
        assert answer.blocks == tuple(blocks[: -len(answer.blocks) - 1 : -1])
        return len(answer.blocks)

    assert (asked_for(3), asked_for(2**32 - 1)) == (3, 8)
    monkeypatch.setattr(replica_module, "MAX_PAGE_BYTES", sum(len(block.encoding) for block in blocks[-5:]))
    assert (asked_for(3), asked_for(2**32 - 1)) == (3, 5)
    monkeypatch.setattr(replica_module, "MAX_PAGE_BYTES", 1)
    assert asked_for(8) == 1, "one block at least, or nobody would ever get it"


def test_an_empty_page_counts_as_asked_in_vain() -> None:
    replica, _, _ = alone_with(Cluster(fast=True), 1)
    replica._sync.start_chain((1,), 0)
    replica.step(Tick(), 0)
    chain = replica._sync._chain
    assert chain is not None
    for vain, peer in enumerate((1, 2), 1):
        assert chain.peer == peer
        replica.step(Received(peer, ChainResponse(1, (), None)), 0)
        assert chain.in_vain == vain


def test_a_chase_that_is_under_way_is_not_begun_again() -> None:
    world = World()
    world.sync.start_chain((2,), 0)
    assert world.asked(0) == [(2, ChainRequest(8))]
    world.sync.start_chain((1,), 1)
    assert world.asked(1) == []
