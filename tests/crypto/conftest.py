"""Each BLS test runs once for each installed library, in one process.

`hotstuff.crypto.bls` picks its library at import, so a second, private copy of the modules is
imported for each library and the modules everybody else uses are put back afterwards.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

import hotstuff.crypto

LIBRARIES = {"blspy": "blspy", "arkworks": "py_arkworks_bls12381"}
COPIED = ("bls", "aggregate", "selftest")


@dataclass(frozen=True)
class Crypto:
    """The modules under test, bound to one library."""

    name: str
    bls: ModuleType
    aggregate: ModuleType
    selftest: ModuleType


def load(name: str) -> Crypto:
    pytest.importorskip(LIBRARIES[name])
    package = hotstuff.crypto
    full_names = [f"hotstuff.crypto.{short}" for short in COPIED]
    saved_modules = {full: sys.modules.pop(full) for full in full_names if full in sys.modules}
    saved_attributes = {short: getattr(package, short) for short in COPIED if hasattr(package, short)}
    try:
        with patch.dict(os.environ, HOTSTUFF_BLS=name):
            copies = [importlib.import_module(full) for full in full_names]
    finally:
        for full, short in zip(full_names, COPIED, strict=True):
            sys.modules.pop(full, None)
            if hasattr(package, short):
                delattr(package, short)
        sys.modules.update(saved_modules)
        for short, module in saved_attributes.items():
            setattr(package, short, module)
    return Crypto(name, *copies)


@pytest.fixture(scope="session", params=sorted(LIBRARIES))
def crypto(request: pytest.FixtureRequest) -> Crypto:
    return load(request.param)


@pytest.fixture(scope="session")
def both() -> tuple[Crypto, Crypto]:
    return load("blspy"), load("arkworks")


@pytest.fixture(scope="session")
def vectors() -> Any:
    return json.loads((Path(__file__).parent / "vectors.json").read_text())
