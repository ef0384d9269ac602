"""The core of one replica: certificates in, votes and commits out. A state machine without I/O, clock or randomness.

    enter v      when a QC or TC of view v-1 is known; nothing else moves the view
    propose      leader(v), on the highest QC, as soon as there is something to order or a tail to commit
    vote         once the block, its ancestors and its bodies are here and `safety` agrees; to leader(v) and leader(v+1)
    vote again   (basic) on the QC of the phase before, which leader(v) collects and spreads at once
    certify      leader(v+1) collects and carries the last QC of a view in its proposal; leader(v) is its backup
    commit       what a QC's `commit_id` names, and its ancestors, oldest first
    time out     broadcast, again and again; f+1 timeouts are joined, a quorum of them is a TC

Deviations from protocol text, and why they keep its argument:

* leader(v) does not aggregate and spread QC(v) at once but after a pause, and only if the proposal of view v+1 has
  not come by then. In the good case nobody verifies two QCs for one block; after the crash of leader(v+1) everybody
  learns QC(v) within the pause, long before the view's timer. Who forms a QC and has nothing to propose spreads it at
  once.
* View timers run only while there is work (a batch that a quorum holds, or an uncommitted block that is not empty):
  an idle cluster is silent.
* A timed-out view is closed for voting in every protocol, not only where safety needs it: one rule less to think of.
* basic needs no NewView quorum: the leader enters by a COMMIT-QC, above which there is no lock, or by a TC, which is
  a quorum's report already (`rules.Basic`). A QC that leaves votes of its view open opens that view to who is behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hotstuff.consensus import validity
from hotstuff.consensus.collector import Collector
from hotstuff.consensus.desk import Desk
from hotstuff.consensus.divergence import Divergence
from hotstuff.consensus.effects import (
    BatchStored,
    Broadcast,
    Check,
    Checkable,
    Checked,
    Collected,
    Connected,
    Effect,
    Event,
    Executed,
    Persist,
    Received,
    Report,
    Send,
    Start,
    Strike,
    Tick,
)
from hotstuff.consensus.leaders import Leaders
from hotstuff.consensus.pacemaker import Pacemaker, Suspects
from hotstuff.consensus.payload import Availability, Payload
from hotstuff.consensus.recovery import Recovery
from hotstuff.consensus.rules import Rules
from hotstuff.consensus.safety import Safety
from hotstuff.consensus.sync import Sync
from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.consensus.witness import Witness
from hotstuff.errors import InvariantViolation
from hotstuff.types.block import Block, Header, payload_root
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.evidence import Evidence
from hotstuff.types.hashing import Context, Phase
from hotstuff.types.messages import (
    MAX_PAGE_BLOCKS,
    MAX_PAGE_BYTES,
    BatchMessage,
    BlockRequest,
    BlockResponse,
    ChainResponse,
    NewView,
    Proposal,
    RecoveryRequest,
    RecoveryResponse,
    StateReport,
    Timeout,
    Vote,
)
from hotstuff.types.validators import ValidatorSet


@dataclass(frozen=True)
class Timing:
    """Local durations; they may differ between replicas without harm to safety.

    `view_timeout_ms` must exceed five network delays plus the time to check and store a block. `spread_ms` is how
    long leader(v) waits for the next proposal before it spreads QC(v) itself.
    """

    view_timeout_ms: int
    spread_ms: int
    fetch_retry_ms: int


class Replica:
    """One validator's consensus instance. `step` is the only way in."""

    def __init__(
        self,
        *,
        context: Context,
        validators: ValidatorSet,
        rules: Rules,
        leaders: Leaders,
        safety: Safety,
        root: Node,
        blocks: Iterable[Block],
        commit_qc: QC | None,
        payload: Callable[[list[Effect], Desk], Payload],
        timing: Timing,
    ) -> None:
        """`root` is the last block that was executed, `blocks` the stored ones above it, in ascending height."""
        self.index = safety.index
        self.safety = safety
        self.effects: list[Effect] = []
        self.tree = BlockTree(root)
        self._context = context
        self._validators = validators
        self._rules = rules
        self._leaders = leaders
        self._timing = timing
        self._desk = Desk(self.effects)
        self._collector = Collector(context, validators, self.effects, self._desk.new_job)
        self._pacemaker = Pacemaker(timing.view_timeout_ms * 1000, rules.commit_depth)
        self._suspects = Suspects(len(validators))
        self._sync = Sync(self.index, len(validators), timing.fetch_retry_ms * 1000, self.effects)
        self._recovery = Recovery(self.index, validators, self.effects)
        self._witness = Witness(rules.mode)
        self._divergence = Divergence(self.index, validators, self.effects)
        self._payload = payload(self.effects, self._desk)
        self._commit_qc = commit_qc
        self._proposal: Proposal | None = None
        self._helped: dict[int, tuple[int, int]] = {}
        self._may_author = self._may_ack = False
        self._unspread: QC | None = None
        self._heard = {safety.index}
        self._persisted = safety.record
        self._now_us = 0
        self._desk.trust(QC.genesis(context))
        self._restore(blocks)

    # ---- the way in

    def step(self, event: Event, now_us: int, *, more: bool = False) -> list[Effect]:
        """Handle one event; returns the effects in order (see `effects`).

        `more`: the next step follows at once, so what we do about this event can wait for it.
        """
        self._now_us = now_us
        if isinstance(event, Received):
            self._receive(event.peer, event.message)
        elif isinstance(event, Checked):
            for peer, message in self._desk.done(event.job, event.valid):
                self._receive(peer, message)
            self._convict(self._witness.verified(event.job, event.valid))
        elif isinstance(event, Collected):
            self._certified(self._collector.collected(event))
        elif isinstance(event, Connected):
            self._greet(event.peer)
        elif isinstance(event, Start):
            self._resume()
        elif isinstance(event, Tick):
            self._tick()
        elif isinstance(event, BatchStored):
            self._witness.stored(event.batch)
        elif isinstance(event, Executed):
            self._divergence.executed(event.height, event.state)
        if not isinstance(event, (Received, Checked, Collected)):
            self._step_payload(event)
        if not more:
            self._act()
        effects, self.effects[:] = self.effects[:], []
        return effects

    def _act(self) -> None:
        self._advance()
        if self._duties() != (self._may_ack, self._may_author):
            self._step_payload(Tick())  # otherwise it would hear of it with the next client or batch, if ever

    def deadline_us(self) -> int | None:
        """When to step with `Tick` at the latest."""
        times = (
            self._pacemaker.view_deadline_us,
            self._pacemaker.rebroadcast_us,
            self._pacemaker.propose_from_us,
            self._collector.deadline_us(),
            self._sync.deadline_us(self._payload.backlog()),
            self._payload.deadline_us(),
        )
        return min((time for time in times if time is not None), default=None)

    @property
    def view(self) -> int:
        """The current view."""
        return self.safety.record.current_view

    # ---- messages

    def _receive(self, peer: int, message: Any) -> None:
        handler = _HANDLERS.get(type(message))
        if handler is not None:
            handler(self, peer, message)
        else:
            if isinstance(message, BatchMessage):
                self._witness.batch(peer, message.batch)
            self._step_payload(Received(peer, message))

    def _step_payload(self, event: Event) -> None:
        self._may_ack, self._may_author = self._duties()
        before = len(self.effects)
        self._payload.step(event, self._now_us, may_ack=self._may_ack, may_author=self._may_author)
        for effect in self.effects[before:]:  # small batches; of larger ones `BatchStored` tells
            if isinstance(effect, Persist):
                for batch in effect.batches:
                    self._witness.stored(batch)

    def _duties(self) -> tuple[bool, bool]:
        """May we acknowledge batches, and may we author them?"""
        record = self.safety.record
        caught_up = not self._sync.catching_up and self.tree.get(record.high_qc.block_id) is not None
        return not record.passive, caught_up and not record.passive

    def _on_proposal(self, peer: int, proposal: Proposal) -> None:
        """Learn its certificates, place its block; `_advance` votes. One proposal counts for each view."""
        header = proposal.block.header
        wrong = self._malformed(header)
        if wrong is not None or peer != header.proposer or not validity.proves_view(proposal):
            self.effects.append(Strike(peer, f"proposal: {wrong or 'not from its leader, or its view not proven'}"))
            return
        self._witness.proposal(proposal)
        if header.view < self.view and not self._sync.wants(header.id):
            self._help(peer)
            return
        known = self._proposal
        if known is not None and known.block.header.view == header.view and known.block.id != header.id:
            return
        certificates = _certificates_of(header.justify, proposal.entry_tc)
        if not self._desk.ready(peer, proposal, [*certificates, proposal]):
            return
        self._witness.header(header)
        self._process_qc(header.justify)
        if proposal.entry_tc is not None:
            self._process_tc(proposal.entry_tc)
        if header.view == self.view:
            self._proposal = proposal
        self._place(proposal.block)

    def _on_vote(self, peer: int, vote: Vote) -> None:
        """Collected unverified; the channel says who it is from, so nobody can take another's place."""
        if vote.signer != peer or vote.epoch != self._context.epoch or vote.phase not in self._rules.phases:
            self.effects.append(Strike(peer, "vote for another signer, epoch or protocol"))
            return
        self._witness.vote(vote)
        if self.index in self._vote_targets(vote.view, vote.phase):
            self._collector.add_vote(vote, self.view)

    def _on_timeout(self, peer: int, timeout: Timeout) -> None:
        """Its certificates first (they may bring us to its view), then the share, if it is of our view.

        The attached QC is verified before the share counts: otherwise one signer could claim a QC of view 2^62, and
        every TC with its share would demand an impossible one.
        """
        if timeout.signer != peer or not validity.proves_entry(timeout, self._context):
            self.effects.append(Strike(peer, "timeout for another signer, or without proof of entry"))
            return
        if not self._desk.ready(peer, timeout, _certificates_of(timeout.high_qc, timeout.prev_tc)):
            return
        self._process_qc(timeout.high_qc)
        if timeout.prev_tc is not None:
            self._process_tc(timeout.prev_tc)
        # Who times out while we wait for nothing lacks something that we have: a commit, or the end of a view.
        if timeout.view < self.view or not self._has_work():
            self._help(peer)
        self._witness.timeout(timeout)
        self._collector.add_timeout(timeout, self.view)

    def _on_new_view(self, peer: int, message: NewView) -> None:
        """Certificates that are news to us. Old ones are not worth a check; who has no better ones is helped."""
        record, qc, tc = self.safety.record, message.high_qc, message.high_tc
        if message.view < self.view:
            self._help(peer)
        fresh_qc = qc if qc.rank > record.high_qc.rank or self._commits_more(qc) else None
        fresh_tc = tc if tc is not None and tc.view >= self.view else None
        if not self._desk.ready(peer, message, _certificates_of(fresh_qc, fresh_tc)):
            return
        if fresh_qc is not None:
            self._process_qc(fresh_qc)
        if fresh_tc is not None:
            self._process_tc(fresh_tc)
        if message.view == self.view:
            self._heard.add(peer)

    def _on_block_request(self, peer: int, request: BlockRequest) -> None:
        """Answer from memory: recent blocks only. Older ones are served by height, from storage."""
        limit = min(request.limit, MAX_PAGE_BLOCKS)
        blocks = self.tree.ancestors(request.block_id, request.above_height, limit)
        size = 0
        page: list[Block] = []
        for block in blocks:
            size += len(block.encoding)
            if page and size > MAX_PAGE_BYTES:
                break
            page.append(block)
        self.effects.append(Send(peer, BlockResponse(request.block_id, tuple(page))))

    def _on_block_response(self, peer: int, response: BlockResponse) -> None:
        """Blocks pinned by hash: the first by a verified QC, each other one by the block before it."""
        expected = response.block_id
        if not response.blocks or not self._sync.wants(expected):
            return
        for block in response.blocks:
            if block.id != expected or self._malformed(block.header) is not None:
                self.effects.append(Strike(peer, "block response with another block than asked for"))
                return
            expected = block.header.parent_id
        if response.blocks[0].header.height > self.tree.root.height + MAX_PAGE_BLOCKS:
            self._sync.start_chain((peer,), self._now_us)
        for block in reversed(response.blocks):
            self._place(block)

    def _on_chain_response(self, peer: int, response: ChainResponse) -> None:
        """A page of committed blocks: the QC commits the last one, hashes pin the others down to our root."""
        if not self._sync.awaits(peer):
            return
        if response.commit_qc is not None and not self._desk.ready(peer, response, [response.commit_qc]):
            return
        before = self.tree.root.height
        self._take_page(peer, response)
        self._sync.page_arrived(peer, useful=self.tree.root.height > before, now_us=self._now_us)

    def _take_page(self, peer: int, response: ChainResponse) -> None:
        expected = self.tree.root.id
        for block in response.blocks:
            if block.header.parent_id != expected or self._malformed(block.header) is not None:
                if block.header.height > self.tree.root.height:
                    self.effects.append(Strike(peer, "chain response that does not continue our chain"))
                return
            expected = block.id
        if response.commit_qc is None:
            return
        if response.commit_qc.commit_id != expected:
            self.effects.append(Strike(peer, "chain response whose QC does not commit its last block"))
            return
        for block in response.blocks:
            self._place(block)
        self._process_qc(response.commit_qc)
        # A higher commit certificate may be known already, and its block far away: this one commits what is here.
        self._commit(response.commit_qc)

    def _on_recovery_request(self, peer: int, _request: RecoveryRequest) -> None:
        record = self.safety.record
        self.effects.append(Send(peer, RecoveryResponse(record.high_qc, record.high_tc)))

    def _on_recovery_response(self, peer: int, response: RecoveryResponse) -> None:
        certificates = _certificates_of(response.high_qc, response.high_tc)
        if self.safety.record.passive and self._desk.ready(peer, response, certificates):
            self._process_qc(response.high_qc)
            if response.high_tc is not None:
                self._process_tc(response.high_tc)
            self._recovery.answered(peer, response.view)

    def _on_state_report(self, peer: int, report: StateReport) -> None:
        self._divergence.reported(peer, report)

    # ---- certificates

    def _process_qc(self, qc: QC) -> None:
        """A verified QC: raises high_qc whatever its view is, commits, and moves the view if it is high enough.

        A QC of a view that we already left by a TC still counts: dropping it would let our next timeout hide it.
        """
        self._witness.qc(qc)
        before = self.view
        news = qc.rank > self.safety.record.high_qc.rank
        if news and qc.phase.ends_view:
            self._suspects.succeeded(self._leaders.leader(qc.view))
        node = self.tree.get(qc.block_id)
        self.safety.learn(high_qc=qc, locked_qc=self._rules.lock(qc, node))
        self._learn_commit(qc)
        if node is None and qc.view > self.tree.root.view:
            self._sync.want(qc.block_id, self._signers(qc), qc.view, self._now_us)
        self._try_commit()
        if self.view > before:
            self._enter(by_tc=False)
        elif news and self._rules.leader_waits:
            self._tell_leader()

    def _commits_more(self, qc: QC) -> bool:
        return qc.commit_id != ZERO_HASH and (self._commit_qc is None or qc.view > self._commit_qc.view)

    def _learn_commit(self, qc: QC) -> None:
        if self._commits_more(qc):
            self._commit_qc = qc

    def _process_tc(self, tc: TC) -> None:
        """A verified TC: its QC first, then the view."""
        self._process_qc(tc.high_qc)
        self._witness.tc(tc)
        before = self.view
        self.safety.learn(high_tc=tc)
        if self.view > before:
            self._suspects.failed(self._leaders.leader(tc.view))
            self._payload.view_failed(tc.view)
            self._enter(by_tc=True)

    def _certified(self, certificate: QC | TC | None) -> None:
        """We formed a certificate ourselves."""
        if certificate is None:
            return
        self._desk.trust(certificate)
        if isinstance(certificate, TC):
            self.effects.append(Report("tc_formed", {"view": certificate.view}))
            self._process_tc(certificate)
            return
        self._process_qc(certificate)
        self._unspread = certificate

    def _enter(self, *, by_tc: bool) -> None:
        view = self.view
        self._pacemaker.enter(view)
        self._collector.enter(view)
        self._witness.enter(view)
        if self._proposal is not None and self._proposal.block.header.view < view:
            self._proposal = None
        self._heard = {self.index}
        if by_tc:
            self._after_failed_view()
        self.effects.append(Report("view_entered", {"view": view, "by": "tc" if by_tc else "qc"}))

    def _after_failed_view(self) -> None:
        """The leader is told what we know; where every lock must reach it first, it waits for that."""
        self._tell_leader()
        if self._rules.leader_waits and self._leaders.leader(self.view) == self.index:
            self._pacemaker.hold_proposal(self._last_commit_view(), self._now_us)

    def _tell_leader(self) -> None:
        leader = self._leaders.leader(self.view)
        if leader != self.index:
            self._send_certificates(leader)

    # ---- blocks

    def _place(self, block: Block) -> None:
        """Into the tree if its parent is there, with every held descendant; else hold it and ask for the parent."""
        queue = [block]
        while queue:
            block = queue.pop()
            header = block.header
            if self.tree.find(block.id) is not None or header.height <= self.tree.root.height:
                self._sync.forget(block.id)
                continue
            parent = self.tree.get(header.parent_id)
            if parent is None and header.justify.view <= self.tree.root.view:
                self._abandon(block)
                continue
            if parent is None:
                self._sync.hold(block)
                self._sync.want(header.parent_id, self._signers(header.justify), header.justify.view, self._now_us)
                continue
            self._sync.forget(block.id)
            if self._add(block, parent):
                queue += self._sync.children(block.id)
        self._try_commit()

    def _abandon(self, block: Block) -> None:
        """A block on a branch that left the chain below our root: its parent never comes into the tree.

        If the highest commit certificate names it or a descendant, two conflicting blocks were committed: a third or
        more of the power is Byzantine, and whatever we go on to say would be one of two truths.
        """
        self._sync.forget(block.id)
        qc = self._commit_qc
        if qc is not None and self._sync.lowest_missing(qc.commit_id) in (block.id, block.header.parent_id):
            raise InvariantViolation(
                f"safety violation: committed block {qc.commit_id.hex()} does not extend {self.tree.root.id.hex()} "
                f"at height {self.tree.root.height}"
            )

    def _add(self, block: Block, parent: Node) -> bool:
        """Check a block against its parent; a certified block passes, because an honest quorum checked it."""
        header = block.header
        included = self._payload.extend(parent.included, block.payload)
        fits = header.height == parent.height + 1 and header.view > parent.view == header.justify.view
        if included is None or not fits:
            self.effects.append(Strike(header.proposer, "block that does not fit its parent"))
            return False
        node = self.tree.add(block, included)
        self._payload.placed(block.payload)
        self._witness.header(header)
        self.effects.append(Persist(blocks=(block,), lazy=True))
        # Its justify is a QC for the parent, verified or below a verified one.
        self.safety.learn(locked_qc=self._rules.lock(header.justify, parent))
        high_qc = self.safety.record.high_qc
        if node.id == high_qc.block_id:
            self.safety.learn(locked_qc=self._rules.lock(high_qc, node))
        return True

    def _try_commit(self) -> None:
        """Commit what the highest commit certificate names, once it is here."""
        if self._commit_qc is not None:
            self._commit(self._commit_qc)

    def _commit(self, qc: QC) -> None:
        """Commit what `qc` names, and its ancestors. Missing blocks delay, never skip."""
        if qc.commit_id == self.tree.root.id:
            return
        target = self.tree.get(qc.commit_id)
        if target is None:
            # Below the root it is an old commit. At the view of the root it would be another block of that view.
            target_view = qc.view - self._rules.commit_depth + 1
            if target_view == self.tree.root.view:
                raise InvariantViolation(f"safety violation: view {target_view} has two committed blocks")
            if target_view > self.tree.root.view:
                self._sync.want(qc.commit_id, self._signers(qc), target_view, self._now_us)
            return
        committed = self.tree.commit(target)
        if not committed:
            return
        blocks = tuple(node.block for node in committed if node.block is not None)
        self._sync.prune(target.height, target.view)
        self.effects.append(Persist(commit_qc=qc, commit_height=target.height, lazy=True))
        self._payload.committed(blocks, self._now_us)
        self.effects.append(Report("committed", {"height": target.height, "view": target.view, "blocks": len(blocks)}))

    # ---- acting

    def _advance(self) -> None:
        """Do whatever the state allows now. Everything here may be tried again at any time."""
        self._rejoin()
        self._vote()
        self._vote_later()
        self._propose()
        self._collector.start_votes(self._now_us, self._patience_us)
        self._collector.start_timeouts(self._now_us, 0)
        if self._collector.timeouts_have_honest():
            self._time_out()
        self._spread()
        for job, evidence in self._witness.take_candidates(self._desk.new_job):
            self.effects.append(Check(job, evidence))
        self._sync.ask(self.tree.root.height, self._payload.backlog(), self._now_us)
        self._keep_time()
        self._persist(lazy=True)

    def _vote(self) -> None:
        """Vote for the proposal of the current view, once everything that it refers to is here."""
        if self._proposal is None:
            return
        block, entry_tc = self._proposal.block, self._proposal.entry_tc
        node = self.tree.get(block.id)
        if node is None or self.safety.refusal(self.safety.request(block.header, entry_tc)) is not None:
            return
        if self._payload.availability(block.payload, block.header.view, self._now_us) is Availability.MISSING:
            return
        commit_id = self._rules.commit_id(self.tree, node, self._rules.phases[0])
        vote = self.safety.vote(block.header, entry_tc, commit_id)
        if vote is not None:
            if self._leaders.leader(vote.view + 1) == self.index:
                self.safety.reserve(vote.view + 1)
            self._send_vote(vote)

    def _vote_later(self) -> None:
        """Vote in the phase after the one that the highest QC certifies, if that leaves the view open (basic).

        Only with the block here: whoever signed a QC can be asked for its block.
        """
        qc = self.safety.record.high_qc
        node = None if qc.phase.ends_view else self.tree.get(qc.block_id)
        if node is None:
            return
        vote = self.safety.later_vote(qc, self._rules.commit_id(self.tree, node, Phase(qc.phase + 1)))
        if vote is not None:
            self._send_vote(vote)

    def _send_vote(self, vote: Vote) -> None:
        self._persist()
        for target in self._vote_targets(vote.view, vote.phase):
            self.effects.append(Send(target, vote))

    def _propose(self) -> None:
        """Propose on the highest QC if we lead the view and there is something to order, or a tail to commit."""
        record, view = self.safety.record, self.view
        informed = self._has_heard_enough()
        if self._leaders.leader(view) != self.index or self.safety.may_have_proposed(view) or record.passive:
            return
        parent = self.tree.get(record.high_qc.block_id)
        if parent is None or parent.view >= view or not informed:
            return
        refs = self._payload.propose(parent.included, view)
        if not refs and not self.tree.tail_uncommitted(parent):
            return
        entry_tc = None if validity.proven_by_justify(view, record.high_qc) else record.high_tc
        header = Header(
            self._context.mode,
            self._context.chain_id,
            self._context.epoch,
            self._context.vset_hash,
            view,
            parent.height + 1,
            parent.id,
            record.high_qc,
            ZERO_HASH if entry_tc is None else entry_tc.key,
            payload_root(refs),
            self.index,
        )
        reserved = record.proposed_view >= view
        signature = self.safety.propose(header)
        if signature is None:
            return
        proposal = Proposal(Block(header, refs), signature, entry_tc)
        for item in (proposal, header.justify, *(() if entry_tc is None else (entry_tc, entry_tc.high_qc))):
            self._desk.trust(item)
        self._persist(lazy=reserved)  # reserved: what forbids another one is on disk already
        self._unspread = None  # it carries our highest QC
        self.effects.append(Broadcast(proposal))
        self.effects.append(Send(self.index, proposal))

    def _spread(self) -> None:
        """We formed a QC and do not carry it in a proposal: tell the others."""
        qc, self._unspread = self._unspread, None
        record = self.safety.record
        if qc is not None and qc.rank == record.high_qc.rank:
            self.effects.append(Broadcast(NewView(qc, None)))

    def _convict(self, evidence: Evidence | None) -> None:
        """Verified evidence: kept for whoever asks, and nothing else follows from it here."""
        if evidence is not None:
            self.effects.append(Persist(evidence=(evidence,), lazy=True))
            for culprit in evidence.culprits:
                charge: dict[str, int | str] = {"kind": evidence.kind.text, "validator": culprit, "view": evidence.view}
                self.effects.append(Report("evidence", charge))

    def _time_out(self) -> None:
        """Give up on the current view: durable, then broadcast, then repeated until the view ends."""
        if self.safety.record.timed_out_view >= self.view:
            return
        timeout = self.safety.timeout()
        if timeout is None:
            return
        self.effects.append(Report("timed_out", {"view": timeout.view, "leader": self._leaders.leader(timeout.view)}))
        self._send_timeout(timeout)

    def _send_timeout(self, timeout: Timeout) -> None:
        self._persist()
        self.effects.append(Broadcast(timeout))
        self.effects.append(Send(self.index, timeout))
        self._pacemaker.timed_out(self._last_commit_view(), self._now_us)

    def _tick(self) -> None:
        pacemaker = self._pacemaker
        if pacemaker.view_deadline_us is not None and pacemaker.view_deadline_us <= self._now_us:
            self._time_out()
        elif pacemaker.rebroadcast_us is not None and pacemaker.rebroadcast_us <= self._now_us:
            self._resend_timeout()

    def _resend_timeout(self) -> None:
        timeout = self.safety.record.last_timeout
        if timeout is not None and timeout.view == self.view:
            self._send_timeout(timeout)

    def _keep_time(self) -> None:
        """The view timer runs while there is work, unless we have given up on the view already."""
        record = self.safety.record
        waiting = not record.passive and record.timed_out_view < self.view and self._has_work()
        suspect = self._suspects.suspect(self._leaders.leader(self.view), self.view)
        if self._rules.leader_waits and self._entered_by_tc():
            suspect = False  # its wait alone may take longer
        self._pacemaker.keep(
            running=waiting, last_commit_view=self._last_commit_view(), now_us=self._now_us, suspect=suspect
        )

    def _has_work(self) -> bool:
        tip = self.tree.get(self.safety.record.high_qc.block_id)
        return tip is None or self.tree.tail_uncommitted(tip) or self._payload.has_work(tip.included)

    def _persist(self, *, lazy: bool = False) -> None:
        """Everything signed so far becomes durable before whatever is sent after this.

        Lazy where nothing was signed: certificates that were only learned prove themselves and can be lost. A block
        is written with the vote for it; a proposal needs only the record that forbids another one in its view.
        """
        record = self.safety.record
        if record != self._persisted:
            self.effects.append(Persist(safety=record, lazy=lazy))
            self._persisted = record
            if not lazy:
                self._payload.synced()

    # ---- joining, leaving and helping

    def _restore(self, blocks: Iterable[Block]) -> None:
        """Rebuild the tree from stored blocks; what does not connect is asked for again."""
        for block in blocks:
            parent = self.tree.get(block.header.parent_id)
            included = self._payload.extend(parent.included, block.payload) if parent is not None else None
            if included is not None:
                self.tree.add(block, included)
        record = self.safety.record
        for certificate in (record.high_qc, record.locked_qc, record.high_tc, self._commit_qc):
            if certificate is not None:
                self._desk.trust(certificate)
        # What it commits may not have been here yet when it was learned; nobody sends the same QC twice.
        self._learn_commit(record.high_qc)
        self._pacemaker.enter(self.view)
        self._collector.enter(self.view)
        self._witness.enter(self.view)

    def _resume(self) -> None:
        """First step of a life: commit what was committed, ask for what is missing, repeat what was said.

        A record that is ahead of its own certificates keeps us silent until the others have passed it (the rules of
        `safety` see to that); somebody should know why.
        """
        record = self.safety.record
        acted = max(record.voted_view, record.timed_out_view, record.proposed_view - 1)  # that one may be reserved
        if acted > self.view:
            self.effects.append(Report("record_ahead", {"acted_in_view": acted, "view": self.view}))
        high_qc = self.safety.record.high_qc
        if self.tree.get(high_qc.block_id) is None:
            self._sync.want(high_qc.block_id, self._signers(high_qc), high_qc.view, self._now_us)
        self._try_commit()
        if self._entered_by_tc():
            self._after_failed_view()
        self._resend_timeout()
        vote = self.safety.record.last_vote
        if vote is not None and vote.view == self.view:
            self._send_vote(vote)

    def _greet(self, peer: int) -> None:
        """A link came up: whatever was sent to this peer before may be lost."""
        record = self.safety.record
        self._send_certificates(peer)
        if record.passive:
            self._recovery.ask(peer)
        self._divergence.greet(peer)
        if self._proposal is not None and self._proposal.block.header.proposer == self.index:
            self.effects.append(Send(peer, self._proposal))
        vote = record.last_vote
        if vote is not None and vote.view == self.view and peer in self._vote_targets(vote.view, vote.phase):
            self.effects.append(Send(peer, vote))
        if record.last_timeout is not None and record.last_timeout.view == self.view:
            self.effects.append(Send(peer, record.last_timeout))

    def _help(self, peer: int) -> None:
        """A peer acts in a view below ours: show it the way, once for each of our views and now and then again."""
        view, again_us = self._helped.get(peer, (0, 0))
        if peer != self.index and (view != self.view or again_us <= self._now_us):
            self._helped[peer] = self.view, self._now_us + self._timing.fetch_retry_ms * 1000
            self._send_certificates(peer)

    def _send_certificates(self, peer: int) -> None:
        record = self.safety.record
        tc = record.high_tc if record.high_tc is not None and record.high_tc.view > record.high_qc.view else None
        if record.high_qc.view > 0 or tc is not None:
            self.effects.append(Send(peer, NewView(record.high_qc, tc)))
        # The highest commit may be proven by a lower QC, even one that is not on the branch that goes on.
        if self._commit_qc is not None and self._commit_qc.view < record.high_qc.view:
            self.effects.append(Send(peer, NewView(self._commit_qc, None)))

    def _rejoin(self) -> None:
        record = self.safety.record
        if record.passive and self._recovery.may_rejoin(record.high_qc):
            self.safety.rejoin(record.high_qc)
            self.effects.append(Report("rejoined", {"view": record.high_qc.view}))

    # ---- small questions

    def _malformed(self, header: Header) -> str | None:
        return validity.malformed(header, self._context, self._leaders)

    def _vote_targets(self, view: int, phase: Phase) -> tuple[int, ...]:
        """leader(v+1) makes the QC that ends the view, leader(v) if that one fails; others only leader(v)."""
        now, then = self._leaders.leader(view), self._leaders.leader(view + 1)
        return (then, now) if phase.ends_view and now != then else (now,)

    def _patience_us(self, view: int, phase: Phase) -> int:
        """The next leader aggregates at once, the leader of the view itself only if nothing is likely to come."""
        if not phase.ends_view:
            return 0
        following = self._leaders.leader(view + 1)
        at_once = following == self.index or self._suspects.suspect(following, view + 1)
        return 0 if at_once else self._timing.spread_ms * 1000

    def _entered_by_tc(self) -> bool:
        return self.safety.record.high_qc.leads_to != self.view

    def _has_heard_enough(self) -> bool:
        """No wait for locks, or it is over, or everybody has told us its highest QC on entering this view."""
        waited = self._pacemaker.may_propose(self._now_us)
        return waited or self._validators.power(self._heard) == self._validators.total_power

    def _signers(self, qc: QC) -> tuple[int, ...]:
        return () if qc.view == 0 else self._validators.signers(qc.signers)

    def _last_commit_view(self) -> int:
        return self.tree.root.view


def _certificates_of(qc: QC | None, tc: TC | None) -> list[Checkable]:
    """What has to be verified before these are believed; the QC inside a TC is an item of its own."""
    return [item for item in (qc, tc and tc.high_qc, tc) if item is not None]


_HANDLERS: dict[type, Callable[[Replica, int, Any], None]] = {
    Proposal: Replica._on_proposal,
    Vote: Replica._on_vote,
    Timeout: Replica._on_timeout,
    NewView: Replica._on_new_view,
    BlockRequest: Replica._on_block_request,
    BlockResponse: Replica._on_block_response,
    ChainResponse: Replica._on_chain_response,
    RecoveryRequest: Replica._on_recovery_request,
    RecoveryResponse: Replica._on_recovery_response,
    StateReport: Replica._on_state_report,
}
