"""Patterns of channels, as Redis means them."""

from collections.abc import Sequence

from purveyor_kv.errors import bad_input

Token = frozenset[int] | None  # the bytes that one place of a pattern takes; None takes any number


def compiled(pattern: str) -> list[Token]:
    """A pattern of Redis: * ? [abc] [^a] [a-z], and a backslash before what is meant as it is.
    Raises `KVError`."""
    text, found, place = pattern.encode(), list[Token](), 0
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == ord("*"):
            found.append(None)
        elif letter == ord("?"):
            found.append(frozenset(range(256)))
        elif letter == ord("["):
            end = text.find(b"]", place)
            if end < 0:
                raise bad_input("A bracket of the pattern is not closed.")
            found.append(_class(text[place:end]))
            place = end + 1
        elif letter == ord("\\") and place < len(text):
            found.append(frozenset({text[place]}))
            place += 1
        else:
            found.append(frozenset({letter}))
    return found


def _class(inside: bytes) -> frozenset[int]:
    taken, place, other = set[int](), 0, inside[:1] == b"^"
    inside = inside[other:]
    while place < len(inside):
        first = last = inside[place]
        if inside[place + 1 : place + 2] == b"-" and place + 2 < len(inside):
            last = inside[place + 2]
            place += 2
        place += 1
        taken.update(range(min(first, last), max(first, last) + 1))
    return frozenset(range(256)) - taken if other else frozenset(taken)


def matches(tokens: Sequence[Token], text: bytes) -> bool:
    """Whether the whole text fits. It goes back to the last star alone, so that no pattern costs
    more than its length times that of the text."""
    place = at = 0
    star, since = -1, 0
    while at < len(text):
        token = tokens[place] if place < len(tokens) else frozenset[int]()
        if token is None:
            star, since = place, at
            place += 1
        elif text[at] in token:
            place, at = place + 1, at + 1
        elif star >= 0:
            since += 1
            place, at = star + 1, since
        else:
            return False
    return all(token is None for token in tokens[place:])
