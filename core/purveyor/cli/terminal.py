"""What reaches a terminal: an app may print what it likes, and none of it moves a cursor, or sets a
title or a clipboard."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

# All that is no text, but for line ends and tabs. Colours stay: they are ours as well.
CONTROLS = re.compile(
    r"(\x1b\[[0-9;]*m)|(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    """The same text, what would act on a terminal written out as in JSON."""
    return CONTROLS.sub(lambda found: found[1] or f"\\u{ord(found[0]):04x}", text)


def plain(text: str) -> str:
    """The same text without colours, and visible."""
    return CONTROLS.sub(lambda found: "" if found[1] else f"\\u{ord(found[0]):04x}", text)


class Visible:
    """A text stream that writes what acts on a terminal out instead. Bytes go through its `buffer`
    as they are.

    Colours are left out where $NO_COLOR says so (no-color.org).
    """

    def __init__(self, stream: Any) -> None:
        self.raw = stream
        self._shown = plain if os.environ.get("NO_COLOR") else visible

    def write(self, text: str) -> int:
        return int(self.raw.write(self._shown(text)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def raw(stream: Any) -> Any:
    """The stream itself, for what draws on a terminal."""
    return stream.raw if isinstance(stream, Visible) else stream


@contextmanager
def safe_output() -> Iterator[None]:
    """Whatever is printed in this block is visible, and no more."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(Any, Visible(out)), cast(Any, Visible(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
