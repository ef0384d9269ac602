"""Parsing and hashing of transactions: the compiled code if it was built, else its twin in plain Python.

The two agree on every result and on the text of every error. ``HOTSTUFF_PURE=1`` in the environment forces the plain
one, which is about ten times slower and keeps the GIL. The formats are described in `hotstuff/_pure.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from hotstuff._pure import CLIENT_ID_BYTES, HASH_BYTES, MAX_FRAME_BYTES, MAX_TX_BYTES, Buffer, Frame, frame_head

__all__ = [
    "CLIENT_ID_BYTES",
    "HASH_BYTES",
    "IMPLEMENTATION",
    "MAX_FRAME_BYTES",
    "MAX_TX_BYTES",
    "Buffer",
    "Frame",
    "build_frame",
    "frame_head",
    "keep_memory",
    "merkle_root",
    "parse_body",
    "slice_root",
    "transactions",
]

IMPLEMENTATION: Literal["native", "pure"]

if TYPE_CHECKING:
    from hotstuff._pure import build_frame, keep_memory, merkle_root, parse_body, slice_root, transactions
elif os.environ.get("HOTSTUFF_PURE") == "1":
    from hotstuff._pure import build_frame, keep_memory, merkle_root, parse_body, slice_root, transactions

    IMPLEMENTATION = "pure"
else:
    # Only "there is none" falls back. A compiled module that fails to load is a broken install, and says so.
    try:
        from hotstuff._native import build_frame, keep_memory, merkle_root, parse_body, slice_root, transactions

        IMPLEMENTATION = "native"
    except ModuleNotFoundError:
        from hotstuff._pure import build_frame, keep_memory, merkle_root, parse_body, slice_root, transactions

        IMPLEMENTATION = "pure"
