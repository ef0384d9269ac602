"""Each kind of scenario once, and as many as the formula says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, permutations, product

import pytest

from hotstuff.simulator.scenarios import (
    PLAIN,
    Round,
    Scenario,
    Space,
    Turn,
    Variant,
    burnside,
    drawn,
    kind_of,
    shuffled,
)

ONE_WAY = Variant(one_way=True)
RESTARTS = Variant(restarts=True)
SUSTAINED = Variant(sustained=True)

SMALL = [
    (2, 1, 1, PLAIN),
    (2, 1, 3, PLAIN),
    (3, 0, 2, PLAIN),
    (3, 2, 2, PLAIN),
    (4, 1, 2, PLAIN),
    (5, 2, 1, PLAIN),
    (2, 1, 2, ONE_WAY),
    (4, 1, 1, ONE_WAY),
    (2, 1, 2, RESTARTS),
    (3, 2, 1, RESTARTS),
    (4, 1, 1, RESTARTS),
    (4, 1, 1, Variant(late=True, one_way=True, restarts=True)),
    (4, 1, 2, SUSTAINED),
    (3, 0, 3, SUSTAINED),
    (2, 1, 2, Variant(one_way=True, restarts=True, sustained=True)),
]
EVEN = [
    (2, 2, 2, PLAIN),
    (4, 2, 1, PLAIN),
    (4, 2, 2, PLAIN),
    (4, 2, 1, ONE_WAY),
    (3, 1, 2, PLAIN),
    (4, 2, 2, SUSTAINED),
]


# ---- by brute force, with explicit renamings ------------------------------------------------------------------------


def renamings(nodes: int, twins: int) -> Iterator[tuple[int, ...]]:
    """Every renaming, as the image of each instance."""
    honest = range(twins, nodes)
    for names, pairs in product(permutations(honest), permutations(range(twins))):
        for swaps in product((False, True), repeat=twins):
            image = list(range(nodes + twins))
            for i, name in zip(honest, names, strict=True):
                image[i] = name
            for k, (pair, swap) in enumerate(zip(pairs, swaps, strict=True)):
                image[k], image[nodes + k] = (nodes + pair, pair) if swap else (pair, nodes + pair)
            yield tuple(image)


def renamed(this: Round, image: tuple[int, ...], nodes: int, variant: Variant) -> Round:
    leader, restart = image[this.turn.leader] % nodes, this.turn.restart
    part = sum(1 << to for i, to in enumerate(image) if this.part >> i & 1)
    return Round(Turn(leader, None if restart is None else image[restart]), least(part, len(image), variant))


def least(part: int, instances: int, variant: Variant) -> int:
    """One of the two numbers of a cut whose parts have no names."""
    return part if variant.one_way else min(part, (1 << instances) - 1 - part)


def one_view(nodes: int, twins: int, variant: Variant) -> list[Round]:
    instances = nodes + twins
    parts = sorted({least(part, instances, variant) for part in range(1, (1 << instances) - 1)})
    restarts = [None, *range(twins), *range(nodes, instances)] if variant.restarts else [None]
    return [Round(Turn(leader, r), part) for leader, r, part in product(range(nodes), restarts, parts)]


def orbits(nodes: int, twins: int, views: int, variant: Variant) -> dict[Scenario, int]:
    """Each scenario with the number of its orbit."""
    rounds = one_view(nodes, twins, variant)
    images = [{this: renamed(this, image, nodes, variant) for this in rounds} for image in renamings(nodes, twins)]
    found: dict[Scenario, int] = {}
    for number, scenario in enumerate(product(rounds, repeat=views)):
        lasts = len({this.part for this in scenario}) == 1
        if scenario not in found and (lasts or not variant.sustained):
            found.update((tuple(image[this] for this in scenario), number) for image in images)
    return found


@pytest.mark.parametrize(("nodes", "twins", "views", "variant"), SMALL)
def test_each_orbit_is_generated_once(nodes: int, twins: int, views: int, variant: Variant) -> None:
    orbit_of = orbits(nodes, twins, views, variant)
    space = Space(nodes, twins, views, variant)
    plain = [tuple(r._replace(part=least(r.part, nodes + twins, variant)) for r in scenario) for scenario in space]
    assert sorted(orbit_of[scenario] for scenario in plain) == sorted(set(orbit_of.values()))
    assert space.count == burnside(nodes, twins, views, variant) == len(plain)


@pytest.mark.parametrize(("nodes", "twins", "views", "variant"), SMALL + EVEN)
def test_the_formula_counts_orbits(nodes: int, twins: int, views: int, variant: Variant) -> None:
    orbit_of = orbits(nodes, twins, views, variant)
    assert burnside(nodes, twins, views, variant) == len(set(orbit_of.values()))
    # And what calls two scenarios of one kind says the same.
    kinds = {(orbit, kind_of(scenario, nodes, twins, variant)) for scenario, orbit in islice(orbit_of.items(), 4000)}
    assert len({orbit for orbit, _ in kinds}) == len({kind for _, kind in kinds}) == len(kinds)


# ---- larger ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "twins", "views", "count"),
    [
        (4, 1, 1, 13),
        (4, 1, 2, 425),
        (4, 1, 3, 20_574),
        (4, 1, 4, 1_141_163),
        (7, 2, 4, 13_963_309_753),
        (10, 3, 2, 205_422),
    ],
)
def test_the_generators_count_is_the_formulas(nodes: int, twins: int, views: int, count: int) -> None:
    assert Space(nodes, twins, views).count == burnside(nodes, twins, views) == count


@pytest.mark.parametrize("variant", [ONE_WAY, RESTARTS, SUSTAINED, Variant(one_way=True, restarts=True)])
def test_variants_have_their_own_count(variant: Variant) -> None:
    assert Space(4, 1, 4, variant).count == burnside(4, 1, 4, variant) != burnside(4, 1, 4)


def test_all_of_four_validators_over_three_views_differ() -> None:
    kinds = {kind_of(scenario, 4, 1) for scenario in Space(4, 1, 3)}
    assert len(kinds) == 20_574


@pytest.mark.parametrize("variant", [PLAIN, ONE_WAY, RESTARTS, SUSTAINED])
def test_access_by_number_is_the_order_of_iteration(variant: Variant) -> None:
    space = Space(4, 1, 2, variant)
    assert [space.scenario(number) for number in range(space.count)] == list(space)
    for number in (-1, space.count):
        with pytest.raises(IndexError):
            space.scenario(number)


@pytest.mark.parametrize("total", [1, 2, 13, 64, 425, 1000])
def test_shuffled_is_a_permutation(total: int) -> None:
    assert sorted(shuffled(position, total, "seed") for position in range(total)) == list(range(total))


def test_another_seed_shuffles_differently() -> None:
    first, second = ([shuffled(position, 10**12, seed) for position in range(20)] for seed in ("1", "2"))
    assert len({*first, *second}) == 40
    assert max(first) > 5 * 10**11 > min(first)


@pytest.mark.parametrize(("nodes", "twins", "views"), [(7, 2, 6), (10, 3, 2)])
def test_a_sample_has_no_kind_twice(nodes: int, twins: int, views: int) -> None:
    space = Space(nodes, twins, views)
    scenarios = [space.scenario(shuffled(position, space.count, "sample")) for position in range(100)]
    assert len({kind_of(scenario, nodes, twins) for scenario in scenarios}) == 100
    leaders = {this.turn.leader for scenario in scenarios for this in scenario}
    assert leaders & set(range(twins)) and leaders & set(range(twins, nodes))


def test_drawing_finds_every_kind_once() -> None:
    kinds = [kind_of(scenario, 4, 2) for scenario in drawn(4, 2, 1, PLAIN, "seed")]
    assert len(set(kinds)) == len(kinds) == burnside(4, 2, 1)


def test_drawing_restarts_only_twins() -> None:
    scenarios = list(islice(drawn(4, 2, 3, RESTARTS, "seed"), 50))
    restarted = {this.turn.restart for scenario in scenarios for this in scenario}
    assert restarted == {None, 0, 1, 4, 5}


@pytest.mark.parametrize("size", [(4, 5, 1), (1, 0, 1), (4, -1, 1), (4, 1, 0)])
def test_impossible_sizes_are_refused(size: tuple[int, int, int]) -> None:
    for function in (Space, burnside):
        with pytest.raises(ValueError, match="validators"):
            function(*size)


def test_an_even_number_of_honest_validators_cannot_be_numbered() -> None:
    with pytest.raises(ValueError, match="odd"):
        Space(4, 2, 3)
