"""What long commands show while they run and when they are done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Between lines of progress where standard error is not a terminal.
PLAIN_PROGRESS_S = 30.0
RULE = "-" * 72


def summary_block(rows: Iterable[tuple[str, str]]) -> str:
    """A summary for people: names with values, and headings (no value)."""
    lines = [f"  {name:<16}{value}" if value else f" {name}".rstrip() for name, value in rows]
    return "\n".join([RULE, " SUMMARY", RULE, *lines, RULE])


def write_json(where: str | None, content: Any) -> None:
    """To a file, to standard output (-), or nowhere."""
    if where is None:
        return
    import orjson

    encoded = orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
    if where == "-":
        print(encoded)
    else:
        Path(where).write_text(encoded + "\n")


class ProgressLine:
    """A live line on standard error; where that is not a terminal, a plain one every now and then."""

    def __enter__(self) -> ProgressLine:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        self._terminal = console.is_terminal
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._plain_s = time.monotonic()
        if self._terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._live.stop()

    def update(self, what: str, parts: list[tuple[str, str]]) -> None:
        """Show one moment: what is done, and pieces of text with their styles."""
        from rich.text import Text

        line = Text(f"{what:<17}", style="bold")
        for text, style in parts:
            line.append(text, style=style)
        if self._terminal:
            self._live.update(line)
        elif time.monotonic() - self._plain_s >= PLAIN_PROGRESS_S:
            self._plain_s = time.monotonic()
            print(line.plain, file=sys.stderr, flush=True)
