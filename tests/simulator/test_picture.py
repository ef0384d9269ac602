"""The block tree as SVG: every block where it belongs, with what became of it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from hotstuff.simulator.campaign import Campaign
from hotstuff.simulator.picture import BLUE, GREEN, LAST_VIEWS, LINE, RED, VIEWS, Recorder, Tree, draw, tree_of
from hotstuff.simulator.simulate import run
from hotstuff.types.block import Header
from hotstuff.types.hashing import Mode

SVG = "{http://www.w3.org/2000/svg}"


def recorded(campaign: Campaign, seed: int) -> tuple[Recorder, ElementTree.Element]:
    recorder = Recorder()
    run(campaign.case(seed), [recorder])
    return recorder, ElementTree.fromstring(draw(recorder, "a <title> & more"))


def words(picture: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def boxes(picture: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """The group of each block, by id prefix."""
    return {(group.findtext(f"{SVG}text") or ""): group for group in picture.iter(f"{SVG}g")}


def stroke(group: ElementTree.Element) -> str | None:
    rect = group.find(f"{SVG}rect")
    return None if rect is None else rect.get("stroke")


@pytest.fixture(scope="module")
def plain() -> tuple[Recorder, ElementTree.Element]:
    return recorded(Campaign(byzantine=0, duration_s=0.5), 1)


@pytest.fixture(scope="module")
def forked() -> tuple[Recorder, ElementTree.Element]:
    return recorded(Campaign(byzantine=2, control=True, duration_s=1.0), 1)


def test_the_last_views_are_columns_with_their_leaders(plain: tuple[Recorder, ElementTree.Element]) -> None:
    recorder, picture = plain
    world = recorder.world
    assert world is not None
    last = max(header.view for header in recorder.blocks.values())
    assert last > VIEWS
    headed = [text for text in words(picture) if re.fullmatch(r"view \d+", text)]
    assert headed == [f"view {view}" for view in range(last - VIEWS + 1, last + 1)]
    leaders = [text for text in words(picture) if text.startswith("leader ")]
    assert leaders == [f"leader {world.leaders.leader(view)}" for view in range(last - VIEWS + 1, last + 1)]
    assert "a <title> & more" in words(picture)
    assert "no violation" in words(picture)


def test_a_block_says_what_became_of_it(plain: tuple[Recorder, ElementTree.Element]) -> None:
    recorder, picture = plain
    world = recorder.world
    assert world is not None
    found = boxes(picture)
    tree = tree_of(recorder)
    assert {*found} == {header.id.hex()[:8] for header in tree.shown}
    states = set()
    for header in tree.shown:
        group = found[header.id.hex()[:8]]
        executed = [str(i) for i in range(4) if any(b.id == header.id for b in world.nodes[i].disk.executed)]
        expected = GREEN if executed else BLUE if header.id in recorder.certified else LINE
        assert stroke(group) == expected
        told = [element.text or "" for element in group.iter(f"{SVG}text")]
        assert f"height {header.height}" in told and f"by {header.proposer}" in told
        assert (f"committed by {' '.join(executed)}" in told) == bool(executed)
        states.add(expected)
        voted = {*recorder.votes.get((header.id, world.rules.phases[0]), {})}
        marks = [circle.get("fill") != "none" for circle in group.iter(f"{SVG}circle")]
        assert marks == [i in voted for i in range(4)]
        locked = sorted(
            n.index for n in world.nodes if n.replica and n.replica.safety.record.locked_qc.block_id == header.id
        )
        assert (f"locked: {' '.join(map(str, locked))}" in told) == bool(locked)
    assert GREEN in states and BLUE in states


def test_both_branches_of_a_fork_are_seen(forked: tuple[Recorder, ElementTree.Element]) -> None:
    recorder, picture = forked
    tree = tree_of(recorder)
    assert tree.forked
    fork_view = min(tree.blocks[block_id].view for block_id in tree.forked)
    shown = [header for header in tree.shown if header.id in tree.forked]
    assert fork_view in tree.columns
    assert len({tree.lanes[header.id] for header in shown}) >= 2
    red = [stroke(boxes(picture)[header.id.hex()[:8]]) for header in shown]
    assert {*red} == {RED}
    by_height: dict[int, set[bytes]] = {}
    for header in shown:
        by_height.setdefault(header.height, set()).add(header.id)
    assert any(len(ids) == 2 for ids in by_height.values())


def test_a_long_fork_is_cut_in_the_middle(forked: tuple[Recorder, ElementTree.Element]) -> None:
    recorder, picture = forked
    columns = tree_of(recorder).columns
    last = max(header.view for header in recorder.blocks.values())
    assert last - min(columns) > VIEWS + LAST_VIEWS, "this run is too short to show it"
    assert len(columns) == VIEWS + LAST_VIEWS
    assert max(columns.values()) == VIEWS + LAST_VIEWS, "one column stands for the rest"
    assert "\u2026" in words(picture)


def test_no_two_blocks_share_a_place_and_no_line_crosses_a_block(forked: tuple[Recorder, ElementTree.Element]) -> None:
    for recorder in (forked[0], recorded(Campaign("jolteon", 7, 2, duration_s=1.0), 5)[0]):
        tree = tree_of(recorder)
        places = {(header.view, tree.lanes[header.id]): header for header in tree.shown}
        assert len(places) == len(tree.shown)
        for header in tree.shown:
            parent = tree.blocks.get(header.parent_id)
            between = range((0 if parent is None else parent.view) + 1, header.view)
            assert not [view for view in between if (view, tree.lanes[header.id]) in places]


@pytest.mark.parametrize(("mode", "nodes"), [("basic", 4), ("hotstuff2", 7), ("jolteon", 25)])
def test_every_protocol_and_size_can_be_drawn(mode: str, nodes: int) -> None:
    recorder, picture = recorded(Campaign(mode, nodes, 1, duration_s=0.1), 3)
    assert recorder.world is not None
    phases = 3 if Mode[mode.upper()] is Mode.BASIC else 1
    for group in boxes(picture).values():
        circles = list(group.iter(f"{SVG}circle"))
        told = [text.text or "" for text in group.iter(f"{SVG}text")]
        counted = [text for text in told if text.endswith("of 25 voted")]
        assert (len(circles), len(counted)) == ((0, phases) if nodes > 21 else (phases * nodes, 0))


def test_everything_is_inside_the_picture(forked: tuple[Recorder, ElementTree.Element]) -> None:
    _, picture = forked
    width, height = float(picture.get("width", 0)), float(picture.get("height", 0))
    for element in (*picture.iter(f"{SVG}text"), *picture.iter(f"{SVG}rect")):
        assert 0 <= float(element.get("x", 0)) + float(element.get("width", 0)) <= width
        assert 0 <= float(element.get("y", 0)) + float(element.get("height", 0)) <= height


def test_a_violation_stands_at_the_top_and_is_wrapped() -> None:
    recorder = Recorder()
    run(Campaign(duration_s=0.05).case(0), [recorder])
    text = draw(recorder, "t", "I1 at 1 s: " + "word " * 100)
    picture = ElementTree.fromstring(text)
    lines = [element for element in picture.iter(f"{SVG}text") if "word" in (element.text or "")]
    assert len(lines) > 2
    assert {element.get("fill") for element in lines} == {RED}


def test_a_run_without_a_block_can_be_drawn() -> None:
    recorder = Recorder()
    run(Campaign(duration_s=0.001).case(0), [recorder])
    assert recorder.blocks == {}
    ElementTree.fromstring(draw(recorder, "nothing yet"))


def test_a_tree_ends_where_it_is_not_known() -> None:
    blocks: dict[bytes, Header] = {}
    assert list(Tree(blocks).path(b"x")) == []
