"""What differs between protocols: what a certificate commits, what it locks, when a proposal is safe.

                 phases   commit                   lock                          safe to vote
    ----------   ------   ----------------------   ---------------------------   -------------------------------------
    basic        3        its COMMIT-QC            PRECOMMIT-QC                  justify.view >= lock.view
    chained      1        3 consecutive views      the justify of a certified    justify.view >= lock.view
                                                   block
    hotstuff2    1        2 consecutive views      every QC                      justify.view >= lock.view
    jolteon      1        2 consecutive views      -                             QC of the view before, or not below
                                                                                 the highest QC of the entry TC

Pacemaker, tree, storage and network do not know which of these runs. All four close a view for voting once it is timed
out, and every timeout reports the highest QC: that is what jolteon's TC test rests on, and it does the others no harm.
"""

from __future__ import annotations

from typing import Protocol

from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import PHASES, Mode, Phase


class Rules(Protocol):
    """One protocol."""

    mode: Mode
    phases: tuple[Phase, ...]
    """The votes of one view, in order. The last one's QC ends the view."""
    commit_depth: int
    """Consecutive views that a commit takes: a QC of view v commits a block of view v - commit_depth + 1."""
    leader_waits: bool
    """After a failed view, must the leader give every honest lock the time to reach it before it proposes?"""

    def commit_id(self, tree: BlockTree, node: Node, phase: Phase) -> bytes:
        """The block that a QC of `phase` for `node` commits; zero if none.

        A function of the block and its ancestors only. The root of an epoch counts as a block of view 0.
        """
        ...

    def lock(self, qc: QC, certified: Node | None) -> QC | None:
        """What a replica that knows `qc` locks on, if anything; `certified` is the block of `qc`, if it is here."""
        ...

    def safe(self, view: int, justify: QC, entry_tc: TC | None, locked_qc: QC) -> bool:
        """May a replica with this lock vote for a block of `view` that rests on `justify`?"""
        ...


def _not_below_lock(justify: QC, locked_qc: QC) -> bool:
    """`justify.view >= locked_qc.view`.

    This is "extends the lock, or is justified higher" (safeNode): an equal view means the same block, and a branch
    justified below the lock cannot extend it.
    """
    return justify.view >= locked_qc.view


def _parent_if_consecutive(node: Node) -> bytes:
    """The parent, if its view is the one before."""
    consecutive = node.block is not None and node.justify.view + 1 == node.view
    return node.parent_id if consecutive else ZERO_HASH


class Basic:
    """Basic HotStuff (arXiv 1803.05069, section 4): three votes in a view, the third QC commits.

    Safety: a COMMIT-QC of view v has a quorum behind it that stored the PRECOMMIT-QC of v as its lock before it voted.
    The first conflicting block certified in a later view needs one of these voters, and is justified below v, or by
    induction it would extend the committed block. The lock forbids that vote.

    Liveness without a wait: a lock of view v means that a quorum stored the PREPARE-QC of v before it could time out
    of v. Every later TC has one of them, reports v or higher, and the leader proposes on at least that.

    A justify may be of any phase: all QCs of one view certify the same block, so only the view matters.
    """

    mode = Mode.BASIC
    phases = PHASES[Mode.BASIC]
    commit_depth = 1
    leader_waits = False

    def commit_id(self, tree: BlockTree, node: Node, phase: Phase) -> bytes:
        """The block itself, in the last phase."""
        return node.id if phase is Phase.COMMIT else ZERO_HASH

    def lock(self, qc: QC, certified: Node | None) -> QC | None:
        """A PRECOMMIT-QC, and also a COMMIT-QC: whoever learns the later one first must not miss the lock."""
        return None if qc.phase is Phase.PREPARE else qc

    def safe(self, view: int, justify: QC, entry_tc: TC | None, locked_qc: QC) -> bool:
        """Not below the lock."""
        return _not_below_lock(justify, locked_qc)


class Chained:
    """Chained HotStuff (arXiv 1803.05069, section 5), three-chain.

    Safety: let b3 <- b2 <- b1 have consecutive views and QCs. Each honest voter of b1 saw the QC of b2 first, so it is
    locked on the QC of b3 or higher. One view certifies one block, so the first conflicting block certified above b3
    has a view above b1's, and needs a voter of b1 to accept a justify below b3's view. Its lock forbids that.
    """

    mode = Mode.CHAINED
    phases = PHASES[Mode.CHAINED]
    commit_depth = 3
    leader_waits = False

    def commit_id(self, tree: BlockTree, node: Node, phase: Phase) -> bytes:
        """The grandparent, if the three views are consecutive.

        A chain of parents is not enough: with b3@1 <- b2@3 <- b1@4, view 2 may have certified a block that conflicts
        with b3, and replicas locked there can go on from it.
        """
        parent = tree.parent(node)
        grandparent = parent and tree.parent(parent)
        if not parent or not grandparent:
            return ZERO_HASH
        consecutive = node.view == parent.view + 1 == grandparent.view + 2
        return grandparent.id if consecutive else ZERO_HASH

    def lock(self, qc: QC, certified: Node | None) -> QC | None:
        """The head of the two-chain: the justify inside the certified block."""
        return certified.justify if certified is not None and certified.block is not None else None

    def safe(self, view: int, justify: QC, entry_tc: TC | None, locked_qc: QC) -> bool:
        """Not below the lock."""
        return _not_below_lock(justify, locked_qc)


class HotStuff2:
    """HotStuff-2 (eprint 2023/397): two-chain with a lock on every QC seen.

    Safety: let b <- b1 have consecutive views v, v+1 and QCs. Each honest voter of b1 saw the QC of b first and is
    locked on v or higher. The first conflicting block certified above b has a view above v+1, because one view
    certifies one block, and needs a voter of b1 to accept a justify below v. Its lock forbids that.

    Liveness: after a failed view an honest replica may hold a lock that the leader has not heard of, and its vote may
    be indispensable. So the leader waits for every such replica (`leader_waits`): until it has heard from all, or
    until all honest ones must have been heard. With the QC of the view before there is no higher lock and no wait.
    """

    mode = Mode.HOTSTUFF2
    phases = PHASES[Mode.HOTSTUFF2]
    commit_depth = 2
    leader_waits = True

    def commit_id(self, tree: BlockTree, node: Node, phase: Phase) -> bytes:
        """The parent, if the two views are consecutive; a gap may hide a certified block that conflicts."""
        return _parent_if_consecutive(node)

    def lock(self, qc: QC, certified: Node | None) -> QC | None:
        """Every QC, whether its block is here or not."""
        return qc

    def safe(self, view: int, justify: QC, entry_tc: TC | None, locked_qc: QC) -> bool:
        """Not below the lock."""
        return _not_below_lock(justify, locked_qc)


class Jolteon:
    """Jolteon (arXiv 2106.10362): two-chain, justified by timeout certificates instead of locks.

    Safety: let b <- b1 have consecutive views v, v+1 and QCs. Each honest voter of b1 knew the QC of b before it could
    time out of any view from v+1 on, and votes in no view that it has timed out. So a TC of such a view shares an
    honest signer with the QC of b1 and reports v or higher, and by induction every block certified above v+1 rests on
    a QC of view v or higher: it extends b. Four conditions carry this: one vote in a view, none in a timed-out view,
    timeouts report at least what was voted on, voters check the TC.

    Liveness: the TC proves that the leader's QC is high enough, so a replica with a higher one votes all the same. A
    test against its own QC would add nothing to safety and bring back the livelock of hidden locks.
    """

    mode = Mode.JOLTEON
    phases = PHASES[Mode.JOLTEON]
    commit_depth = 2
    leader_waits = False

    def commit_id(self, tree: BlockTree, node: Node, phase: Phase) -> bytes:
        """The parent, if the two views are consecutive; a gap may hide a certified block that conflicts."""
        return _parent_if_consecutive(node)

    def lock(self, qc: QC, certified: Node | None) -> QC | None:
        """No locks."""
        return None

    def safe(self, view: int, justify: QC, entry_tc: TC | None, locked_qc: QC) -> bool:
        """On the QC of the view before; or, after a failed view, not below what its TC reports."""
        if justify.leads_to == view:
            return True
        return entry_tc is not None and entry_tc.view + 1 == view and justify.view >= entry_tc.high_qc.view


RULES: dict[Mode, Rules] = {rules.mode: rules for rules in (Basic(), Chained(), HotStuff2(), Jolteon())}
