"""Names that people give, and the names of resources made from them."""

import re
import secrets
import string

from purveyor_hooks import BadInput

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
NAME_LIMIT = 40
ALPHABET = string.ascii_letters + string.digits
KEY_ALPHABET = string.ascii_lowercase + string.digits


def number_of(reference: str | int) -> int:
    """The id that somebody may mean by this, -1 when it is none: ``²`` is a digit, and a number of
    5,000 of them is no id."""
    text = str(reference)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else -1


def slug_of(name: str, field: str = "name") -> str:
    """The slug of a name: lower case, hyphens. Raises `BadInput` that names the field."""
    trimmed = name.strip()
    slug = re.sub(r"[^a-z0-9]+", "-", trimmed.lower()).strip("-")
    if not NAME.fullmatch(trimmed) or len(trimmed) > NAME_LIMIT or not slug:
        why = (
            f"use 1 to {NAME_LIMIT} letters from a to z, digits, spaces, dots, hyphens or underscores, "
            "beginning with a letter or digit"
        )
    elif slug.isdigit():
        why = "a number alone would be taken for an id; add a letter"
    else:
        return slug
    raise BadInput(
        f"The {field} cannot be used.", remedy=f"For {field}, {why}.", errors={field: why}
    )


def password(length: int = 32) -> str:
    """A random password of letters and digits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def key(length: int) -> str:
    """A random key of lower-case letters and digits, beginning with a letter."""
    return secrets.choice(string.ascii_lowercase) + "".join(
        secrets.choice(KEY_ALPHABET) for _ in range(length - 1)
    )
