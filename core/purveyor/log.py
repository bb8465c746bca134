"""Logs: structured, on standard error, with the fields that may hold secrets masked."""

import sys
from typing import Any, TextIO

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


def make_logger(level: int, stream: TextIO = sys.stderr) -> Any:
    """A logger that prints what is at least as grave as `level` (of the `logging` module)."""
    renderer: Any = structlog.processors.JSONRenderer()
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    return structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask,
            structlog.processors.ExceptionRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
