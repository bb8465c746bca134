"""Keeping secrets out of what people and logs get to see."""

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from urllib.parse import quote

from purveyor_hooks import Variable

MASK = "***"
LONGEST_LINE = 64 * 1024  # characters
_CREDENTIALS = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)@")


def mask_url(text: str) -> str:
    """Mask the passwords of all URLs in a text: ``postgresql://user:***@…``."""
    return _CREDENTIALS.sub(rf"\1:{MASK}@", text)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Mask these secrets, also percent-encoded, and the passwords of URLs."""
    for secret in sorted(
        {form for value in secrets if len(value) > 3 for form in (value, quote(value, safe=""))},
        key=len,
    )[::-1]:
        text = text.replace(secret, MASK)
    return mask_url(text)


async def scrub_stream(
    chunks: AsyncGenerator[str, None], secrets: Iterable[str]
) -> AsyncGenerator[str, None]:
    """The same of a stream, by whole lines: a secret may be cut in two by the pieces that it comes
    in."""
    hidden, held = list(secrets), ""
    async with aclosing(chunks):
        async for chunk in chunks:
            held += chunk
            whole, newline, held = held.rpartition("\n")
            if newline:
                yield scrub(whole, hidden) + newline
            # what is shown of it is masked as a whole, and goes on on a line of its own
            if len(held) > LONGEST_LINE:
                yield scrub(held, hidden) + "\n"
                held = ""
    if held:
        yield scrub(held, hidden)


def mask_variable(variable: Variable) -> str:
    """A variable's value as previews show it: secrets hidden, a URL with only its password
    hidden."""
    if not variable.secret:
        return mask_url(variable.value)
    masked = mask_url(variable.value)
    return masked if masked != variable.value else MASK
