"""Only what pyproject.toml cannot say: how the compiled twin of `hotstuff/_pure.py` is built.

``HOTSTUFF_PURE=1`` leaves it out. A missing C compiler does the same, with a warning.
"""

import os
import sys

from setuptools import Extension, setup

native = Extension(
    "hotstuff._native",
    sources=["_native/native.pyx", "_native/sha256.c", "_native/sha256_lanes.c"],
    depends=["_native/sha256.h", "_native/sha256_lanes.h"],  # also what puts the headers into the sdist
    include_dirs=["_native"],
    extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-Wall", "-Wextra"],
    optional=True,
)

# An sdist always carries the C source, whoever packs it: its sources are found through the extension.
skip = os.environ.get("HOTSTUFF_PURE") == "1" and "sdist" not in sys.argv

setup(
    ext_modules=[] if skip else [native],
    # The C that Cython writes goes under build/, never next to the source.
    options={"build_ext": {"cython_c_in_temp": True}},
)
