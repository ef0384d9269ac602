"""What gets packed: a wheel built from the sdist is complete, with and without the compiled twin."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("Cython", reason="builds run without isolation and need it installed")
pytest.importorskip("setuptools", minversion="77", reason="builds run without isolation and need it installed")

ROOT = Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "hotstuff", "_native")


def run(*command: str | Path, cwd: Path, pure: bool) -> None:
    environment = {**os.environ, "HOTSTUFF_PURE": "1" if pure else "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def build_wheel(source: Path, into: Path, *, pure: bool) -> Path:
    pip = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index")
    run(*pip, "-w", into, source, cwd=into.parent, pure=pure)
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed from a copy, to leave the checkout alone, and with HOTSTUFF_PURE set, which must not matter."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
        elif source.is_file():
            shutil.copy(source, tree / name)
    build = "from setuptools.build_meta import build_sdist; build_sdist('dist')"
    run(sys.executable, "-c", build, cwd=tree, pure=True)
    (packed,) = (tree / "dist").glob("hotstuff-*.tar.gz")
    return packed


def test_the_sdist_has_every_source_and_no_generated_c(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    packed = {name for name in names if name.startswith("_native/")}
    sources = ("native.pyx", "sha256.c", "sha256.h", "sha256_lanes.c", "sha256_lanes.h")
    assert packed == {f"_native/{name}" for name in sources}
    assert {"setup.py", "pyproject.toml", "hotstuff/py.typed", "hotstuff/_native.pyi"} <= names


def test_a_wheel_from_the_sdist_has_the_compiled_twin(sdist: Path, tmp_path: Path) -> None:
    wheel = build_wheel(sdist, tmp_path / "wheel", pure=False)
    names = zipfile.ZipFile(wheel).namelist()
    compiled = [name for name in names if name.startswith("hotstuff/_native.") and name.endswith((".so", ".pyd"))]
    assert len(compiled) == 1
    assert {"hotstuff/py.typed", "hotstuff/_native.pyi"} <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"hotstuff"}

    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    program = f"import sys; sys.path.insert(0, {str(unpacked)!r}); from hotstuff import native, _native; " + (
        f"assert _native.__file__.startswith({str(unpacked)!r}); assert native.IMPLEMENTATION == 'native'"
    )
    run(sys.executable, "-I", "-c", program, cwd=tmp_path, pure=False)


def test_a_pure_wheel_has_no_compiled_twin_and_fits_any_platform(sdist: Path, tmp_path: Path) -> None:
    wheel = build_wheel(sdist, tmp_path / "wheel", pure=True)
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    assert "hotstuff/_pure.py" in names


@pytest.mark.skipif(sys.platform == "win32", reason="the compiler is chosen by CC on POSIX only")
def test_without_a_compiler_the_build_succeeds_and_leaves_the_pure_twin(
    sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    wheel = build_wheel(sdist, tmp_path / "wheel", pure=False)
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
