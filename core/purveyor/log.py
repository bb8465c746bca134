"""Logs: structured, on standard error, with the fields that may hold secrets masked."""

import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from purveyor.redact import MASK, mask_url

SECRET_FIELDS = ("password", "token", "secret", "key", "authorization")


def _mask(_: Any, __: str, fields: Any) -> Any:
    for name, value in fields.items():
        if any(word in name.lower() for word in SECRET_FIELDS):
            fields[name] = MASK
        elif isinstance(value, str):
            fields[name] = mask_url(value)
    return fields


class _Careful:
    """A stream that takes what it can: a log on a full disk ends nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def make_logger(level: int, stream: TextIO = sys.stderr) -> Any:
    """A logger that prints what is at least as grave as `level` (of the `logging` module)."""
    renderer: Any = structlog.processors.JSONRenderer()
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    return structlog.wrap_logger(
        structlog.PrintLogger(cast(TextIO, _Careful(stream))),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask,
            structlog.processors.ExceptionRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
