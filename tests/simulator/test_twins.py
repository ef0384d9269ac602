"""Whole runs: every scenario of a size, samples of larger ones, interruptions and several processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotstuff.errors import ConfigError
from hotstuff.simulator import twins
from hotstuff.simulator.scenarios import PLAIN, Variant, burnside
from hotstuff.simulator.twins import Progress, Twins, good, run_twins
from hotstuff.types.hashing import Mode

VARIANTS = [
    PLAIN,
    *(Variant(late=True), Variant(one_way=True), Variant(restarts=True), Variant(sustained=True)),
    Variant(late=True, one_way=True, restarts=True),
]


def quiet(_: Progress) -> None:
    pass


def timeless(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name != "wall_s"}


def sample(size: int = 23, jobs: int = 1, **options: Any) -> dict[str, Any]:
    options = {"progress": quiet, "blocks": 3, **options}
    return timeless(run_twins(Mode.HOTSTUFF2, 4, 1, 3, size, 7, jobs, **options))


# ---- what has to hold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
def test_all_of_four_validators_over_two_views(mode: Mode) -> None:
    summary = run_twins(mode, 4, 1, 2, None, 0, 1, quiet)
    assert summary["scenarios"] == summary["total"] == burnside(4, 1, 2) == 425
    assert good(summary), summary
    assert 0 < summary["merged"] == 425 - summary["leaves"]
    assert summary["blocks"] == 3
    # It would be no test if nothing happened in these views.
    assert summary["committed"] > 0 or mode is Mode.CHAINED
    assert summary["diverged"] > 0 or mode is Mode.BASIC


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
@pytest.mark.parametrize("mode", Mode)
def test_samples_of_seven_validators(mode: Mode, variant: Variant) -> None:
    summary = run_twins(mode, 7, 2, 5, 3, 1, 1, quiet, variant=variant)
    assert good(summary), summary
    assert (summary["scenarios"], summary["merged"], summary["blocks"]) == (3, 0, 10)
    assert summary["total"] == burnside(7, 2, 5, variant)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_all_of_a_small_size_in_every_variant(variant: Variant) -> None:
    summary = run_twins(Mode.HOTSTUFF2, 2, 1, 2, None, 0, 1, quiet, variant=variant)
    assert summary["scenarios"] == burnside(2, 1, 2, variant)


@pytest.mark.parametrize("mode", Mode)
def test_samples_of_ten_validators(mode: Mode) -> None:
    summary = run_twins(mode, 10, 3, 2, 3, 1, 1, quiet)
    assert good(summary), summary
    assert summary["scenarios"] == 3


@pytest.mark.parametrize("mode", Mode)
def test_a_control_forks_and_its_twins_are_named(mode: Mode) -> None:
    summary = run_twins(mode, 4, 2, 5, 12, 0, 1, quiet)
    assert summary["control"] and good(summary), summary
    assert {tuple(finding["accused"]) for finding in summary["findings"] if finding["accused"]} == {(0, 1)}


# ---- the same in every way ------------------------------------------------------------------------------------------


def test_a_seed_gives_one_sample() -> None:
    one, other = (Twins(Mode.CHAINED, 7, 2, 5, 9, seed) for seed in (1, 2))
    assert list(one.part(0)) == list(replace(one).part(0)) != list(other.part(0))
    assert sample() == sample()


def test_a_sample_is_never_larger_than_the_space() -> None:
    summary = run_twins(Mode.CHAINED, 4, 1, 1, 50, 0, 1, quiet, blocks=3)
    assert summary["scenarios"] == summary["total"] == 13


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "PART_SCENARIOS", 5)
    whole = sample()

    def interrupt(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(progress=interrupt, resume_dir=tmp_path)
    with (tmp_path / "sample.jsonl").open("a") as file:
        file.write('{"part": 2, "resu')  # the line that was being written
    seen: list[int] = []
    assert sample(progress=lambda progress: seen.append(progress.done), resume_dir=tmp_path) == whole
    assert seen == [2, 3, 4, 5]


def test_an_interrupted_run_of_all_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "PART_BEGINNINGS", 2)
    whole = timeless(run_twins(Mode.JOLTEON, 2, 1, 3, None, 0, 1, quiet))

    def interrupt(progress: Progress) -> None:
        if progress.view == 3 and progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_twins(Mode.JOLTEON, 2, 1, 3, None, 0, 1, interrupt, tmp_path)
    assert timeless(run_twins(Mode.JOLTEON, 2, 1, 3, None, 0, 1, quiet, tmp_path)) == whole


def test_two_processes_find_what_one_finds() -> None:
    for sampled in (110, None):
        one, two = (run_twins(Mode.CHAINED, 2, 1, 3, sampled, 0, jobs, quiet, blocks=2) for jobs in (1, 2))
        assert timeless(one) == timeless(two)


def test_a_directory_belongs_to_one_run(tmp_path: Path) -> None:
    sample(2, resume_dir=tmp_path)
    with pytest.raises(ConfigError, match="sample was 2, is now 3"):
        sample(3, resume_dir=tmp_path)


def test_a_directory_is_used_by_one_run(tmp_path: Path) -> None:
    def again(_: Progress) -> None:
        with pytest.raises(ConfigError, match="no other run is using"):
            sample(2, resume_dir=tmp_path)

    sample(2, resume_dir=tmp_path, progress=again)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="a writable directory"):
        sample(2, resume_dir=tmp_path / "file")


def test_all_of_an_even_number_of_honest_validators_is_refused() -> None:
    with pytest.raises(ConfigError, match="odd number"):
        run_twins(Mode.CHAINED, 4, 2, 2, None, 0, 1, quiet)


# ---- what is reported -----------------------------------------------------------------------------------------------

SUMMARY = {"control": False, "scenarios": 9, "unsafe": 0, "stuck": 0, "forks": 0, "proven": 0}
CONTROL = {**SUMMARY, "control": True, "unsafe": 3, "forks": 3, "proven": 3}


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (SUMMARY, True),
        (SUMMARY | {"scenarios": 0}, False),
        (SUMMARY | {"unsafe": 1}, False),
        (SUMMARY | {"stuck": 1}, False),
        (CONTROL, True),
        (CONTROL | {"stuck": 1}, True),
        (CONTROL | {"unsafe": 0, "forks": 0, "proven": 0}, False),
        (CONTROL | {"proven": 2}, False),
        (CONTROL | {"unsafe": 4}, False),
    ],
)
def test_what_is_good(summary: dict[str, Any], expected: bool) -> None:
    assert good(summary) is expected


def test_progress_is_told() -> None:
    lines: list[str] = []
    run_twins(Mode.CHAINED, 4, 1, 1, None, 0, 1, lambda progress: lines.append(progress.line))
    assert lines == [
        "view 1, part 0 of 1, 0 of 13 scenarios, 0 unsafe, 0 stuck, 0 s",
        "view 1, part 1 of 1, 13 of 13 scenarios, 0 unsafe, 0 stuck, 0 s",
    ]
    assert PLAIN.name == "plain"
