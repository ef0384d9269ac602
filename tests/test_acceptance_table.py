"""The table of acceptance rows in the README of the tests: complete, and every test in it exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROWS = (
    [f"S{i}" for i in (*range(1, 37), *range(41, 45))]
    + [f"L{i}" for i in range(1, 22)]
    + ["C1", "C2", "C3", "C18", "C28"]
)


def table() -> dict[str, list[str]]:
    """Row -> `path::test`."""
    lines = (HERE / "README.md").read_text().splitlines()
    cells = [line.split(" | ") for line in lines if re.match(r"\| [SLC]\d+ \|", line)]
    return {row.strip("| "): re.findall(r"`([^`]+::[^`]+)`", tests) for row, _, tests in cells}


def functions_in(path: Path) -> set[str]:
    """Functions of a test module."""
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_no_row_is_missing() -> None:
    assert list(table()) == ROWS


def test_every_row_names_tests_that_exist() -> None:
    missing = []
    for row, names in table().items():
        assert names, f"{row} names no test"
        for name in names:
            path, _, function = name.partition("::")
            if not (HERE / path).is_file() or function not in functions_in(HERE / path):
                missing.append(f"{row}: {name}")
    assert not missing, "\n".join(missing)
