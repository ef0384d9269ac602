"""Golden files, and one run of the shared checks for each type.

`tests/golden/<type>.hex` holds lines of "name hex" that pin the bytes of fixed values. They are written by

    pytest tests/types --rewrite-golden

and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from strategies import CODECS
from wire_checks import compare

GOLDEN = Path(__file__).parent.parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden/*.hex anew")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "codec" in metafunc.fixturenames:
        assert metafunc.cls is not None
        metafunc.parametrize("codec", [CODECS[name] for name in metafunc.cls.names], ids=metafunc.cls.names)


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Callable[[str, dict[str, bytes]], None]:
    """Compares named byte strings with `tests/golden/<name>.hex`."""
    # Not a known option when pytest was not given this folder on its command line.
    rewrite = bool(pytestconfig.getoption("--rewrite-golden", default=False))

    def check(name: str, given: dict[str, bytes]) -> None:
        path = GOLDEN / f"{name}.hex"
        if rewrite:
            path.write_text("".join(f"{label} {data.hex()}".rstrip() + "\n" for label, data in given.items()))
            pytest.skip(f"wrote {path.name}")
        compare(name, path.read_text() if path.exists() else "", given)

    return check
