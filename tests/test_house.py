"""The rules of the house, read from the sources: who may import whom, what the pure folders must not touch, who signs.

Each rule is a function from one parsed file to the places that break it. `BROKEN` holds at least one snippet per rule
that must be found, `FINE` close calls that must not be.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

import pytest

import hotstuff

PACKAGE = Path(hotstuff.__file__).parent

# Top to bottom. A folder imports only those below it.
ORDER = (
    "cli",
    "bench",
    "simulator",
    "http",
    "client",
    "node",
    "app",
    "network",
    "storage",
    "mempool",
    "consensus",
    "crypto",
    "types",
)
# Below it, and still not to be imported: a client must be installable and readable without the node.
FORBIDDEN = {("client", "node")}
# Everybody may import these; they import nothing but the standard library and each other.
GROUND = ("errors", "native", "_pure", "_native", "")

PURE = ("consensus", "mempool", "types", "crypto")
# What is not a function of its arguments, or talks to the outside.
IMPURE_MODULES = {
    *("time", "datetime", "random", "secrets", "uuid"),
    *("os", "pathlib", "tempfile", "shutil", "fcntl", "signal", "sys", "lmdb"),
    *("socket", "ssl", "select", "selectors", "asyncio", "uvloop"),
    *("threading", "_thread", "concurrent", "multiprocessing", "subprocess", "sched"),
    *("logging", "importlib"),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__"}
# (file, module): why.
IMPURE_EXCEPTIONS = {
    ("crypto/bls.py", "os"): "HOTSTUFF_BLS in the environment picks the library, once, at import",
}

SIGNER = "consensus/safety.py"
SIGNING = {"sign", "prove_possession"}
SECRETS = {"SecretKey", "NodeSecret"}
DETERMINISTIC = ("consensus", "mempool")
MAY_PRINT = ("cli", "bench")
MAX_FUNCTION_LINES = 60

# Compiled libraries of which only one is needed.
OPTIONAL = ("blspy", "py_arkworks_bls12381")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file of the package, by its path below `hotstuff/`."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def folder(self) -> str:
        """The folder of the house, or "" for the files beside them."""
        parts = PurePosixPath(self.path).parts
        return parts[0] if len(parts) > 1 else ""

    @cached_property
    def imports(self) -> tuple[tuple[int, str], ...]:
        """(line, full dotted name) of all that is imported anywhere in the file."""
        return tuple(self._imports())

    def _imports(self) -> Iterator[tuple[int, str]]:
        package = ("hotstuff", *PurePosixPath(self.path).parts[:-1])
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = package[: len(package) - node.level + 1] if node.level else ()
                base = ".".join((*start, *((node.module,) if node.module else ())))
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


@cache
def package_sources() -> tuple[Source, ...]:
    """Every Python file of the package."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return tuple(Source(path.relative_to(PACKAGE).as_posix(), path.read_text()) for path in paths)


Rule = Callable[[Source], Iterator[tuple[int, str]]]


def imported_folders(source: Source) -> Iterator[tuple[int, str]]:
    """(line, folder or ground file) of what a file imports from this package."""
    for line, name in source.imports:
        first, _, rest = name.partition(".")
        if first == "hotstuff":
            found = rest.partition(".")[0]
            yield line, "" if found == "__version__" else found


def imports_point_downwards(source: Source) -> Iterator[tuple[int, str]]:
    """Folders import folders below them, in one order for all."""
    if not source.folder:
        return
    if source.folder not in ORDER:
        yield 1, f"folder {source.folder} has no place in the house"
        return
    below = ORDER[ORDER.index(source.folder) :]
    for line, target in imported_folders(source):
        if target not in below and target not in GROUND:
            yield line, f"{source.folder} imports {target}"
        elif (source.folder, target) in FORBIDDEN:
            yield line, f"{source.folder} must not import {target}"


def the_ground_stands_alone(source: Source) -> Iterator[tuple[int, str]]:
    """`errors`, `native` and `_pure` import only each other and the standard library."""
    if source.folder:
        return
    for line, name in source.imports:
        if name.partition(".")[0] not in (*sys.stdlib_module_names, "hotstuff"):
            yield line, f"imports {name}"
    for line, target in imported_folders(source):
        if target not in GROUND or PurePosixPath(source.path).stem in ("errors", "__init__"):
            yield line, f"imports hotstuff.{target}"


def pure_folders_touch_nothing(source: Source) -> Iterator[tuple[int, str]]:
    """No clock, chance, file, network, thread or log where every result must be a function of the input."""
    if source.folder not in PURE:
        return
    for line, name in source.imports:
        first = name.partition(".")[0]
        if first in IMPURE_MODULES and (source.path, first) not in IMPURE_EXCEPTIONS:
            yield line, f"imports {name}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id in IMPURE_CALLS:
            yield node.lineno, f"uses {node.id}()"


def only_safety_signs(source: Source) -> Iterator[tuple[int, str]]:
    """One module of the core holds keys: what it signed is what it has persisted."""
    if source.folder not in DETERMINISTIC or source.path == SIGNER:
        return
    for line, name in source.imports:
        if name.rpartition(".")[2] in SECRETS:
            yield line, f"imports {name}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id in SECRETS:
            yield node.lineno, f"uses {node.id}"
        elif isinstance(node, ast.Attribute) and node.attr in SECRETS | SIGNING:
            yield node.lineno, f"uses .{node.attr}"
        elif isinstance(node, ast.Constant) and node.value in SECRETS | SIGNING:
            yield node.lineno, f"names {node.value!r}"


def integers_only(source: Source) -> Iterator[tuple[int, str]]:
    """Replicas must not differ by a rounding: no float literals and no `/`."""
    if source.folder not in DETERMINISTIC:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node.lineno, f"float {node.value}"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "division"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
            yield node.lineno, "float()"


def is_set(node: ast.expr) -> bool:
    """Whether an expression is a set by its form alone, also behind `list(...)` and the like, which keep its order."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp):
        return is_set(node.left) or is_set(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        keeps_order = node.func.id in ("list", "tuple", "iter", "enumerate", "reversed", "map", "filter", "zip")
        return node.func.id in ("set", "frozenset") or (keeps_order and any(map(is_set, node.args)))
    return False


def sets_have_no_order(source: Source) -> Iterator[tuple[int, str]]:
    """The order of a set of bytes differs from process to process: nothing may depend on it."""
    if source.folder not in DETERMINISTIC:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension) and is_set(node.iter):
            yield node.iter.lineno, "iterates over a set"


def public_parts(tree: ast.Module) -> Iterator[tuple[ast.ClassDef | FunctionNode, ast.ClassDef | None]]:
    """Public classes and functions, and those in public classes with that class; not what is local."""
    todo: list[tuple[list[ast.stmt], ast.ClassDef | None]] = [(tree.body, None)]
    while todo:
        body, owner = todo.pop()
        for node in body:
            if isinstance(node, ast.ClassDef | FunctionNode) and not node.name.startswith("_"):
                yield node, owner
                if isinstance(node, ast.ClassDef):
                    todo.append((node.body, node))
            elif isinstance(node, ast.If | ast.Try):
                handlers = node.handlers if isinstance(node, ast.Try) else []
                todo += [(part, owner) for part in (node.body, node.orelse, *(h.body for h in handlers))]


@cache
def interfaces() -> frozenset[tuple[str, str]]:
    """(owner, method) of every method described in the package; the owner is a class, or "folder/" of a `Protocol`."""
    found = set()
    for source in package_sources():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                owners = {node.name} | ({f"{source.folder}/"} if "Protocol" in map(ast.unparse, node.bases) else set())
                described = (m.name for m in node.body if isinstance(m, FunctionNode) and ast.get_docstring(m))
                found |= {(owner, name) for name in described for owner in owners}
    return frozenset(found)


def described_elsewhere(folder: str, owner: ast.ClassDef, method: str) -> bool:
    """Whether a method implements one that a base class, a `Protocol` of the same folder or asyncio describes."""
    bases = [ast.unparse(base) for base in owner.bases]
    ours = any((name, method) in interfaces() for name in (f"{folder}/", *bases))
    return ours or any(
        base.startswith("asyncio.") and hasattr(getattr(asyncio, base.removeprefix("asyncio."), None), method)
        for base in bases
    )


def the_public_is_described(source: Source) -> Iterator[tuple[int, str]]:
    """Public modules, classes and functions have docstrings. An `__init__.py` without code has nothing to say."""
    name = PurePosixPath(source.path).stem
    if name.startswith("_") and name != "__init__":
        return
    if source.tree.body and not ast.get_docstring(source.tree):
        yield 1, "module"
    for node, owner in public_parts(source.tree):
        overload = any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)
        elsewhere = owner is not None and described_elsewhere(source.folder, owner, node.name)
        if not overload and not elsewhere and not ast.get_docstring(node):
            yield node.lineno, f"{owner.name}.{node.name}" if owner else node.name


def functions_are_short(source: Source) -> Iterator[tuple[int, str]]:
    """A function fits on a screen, its docstring not counted."""
    for node in ast.walk(source.tree):
        if isinstance(node, FunctionNode):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node):
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines"


def nobody_prints(source: Source) -> Iterator[tuple[int, str]]:
    """Output belongs to the commands; all others return, report or log."""
    if source.folder in MAY_PRINT:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id == "print":
            yield node.lineno, "uses print"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        imports_point_downwards,
        the_ground_stands_alone,
        pure_folders_touch_nothing,
        only_safety_signs,
        integers_only,
        sets_have_no_order,
        the_public_is_described,
        functions_are_short,
        nobody_prints,
    )
}


@pytest.fixture(scope="module")
def sources() -> tuple[Source, ...]:
    return package_sources()


@pytest.mark.parametrize("name", RULES)
def test_house(name: str, sources: tuple[Source, ...]) -> None:
    found = [f"hotstuff/{s.path}:{line}: {what}" for s in sources for line, what in RULES[name](s)]
    assert not found, f"{RULES[name].__doc__}\n" + "\n".join(found)


def test_the_sources_are_all_there(sources: tuple[Source, ...]) -> None:
    paths = {source.path for source in sources}
    assert {"errors.py", "native.py", "_pure.py", SIGNER, "types/encoding.py", "mempool/mempool.py"} <= paths


def test_exceptions_are_still_needed(sources: tuple[Source, ...]) -> None:
    used = {(s.path, name.partition(".")[0]) for s in sources for _, name in s.imports}
    assert used >= IMPURE_EXCEPTIONS.keys()


def test_safety_does_sign(sources: tuple[Source, ...]) -> None:
    # Were it renamed, the rule about it would be about nothing.
    (safety,) = (source for source in sources if source.path == SIGNER)
    assert list(only_safety_signs(Source("consensus/other.py", safety.text)))


# ---- the rules themselves --------------------------------------------------------------------------------------------

CALLBACKS = "'''doc'''\nclass A({}):\n    '''doc'''\n    def {}(self): pass"
LONG_DOC = "def f():\n    '''" + "doc\n" * 80 + "'''\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)
LONG_CODE = "def f():\n    '''doc'''\n" + "    x = 1\n" * MAX_FUNCTION_LINES

BROKEN: list[tuple[Rule, str, str]] = [
    (imports_point_downwards, "types/x.py", "from hotstuff.crypto.bls import SecretKey"),
    (imports_point_downwards, "types/x.py", "from hotstuff import crypto"),
    (imports_point_downwards, "types/x.py", "from ..crypto import bls"),
    (imports_point_downwards, "types/x.py", "from .. import consensus"),
    (imports_point_downwards, "consensus/x.py", "import hotstuff.mempool.lanes as lanes"),
    (imports_point_downwards, "consensus/x.py", "def f():\n    from hotstuff.storage import environment"),
    (imports_point_downwards, "storage/x.py", "if TYPE_CHECKING:\n    from hotstuff.network import Body"),
    (imports_point_downwards, "network/x.py", "import hotstuff.app"),
    (imports_point_downwards, "node/sub/x.py", "from hotstuff.http.server import Server"),
    (imports_point_downwards, "client/x.py", "from hotstuff.node.config import Config"),
    (imports_point_downwards, "node/x.py", "from hotstuff.client import Client"),
    (imports_point_downwards, "bench/x.py", "from hotstuff.cli import main"),
    (imports_point_downwards, "attic/x.py", ""),
    (imports_point_downwards, "types/x.py", "from hotstuff.attic import thing"),
    (the_ground_stands_alone, "native.py", "from hotstuff.types.encoding import U8"),
    (the_ground_stands_alone, "_pure.py", "import numpy"),
    (the_ground_stands_alone, "errors.py", "from hotstuff.native import Frame"),
    (the_ground_stands_alone, "__init__.py", "from hotstuff.errors import HotstuffError"),
    *((pure_folders_touch_nothing, "types/x.py", f"import {name}") for name in sorted(IMPURE_MODULES)),
    *((pure_folders_touch_nothing, "mempool/x.py", f"{name}('x')") for name in sorted(IMPURE_CALLS)),
    (pure_folders_touch_nothing, "consensus/x.py", "from time import monotonic"),
    (pure_folders_touch_nothing, "consensus/x.py", "def f():\n    import os.path"),
    (pure_folders_touch_nothing, "crypto/ed25519.py", "import os"),
    (pure_folders_touch_nothing, "crypto/bls.py", "import secrets"),
    (pure_folders_touch_nothing, "consensus/x.py", "from concurrent.futures import Executor"),
    (only_safety_signs, "consensus/replica.py", "signature = secret.sign(b'')"),
    (only_safety_signs, "consensus/replica.py", "sign = self._secret.sign"),
    (only_safety_signs, "mempool/mempool.py", "from hotstuff.crypto.ed25519 import NodeSecret as Other"),
    (only_safety_signs, "mempool/mempool.py", "secret = bls.SecretKey.generate(seed)"),
    (only_safety_signs, "mempool/mempool.py", "def f(secret: NodeSecret) -> None: ..."),
    (only_safety_signs, "consensus/replica.py", "getattr(secret, 'sign')(b'')"),
    (only_safety_signs, "consensus/replica.py", "secret.prove_possession(b'')"),
    (integers_only, "consensus/x.py", "x = 0.5"),
    (integers_only, "consensus/x.py", "x = 1e3"),
    (integers_only, "mempool/x.py", "x = total / 3"),
    (integers_only, "mempool/x.py", "x /= 3"),
    (integers_only, "mempool/x.py", "x = float(y)"),
    (sets_have_no_order, "consensus/x.py", "for x in {a, b}: pass"),
    (sets_have_no_order, "consensus/x.py", "for x in set(y): pass"),
    (sets_have_no_order, "consensus/x.py", "for x in frozenset(y) - z: pass"),
    (sets_have_no_order, "mempool/x.py", "y = [x for x in {a for a in b}]"),
    (sets_have_no_order, "mempool/x.py", "for i, x in enumerate(list(set(y))): pass"),
    (the_public_is_described, "node/x.py", "x = 1"),
    (the_public_is_described, "node/__init__.py", "from hotstuff.node import config"),
    (the_public_is_described, "node/x.py", "'''doc'''\nclass A: pass"),
    (the_public_is_described, "node/x.py", "'''doc'''\nclass A:\n    '''doc'''\n    def f(self): pass"),
    (the_public_is_described, "node/x.py", "'''doc'''\nif x:\n    async def f(): pass"),
    (the_public_is_described, "node/x.py", CALLBACKS.format("asyncio.Protocol", "mine")),
    (the_public_is_described, "types/x.py", CALLBACKS.format("object", "on_open")),
    (functions_are_short, "node/x.py", LONG_CODE),
    (functions_are_short, "node/x.py", "class A:\n    " + LONG_CODE.replace("\n", "\n    ")),
    (nobody_prints, "node/x.py", "def f():\n    print('x')"),
    (nobody_prints, "errors.py", "show = print"),
]

FINE: list[tuple[Rule, str, str]] = [
    (imports_point_downwards, "types/x.py", "from hotstuff import native\nfrom hotstuff.errors import InvalidEncoding"),
    (imports_point_downwards, "types/x.py", "from .encoding import U8\nfrom . import hashing\nimport struct"),
    (imports_point_downwards, "mempool/x.py", "from hotstuff.consensus import effects\nimport hotstuff.types.block"),
    (imports_point_downwards, "cli/x.py", "from hotstuff import __version__\nfrom hotstuff import bench, node"),
    (imports_point_downwards, "simulator/x.py", "from hotstuff.app import kv"),
    *((imports_point_downwards, "bench/x.py", f"import hotstuff.{name}") for name in ("node", "client", "storage")),
    (the_ground_stands_alone, "native.py", "from hotstuff._pure import Frame\nimport os"),
    (pure_folders_touch_nothing, "crypto/bls.py", "import os"),
    (pure_folders_touch_nothing, "storage/x.py", "import os, time\nprint(open('x'))"),
    (pure_folders_touch_nothing, "types/x.py", "from hashlib import sha256\nself.open()\ntime = 3"),
    (only_safety_signs, "consensus/safety.py", "from hotstuff.crypto.bls import SecretKey\nsecret.sign(b'')"),
    (only_safety_signs, "mempool/x.py", "signature = self._safety.sign_batch(1, digest)"),
    (only_safety_signs, "network/x.py", "secret.sign(b'')"),
    (integers_only, "consensus/x.py", "x = y // 3\nx //= 2\ndef f(now: float) -> float: ..."),
    (integers_only, "network/x.py", "x = 0.5 / 3"),
    (sets_have_no_order, "consensus/x.py", "for x in sorted(set(y)): pass\nok = x in {1, 2}\nfor k in {1: 2}: pass"),
    (the_public_is_described, "node/__init__.py", ""),
    (the_public_is_described, "node/_x.py", "def _f(): pass\nclass _A:\n    def f(self): pass"),
    (the_public_is_described, "node/x.py", "'''doc'''\ndef f():\n    '''doc'''\n    def local(): pass"),
    (the_public_is_described, "node/x.py", CALLBACKS.format("asyncio.Protocol", "connection_made")),
    (the_public_is_described, "node/x.py", CALLBACKS.format("FrameHandler", "on_open")),
    (the_public_is_described, "network/x.py", CALLBACKS.format("object", "on_open")),
    (functions_are_short, "node/x.py", LONG_DOC),
    (nobody_prints, "cli/x.py", "print('x')"),
    (nobody_prints, "node/x.py", "console.print('x')"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_rules_find_what_is_broken(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), FINE)
def test_rules_let_pass_what_is_fine(rule: Rule, path: str, text: str) -> None:
    assert not list(rule(Source(path, text)))


def test_every_rule_is_tested() -> None:
    for cases in (BROKEN, FINE):
        assert {rule for rule, _, _ in cases} == set(RULES.values())


# ---- imports ---------------------------------------------------------------------------------------------------------

# Imports every module of a package in a process of its own, and tells what that did besides importing.
IMPORT_ALL = """
import _thread, importlib, json, logging, os, pkgutil, signal, sys, threading
name, optional = sys.argv[1], sys.argv[2].split(",")
done, watching = [], True
EVENTS = ("subprocess.", "os.fork", "os.posix_spawn", "os.system", "os.exec",
          "socket.__new__", "socket.connect", "socket.bind", "os.remove", "os.rename", "os.mkdir", "os.putenv",
          "os.kill", "signal.")
def audit(event, args):
    if watching and event.startswith(EVENTS):
        done.append(f"{event} {args!r}")
    if watching and event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        done.append(f"writes {args[0]}")
def watched(function):
    def start(*args, **kwargs):
        done.append(f"starts a thread: {args!r}")
        return function(*args, **kwargs)
    return start
for module in (_thread, threading):  # they raise no audit event before Python 3.12
    for function in ("start_new_thread", "_start_new_thread", "start_joinable_thread", "_start_joinable_thread"):
        if hasattr(module, function):
            setattr(module, function, watched(getattr(module, function)))
def state():
    return {
        "threads": threading.active_count(), "environment": dict(os.environ), "folder": os.getcwd(),
        "handlers": len(logging.root.handlers), "level": logging.root.level, "hooks": [sys.excepthook, sys.stdout],
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    }
before = state()
sys.addaudithook(audit)
package = importlib.import_module(name)
found, skipped = [], []
for module in pkgutil.walk_packages(package.__path__, name + "."):
    if not module.name.endswith(".__main__"):
        found.append(module.name)
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name not in optional:
                raise
            skipped.append(module.name)
watching = False
done += [key for key, value in state().items() if value != before[key]]
print(json.dumps({"found": found, "skipped": skipped, "done": done}))
"""


def import_all(name: str, folder: Path, path: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, list[str]]]:
    """Imports package `name`, which lies in `path`, with warnings as errors; returns the process and what it told."""
    command = [sys.executable, "-B", "-W", "error", "-c", IMPORT_ALL, name, ",".join(OPTIONAL)]
    environment = {**os.environ, "PYTHONPATH": str(path)}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return run, json.loads(run.stdout) if run.returncode == 0 else {}


def test_importing_does_nothing_else(tmp_path: Path, sources: tuple[Source, ...]) -> None:
    run, told = import_all("hotstuff", tmp_path, PACKAGE.parent)
    assert run.returncode == 0, run.stderr
    assert told["done"] == []
    assert run.stdout.count("\n") == 1, "something was printed"
    assert run.stderr == ""
    assert list(tmp_path.iterdir()) == []
    assert len(told["skipped"]) <= 1
    expected = {
        "hotstuff." + source.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for source in sources
        if not source.path.endswith("__main__.py") and source.path != "__init__.py"
    }
    assert expected <= set(told["found"])


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        ("import threading\nthreading.Thread(target=print).start()", "starts a thread"),
        ("import socket\nsocket.socket().close()", "socket"),
        ("open('left', 'w').close()", "left"),
        ("import os\nos.environ['X'] = '1'", "environment"),
        ("import logging\nlogging.basicConfig()", "handlers"),
        ("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)", "signals"),
        ("import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])", "subprocess"),
        ("import warnings\nwarnings.warn('old', DeprecationWarning)", "DeprecationWarning"),
        ("import missing_module", "missing_module"),
    ],
)
def test_side_effects_of_an_import_are_found(text: str, trace: str, tmp_path: Path) -> None:
    package = tmp_path / "lib" / "guilty"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "module.py").write_text(text)
    run, told = import_all("guilty", tmp_path, package.parent)
    if run.returncode == 0 and told["found"] == ["guilty.module"]:
        assert trace in " ".join(told["done"])
    else:
        assert trace in run.stderr
