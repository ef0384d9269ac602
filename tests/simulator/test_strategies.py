"""Each strategy does what it says (the world saw the attack), and one node in four cannot do harm with it."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any

import pytest
from attack import NEAR, PARAMETERS, Attack, attack, strategy

from hotstuff.consensus.effects import Share
from hotstuff.consensus.rules import RULES
from hotstuff.consensus.validity import malformed, proves_entry, proves_view
from hotstuff.consensus.verifier import Verifier
from hotstuff.simulator.byzantine import Strategy
from hotstuff.simulator.scheme import scheme_of
from hotstuff.simulator.strategies import STRATEGIES, described, make, mix
from hotstuff.simulator.world import World
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC, TC
from hotstuff.types.hashing import PHASES, Mode
from hotstuff.types.messages import (
    Ack,
    BatchMessage,
    BlockResponse,
    ChainResponse,
    NewView,
    Proposal,
    RecoveryResponse,
    StateReport,
    Timeout,
    Vote,
)

EVERY_MODE = [(name, mode) for name, kind in STRATEGIES.items() for mode in kind.MODES or ("",)]


def alone(name: str, mode: str = "", **options: Any) -> Attack:
    """Node 1 of four."""
    return attack({1: [strategy(name, mode)]}, **options)


def own_proposals(run: Attack) -> list[tuple[int, Block]]:
    """Receiver and block, for what Byzantine leaders proposed with a valid signature."""
    found = run.lies(Proposal)
    return [(to, p.block) for to, p in found if run.world.verifier.check(p)]


def verifies(run: Attack, share: Vote | Timeout) -> bool:
    """Is this one share right?"""
    context = run.world.context
    if isinstance(share, Vote):
        text = context.vote_message(share.view, share.phase, share.block_id, share.commit_id)
    else:
        text = context.timeout_message(share.view, share.high_qc.view)
    return bool(run.world.verifier.collect([Share(share.signer, text, share.signature)]).good)


# ---- nobody is harmed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mode"), EVERY_MODE)
def test_honest_replicas_keep_committing_equal_chains(name: str, mode: str) -> None:
    run = alone(name, mode, seconds=0.5)
    run.assert_harmless()
    assert run.result.commits >= 5


@pytest.mark.parametrize("protocol", [Mode.BASIC, Mode.HOTSTUFF2, Mode.JOLTEON])
@pytest.mark.parametrize("name", STRATEGIES)
def test_no_protocol_is_harmed(name: str, protocol: Mode) -> None:
    run = alone(name, protocol=protocol, seconds=0.3, wire=True)
    run.assert_harmless()
    assert run.result.commits >= 5


@pytest.mark.parametrize("seed", range(6))
def test_two_colluding_nodes_of_seven_do_no_harm(seed: int) -> None:
    chance = random.Random(f"pairs/{seed}")
    first = chance.randrange(7)
    attack({i: mix(chance) for i in (first, (first + 1) % 7)}, nodes=7, seed=seed, seconds=0.8).assert_harmless()


# ---- leaders --------------------------------------------------------------------------------------------------------


def test_a_silent_leader_proposes_nothing() -> None:
    run = alone("silent-leader", seconds=0.5)
    assert not run.lies(Proposal) and run.lies(Vote)
    assert run.seen.reports["tc_formed"] > 0


@pytest.mark.parametrize("mode", STRATEGIES["equivocating-leader"].MODES)
def test_an_equivocating_leader_signs_two_blocks_of_one_view(mode: str) -> None:
    run = alone("equivocating-leader", mode, seconds=1, parameters=replace(PARAMETERS, client_us=500))
    by_view: dict[int, dict[bytes, Block]] = defaultdict(dict)
    to_whom: dict[bytes, set[int]] = defaultdict(set)
    for to, block in own_proposals(run):
        by_view[block.header.view][block.id] = block
        to_whom[block.id].add(to)
    pairs = [tuple(blocks.values()) for blocks in by_view.values() if len(blocks) == 2]
    varied = [pair for pair in pairs if variation(*pair) == mode]
    assert len(pairs) > 5 and varied
    assert any(to_whom[a.id] & to_whom[b.id] for a, b in pairs), "nobody got both"
    assert any(to_whom[a.id] - to_whom[b.id] and to_whom[b.id] - to_whom[a.id] for a, b in pairs), "nobody was divided"
    assert run.seen.reports["equivocation"] + run.seen.reports["evidence"] > 0


def variation(one: Block, other: Block) -> str:
    """In what two blocks of a view differ."""
    if one.header.justify != other.header.justify:
        return "justify"
    return "order" if set(one.payload) == set(other.payload) else "payload"


def test_at_most_one_of_two_blocks_is_certified() -> None:
    run = attack({1: [strategy("equivocating-leader"), strategy("double-voter")]}, seconds=1)
    blocks = {block.id: block.header.view for _, block in own_proposals(run)}
    certified = Counter(blocks[block_id] for block_id in run.seen.qcs if block_id in blocks)
    assert max(Counter(blocks.values()).values()) == 2
    assert certified and max(certified.values()) == 1
    run.assert_harmless()


def test_a_stale_leader_cuts_off_a_certified_tail() -> None:
    run = attack({1: [strategy("silent-leader")], 2: [strategy("stale-qc-leader", "accepted")]}, nodes=7, seconds=1)
    forks = [p for _, p in run.lies(Proposal) if p.entry_tc and p.block.header.justify.view < p.entry_tc.high_qc.view]
    assert forks and all(p.block.header.proposer == 2 for p in forks)
    chain = {block.id for block in run.chain()}
    assert {p.block.id for p in forks} & chain, "voters never took the fork"
    assert {p.entry_tc.high_qc.block_id for p in forks if p.entry_tc} - chain, "no certified block was abandoned"
    run.assert_harmless()


@pytest.mark.parametrize("protocol", RULES)
def test_a_stale_leader_that_goes_too_far_gets_no_votes(protocol: Mode) -> None:
    pair: dict[int, list[Strategy]] = {1: [strategy("silent-leader")], 2: [strategy("stale-qc-leader", "older")]}
    run = attack(pair, nodes=7, seconds=1, protocol=protocol)
    forks = {
        p.block.id for to, p in run.lies(Proposal) if p.entry_tc and p.block.header.justify.view < p.entry_tc.view - 3
    }
    assert forks
    assert {vote.block_id for _, vote in run.words(Vote)} & forks == set()
    run.assert_harmless()


def test_jolteon_leaves_a_stale_leader_nothing() -> None:
    pair: dict[int, list[Strategy]] = {1: [strategy("silent-leader")], 2: [strategy("stale-qc-leader", "accepted")]}
    run = attack(pair, nodes=7, seconds=1, protocol=Mode.JOLTEON)
    proposals = [p for _, p in run.lies(Proposal) if p.entry_tc]
    assert proposals and all(p.block.header.justify.view >= p.entry_tc.high_qc.view for p in proposals if p.entry_tc)
    run.assert_harmless()


@pytest.mark.parametrize(("mode", "percent"), [("70", 60), ("85", 75), ("95", 85)])
def test_a_slow_leader_proposes_late(mode: str, percent: int) -> None:
    run = alone("slow-leader", mode, seconds=0.6)
    late = [
        lie.at_us - entered_us(run, lie.message.block) for lie in run.seen.lies if isinstance(lie.message, Proposal)
    ]
    assert late and min(late) >= PARAMETERS.view_timeout_ms * 10 * percent


def entered_us(run: Attack, block: Block) -> int:
    """When the proposal of the view before was sent: a little before anybody could be in this one."""
    views = {
        word.message.block.header.view: word.at_us for word in run.seen.words if isinstance(word.message, Proposal)
    }
    return views.get(block.header.view - 1, 0)


def test_timer_doubling_shows_a_block_to_some_in_time_and_to_others_too_late() -> None:
    run = alone("timer-doubling", seconds=1)
    times: dict[bytes, list[int]] = defaultdict(list)
    for lie in run.seen.lies:
        if isinstance(lie.message, Proposal):
            times[lie.message.block.id].append(lie.at_us)
    spread = [max(at) - min(at) for at in times.values() if len(at) > 1]
    assert spread and max(spread) >= PARAMETERS.view_timeout_ms * 100


# ---- votes and timeouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", list(Mode))
def test_a_double_voter_signs_two_votes_of_one_view_and_phase(protocol: Mode) -> None:
    run = alone("double-voter", seconds=0.3, protocol=protocol)
    said: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    for _, vote in run.lies(Vote):
        assert verifies(run, vote)
        said[vote.view, vote.phase].add(vote.block_id)
    assert {phase for (_, phase), blocks in said.items() if len(blocks) > 1} == set(PHASES[protocol])


def test_a_double_voter_votes_in_views_it_gave_up() -> None:
    run = attack({1: [strategy("double-voter")], 2: [strategy("timer-doubling")]}, nodes=7, seconds=0.8)
    given_up: set[int] = set()
    broken = 0
    for lie in run.seen.lies:
        if lie.sender == 1 and isinstance(lie.message, Timeout):
            given_up.add(lie.message.view)
        broken += lie.sender == 1 and isinstance(lie.message, Vote) and lie.message.view in given_up
    assert broken > 0


def test_a_withholder_keeps_all_some_or_certain_votes() -> None:
    everybody = alone("vote-withholder", "all", seconds=0.3)
    assert not everybody.lies(Vote)
    honest = len(attack({1: []}, seconds=0.3).lies(Vote))
    assert honest // 4 < len(alone("vote-withholder", "random", seconds=0.3).lies(Vote)) < honest * 3 // 4
    assert len({to for to, _ in alone("vote-withholder", "leaders", seconds=0.3).lies(Vote)}) == 1


def test_the_lowest_legal_high_qc_is_below_what_its_signer_knows() -> None:
    run = attack({1: [strategy("hidden-qc", "lock")]}, seconds=0.5)
    liar = strategy("lowest-high-qc", "legal")
    liar.attach(run.world, run.world.nodes[1], run.forger)
    failed = {tc.view for tc in run.forger.tcs.values()}
    secret = [qc for qc in run.forger.qcs.values() if qc.view in failed]
    assert secret
    for qc in secret:
        honest = run.forger.timeout(1, qc.view + 1, qc, None)
        ((_, timeout),) = liar.sending(0, honest)
        assert isinstance(timeout, Timeout) and timeout.high_qc.view < qc.view and verifies(run, timeout)
        assert proves_entry(timeout, run.world.context)


def test_a_lie_below_the_legal_high_qc_is_struck() -> None:
    run = attack({1: [strategy("silent-leader"), strategy("lowest-high-qc", "lie")]}, seconds=0.5)
    assert run.struck("without proof of entry")


@pytest.mark.parametrize("mode", STRATEGIES["invalid-shares"].MODES)
def test_invalid_shares_do_not_verify_and_are_struck(mode: str) -> None:
    run = attack({1: [strategy("invalid-shares", mode)]}, seconds=0.5)
    votes = [vote for _, vote in run.lies(Vote)]
    assert votes and not any(verifies(run, vote) for vote in votes)
    assert run.struck("bad signature share")


def test_invalid_shares_of_the_real_scheme_are_struck() -> None:
    for mode in STRATEGIES["invalid-shares"].MODES:
        run = alone("invalid-shares", mode, seconds=0.05, signatures="bls")
        assert run.lies(Vote) and run.struck("bad signature share")


def test_cancelling_shares_are_certified_together() -> None:
    run = attack({i: [strategy("cancelling-shares")] for i in (1, 2)}, nodes=7, seconds=0.5)
    votes = [vote for _, vote in run.lies(Vote)]
    assert votes and not any(verifies(run, vote) for vote in votes)
    signers = [set(run.world.validators.signers(qc.signers)) for qc in made_by_honest(run)]
    assert any(found >= {1, 2} for found in signers)
    assert not any(len(found & {1, 2}) == 1 for found in signers)
    run.assert_harmless()


def made_by_honest(run: Attack) -> list[QC]:
    """QCs whose collectors were all honest: a Byzantine one's own core has its own right share."""
    collectors = {qc: {leader_of(run, qc.view), leader_of(run, qc.view + 1)} for qc in run.seen.qcs.values() if qc.view}
    return [qc for qc, found in collectors.items() if not found & run.world.byzantine]


def test_half_of_a_cancelling_pair_is_struck() -> None:
    assert alone("cancelling-shares", seconds=0.3).struck("bad signature share")


# ---- certificates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", STRATEGIES["malformed-bitmaps"].MODES)
def test_malformed_bitmaps_with_genuine_signatures_are_refused(mode: str) -> None:
    run = attack({1: [strategy("silent-leader"), strategy("malformed-bitmaps", mode)]}, nodes=5, seconds=0.6)
    genuine = {qc.signature: qc for qc in run.forger.qcs.values()} | {
        tc.signature: tc for tc in run.forger.tcs.values()
    }
    shown = [c for _, message in run.lies(NewView) for c in (message.high_qc, message.high_tc) if c is not None]
    malformed = [c for c in shown if c != genuine.get(c.signature, c) and same_view(c, genuine[c.signature])]
    assert malformed and not any(run.world.verifier.check(c) for c in malformed)
    assert run.struck("NewView with an invalid signature")


def same_view(one: QC | TC, other: QC | TC) -> bool:
    """Nothing is wrong with it but its signers."""
    return one.view == other.view


@pytest.mark.parametrize("mode", STRATEGIES["small-quorum"].MODES)
def test_a_small_quorum_is_right_in_everything_else(mode: str) -> None:
    run = attack({1: [strategy("silent-leader"), strategy("small-quorum", mode)]}, seconds=1)
    validators, setup = run.world.validators, run.world.setup
    half: Any = SimpleNamespace(
        validators=validators.validators, signers=validators.signers, is_quorum=lambda signers: len(signers) == 2
    )
    lenient = Verifier(run.world.context, half, scheme_of(setup.signatures))
    shown = [certificate for _, m in run.lies(NewView) for certificate in (m.high_qc, m.high_tc) if certificate]
    small = [certificate for certificate in shown if certificate.view and lenient.check(certificate)]
    assert len({certificate.key for certificate in small}) > 3
    assert {type(certificate) for certificate in small} == {QC if mode == "qc" else TC}
    assert not any(run.world.verifier.check(certificate) for certificate in small)
    run.assert_harmless()


@pytest.mark.parametrize("mode", STRATEGIES["signature-transplant"].MODES)
def test_transplanted_signatures_are_refused(mode: str) -> None:
    run = alone("signature-transplant", mode, seconds=0.5)
    genuine = {qc.signature: qc for qc in run.forger.qcs.values()}
    shown = [message.high_qc for _, message in run.lies(NewView) if message.high_qc.signature in genuine]
    changed = [qc for qc in shown if getattr(qc, mode) != getattr(genuine[qc.signature], mode)]
    assert changed and not any(run.world.verifier.check(qc) for qc in changed)
    assert run.struck("with an invalid signature")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("epoch", "epoch"),
        ("chain", "proposal: network"),
        ("validators", "proposal: validator set"),
        ("protocol", "proposal: protocol"),
        ("phase", ""),
    ],
)
def test_what_is_signed_for_another_context_does_not_count_here(mode: str, reason: str) -> None:
    run = alone("wrong-context", mode, seconds=0.5)
    assert run.lies(Vote)
    assert run.lies(Proposal) or mode == "phase"
    assert run.struck(reason) or mode == "phase"
    certified = made_by_honest(run)
    assert certified and not any(1 in run.world.validators.signers(qc.signers) for qc in certified)


def leader_of(run: Attack, view: int) -> int:
    return run.world.leaders.leader(view)


def test_claims_of_high_views_move_nobody() -> None:
    run = alone("view-inflater", seconds=0.5)
    kinds: tuple[Any, ...] = (NewView, RecoveryResponse, Timeout)
    claims = [message.high_qc for kind in kinds for _, message in run.lies(kind)]
    assert any(qc.view >= 2**62 for qc in claims) and any(qc.view <= run.result.views for qc in claims)
    assert run.struck("with an invalid signature")
    assert run.result.views < 1000


# ---- bodies ---------------------------------------------------------------------------------------------------------


def test_a_batch_equivocator_signs_two_batches_of_one_number() -> None:
    run = alone("batch-equivocator", seconds=1)
    first: dict[tuple[int, int], bytes] = {}
    for to, message in run.lies(BatchMessage):
        if message.batch.author == 1:
            assert run.world.verifier.check(message.batch)
            first.setdefault((message.batch.seq, to), message.batch.ref.digest)
    digests = [{first.get((seq, to)) for to in (0, 2, 3)} - {None} for seq, _ in first]
    assert sum(len(found) == 2 for found in digests) > len(digests) // 2
    ordered = [ref for block in run.chain() for ref in block.payload if ref.author == 1]
    assert ordered and len({ref.seq for ref in ordered}) == len(ordered)


@pytest.mark.parametrize(("mode", "reached"), [("nobody", 0), ("one", 1), ("enough", 2)])
def test_a_withheld_body_reaches_so_many(mode: str, reached: int) -> None:
    run = alone("batch-withholder", mode, seconds=1)
    assert len({to for to, _ in run.lies(BatchMessage)}) == reached
    named = [ref for _, block in own_proposals(run) for ref in block.payload if ref.author == 1]
    assert named, "no block named a withheld body"
    ordered = [ref for block in run.chain() for ref in block.payload if ref.author == 1]
    assert bool(ordered) == (reached > 0)
    assert all(ref in node.disk.batches for node in run.world.honest() for ref in refs_executed(node.disk.executed))


def refs_executed(blocks: Iterable[Block]) -> list[Any]:
    return [ref for block in blocks for ref in block.payload]


def test_an_ack_liar_acknowledges_what_it_lacks_and_what_nobody_made() -> None:
    run = alone("ack-liar", seconds=0.5)
    acked = {ref for _, ack in run.lies(Ack) for ref in ack.refs}
    made = {ref for node in run.world.honest() for ref in node.disk.batches}
    assert acked - made, "nothing invented"
    lost = [ref for ref in acked & made if ref not in run.world.nodes[1].disk.batches]
    early = Counter(ref for _, ack in run.lies(Ack) for ref in ack.refs if ref in made)
    assert lost or max(early.values()) > 3


# ---- floods ---------------------------------------------------------------------------------------------------------


def test_a_future_flood_is_far_ahead_and_moves_nobody() -> None:
    run = alone("future-flooder", seconds=0.3)
    kinds: tuple[Any, ...] = (Vote, Timeout)
    for kind in kinds:
        ahead = [message.view - run.result.views for _, message in run.lies(kind)]
        assert max(ahead) > 2**61, kind
    assert max(p.block.header.view for _, p in run.lies(Proposal)) > 2**61
    assert run.struck("view not proven") and run.struck("without proof of entry")
    assert run.result.views < 1000


def test_a_help_flood_provokes_answers_but_not_without_end() -> None:
    calm, run = attack({1: []}, seconds=0.5), alone("help-flooder", seconds=0.5)
    for kind in (BlockResponse, ChainResponse, RecoveryResponse):
        assert [to for to, _ in run.words(kind)].count(1) > 5, kind
        assert not calm.words(kind)
    helped, views = [to for to, _ in run.words(NewView)].count(1), run.result.views
    assert helped > [to for to, _ in calm.words(NewView)].count(1)
    assert helped <= 3 * (2 * views + 0.5 * 1000 / PARAMETERS.fetch_retry_ms)


def test_a_replayer_repeats_its_own_words_and_those_of_others() -> None:
    run = alone("replayer", seconds=0.3)
    own = Counter((to, vote) for to, vote in run.lies(Vote) if vote.signer == 1)
    assert max(own.values()) > 1
    others = [vote for _, vote in run.lies(Vote) if vote.signer != 1]
    assert others and all(verifies(run, vote) for vote in others)
    assert run.struck("another signer")


# ---- delivery -------------------------------------------------------------------------------------------------------


def test_selective_delivery_reaches_just_a_quorum() -> None:
    run = alone("selective-delivery", "quorum", seconds=0.3)
    reached = {lie.to for lie in run.seen.lies}
    quorum = run.world.validators.is_quorum
    assert quorum({1, *reached}) and not any(quorum({1, *reached} - {i}) for i in reached)
    assert {block.header.proposer for block in run.chain()} == {0, 1, 2, 3}, "its blocks must go through"


def test_selective_delivery_reaches_one_or_others_in_each_view() -> None:
    assert len({lie.to for lie in alone("selective-delivery", "one", seconds=0.3).seen.lies}) == 1
    run = alone("selective-delivery", "changing", seconds=1)
    by_view: dict[int, set[int]] = defaultdict(set)
    for to, vote in run.lies(Vote):
        by_view[vote.view].add(to)
    assert len({frozenset(reached) for reached in by_view.values()}) > 1


def test_a_liar_about_its_state_stops_nobody() -> None:
    run = alone("state-liar", seconds=1, parameters=NEAR)
    states = {report.height: report.state for _, report in run.words(StateReport)}
    lies = [report for _, report in run.lies(StateReport) if report.state != states[report.height]]
    assert len({report.height for report in lies}) > 3
    run.assert_harmless()


def test_an_impersonator_is_blamed_and_nobody_else() -> None:
    run = alone("impersonator", seconds=0.5)
    claimed = {vote.signer for _, vote in run.lies(Vote)} | {p.block.header.proposer for _, p in run.lies(Proposal)}
    assert claimed == {0, 1, 2, 3}
    assert (
        run.struck("another signer") and run.struck("proposer is not the leader") and run.struck("not from its leader")
    )
    assert {peer for peer, _ in run.seen.strikes} == {1}


@pytest.mark.parametrize("mode", STRATEGIES["amnesia"].MODES)
def test_amnesia_contradicts_its_former_life(mode: str) -> None:
    run = alone("amnesia", mode, seconds=1, parameters=NEAR)
    assert run.world.coverage["amnesia"] > 1
    said: dict[tuple[str, int], set[bytes]] = defaultdict(set)
    for lie in run.seen.lies:
        if isinstance(lie.message, BatchMessage) and lie.message.batch.author == 1:
            said["batch", lie.message.batch.seq].add(lie.message.batch.ref.digest)
        elif isinstance(lie.message, Vote):
            said["vote", lie.message.view].add(lie.message.block_id)
        elif isinstance(lie.message, Proposal):
            said["proposal", lie.message.block.header.view].add(lie.message.block.id)
    assert any(len(words) > 1 for words in said.values())


def test_a_mutator_changes_every_kind_of_message() -> None:
    run = attack({1: [strategy("mutator"), Recorder(random.Random(1))]}, seconds=2, seed=1)
    recorder = run.world.nodes[1].strategies[0].strategies[1]  # type: ignore[attr-defined]
    own = {bytes(word.encoding) for word in recorder.words}
    changed = Counter(type(lie.message).__name__ for lie in run.seen.lies if bytes(lie.message.encoding) not in own)
    assert {"Proposal", "Vote", "NewView", "Timeout", "Ack"} <= set(changed)
    assert sum(changed.values()) > 100 and len({reason for _, reason in run.seen.strikes}) > 5


class Recorder(Strategy):
    """Remembers what the core said, from the forger's memory of it."""

    def attach(self, world: World, node: Any, forger: Any) -> None:
        super().attach(world, node, forger)
        self.words: list[Any] = []
        saw = forger.saw

        def record(message: Any) -> None:
            self.words.append(message)
            saw(message)

        forger.saw = record


# Validator 0 is the first whom the others ask.
@pytest.mark.parametrize("seed", range(3))
def test_a_lying_server_of_blocks_is_found_out(seed: int) -> None:
    lies = [strategy("selective-delivery", "proposals", seed), strategy("lying-sync-server", seed=seed)]
    run = attack({0: lies}, seconds=0.6, seed=seed)
    assert len(run.lies(BlockResponse)) > 5
    assert run.struck("block response with another block")
    run.assert_harmless()


@pytest.mark.parametrize("seed", range(2))
def test_a_lying_server_of_pages_does_not_stop_catching_up(seed: int) -> None:
    def fall_behind(world: World) -> None:
        world.schedule(10_000, world.nodes[2].crash)
        world.schedule(1_800_000, world.nodes[2].start)

    quick = replace(NEAR, view_timeout_ms=10, spread_ms=2)
    lies = {0: [strategy("lying-sync-server", seed=seed)]}
    run = attack(lies, seconds=2.2, before=fall_behind, seed=seed, parameters=quick)
    assert any(not is_page(run, page) for _, page in run.lies(ChainResponse))
    run.assert_harmless()


def is_page(run: Attack, page: ChainResponse) -> bool:
    """Could an honest server have sent it?"""
    chain = run.chain()[page.from_height - 1 :][: len(page.blocks)]
    proof = page.commit_qc
    return proof is not None and list(page.blocks) == chain and proof.commit_id == chain[-1].id


def test_lies_of_a_server_are_of_all_kinds() -> None:
    run = attack({1: []}, seconds=0.5)
    liar = strategy("lying-sync-server")
    liar.attach(run.world, run.world.nodes[1], run.forger)
    honest = run.world.nodes[0].disk.page(1)
    pages = [message for _ in range(200) for _, message in liar.sending(0, honest)]
    chain = run.chain()
    assert any(page.blocks == () for page in pages)  # type: ignore[union-attr]
    kinds = {kind_of_lie(page, honest, chain) for page in pages}
    assert kinds == {"none", "empty", "short", "reversed", "foreign", "other", "label", "proof"}


def kind_of_lie(page: Any, honest: ChainResponse, chain: list[Block]) -> str:
    """What is wrong with a page."""
    if page == honest:
        return "none"
    if not page.blocks:
        return "empty"
    if page.from_height != honest.from_height:
        return "label"
    if page.blocks == honest.blocks:
        return "proof"
    if page.blocks == honest.blocks[::-1]:
        return "reversed"
    if page.blocks == honest.blocks[: len(page.blocks)]:
        return "short"
    return "foreign" if page.blocks[0].id not in {block.id for block in chain} else "other"


# ---- coordinated ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", list(Mode))
def test_a_hidden_qc_is_shown_to_one_replica_only(protocol: Mode) -> None:
    run = alone("hidden-qc", "lock", seconds=1.2, protocol=protocol)
    shown: dict[bytes, set[int]] = defaultdict(set)
    for lie in run.seen.lies:
        qc = lie.message.high_qc if isinstance(lie.message, NewView) else None
        if qc is not None and leader_of(run, qc.view) == 1 and qc.phase is PHASES[protocol][-2:][0]:
            shown[qc.block_id].add(lie.to)
    secrets = [to for to in shown.values() if len(to) == 1]
    assert len(secrets) > 2
    failed = {tc.view for tc in run.forger.tcs.values() if leader_of(run, tc.view) == 1}
    assert failed, "its views must fail although their blocks are certified"
    run.assert_harmless()


def test_a_hidden_qc_locks_a_replica_that_hotstuff2_then_waits_for_in_vain() -> None:
    run = alone("hidden-qc", "lock", seconds=2, protocol=Mode.HOTSTUFF2)
    assert run.world.coverage["lock_refused"] > 2
    run.assert_harmless()


def test_the_coalition_builds_on_a_secret_qc_when_the_rules_let_it() -> None:
    # With less than a third of the power it takes a bad network: honest replicas spread what they know in time.
    coalition = {i: [strategy("hidden-qc", "fork", seed=i)] for i in (1, 2, 3)}
    run = attack(coalition, nodes=7, seconds=1, protocol=Mode.BASIC)
    secret = [p for _, p in run.lies(Proposal) if p.block.header.justify.block_id in run.forger.secrets]
    late = [p for p in secret if p.entry_tc is not None and p.block.header.justify.view + 1 < p.block.header.view]
    assert late
    for proposal in late:
        assert malformed(proposal.block.header, run.world.context, run.world.leaders) is None
        assert proves_view(proposal) and run.world.verifier.check(proposal)


@pytest.mark.parametrize("protocol", list(Mode))
def test_a_split_brain_divides_the_others_and_no_half_is_a_quorum(protocol: Mode) -> None:
    run = attack({i: [strategy("split-brain")] for i in (1, 2)}, nodes=7, seconds=0.5, protocol=protocol)
    shown: dict[int, dict[bytes, set[int]]] = defaultdict(lambda: defaultdict(set))
    for to, block in own_proposals(run):
        shown[block.header.view][block.id].add(to)
    halves = [[len(to - {1, 2}) for to in blocks.values()] for blocks in shown.values()]
    assert [2, 3] in halves or [3, 2] in halves
    run.assert_harmless()


@pytest.mark.parametrize("protocol", list(Mode))
def test_with_a_third_of_the_power_a_split_brain_forks(protocol: Mode) -> None:
    run = attack({i: [strategy("split-brain")] for i in (1, 2, 3)}, nodes=7, seconds=0.5, protocol=protocol)
    at_height = [{block.id for block in blocks if block is not None} for blocks in zip_longest(*executed(run))]
    stopped = [node for node in run.world.honest() if not node.alive]
    assert stopped or any(len(blocks) == 2 for blocks in at_height), "the harness must be able to see a fork"


def executed(run: Attack) -> list[list[Block]]:
    return [node.disk.executed for node in run.world.honest()]


# ---- the registry ---------------------------------------------------------------------------------------------------


def test_every_strategy_has_a_name_and_one_line() -> None:
    lines = described()
    assert list(lines) == sorted(STRATEGIES) and len(set(lines.values())) == len(STRATEGIES)
    assert all(line.endswith((".", ":")) or len(line) > 20 for line in lines.values())


def test_a_mix_has_one_to_three_different_strategies() -> None:
    mixes = [mix(random.Random(seed)) for seed in range(200)]
    assert {len(found) for found in mixes} == {1, 2, 3}
    assert all(len({type(one) for one in found}) == len(found) for found in mixes)
    assert {type(one) for found in mixes for one in found} == set(STRATEGIES.values())
    assert len(mix(random.Random(1), 5)) == 5


def test_the_seed_decides_the_mix() -> None:
    def shape(seed: int) -> list[tuple[type[Strategy], str, float]]:
        return [(type(one), one.mode, one.chance.random()) for one in mix(random.Random(seed))]

    assert shape(7) == shape(7) != shape(8)
    one, other = make(["replayer", "replayer"], random.Random(1))
    assert one.chance.random() != other.chance.random(), "each has its own stream"
