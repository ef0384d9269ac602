"""The canonical encoding: fixed order, big-endian, fixed widths, one byte string per value.

A decoder accepts exactly the bytes that the encoder of the decoded value produces. Whatever else a peer sends
(short, long, out of range, padded) raises `InvalidEncoding` before anything is allocated for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

from hotstuff.errors import InvalidEncoding

U8 = struct.Struct(">B")
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")

HASH_BYTES = 32
ZERO_HASH = bytes(HASH_BYTES)

# One past the largest view, height or sequence number: C code may hold them in signed 64-bit integers, and no
# replica reaches it by counting.
MAX_COUNTER = 2**63

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview


class Reader:
    """Reads one value from `data`; every method raises `InvalidEncoding` naming `what` is being read."""

    __slots__ = ("_at", "_data", "what")

    def __init__(self, data: Buffer, what: str) -> None:
        self._data = memoryview(data)
        self._at = 0
        self.what = what

    def view(self, size: int) -> memoryview:
        """The next `size` bytes without copying them."""
        start, end = self._at, self._at + size
        if end > len(self._data):
            raise InvalidEncoding(f"{self.what}: needs {end} bytes, got {len(self._data)}")
        self._at = end
        return self._data[start:end]

    def fixed(self, size: int) -> bytes:
        """The next `size` bytes."""
        return bytes(self.view(size))

    def hash(self) -> bytes:
        """A 32-byte hash."""
        return self.fixed(HASH_BYTES)

    def u8(self) -> int:
        """An unsigned byte."""
        return self.view(1)[0]

    def u16(self) -> int:
        """An unsigned 16-bit integer."""
        return int(U16.unpack(self.view(2))[0])

    def u32(self) -> int:
        """An unsigned 32-bit integer."""
        return int(U32.unpack(self.view(4))[0])

    def u64(self) -> int:
        """An unsigned 64-bit integer."""
        return int(U64.unpack(self.view(8))[0])

    def counter(self) -> int:
        """A view, height, epoch or sequence number: u64 below `MAX_COUNTER`."""
        value = self.u64()
        if value >= MAX_COUNTER:
            raise InvalidEncoding(f"{self.what}: got counter {value}, allowed: below 2**63")
        return value

    def flag(self) -> bool:
        """A boolean: 0 or 1, nothing else."""
        value = self.u8()
        if value > 1:
            raise InvalidEncoding(f"{self.what}: got flag {value}, allowed: 0 or 1")
        return value == 1

    def blob(self, limit: int) -> bytes:
        """Bytes after their u32 length, at most `limit`."""
        size = self.u32()
        if size > limit:
            raise InvalidEncoding(f"{self.what}: got length {size}, allowed: at most {limit}")
        return self.fixed(size)

    def count(self, limit: int, item_bytes: int) -> int:
        """A u32 number of items of at least `item_bytes` each, checked against what is there before any loop."""
        count = self.u32()
        if count > limit:
            raise InvalidEncoding(f"{self.what}: got {count} items, allowed: at most {limit}")
        if count * item_bytes > len(self._data) - self._at:
            raise InvalidEncoding(f"{self.what}: {count} items do not fit in {len(self._data) - self._at} bytes")
        return count

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return self._at

    def since(self, position: int) -> memoryview:
        """What has been read since `position`, without copying it."""
        return self._data[position : self._at]

    def rest(self) -> memoryview:
        """Everything that is left, without copying it."""
        return self.view(len(self._data) - self._at)

    def finish(self) -> None:
        """Nothing may be left over."""
        if self._at != len(self._data):
            raise InvalidEncoding(f"{self.what}: {len(self._data) - self._at} bytes left over")


def blob(data: bytes) -> bytes:
    """`data` after its u32 length."""
    return U32.pack(len(data)) + data


def option(value: bytes | None) -> bytes:
    """0 for nothing, or 1 and the value."""
    return b"\0" if value is None else b"\1" + value


def decode_all(data: Buffer, what: str, read: Callable[[Reader], T]) -> T:
    """The one value that `data` encodes, with nothing left over."""
    reader = Reader(data, what)
    value = read(reader)
    reader.finish()
    return value
