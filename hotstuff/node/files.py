"""JSON files that people write: strict reading with errors that name file, field, value and what is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson

from hotstuff.errors import ConfigError

T = TypeVar("T")


class Fields:
    """The fields of one JSON object. `take` each that is known, then `finish`."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(where, value, "a JSON object")
        self._left: dict[str, Any] = dict(value)
        self._where = where

    def name(self, field: str) -> str:
        """The full name of a field, for messages."""
        return f"{self._where}: {field}"

    def take(self, field: str, kind: type[T], allowed: str, check: Callable[[T], bool] = lambda _: True) -> T:
        """A required field of this type that passes `check`; `allowed` says in words what would."""
        if field not in self._left:
            raise ConfigError(self.name(field), None, f"{allowed} (the field is missing)")
        value = self._left.pop(field)
        # bool is an int to Python, but `"view_timeout_ms": true` is a mistake.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)) or not check(value):
            raise ConfigError(self.name(field), value, allowed)
        return value

    def optional(
        self, field: str, kind: type[T], default: T, allowed: str, check: Callable[[T], bool] = lambda _: True
    ) -> T:
        """Like `take`, with a default."""
        return self.take(field, kind, allowed, check) if field in self._left else default

    def integer(self, field: str, default: int, low: int, high: int) -> int:
        """An optional integer within bounds."""
        return self.optional(field, int, default, f"an integer from {low} to {high}", lambda v: low <= v <= high)

    def hex(self, field: str, size: int) -> bytes:
        """A required field of `size` bytes in hexadecimal."""
        return parse_hex(self.take(field, str, f"{2 * size} hexadecimal digits"), size, self.name(field))

    def finish(self, known: Collection[str]) -> None:
        """No other fields; `known` is what the message lists."""
        for field, value in self._left.items():
            raise ConfigError(self.name(field), value, f"nothing by this name; known fields: {', '.join(known)}")


def parse_hex(text: str, size: int, where: str) -> bytes:
    """`size` bytes from exactly 2 * size hexadecimal digits."""
    try:
        value = bytes.fromhex(text) if len(text) == 2 * size else b""
    except ValueError:
        value = b""
    if len(value) != size:
        raise ConfigError(where, text, f"{2 * size} hexadecimal digits")
    return value


def parse_address(text: str, where: str) -> tuple[str, int]:
    """Host and port from "host:port"; an IPv6 address stands in brackets."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    # The length first: Python refuses to read numbers of thousands of digits.
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535
    if not colon or not host or not is_port:
        raise ConfigError(where, text, "host:port with a port from 1 to 65535")
    return host, int(port)


def read_json(path: Path) -> object:
    """The content of a JSON file; every problem is a `ConfigError` naming the file."""
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ConfigError(str(path), f"line {error.lineno}, column {error.colno}: {error.msg}", "valid JSON") from None
    except OSError as error:
        raise ConfigError(str(path), error.strerror or str(error), "a readable file") from None


def write_json(path: Path, value: Mapping[str, object], *, mode: int = 0o644) -> None:
    """Writes a new file with these permissions from its first byte on; an existing one is never overwritten."""
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ConfigError(str(path), "an existing file", "a new file: nothing is overwritten") from None
    except OSError as error:
        raise ConfigError(str(path), error.strerror or str(error), "a writable directory") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(str(path), error.strerror or str(error), "a disk with space") from None
