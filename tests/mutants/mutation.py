"""Changes the source of one module while it is imported: whoever imports anything from it gets the mutant."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, find_spec
from pathlib import Path
from types import ModuleType

from mutants.mutant import Mutant

# Environment of a process with a mutant: its name, and where to write down what the tests made of it.
MUTANT, REPORT = "HOTSTUFF_MUTANT", "HOTSTUFF_MUTANT_REPORT"


class Stale(Exception):
    """The code is no longer what the mutant was made for."""


def mutated(source: str, mutant: Mutant) -> str:
    """The source with the mutant's change."""
    start, end = _extent(source, mutant)
    part = source[start:end]
    if part.count(mutant.old) != 1:
        raise Stale(f"{mutant.where} holds {mutant.old!r} {part.count(mutant.old)} times, not once")
    return source[:start] + part.replace(mutant.old, mutant.new) + source[end:]


def _extent(source: str, mutant: Mutant) -> tuple[int, int]:
    """From where to where the definition goes."""
    body: Sequence[ast.stmt] = ast.parse(source).body
    found: ast.stmt | None = None
    for name in mutant.attribute.split("."):
        found = next((node for node in body if name in _names(node)), None)
        if found is None:
            raise Stale(f"{mutant.where} is not there")
        body = getattr(found, "body", [])
    assert found is not None
    lines = source.splitlines(keepends=True)
    decorators = [decorator.lineno for decorator in getattr(found, "decorator_list", [])]
    first = min([found.lineno, *decorators]) - 1
    return len("".join(lines[:first])), len("".join(lines[: found.end_lineno]))


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def source_of(mutant: Mutant) -> str:
    """The source as it is, without importing it."""
    package = find_spec("hotstuff")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent.joinpath(*mutant.module.split(".")[1:]).with_suffix(".py")
    return decode_source(path.read_bytes())


class Mutation(MetaPathFinder, Loader):
    """Finds and loads the one module that is changed; `applied` once that has happened."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.applied = False

    def install(self) -> None:
        """Before anything imports the module."""
        assert self.mutant.module not in sys.modules, f"{self.mutant.module} is imported already"
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where the others find the module; loaded by us."""
        if fullname != self.mutant.module:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target) if finder is not self else None
            if spec is not None:
                spec.loader = self
                return spec
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs the changed source; nothing of it is cached."""
        assert module.__file__ is not None
        source = mutated(decode_source(Path(module.__file__).read_bytes()), self.mutant)
        exec(compile(source, module.__file__, "exec"), module.__dict__)
        self.applied = True
