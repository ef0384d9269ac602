from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from hotstuff.node.logs import JsonLines, start_logging


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = handlers, level
    root.manager._clear_cache()  # type: ignore[attr-defined]


def formatted(message: str, *args: object, level: int = logging.INFO, **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("hotstuff.node", level, __file__, 1, message, args, extra.pop("exc_info", None))
    vars(record).update(extra)
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line() -> None:
    found = formatted("peer %d lost", 3, level=logging.WARNING)
    moment = datetime.fromisoformat(found.pop("time"))
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < 60
    assert moment.utcoffset() is not None
    assert found == {"level": "warning", "logger": "hotstuff.node", "message": "peer 3 lost"}


def test_fields_are_beside_the_message() -> None:
    found = formatted("timed_out", fields={"view": 7, "leader": 2})
    assert (found["message"], found["view"], found["leader"]) == ("timed_out", 7, 2)


def test_one_line_whatever_is_in_it() -> None:
    text = 'two\nlines "quoted" \u00e4\x00'
    assert formatted(text)["message"] == text


def test_a_trace() -> None:
    try:
        raise ZeroDivisionError("x")
    except ZeroDivisionError:
        found = formatted("stopping", exc_info=sys.exc_info())
    assert found["trace"].endswith("ZeroDivisionError: x")


def test_levels(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("warning")
    logging.getLogger("hotstuff.node").info("quiet")
    logging.getLogger("hotstuff.node").warning("loud", extra={"fields": {"peer": 1}})
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert (json.loads(line)["message"], json.loads(line)["peer"]) == ("loud", 1)
    start_logging("debug")
    logging.getLogger("hotstuff.node").debug("all")
    assert len(capsys.readouterr().err.splitlines()) == 1, "one handler, however often it is started"
