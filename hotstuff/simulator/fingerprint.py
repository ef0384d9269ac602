"""Copies of an execution, and what tells two of them apart.

Both walk all objects that an execution reaches, whatever fields they have, so a field that the core gains is covered
the day it appears. What is immutable is shared between copies.

`fingerprint` is equal only for executions that behave alike from here on, up to the names of blocks: if two executions
have equal fingerprints, then the same choices for the views to come lead both to the same votes, certificates and
commits, block for block. So it is enough to go on from one of them, and to count it as often as there are others.

Why this holds. The core is deterministic; what it does next follows from its state, the messages under way, the leaders
and the time. All of that goes into the fingerprint, except what is argued here:

* Names of blocks. Ids are hashes; the core only ever asks whether two are equal. An instance proposes once a view, so
  (view, instance, life) names a block in an execution, and ids are replaced by these names. What is in a block goes
  into the fingerprint wherever the block itself is at hand. What no block at hand mentions is forgotten.
* Signatures, and who signed a TC or a timeout that is inside a TC. All are valid, because nobody forges; apart from
  their validity only a TC's view and QC are ever used. The signers of a QC stay: they are asked for blocks in turn.
* Time. Timers are only ever compared with `now`, which only grows, so those that are due are alike, and of the others
  it matters how much is left.
* The past of safety records. A vote or timeout below the current view is never sent again, and numbers of views below
  it forbid nothing that the current view does not forbid. A TC that leads no further than the high QC is never sent
  or built on.
* What is verified: everything is, before it is delivered. Numbers of jobs: none is open between steps.
* Whom one has helped in an earlier view: help is given once for each view. From whom one has heard, unless one waits
  for that.
* Witnesses: they see nothing (`rounds.Blind`), and nothing depends on what they see.

Signers, leaders and the order of messages keep the numbers of validators: renaming validators is left to the generator
of scenarios.
"""

from __future__ import annotations

import hashlib
import marshal
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from types import FunctionType, MethodType
from typing import Any, TypeVar

from hotstuff.consensus.desk import Desk
from hotstuff.consensus.replica import Replica
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.consensus.tree import BlockTree
from hotstuff.simulator.rounds import TIMING, Arena, Execution, Letter, Turns
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC, TC
from hotstuff.types.messages import NewView, Proposal, Timeout, Vote

T = TypeVar("T")
Memo = dict[int, Any]


# ---- copies ---------------------------------------------------------------------------------------------------------


def copy_of(execution: Execution) -> Execution:
    """An execution that goes on without the other one noticing."""
    return _copy(execution, {id(constant): constant for constant in _constants(execution.arena)})


def _constants(arena: Arena) -> Iterator[object]:
    yield from (arena, arena.rules, arena.validators, arena.blind, TIMING)
    for member in arena.members:
        yield from (member.bls, member.node)


def _copy(value: T, memo: Memo) -> T:
    copier = _COPIERS.get(type(value))
    if copier is None:
        copier = _COPIERS[type(value)] = _copier_of(value)
    return value if copier is _share else copier(value, memo)


def _share(value: Any, _memo: Memo) -> Any:
    return value


def _copier_of(value: object) -> Callable[[Any, Memo], Any]:
    """How values of this type are copied, decided once for each type."""
    kind = type(value)
    if value is None or kind in (int, bytes, str, bool) or isinstance(value, Enum):
        return _share
    if is_dataclass(kind) and kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return _share
    if isinstance(value, tuple):
        return _share if hasattr(kind, "_fields") else _copy_tuple
    simple: dict[type, Callable[[Any, Memo], Any]] = {
        list: _copy_list,
        deque: _copy_list,
        set: _copy_list,
        dict: _copy_dict,
        OrderedDict: _copy_dict,
        Counter: _copy_dict,
        MethodType: _copy_method,
    }
    if kind in simple:
        return simple[kind]
    if hasattr(value, "__dict__") and not isinstance(value, FunctionType):
        return _copy_object
    raise TypeError(f"no rule to copy {kind.__name__}")


def _copy_tuple(value: tuple[Any, ...], memo: Memo) -> tuple[Any, ...]:
    return tuple(_copy(item, memo) for item in value)


def _copy_list(value: Any, memo: Memo) -> Any:
    found = memo.get(id(value))
    if found is None:
        found = memo[id(value)] = type(value)(_copy(item, memo) for item in value)
    return found


def _copy_dict(value: Any, memo: Memo) -> Any:
    found = memo.get(id(value))
    if found is None:
        found = memo[id(value)] = type(value)()
        for key, item in value.items():
            found[key] = _copy(item, memo)
    return found


def _copy_method(value: MethodType, memo: Memo) -> MethodType:
    return MethodType(value.__func__, _copy(value.__self__, memo))


def _copy_object(value: Any, memo: Memo) -> Any:
    found = memo.get(id(value))
    if found is None:
        found = memo[id(value)] = object.__new__(type(value))
        target = found.__dict__
        for name, item in value.__dict__.items():
            target[name] = _copy(item, memo)
    return found


_COPIERS: dict[type, Callable[[Any, Memo], Any]] = {}


# ---- fingerprints ---------------------------------------------------------------------------------------------------


def fingerprint(execution: Execution) -> bytes:
    """16 bytes; see above."""
    return hashlib.blake2b(marshal.dumps(_Description(execution).whole(), 2), digest_size=16).digest()


class _Description:
    """An execution as nested tuples of numbers and bytes."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._now_us = execution.now_us
        self._names = execution.names
        self._blocks: dict[bytes, Block] = {}
        self._mentioned: dict[bytes, None] = {}
        self._trees: list[BlockTree] = []
        self._seen: dict[int, int] = {}
        self._skipped = {id(constant) for constant in _constants(execution.arena)}
        self._skipped.add(id(execution.arena.context))

    def whole(self) -> tuple[Any, ...]:
        """Everything that the rest of the execution depends on."""
        execution = self._execution
        parts = [
            execution.view,
            self.of(execution.turns.chosen[execution.view :]),
            self.of(execution.queue),
            self.of(execution.held),
            self.of(execution.late),
            self.of(execution.crossing),
            self.of(execution.votes),
            self.of(execution.chain),
        ]
        for instance in execution.instances:
            parts.append(instance.origin)
            parts += map(self.of, (instance.replica, instance.executed, instance.commit_qcs))
        return (*parts, *self._forest())

    def _forest(self) -> list[Any]:
        """Which blocks are in which tree, and what is in them, as far as they matter.

        A block that no certificate at hand names, nor a descendant of it, is dead: votes of views that everybody has
        left are worth nothing, so it will never be certified, asked for or built on.
        """
        nodes = [node for tree in self._trees for node in (*tree._nodes.values(), *tree._recent.values())]
        held = {node.id: node.block for node in nodes if node.block is not None} | self._blocks
        alive: dict[bytes, Any] = {}
        while self._mentioned:
            block = held.get(self._mentioned.popitem()[0])
            if block is not None and block.id not in alive:
                header = block.header
                alive[block.id] = self._names[block.id], header.height, self._qc(header.justify)
        trees = [
            tuple(sorted(self._names[block_id] for block_id in kept if block_id in alive))
            for tree in self._trees
            for kept in (tree._nodes, tree._recent)
        ]
        return [sorted(alive.values()), *trees]

    def of(self, value: Any) -> Any:
        """Any value that an execution holds."""
        describe = _DESCRIBERS.get(type(value))
        if describe is not None:
            return describe(self, value)
        if isinstance(value, Enum):
            return value.value
        return self._object(value)

    def _plain(self, value: Any) -> Any:
        return value

    def _bytes(self, value: bytes) -> Any:
        return self._names.get(value, value)

    def _sequence(self, value: Any) -> tuple[Any, ...]:
        return tuple([self.of(item) for item in value])

    def _set(self, value: Any) -> tuple[Any, ...]:
        return tuple(sorted(self.of(item) for item in value))

    def _dict(self, value: Any) -> tuple[Any, ...]:
        return tuple([(self.of(key), self.of(item)) for key, item in value.items()])

    def _nothing(self, _value: Any) -> None:
        return None

    def _object(self, value: Any) -> Any:
        """The fields of any object; one that was met before is only named."""
        if id(value) in self._skipped:
            return None
        if id(value) in self._seen:
            return self._seen[id(value)]
        self._seen[id(value)] = len(self._seen)
        if is_dataclass(value):
            pairs = [(field.name, getattr(value, field.name)) for field in fields(value)]
        else:
            pairs = list(vars(value).items())
        return tuple([self._field(name, item) for name, item in pairs])

    def _field(self, name: str, value: Any) -> Any:
        if name.endswith("_us") and value is not None:
            return max(0, value - self._now_us)
        return self.of(value)

    # ---- what is said in fewer words

    def _qc(self, qc: QC) -> tuple[Any, ...]:
        self._mentioned[qc.block_id] = self._mentioned[qc.commit_id] = None
        return qc.view, int(qc.phase), self._bytes(qc.block_id), self._bytes(qc.commit_id), qc.signers

    def _tc(self, tc: TC) -> tuple[Any, ...]:
        return tc.view, self._qc(tc.high_qc)

    def _vote(self, vote: Vote) -> tuple[Any, ...]:
        return vote.view, int(vote.phase), self._bytes(vote.block_id), self._bytes(vote.commit_id), vote.signer

    def _timeout(self, timeout: Timeout) -> tuple[Any, ...]:
        return timeout.view, timeout.signer, self._qc(timeout.high_qc), self.of(timeout.prev_tc)

    def _new_view(self, message: NewView) -> tuple[Any, ...]:
        return self._qc(message.high_qc), self.of(message.high_tc)

    def _proposal(self, proposal: Proposal) -> tuple[Any, ...]:
        return self._block(proposal.block), self.of(proposal.entry_tc)

    def _block(self, block: Block) -> int:
        self._mentioned[block.id] = None
        self._blocks[block.id] = block
        return self._names[block.id]

    def _tree(self, tree: BlockTree) -> int:
        self._trees.append(tree)
        self._mentioned[tree.root.id] = None
        return self._names[tree.root.id]

    def _record(self, record: SafetyRecord) -> tuple[Any, ...]:
        """Only what is not below the current view forbids or repeats anything."""
        view, found = record.current_view, []
        for field in fields(record):
            value = getattr(record, field.name)
            if field.name.endswith("_view"):
                value = max(value, view - 1)
            elif field.name == "voted_phase" and record.voted_view < view:
                value = None
            oldest = {"last_vote": view, "last_timeout": view, "high_tc": record.high_qc.leads_to}.get(field.name, 0)
            outdated = oldest and value is not None and value.view < oldest
            found.append(None if outdated else self.of(value))
        return tuple(found)

    def _replica(self, replica: Replica) -> tuple[Any, ...]:
        found = []
        for name, value in vars(replica).items():
            if name == "_helped":
                value = {
                    peer: (view, again_us)
                    for peer, (view, again_us) in value.items()
                    if view == replica.view and again_us > self._now_us
                }
            elif name == "_heard" and replica._pacemaker.propose_from_us is None:
                continue
            elif name == "_persisted":
                value = value == replica.safety.record
            found.append(self._field(name, value))
        return tuple(found)


_DESCRIBERS: dict[type, Callable[[_Description, Any], Any]] = {
    **dict.fromkeys((int, bool, str, type(None)), _Description._plain),
    bytes: _Description._bytes,
    **dict.fromkeys((list, tuple, deque, Letter), _Description._sequence),
    **dict.fromkeys((set, frozenset), _Description._set),
    **dict.fromkeys((dict, OrderedDict), _Description._dict),
    **dict.fromkeys((MethodType, Turns, Desk), _Description._nothing),
    QC: _Description._qc,
    TC: _Description._tc,
    Vote: _Description._vote,
    Timeout: _Description._timeout,
    NewView: _Description._new_view,
    Proposal: _Description._proposal,
    Block: _Description._block,
    BlockTree: _Description._tree,
    SafetyRecord: _Description._record,
    Replica: _Description._replica,
}
