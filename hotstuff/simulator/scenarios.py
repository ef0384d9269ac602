"""Twins scenarios (arXiv 2004.10617), exactly one of each kind.

Validators 0..t-1 of n run as two instances with the same keys: validator k as instances k and n+k. A scenario says for
each of its views who leads and how the network is cut into two parts that are not empty; variants say more (`Variant`).

Two scenarios are of one kind (an orbit) if one becomes the other by renaming honest validators, by renaming twin pairs,
or by swapping the two instances of a pair. Parts have no names either, unless the cut is one-way.

Generation. Fixing a choice leaves fewer renamings: those that keep everything chosen so far. They are all products of
permutations within classes of instances with equal histories, so a `Shape` (the classes) describes them, and choosing
how many of each class go where gives each kind once. Parts without names would spoil that (a renaming could swap
them), but with n - t odd the part with more honest validators is a name that no renaming changes.

Count. The number of orbits is the mean over all renamings g of fix(g)^views (Burnside), where fix(g) counts what g
leaves as it is in one view: `burnside`. It shares nothing with the generator.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, permutations, product
from math import factorial
from typing import NamedTuple


@dataclass(frozen=True)
class Variant:
    """What may happen besides leaders and cuts.

    `late`: what the cut kept back arrives one view later instead of being lost. `one_way`: the second part is heard by
    the first, but not the other way round. `restarts`: before each view one instance of a twin may start again from an
    empty disk. `sustained`: one cut lasts for all views.
    """

    late: bool = False
    one_way: bool = False
    restarts: bool = False
    sustained: bool = False

    @property
    def name(self) -> str:
        """For summaries and file names."""
        return "+".join(flag for flag in ("late", "one_way", "restarts", "sustained") if getattr(self, flag)) or "plain"


PLAIN = Variant()


class Turn(NamedTuple):
    """What is chosen first for a view: its leader, and the instance that restarts before it (None: none)."""

    leader: int
    restart: int | None = None


class Round(NamedTuple):
    """One view of a scenario; bit i of `part` is set for the instances of the first part."""

    turn: Turn
    part: int


Scenario = tuple[Round, ...]


class Pairs(NamedTuple):
    """Twin pairs that nothing so far tells apart, nor (`same`) the two instances of each."""

    members: tuple[int, ...]
    same: bool


class Shape(NamedTuple):
    """Classes of validators with equal histories: honest ones, and twins; small classes first."""

    honest: tuple[tuple[int, ...], ...]
    twins: tuple[Pairs, ...]

    @property
    def sizes(self) -> Sizes:
        """How large the classes are, whoever is in them: what counting depends on."""
        return tuple(map(len, self.honest)), tuple((len(members), same) for members, same in self.twins)


Sizes = tuple[tuple[int, ...], tuple[tuple[int, bool], ...]]
Choice = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]


class Space:
    """All scenarios of n validators, t of them twins, over a number of views, numbered from 0."""

    def __init__(self, nodes: int, twins: int, views: int, variant: Variant = PLAIN) -> None:
        check_size(nodes, twins, views)
        if (nodes - twins) % 2 == 0:
            raise ValueError(f"got {nodes - twins} honest validators, allowed: an odd number")
        self.nodes = nodes
        self.twins = twins
        self.views = views
        self.variant = variant
        self._completions: dict[object, int] = {}
        self._choices = lru_cache(MAX_SIZES)(self._make_choices)
        self._sums: OrderedDict[tuple[Sizes, int], list[int]] = OrderedDict()

    @cached_property
    def root(self) -> Shape:
        """Nothing chosen yet."""
        pairs = (Pairs(tuple(range(self.twins)), True),) if self.twins else ()
        return Shape((tuple(range(self.twins, self.nodes)),), pairs)

    @cached_property
    def count(self) -> int:
        """How many kinds of scenarios there are, by the generator's own arithmetic."""
        return self.completions(self.root, self.views)

    def __iter__(self) -> Iterator[Scenario]:
        return self._extend((), self.root)

    def _extend(self, scenario: Scenario, shape: Shape) -> Iterator[Scenario]:
        if len(scenario) == self.views:
            yield scenario
            return
        for turn, led in self.turns(shape):
            for part, cut in self.cuts(led, scenario):
                yield from self._extend((*scenario, Round(turn, part)), cut)

    def scenario(self, number: int) -> Scenario:
        """The one with this number, in the order of iteration, without making those before it."""
        if not 0 <= number < self.count:
            raise IndexError(f"got scenario {number}, allowed: below {self.count}")
        shape = self.root
        rounds: list[Round] = []
        for left in range(self.views - 1, -1, -1):
            for turn, led in self.turns(shape):  # noqa: B007
                below = self.cut_completions(led, left)
                if number < below:
                    break
                number -= below
            part, shape, number = self._numbered_cut(led, left, rounds, number)
            rounds.append(Round(turn, part))
        return tuple(rounds)

    def _numbered_cut(self, shape: Shape, left: int, rounds: list[Round], number: int) -> tuple[int, Shape, int]:
        """The cut after which a continuation with this number comes, and its number among those after it."""
        if self.variant.sustained and rounds:
            return rounds[0].part, shape, number
        sums = self._cumulated(shape, left)
        at = bisect_right(sums, number)
        return *self._cut(shape, self._choices(shape.sizes)[at]), number - (sums[at - 1] if at else 0)

    def _cumulated(self, shape: Shape, views: int) -> list[int]:
        """For each choice of a cut, how many continuations it and the choices before it have."""
        key = shape.sizes, views
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = list(accumulate(self.completions(cut, views) for _, cut in self._splits(shape)))
            if len(self._sums) > MAX_SIZES:
                self._sums.popitem(last=False)
        return sums

    # ---- choices for one view

    def turns(self, shape: Shape) -> list[tuple[Turn, Shape]]:
        """Leaders (and restarts), one of each kind, with the shape that is left."""
        found = []
        for leader, led in self._leaders(shape):
            found.append((Turn(leader), led))
            if self.variant.restarts:
                found += [(Turn(leader, instance), after) for instance, after in self._restarts(led)]
        return found

    def cuts(self, shape: Shape, before: Scenario) -> list[tuple[int, Shape]]:
        """Cuts for the view after these, one of each kind, with the shape that is left."""
        return [(before[0].part, shape)] if self.variant.sustained and before else self._splits(shape)

    def _splits(self, shape: Shape) -> list[tuple[int, Shape]]:
        return [self._cut(shape, choice) for choice in self._choices(shape.sizes)]

    def completions(self, shape: Shape, views: int) -> int:
        """How many kinds of continuations over so many more views there are."""
        if views == 0:
            return 1
        key = shape.sizes, views
        if key not in self._completions:
            self._completions[key] = sum(self.cut_completions(led, views - 1) for _, led in self.turns(shape))
        return self._completions[key]

    def cut_completions(self, shape: Shape, views: int) -> int:
        """The same with the turn of a view chosen already and `views` more after it."""
        if self.variant.sustained and views + 1 < self.views:
            return self.completions(shape, views)
        key = shape.sizes, views, "cut"
        if key not in self._completions:
            self._completions[key] = sum(self.completions(cut, views) for _, cut in self._splits(shape))
        return self._completions[key]

    def _leaders(self, shape: Shape) -> Iterator[tuple[int, Shape]]:
        for i, members in enumerate(shape.honest):
            rest = _without(members)
            classes = (*shape.honest[:i], members[:1], *rest, *shape.honest[i + 1 :])
            yield members[0], _shape(classes, shape.twins)
        for i, (members, same) in enumerate(shape.twins):
            pairs = (Pairs(members[:1], same), *(Pairs(rest, same) for rest in _without(members)))
            yield members[0], _shape(shape.honest, (*shape.twins[:i], *pairs, *shape.twins[i + 1 :]))

    def _restarts(self, shape: Shape) -> Iterator[tuple[int, Shape]]:
        for i, (members, same) in enumerate(shape.twins):
            pairs = (Pairs(members[:1], False), *(Pairs(rest, same) for rest in _without(members)))
            after = _shape(shape.honest, (*shape.twins[:i], *pairs, *shape.twins[i + 1 :]))
            yield self.nodes + members[0], after
            if not same:
                yield members[0], after

    def _make_choices(self, sizes: Sizes) -> list[Choice]:
        """Each class of k honest validators: how many of them in the first part. Each class of pairs: how many whole in
        the first, how many across, how many whole in the second."""
        firsts = product(*(range(size + 1) for size in sizes[0]))
        placements = list(product(*(_compositions(size, 3 if same else 4) for size, same in sizes[1])))
        return [
            (first, placement)
            for first in firsts
            if self.variant.one_way or 2 * sum(first) > self.nodes - self.twins
            for placement in placements
            if 0 < sum(first) + _in_first(placement) < self.nodes + self.twins
        ]

    def _cut(self, shape: Shape, choice: Choice) -> tuple[int, Shape]:
        part = 0
        honest: list[tuple[int, ...]] = []
        twins: list[Pairs] = []
        for members, first in zip(shape.honest, choice[0], strict=True):
            part |= sum(1 << i for i in members[:first])
            honest += [group for group in (members[:first], members[first:]) if group]
        for (members, same), sizes in zip(shape.twins, choice[1], strict=True):
            start = 0
            for size, (one, other) in zip(sizes, _PLACES[len(sizes)], strict=True):
                group = members[start : start + size]
                start += size
                part |= sum(one << i | other << i + self.nodes for i in group)
                if group:
                    twins.append(Pairs(group, same and one == other))
        return part, _shape(honest, twins)


# Lists of choices that are kept, by sizes of classes. Nearly all shapes of a space have classes of one.
MAX_SIZES = 512
# Where the two instances of a pair are: 1 for the first part.
_PLACES = {3: ((1, 1), (1, 0), (0, 0)), 4: ((1, 1), (1, 0), (0, 1), (0, 0))}


def _in_first(placement: tuple[tuple[int, ...], ...]) -> int:
    """Instances of twins in the first part."""
    return sum(2 * sizes[0] + sum(sizes[1:-1]) for sizes in placement)


def _shape(honest: Iterable[tuple[int, ...]], twins: Iterable[Pairs]) -> Shape:
    return Shape(
        tuple(sorted(honest, key=len)), tuple(sorted(twins, key=lambda pairs: (len(pairs.members), pairs.same)))
    )


def _without(members: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (members[1:],) if len(members) > 1 else ()


def _compositions(total: int, places: int) -> Iterator[tuple[int, ...]]:
    """All ways to write `total` as an ordered sum of `places` numbers from 0."""
    if places == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, places - 1):
            yield first, *rest


def check_size(nodes: int, twins: int, views: int) -> None:
    """Raises `ValueError` for what makes no scenario."""
    if not 0 <= twins <= nodes or nodes + twins < 2 or views < 1:
        raise ValueError(f"got {nodes} validators, {twins} twins, {views} views")


# ---- the count, independently ---------------------------------------------------------------------------------------


def burnside(nodes: int, twins: int, views: int, variant: Variant = PLAIN) -> int:
    """Number of orbits of scenarios: (1 / |G|) * sum over g in G of fix(g) ** views.

    G renames n - t honest validators and t twin pairs, and swaps the instances of any pairs: (n-t)! * t! * 2^t
    elements. It acts on each view of a scenario alike, so a scenario is fixed by g exactly if each of its views is.
    One view is a leader, a cut and maybe a restart, chosen freely, so

        fix(g) = fixed leaders * fixed cuts * fixed restarts
        fixed leaders   validators that g maps to themselves
        fixed restarts  1 (none) + instances of twins that g maps to themselves, with restarts; else 1
        fixed cuts      let g have c cycles on the n + t instances. A part that g maps to itself is a union of cycles:
                        2^c, less the empty one and everybody; half of that if parts have no names.
                        Parts without names may also change places: each cycle then alternates between the two, which
                        takes cycles of even length and can be done in 2^c ways, half of that without names.

    A cut that lasts is chosen once and counts once, not to the power of views.
    All renamings of the honest with one cycle type are added up at once; those of the twins are few.
    """
    check_size(nodes, twins, views)
    total = 0
    for size, honest_cycles in _cycle_types(nodes - twins):
        for fixed_twins, twin_cycles in _twin_renamings(twins):
            cycles = (*honest_cycles, *twin_cycles)
            leaders = honest_cycles.count(1) + fixed_twins
            restarts = 1 + twin_cycles.count(1) if variant.restarts else 1
            cuts = 2 ** len(cycles) - 2
            if not variant.one_way:
                even = all(cycle % 2 == 0 for cycle in cycles)
                cuts = (cuts + (2 ** len(cycles) if even else 0)) // 2
            total += size * (leaders * restarts) ** views * cuts ** (1 if variant.sustained else views)
    order: int = factorial(nodes - twins) * factorial(twins) * 2**twins
    quotient, rest = divmod(total, order)
    if rest:
        raise ArithmeticError(f"{total} is not a multiple of {order}")
    return quotient


def _cycle_types(size: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Cycle lengths of permutations of so many things, each with the number of permutations that have them."""

    def partitions(left: int, largest: int) -> Iterator[tuple[int, ...]]:
        if left == 0:
            yield ()
        for part in range(min(left, largest), 0, -1):
            for rest in partitions(left - part, part):
                yield part, *rest

    for cycles in partitions(size, size):
        centralizer = 1
        for length in range(1, size + 1):
            centralizer *= length ** cycles.count(length) * factorial(cycles.count(length))
        yield factorial(size) // centralizer, cycles


def _twin_renamings(pairs: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """For each renaming of pairs with swaps: pairs that stay, and cycle lengths on the 2t instances."""
    for names in permutations(range(pairs)):
        for swaps in product((0, 1), repeat=pairs):
            image = {(i, side): (names[i], side ^ swaps[i]) for i in range(pairs) for side in (0, 1)}
            yield sum(i == name for i, name in enumerate(names)), _cycle_lengths(image)


def _cycle_lengths(image: dict[tuple[int, int], tuple[int, int]]) -> tuple[int, ...]:
    lengths, left = [], dict.fromkeys(image)
    while left:
        start = item = next(iter(left))
        length = 0
        while length == 0 or item != start:
            del left[item]
            item, length = image[item], length + 1
        lengths.append(length)
    return tuple(lengths)


# ---- samples --------------------------------------------------------------------------------------------------------


def shuffled(position: int, total: int, key: str) -> int:
    """What stands at `position` when 0..total-1 are shuffled: a sample without replacement that needs no memory.

    A Feistel network permutes the next larger square power of two; what falls outside is permuted again.
    """
    half = max(1, ((total - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = position >> half, position & mask
        for step in range(4):
            mixed = hashlib.blake2b(f"{key}/{step}/{right}".encode(), digest_size=16).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "big") & mask)
        position = left << half | right
        if position < total:
            return position


def drawn(nodes: int, twins: int, views: int, variant: Variant, seed: str) -> Iterator[Scenario]:
    """Scenarios at random, no kind twice, for any n and t: controls, and what `Space` cannot number. Ends when nothing
    new comes. About half of them keep one cut between the instances of every pair, and only twins lead: where there are
    too many of them, both parts commit."""
    check_size(nodes, twins, views)
    chance = random.Random(seed)
    seen: set[object] = set()
    in_vain = 0
    while in_vain < MAX_DRAWS_IN_VAIN:
        split = twins > 0 and chance.random() < 0.5
        scenario = tuple(
            _draw_split(nodes, twins, views, chance) if split else _draw(nodes, twins, views, variant, chance)
        )
        kind = kind_of(scenario, nodes, twins, variant)
        in_vain += 1
        if kind not in seen:
            seen.add(kind)
            in_vain = 0
            yield scenario


MAX_DRAWS_IN_VAIN = 10_000


def _draw(nodes: int, twins: int, views: int, variant: Variant, chance: random.Random) -> Iterator[Round]:
    restarts = [None, *range(twins), *range(nodes, nodes + twins)] if variant.restarts else [None]
    lasting = chance.randrange(1, (1 << nodes + twins) - 1) if variant.sustained else 0
    for _ in range(views):
        part = lasting or chance.randrange(1, (1 << nodes + twins) - 1)
        yield Round(Turn(chance.randrange(nodes), chance.choice(restarts)), part)


def _draw_split(nodes: int, twins: int, views: int, chance: random.Random) -> Iterator[Round]:
    honest = chance.sample(range(twins, nodes), (nodes - twins) // 2)
    swapped = [chance.choice((k, k + nodes)) for k in range(twins)]
    part = sum(1 << i for i in (*honest, *swapped))
    for _ in range(views):
        yield Round(Turn(chance.randrange(twins)), part)


def kind_of(scenario: Scenario, nodes: int, twins: int, variant: Variant = PLAIN) -> object:
    """Equal for two scenarios exactly if they are of one kind.

    An instance is its history: on which side it was, when it led, when it restarted. Names do not matter, so a
    scenario is the multiset of the histories of the honest, and that of the pairs of histories of the twins; and the
    least of these over all ways to name the parts.
    """
    names = [(0, (1 << nodes + twins) - 1)] * len(scenario) if not variant.one_way else [(0,)] * len(scenario)

    def described(flips: Sequence[int]) -> tuple[object, object]:
        def history(i: int) -> tuple[tuple[int, bool, bool], ...]:
            seen = zip(scenario, flips, strict=True)
            return tuple(((r.part ^ flip) >> i & 1, r.turn.leader == i, r.turn.restart == i) for r, flip in seen)

        def led(i: int) -> tuple[bool, ...]:
            return tuple(r.turn.leader == i for r in scenario)

        def sides(i: int) -> tuple[tuple[tuple[int, bool], ...], ...]:
            both = (history(i), history(nodes + i))
            return tuple(sorted(tuple((side, restarted) for side, _, restarted in one) for one in both))

        honest = tuple(sorted(history(i) for i in range(twins, nodes)))
        return honest, tuple(sorted((led(i), sides(i)) for i in range(twins)))

    return min(described(flips) for flips in product(*names))
