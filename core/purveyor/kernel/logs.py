"""Logs: structured, on standard error, with the fields that may hold secrets masked."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast
from urllib.parse import quote

import structlog

from purveyor.kernel.redact import MASK, scrub

SHORTEST = 8  # letters of a secret that is looked for in whole texts; shorter ones are words, too
SECRET_FIELDS = ("password", "token", "secret", "key", "authorization")


class Mask:
    """The last to see what is logged, tracebacks included: fields named for secrets, passwords in
    URLs, and what the vault has sealed or opened, whatever it is called."""

    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        self._secrets = secrets
        # each secret as it is in URLs: there may be thousands, at every line
        self._encoded: dict[str, str] = {}

    def __call__(self, _: Any, __: str, fields: Any) -> Any:
        before = self._encoded
        known = {
            secret: before.get(secret) or quote(secret, safe="")
            for secret in self._secrets()
            if len(secret) >= SHORTEST
        }
        self._encoded = known
        return {name: self._masked(name, value, known) for name, value in fields.items()}

    def _masked(self, name: str, value: Any, known: Mapping[str, str]) -> Any:
        if any(word in name.lower() for word in SECRET_FIELDS):
            return MASK
        if isinstance(value, str):
            return scrub(
                value,
                [
                    secret
                    for secret, encoded in known.items()
                    if secret in value or encoded in value
                ],
            )
        if isinstance(value, (list, tuple)):
            return [self._masked("", item, known) for item in value]
        if isinstance(value, dict):
            return {key: self._masked(str(key), item, known) for key, item in value.items()}
        return value


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


def make_logger(
    level: int, stream: TextIO = sys.stderr, secrets: Callable[[], Iterable[str]] = tuple
) -> Any:
    """A logger that prints what is at least as grave as `level` (of the `logging` module), without
    any of `secrets`."""
    renderer: Any = structlog.processors.JSONRenderer()
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    return structlog.wrap_logger(
        structlog.PrintLogger(cast(TextIO, _Careful(stream))),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            Mask(secrets),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


class _Libraries(logging.Handler):
    """Their errors are errors; a warning of theirs, with its traceback, is nothing for whoever runs
    a command."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self._logger.error(
                "library", of=record.name, text=record.getMessage(), exc_info=record.exc_info
            )
        else:
            self._logger.info("library", of=record.name, text=record.getMessage())


@contextmanager
def libraries(logger: Any) -> Iterator[None]:
    """Have a logger of ours print what libraries say, instead of Python's own last resort."""
    handler = _Libraries(logger)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
