"""Quota, acknowledgements, what a leader may propose, what a voter accepts, fetching, and our own lane."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from cluster import Cluster, Disk

from hotstuff import native
from hotstuff.consensus.desk import Desk
from hotstuff.consensus.effects import (
    BatchStored,
    Broadcast,
    Commit,
    Connected,
    Effect,
    Persist,
    Received,
    Send,
    SpreadBatch,
    StoreBatch,
    Strike,
    Submitted,
    Tick,
)
from hotstuff.consensus.payload import Availability
from hotstuff.consensus.replica import Replica
from hotstuff.consensus.rules import Chained
from hotstuff.consensus.safety import Safety, SafetyRecord
from hotstuff.mempool import lanes as lanes_module
from hotstuff.mempool import mempool as mempool_module
from hotstuff.mempool.mempool import MAX_PAYLOAD_BYTES, MAX_WANTED, SLOW_VIEWS, Mempool, MempoolConfig
from hotstuff.types.batch import MAX_BODY_BYTES, Batch
from hotstuff.types.block import MAX_BATCH_REFS, BatchRef, Block, Header
from hotstuff.types.messages import Ack, BatchMessage, BatchRequest, Vote
from hotstuff.types.validators import NODE_SIGNATURE_BYTES

NONE = (0, 0, 0, 0)
MISSING, AVAILABLE = Availability.MISSING, Availability.AVAILABLE


def made_up(author: int = 1, seq: int = 1, digest: bytes = b"?", size: int = 10) -> BatchRef:
    return BatchRef(author, seq, digest * 32, size, 1)


# Every body is large: stored by itself, which a test can delay.
LARGE = MempoolConfig(small_body_bytes=0)
SMALL = MempoolConfig()


class World:
    """The mempool of replica 0 of four; every check succeeds and every batch is stored unless a test says so."""

    def __init__(
        self,
        *,
        config: MempoolConfig | None = None,
        executed: tuple[int, ...] = NONE,
        held: Iterable[BatchRef] = (),
        powers: list[int] | None = None,
        passive: bool = False,
    ) -> None:
        self.cluster = Cluster(4, fast=True, powers=powers)
        member = self.cluster.members[0]
        record = SafetyRecord.initial(self.cluster.context, passive=passive)
        safety = Safety(0, self.cluster.context, Chained(), member.bls, member.node, record)
        self.effects: list[Effect] = []
        self.desk = Desk(self.effects)
        self.config = config or LARGE
        self.mempool = Mempool(
            validators=self.cluster.validators,
            safety=safety,
            config=self.config,
            executed=executed,
            held=held,
            effects=self.effects,
            desk=self.desk,
        )
        self.now_us = 0
        self.passive = passive
        self.may_author = not passive
        self.next_tx = 1
        self.step(Tick())

    def step(self, event: object) -> list[Effect]:
        self.mempool.step(
            event,  # type: ignore[arg-type]
            self.now_us,
            may_ack=not self.passive,
            may_author=self.may_author,
        )
        found, self.effects[:] = self.effects[:], []
        return found

    def batch(self, author: int, seq: int, size: int = 1, *, epoch: int = 1) -> Batch:
        body = native.build_frame(b"c" * 16, seq, [b"x" * size])
        frames = tuple(native.parse_body(body, 1))
        unsigned = Batch(epoch, author, seq, bytes(NODE_SIGNATURE_BYTES), body, frames)
        node = self.cluster.members[author % 4].node
        return replace(unsigned, signature=node.sign(unsigned.message(self.cluster.context)))

    def offer(self, peer: int, batch: Batch) -> bool:
        """Receive a batch whose signature is good; is it being stored?"""
        self.desk.trust(batch)
        return any(isinstance(effect, StoreBatch) for effect in self.step(Received(peer, BatchMessage(batch))))

    def hold(self, author: int, seq: int, size: int = 1) -> BatchRef:
        batch = self.batch(author, seq, size)
        assert self.offer(author, batch)
        self.step(BatchStored(batch))
        return batch.ref

    def submit(self, size: int = 1) -> list[Effect]:
        data = native.build_frame(b"c" * 16, self.next_tx, [b"x" * size])
        self.next_tx += 1
        return self.step(Submitted(data, native.parse_body(data, 1)[0]))

    def seal(self, size: int = 1) -> Batch | None:
        return next((effect.batch for effect in self.submit(size) if isinstance(effect, StoreBatch)), None)

    def ack(self, peer: int, *refs: BatchRef) -> None:
        self.step(Received(peer, Ack(refs)))

    def later(self, milliseconds: int) -> list[Effect]:
        self.now_us += milliseconds * 1000
        return self.step(Tick())

    def available(self, *refs: BatchRef, view: int = 1) -> Availability:
        found = self.mempool.availability(refs, view, self.now_us)
        self.effects.clear()
        return found

    def commit(self, *refs: BatchRef) -> list[Effect]:
        self.mempool.committed((self.block(refs),), self.now_us)
        found, self.effects[:] = self.effects[:], []
        return found

    def block(self, refs: tuple[BatchRef, ...]) -> Block:
        header = object.__new__(Header)
        return Block(header, refs)


def asked(effects: list[Effect]) -> dict[int, tuple[BatchRef, ...]]:
    return {e.to: e.message.refs for e in effects if isinstance(e, Send) and isinstance(e.message, BatchRequest)}


def acks(effects: list[Effect]) -> list[BatchRef]:
    return [ref for e in effects if isinstance(e, Broadcast) and isinstance(e.message, Ack) for ref in e.message.refs]


# ---- others' batches


def test_a_batch_is_stored_first_and_acknowledged_after_the_interval() -> None:
    world = World()
    batch = world.batch(1, 1)
    assert world.offer(1, batch)
    assert acks(world.later(1000)) == [], "not durable yet"
    world.step(BatchStored(batch))
    assert acks(world.later(world.config.ack_ms - 1)) == []
    assert acks(world.later(1)) == [batch.ref]
    assert acks(world.later(1000)) == []
    assert world.mempool.deadline_us() is None


def test_a_batch_with_a_bad_signature_is_not_stored() -> None:
    world = World()
    effects = world.step(Received(1, BatchMessage(world.batch(1, 1))))
    assert not any(isinstance(effect, StoreBatch) for effect in effects), "it waits for its check"


@pytest.mark.parametrize(("author", "epoch"), [(4, 1), (65535, 1), (1, 2)])
def test_an_unknown_author_or_epoch_costs_the_sender(author: int, epoch: int) -> None:
    world = World()
    effects = world.step(Received(1, BatchMessage(world.batch(author, 1, epoch=epoch))))
    assert [effect.peer for effect in effects if isinstance(effect, Strike)] == [1]


def test_an_unasked_batch_is_taken_from_its_author_only() -> None:
    world = World()
    assert not world.offer(2, world.batch(1, 1))
    assert world.offer(1, world.batch(1, 1))


def test_the_second_batch_for_a_number_is_not_taken_unless_it_is_asked_for() -> None:
    world = World()
    first, second = world.batch(1, 1, 1), world.batch(1, 1, 2)
    assert world.offer(1, first)
    assert not world.offer(1, second), "the first is being stored"
    world.step(BatchStored(first))
    assert not world.offer(1, second)
    assert world.available(second.ref) is MISSING
    assert world.offer(3, second), "a proposal refers to it"


def test_the_quota_of_an_author_counts_what_is_still_being_stored() -> None:
    one = len(World().batch(1, 1, 1000).body)
    world = World(config=MempoolConfig(small_body_bytes=0, author_quota_bytes=2 * one))
    assert world.offer(1, world.batch(1, 1, 1000))
    assert world.offer(1, world.batch(1, 2, 1000))
    assert not world.offer(1, world.batch(1, 3, 1000))
    assert world.offer(2, world.batch(2, 1, 1000)), "a quota of its own"
    for seq in (1, 2):
        world.step(BatchStored(world.batch(1, seq, 1000)))
    assert not world.offer(1, world.batch(1, 3, 1000))
    world.commit(world.batch(1, 1, 1000).ref)
    assert world.offer(1, world.batch(1, 3, 1000)), "executing makes room"


def test_what_is_asked_for_comes_in_over_the_quota() -> None:
    world = World(config=MempoolConfig(small_body_bytes=0, author_quota_bytes=1))
    batch = world.batch(1, 1)
    assert not world.offer(1, batch)
    assert world.available(batch.ref) is MISSING
    assert world.offer(1, batch)


def test_a_batch_outside_the_window_is_not_taken() -> None:
    world = World()
    assert not world.offer(1, world.batch(1, lanes_module.LANE_WINDOW + 1))
    assert not world.offer(1, world.batch(1, 2**62))
    assert len(world.mempool._lanes[1].slots) == 0


def test_an_author_that_sends_again_gets_the_acknowledgement_again() -> None:
    world = World()
    ref = world.hold(1, 1)
    world.later(1000)
    assert not world.offer(1, world.batch(1, 1))
    assert acks(world.later(world.config.ack_ms)) == [ref]
    assert not world.offer(2, world.batch(1, 1))
    assert acks(world.later(1000)) == [], "others have no use for it"


def test_a_passive_replica_acknowledges_nothing() -> None:
    world = World(passive=True)
    world.hold(1, 1)
    assert acks(world.later(1000)) == []
    assert not any(isinstance(effect, Send) for effect in world.step(Connected(1)))
    assert world.mempool.deadline_us() is None


def test_a_link_that_comes_up_hears_what_is_held_here() -> None:
    world = World()
    refs = (world.hold(1, 1), world.hold(2, 1))
    (said,) = (e for e in world.step(Connected(3)) if isinstance(e, Send) and isinstance(e.message, Ack))
    assert said == Send(3, Ack(refs))


def test_hostile_acknowledgements_cost_bounded_memory() -> None:
    world = World()
    for seq in (1, 2**62, lanes_module.LANE_WINDOW + 1):
        for digest in (b"a", b"b", b"c"):
            world.ack(1, made_up(1, seq, digest), made_up(65535, seq, digest))
    assert [len(lane.slots) for lane in world.mempool._lanes] == [0, 1, 0, 0]
    assert len(world.mempool._lanes[1].slots[1].acks) == 1


# ---- voting


def test_a_voter_accepts_what_it_holds() -> None:
    world = World()
    assert world.available(world.hold(1, 1)) is AVAILABLE


def test_a_voter_accepts_what_a_third_of_the_power_says_it_holds() -> None:
    world = World()
    ref = made_up()
    world.ack(2, ref)
    assert world.available(ref) is MISSING
    world.ack(3, ref)
    assert world.available(ref) is AVAILABLE


def test_power_counts_and_not_heads_when_others_hold_it() -> None:
    world = World(powers=[1, 1, 1, 6])
    ref = made_up()
    world.ack(1, ref)
    world.ack(2, ref)
    assert world.available(ref) is MISSING
    world.ack(3, ref)
    assert world.available(ref) is AVAILABLE


def test_the_word_of_one_peer_counts_once_and_for_one_digest() -> None:
    world = World()
    ref = made_up()
    for _ in range(3):
        world.ack(2, ref)
    world.ack(3, made_up(digest=b"!"))
    world.ack(3, ref)
    assert world.available(ref) is MISSING


@pytest.mark.parametrize("field", ["size_bytes", "tx_count"])
def test_a_block_that_lies_about_a_batch_gets_no_vote(field: str) -> None:
    world = World()
    ref = world.hold(1, 1)
    for peer in (1, 2, 3):
        world.ack(peer, ref)
    assert world.available(replace(ref, **{field: 99})) is MISSING


def test_lanes_continue_without_a_gap() -> None:
    world = World()
    extend = world.mempool.extend
    assert extend(NONE, ()) == NONE
    assert extend(NONE, (made_up(1, 1), made_up(2, 1), made_up(1, 2))) == (0, 2, 1, 0)
    assert extend((0, 5, 0, 0), (made_up(1, 6),)) == (0, 6, 0, 0)
    for refs in (
        (made_up(1, 2),),
        (made_up(1, 0),),
        (made_up(1, 1), made_up(1, 1)),
        (made_up(1, 2), made_up(1, 1)),
        (made_up(4, 1),),
        (made_up(65535, 1),),
        (made_up(size=0),),
        (made_up(size=MAX_BODY_BYTES + 1),),
        (replace(made_up(), tx_count=0),),
        tuple(made_up(1, seq, size=MAX_BODY_BYTES) for seq in range(1, 2 + MAX_PAYLOAD_BYTES // MAX_BODY_BYTES)),
    ):
        assert extend(NONE, refs) is None
    assert extend((0, 5, 0, 0), (made_up(1, 5),)) is None, "a batch twice on a branch"


# ---- proposing


def test_a_leader_proposes_what_it_holds_from_where_the_branch_ends() -> None:
    world = World()
    refs = [world.hold(1, seq) for seq in (1, 2, 4)]
    world.ack(2, made_up(2, 1))
    assert world.mempool.propose(NONE, 1) == (refs[0], refs[1])
    assert world.mempool.propose((0, 1, 0, 0), 1) == (refs[1],)
    assert world.mempool.propose((0, 2, 0, 0), 1) == ()


def test_authors_take_turns_and_start_with_another_each_view() -> None:
    world = World()
    refs = {(author, seq): world.hold(author, seq) for author in (1, 2, 3) for seq in (1, 2)}
    order = [(ref.author, ref.seq) for ref in world.mempool.propose(NONE, 2)]
    assert order == [(2, 1), (3, 1), (1, 1), (2, 2), (3, 2), (1, 2)]
    assert world.mempool.propose(NONE, 3)[0] == refs[3, 1]


def test_a_proposal_stays_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for seq in range(1, 8):
        world.hold(1, seq, 100)
        world.hold(2, seq)
    monkeypatch.setattr(mempool_module, "MAX_BATCH_REFS", 5)
    assert len(world.mempool.propose(NONE, 1)) == 5
    monkeypatch.setattr(mempool_module, "MAX_BATCH_REFS", MAX_BATCH_REFS)
    monkeypatch.setattr(mempool_module, "MAX_PAYLOAD_BYTES", 500)
    refs = world.mempool.propose(NONE, 1)
    assert sum(ref.size_bytes for ref in refs) <= 500
    assert world.mempool.extend(NONE, refs) is not None


def test_an_author_whose_body_was_missing_in_a_failed_view_is_proposed_only_when_proven() -> None:
    world = World()
    held = world.hold(1, 1)
    assert world.available(made_up(1, 2), view=7) is MISSING
    world.mempool.view_failed(8)
    assert world.mempool.propose(NONE, 9) == (held,), "another view failed"
    world.mempool.view_failed(7)
    assert world.mempool.propose(NONE, 9) == ()
    assert world.mempool.propose(NONE, 7 + SLOW_VIEWS + 1) == (held,)
    world.ack(2, held)
    assert world.mempool.propose(NONE, 9) == (held,), "author, replica 2 and we ourselves"


def test_there_is_work_if_a_quorum_or_we_as_its_author_hold_a_batch() -> None:
    world = World()
    ref = world.hold(1, 1)
    assert not world.mempool.has_work(NONE)
    world.ack(2, ref)
    assert world.mempool.has_work(NONE)
    assert not world.mempool.has_work((0, 1, 0, 0))
    own = world.seal()
    assert own is not None
    assert not world.mempool.has_work((0, 1, 0, 0)), "not durable yet"
    world.step(BatchStored(own))
    assert world.mempool.has_work((0, 1, 0, 0))


# ---- our own lane


def test_our_batch_is_durable_before_it_is_spread() -> None:
    world = World()
    effects = world.submit()
    assert [type(effect) for effect in effects] == [StoreBatch]
    (store,) = effects
    assert isinstance(store, StoreBatch)
    assert world.step(BatchStored(store.batch)) == [SpreadBatch(store.batch.ref, (1, 2, 3))]


def test_a_busy_lane_waits_for_the_age_and_an_idle_one_does_not() -> None:
    world = World()
    first = world.seal()
    assert first is not None
    assert world.seal() is None
    assert world.mempool.deadline_us() == world.config.max_age_ms * 1000
    effects = world.later(world.config.max_age_ms)
    assert [e.batch.ref.seq for e in effects if isinstance(e, StoreBatch)] == [2]
    world.seal()
    world.mempool.placed((made_up(0, 1), made_up(0, 2)))
    assert [e.batch.ref.seq for e in world.step(Tick()) if isinstance(e, StoreBatch)] == [3]


def test_what_a_quorum_has_not_acknowledged_is_sent_again_to_those_who_have_not() -> None:
    world = World()
    batch = world.seal()
    assert batch is not None
    world.step(BatchStored(batch))
    world.ack(2, batch.ref)
    effects = world.later(world.config.resend_ms)
    assert [e for e in effects if isinstance(e, SpreadBatch)] == [SpreadBatch(batch.ref, (1, 3))]
    world.ack(3, batch.ref)
    assert not any(isinstance(e, SpreadBatch) for e in world.later(world.config.resend_ms))
    assert world.mempool.deadline_us() is None


def test_a_peer_that_connects_gets_what_it_has_not_acknowledged() -> None:
    world = World()
    batch = world.seal()
    assert batch is not None
    world.step(BatchStored(batch))
    world.ack(2, batch.ref)
    assert not any(isinstance(e, SpreadBatch) for e in world.step(Connected(2)))
    assert SpreadBatch(batch.ref, (3,)) in world.step(Connected(3))


def test_numbers_continue_after_a_restart() -> None:
    world = World(executed=(7, 0, 0, 0), held=[made_up(0, 8), made_up(0, 9)])
    world.mempool.placed((made_up(0, 9),))
    batch = world.seal()
    assert batch is not None
    assert batch.seq == 10


def test_numbers_that_a_third_of_the_power_holds_are_taken_after_amnesia() -> None:
    world = World()
    world.ack(1, made_up(0, 1), made_up(0, 2))
    world.ack(2, made_up(0, 1))
    world.ack(3, made_up(0, 3), made_up(0, 2, b"!"))
    batch = world.seal()
    assert batch is not None
    assert batch.seq == 2, "one liar must not stall our lane, two digests are two liars"


def test_one_that_may_not_author_seals_nothing_and_takes_nothing() -> None:
    world = World()
    world.may_author = False
    assert world.seal() is None
    assert world.mempool.room_bytes() == 0
    assert world.mempool.deadline_us() is None
    world.may_author = True
    assert any(isinstance(e, StoreBatch) for e in world.step(Tick()))
    assert world.mempool.room_bytes() > 0


def test_our_own_unexecuted_bytes_use_up_the_room() -> None:
    world = World(config=MempoolConfig(small_body_bytes=0, author_quota_bytes=4096))
    assert world.mempool.room_bytes() == 2048
    batch = world.seal(1000)
    assert batch is not None
    assert world.mempool.room_bytes() == 2048 - len(batch.body)
    world.step(BatchStored(batch))
    world.submit(500)
    assert world.mempool.room_bytes() < 2048 - len(batch.body) - 500


def test_a_full_window_makes_clients_wait_and_does_not_raise_or_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "LANE_WINDOW", 3)
    world = World()
    refs = []
    for _ in range(5):
        for effect in [*world.submit(), *world.later(world.config.max_age_ms)]:
            if isinstance(effect, StoreBatch):
                refs.append(effect.batch.ref)
                world.step(BatchStored(effect.batch))
    assert [ref.seq for ref in refs] == [1, 2, 3]
    assert world.mempool.room_bytes() == 0
    deadline = world.mempool.deadline_us()
    assert deadline is None or deadline > world.now_us
    world.commit(refs[0])
    assert [e.batch.seq for e in world.step(Tick()) if isinstance(e, StoreBatch)] == [4]


# ---- fetching and executing


def test_a_missing_body_is_asked_from_who_holds_it_then_from_its_author_then_from_all() -> None:
    world = World()
    ref = made_up(1, 1)
    world.ack(3, ref)
    world.mempool.availability((ref,), 1, 0)
    order = [asked(world.effects)]
    world.effects.clear()
    order += [asked(world.later(world.config.fetch_retry_ms)) for _ in range(3)]
    assert order == [{3: (ref,)}, {1: (ref,)}, {2: (ref,)}, {3: (ref,)}]


def test_a_body_of_a_proposal_is_given_up_and_one_of_a_commit_is_not() -> None:
    for committed in (False, True):
        world = World()
        if committed:
            world.commit(made_up())
        else:
            world.available(made_up())
        for _ in range(50):
            last = world.later(world.config.fetch_retry_ms)
        assert (asked(last) != {}) == committed
        assert (world.mempool.deadline_us() is not None) == committed


def test_blocks_execute_in_order_as_soon_as_every_body_is_here() -> None:
    world = World()
    late, there = world.batch(1, 1), world.hold(2, 1)
    assert asked(world.commit(late.ref)) == {1: (late.ref,)}
    assert world.commit(there) == []
    assert world.mempool.backlog() == 2
    assert world.offer(3, late)
    effects = world.step(BatchStored(late))
    (commit,) = (e for e in effects if isinstance(e, Commit))
    assert [block.payload for block in commit.blocks] == [(late.ref,), (there,)]
    assert world.mempool.backlog() == 0
    world.later(world.config.ack_ms)
    assert world.mempool.deadline_us() is None


def test_bodies_of_a_made_up_proposal_leave_room_for_those_of_a_commit() -> None:
    world = World()
    assert world.available(*(made_up(2, seq) for seq in range(1, MAX_WANTED + 100))) is MISSING
    assert len(world.mempool._wanted) < MAX_WANTED
    assert asked(world.commit(made_up(1, 1))) == {1: (made_up(1, 1),)}


def test_what_is_wanted_is_bounded_however_much_is_missing() -> None:
    world = World()
    world.commit(*(made_up(1, seq) for seq in range(1, MAX_BATCH_REFS)))
    assert len(world.mempool._wanted) == MAX_WANTED


# ---- in a cluster


def test_a_lost_data_directory_does_not_reuse_numbers_that_others_hold() -> None:
    cluster = Cluster(fast=True)
    for _ in range(5):
        cluster.submit(1)
        cluster.advance(200)
    cluster.kill(1)
    cluster.disks[1] = Disk(SafetyRecord.initial(cluster.context, passive=True))
    cluster.start(1)
    for k in range(20):
        cluster.submit((0, 2, 3)[k % 3])
        cluster.advance(1200)
    replica = cluster.replicas[1]
    assert isinstance(replica, Replica)
    assert not replica.safety.record.passive
    cluster.submit(1)
    cluster.advance(10_000)
    own = [ref.seq for block in cluster.disks[0].executed for ref in block.payload if ref.author == 1]
    assert own == [1, 2, 3, 4, 5, 6]


def test_a_block_whose_body_does_not_come_is_voted_for_on_the_word_of_others() -> None:
    """Replica 3 never gets the body, and without its vote there is no quorum in view 1, for lack of replica 0's."""
    cluster = Cluster(fast=True)
    cluster.drop = lambda e: (
        (e.to == 3 and isinstance(e.message, BatchMessage)) or (e.sender == 0 and isinstance(e.message, Vote))
    )
    cluster.submit(0)
    cluster.advance(900)
    assert [cluster.ordered(i) for i in range(4)] == [1, 1, 1, 0]
    assert ("vote", 3, 1) in cluster.signed
    cluster.drop = lambda _: False
    cluster.advance(3000)
    assert cluster.ordered(3) == 1


def test_a_body_that_was_wanted_for_a_proposal_is_not_given_up_when_the_block_commits() -> None:
    cluster = Cluster(fast=True)
    cluster.drop = lambda e: e.to == 3 and isinstance(e.message, BatchMessage)
    cluster.submit(0)
    cluster.advance(10_000)
    assert [cluster.ordered(i) for i in range(4)] == [1, 1, 1, 0]
    cluster.drop = lambda _: False
    cluster.advance(3000)
    assert cluster.ordered(3) == 1


def test_an_author_that_dies_after_a_quorum_holds_its_batch_is_not_needed() -> None:
    cluster = Cluster(fast=True)
    cluster.drop = lambda e: e.to == 3 and isinstance(e.message, BatchMessage)
    cluster.submit(0)
    while not any(what == "vote" for what, _, _ in cluster.signed):
        assert cluster.turn() or cluster.tick()
    cluster.kill(0)
    cluster.drop = lambda _: False
    cluster.advance(20_000)
    assert [cluster.ordered(i) for i in (1, 2, 3)] == [1, 1, 1]


def test_light_load_without_commits_for_a_long_time_does_not_stop_a_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "LANE_WINDOW", 20)
    cluster = Cluster(fast=True)
    cluster.kill(2)
    cluster.kill(3)
    for _ in range(50):
        cluster.submit(0)
        cluster.advance(30)
    cluster.start(2)
    cluster.advance(20_000)
    assert cluster.ordered(0) == cluster.ordered(1) == cluster.ordered(2) == 50


def test_a_batch_that_is_being_stored_is_not_held() -> None:
    """Neither voted for nor proposed: a crash now would lose it."""
    world = World()
    batch = world.batch(1, 1)
    assert world.offer(1, batch)
    assert world.available(batch.ref) is MISSING
    assert world.mempool.propose(NONE, 1) == ()
    world.step(BatchStored(batch))
    assert world.available(batch.ref) is AVAILABLE
    assert world.mempool.propose(NONE, 1) == (batch.ref,)


def test_an_author_whose_body_came_from_others_is_proposed_only_when_a_quorum_holds_it() -> None:
    world = World()
    batch = world.batch(1, 1)
    assert world.available(batch.ref, view=7) is MISSING
    assert world.offer(3, batch), "it was asked for"
    world.step(BatchStored(batch))
    assert world.mempool.propose(NONE, 8) == ()
    for peer in (1, 3):
        world.ack(peer, batch.ref)
    assert world.mempool.propose(NONE, 8) == (batch.ref,)


def test_an_author_whose_body_came_late_from_itself_is_proposed_at_once() -> None:
    world = World()
    batch = world.batch(1, 1)
    assert world.available(batch.ref, view=7) is MISSING
    assert world.offer(1, batch)
    world.step(BatchStored(batch))
    assert world.mempool.propose(NONE, 8) == (batch.ref,)


def test_after_a_failed_view_of_ours_we_propose_only_what_a_quorum_holds_our_own_batches_too() -> None:
    world = World()
    own = world.seal()
    assert own is not None
    world.step(BatchStored(own))
    assert world.mempool.propose(NONE, 4) == (own.ref,)
    world.mempool.view_failed(3)
    assert world.mempool.propose(NONE, 8) == (own.ref,), "another view failed"
    world.mempool.view_failed(8)
    assert world.mempool.propose(NONE, 12) == ()
    for peer in (1, 2):
        world.ack(peer, own.ref)
    assert world.mempool.propose(NONE, 12) == (own.ref,)


def test_a_failed_view_with_proven_batches_only_makes_us_no_more_careful() -> None:
    world = World()
    own = world.seal()
    assert own is not None
    world.step(BatchStored(own))
    for peer in (1, 2):
        world.ack(peer, own.ref)
    assert world.mempool.propose(NONE, 4) == (own.ref,)
    world.mempool.view_failed(4)
    other = world.hold(1, 1)
    assert other in world.mempool.propose(NONE, 8)


def test_acknowledgements_are_not_put_off_by_further_batches() -> None:
    world = World()
    refs = [world.hold(1, 1)]
    world.now_us += (world.config.ack_ms - 1) * 1000
    refs.append(world.hold(2, 1))
    assert world.mempool.deadline_us() == world.config.ack_ms * 1000
    assert acks(world.later(1)) == refs


# ---- small bodies


def told(effects: list[Effect]) -> list[str]:
    """What matters of the order: writes (lazy or not) and what leaves."""
    names = {Persist: "lazy", SpreadBatch: "spread", StoreBatch: "store"}
    found = []
    for effect in effects:
        if isinstance(effect, Persist) and not effect.lazy:
            found.append("sync")
        elif isinstance(effect, Broadcast) and isinstance(effect.message, Ack):
            found.append("ack")
        elif type(effect) in names:
            found.append(names[type(effect)])
    return found


def receive(world: World, batch: Batch) -> list[Effect]:
    world.desk.trust(batch)
    return world.step(Received(batch.author, BatchMessage(batch)))


def test_a_small_batch_is_held_at_once_and_written_with_what_comes_next() -> None:
    world = World(config=SMALL)
    batch = world.batch(1, 1)
    effects = receive(world, batch)
    assert [(e.batches, e.lazy) for e in effects if isinstance(e, Persist)] == [((batch,), True)]
    assert told(effects) == ["lazy"]
    assert world.available(batch.ref) is Availability.AVAILABLE


def test_the_acknowledgement_of_a_small_batch_makes_it_durable_first() -> None:
    world = World(config=SMALL)
    batch = world.batch(1, 1)
    receive(world, batch)
    effects = world.later(world.config.ack_ms)
    assert told(effects) == ["sync", "ack"]
    assert acks(effects) == [batch.ref]
    large = world.batch(2, 1, SMALL.small_body_bytes)
    assert world.offer(2, large)
    world.step(BatchStored(large))
    assert told(world.later(world.config.ack_ms)) == ["ack"], "nothing waits for a sync"


def test_acknowledgements_leave_with_a_vote_that_has_made_them_durable() -> None:
    world = World(config=SMALL)
    batch = world.batch(1, 1)
    receive(world, batch)
    world.mempool.synced()
    effects = world.step(Tick())
    assert told(effects) == ["ack"]
    assert acks(effects) == [batch.ref]
    assert world.mempool.deadline_us() is None
    world.mempool.synced()
    assert told(world.step(Tick())) == []


def test_a_new_link_hears_only_of_what_is_durable() -> None:
    world = World(config=SMALL)
    receive(world, world.batch(1, 1))
    effects = world.step(Connected(2))
    kinds = ["sync" if isinstance(e, Persist) else "ack" for e in effects if isinstance(e, (Persist, Send))]
    assert kinds == ["sync", "ack"]


def test_our_own_small_batch_is_durable_before_it_is_spread() -> None:
    world = World(config=SMALL)
    other = world.batch(1, 1)
    receive(world, other)
    effects = world.submit()
    assert told(effects) == ["sync", "ack", "spread"]
    assert acks(effects) == [other.ref]


def test_our_small_batch_does_not_overtake_a_larger_one_that_is_not_durable() -> None:
    """A crash would leave a gap in our lane, and nobody could order what comes after it."""
    world = World(config=SMALL)
    world.slow = True
    world.submit(SMALL.small_body_bytes)
    world.submit()
    effects = world.later(world.config.max_age_ms)
    assert told(effects) == ["store"]
    assert [effect.batch.ref.seq for effect in effects if isinstance(effect, StoreBatch)] == [2]


def test_a_passive_replica_says_nothing_of_small_batches_either() -> None:
    world = World(config=SMALL, passive=True)
    receive(world, world.batch(1, 1))
    world.mempool.synced()
    assert acks(world.later(1000)) == []


@pytest.mark.parametrize(("size", "kind"), [(-40, "lazy"), (1, "store")])
def test_how_large_is_small(size: int, kind: str) -> None:
    world = World(config=SMALL)
    assert kind in told(receive(world, world.batch(1, 1, SMALL.small_body_bytes + size)))


# ---- far behind


def test_what_did_not_fit_is_asked_for_when_there_is_room() -> None:
    world = World(config=SMALL)
    batches = [world.batch(2, seq) for seq in range(1, MAX_WANTED + 11)]
    for batch in batches:
        world.commit(batch.ref)
    assert len(world.mempool._wanted) == MAX_WANTED
    asked: set[BatchRef] = set()
    for batch in batches:
        assert batch.ref in world.mempool._wanted
        receive(world, batch)
        asked |= set(world.mempool._wanted)
    assert asked >= {batch.ref for batch in batches[1:]}
    world.step(Tick())
    assert world.mempool.backlog() == 0 and world.mempool._wanted == {}


def test_a_long_backlog_is_not_gone_through_for_each_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a replica that is far behind spends its time on that, and stays behind."""
    world = World(config=SMALL)
    batches = [world.batch(2, seq) for seq in range(1, 200)]
    for batch in batches:
        world.commit(batch.ref)
    looked: list[BatchRef] = []
    held = Mempool._held
    monkeypatch.setattr(Mempool, "_held", lambda self, ref: (looked.append(ref), held(self, ref))[1])
    for batch in batches:
        receive(world, batch)
    assert world.mempool.backlog() == 0
    assert len(looked) < 4 * len(batches)


def test_what_is_executed_at_once_does_not_hold_up_what_is_missing() -> None:
    world = World(config=SMALL)
    here, missing = world.batch(2, 1), world.batch(2, 2)
    receive(world, here)
    assert any(isinstance(effect, Commit) for effect in world.commit(here.ref))
    world.commit(missing.ref)
    assert list(world.mempool._wanted) == [missing.ref]
