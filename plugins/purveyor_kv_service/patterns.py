"""Patterns of channels, as Redis means them."""

from collections.abc import Sequence

from purveyor_kv.errors import bad_input

ANY = (1 << 256) - 1  # what a place takes is a bit for each byte


class Patterns:
    """Several patterns, held against a text at once.

    Each place of each is a bit, and a text costs one step for each of its bytes, whatever the
    patterns are: who chooses both cannot have it go back. Raises `KVError`.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._begin = self._stays = 0
        self._takes: dict[int, int] = {}  # what is taken -> at which places
        self._by_byte: dict[int, int] = {}
        self._ends: list[int] = []
        place = 0
        for pattern in patterns:
            self._begin |= 1 << place
            for taken in compile_pattern(pattern):
                if taken is None:
                    self._stays |= 1 << place
                    continue
                self._takes[taken] = self._takes.get(taken, 0) | 1 << place
                place += 1
            self._ends.append(1 << place)
            place += 1

    def matches(self, text: bytes) -> list[bool]:
        """Which of them the whole text fits, in their order."""
        there = self._begin
        for byte in text:
            there = (there & self._places(byte)) << 1 | there & self._stays
            if not there:
                break
        return [bool(there & end) for end in self._ends]

    def _places(self, byte: int) -> int:
        if (found := self._by_byte.get(byte)) is None:
            found = sum(places for taken, places in self._takes.items() if taken >> byte & 1)
            self._by_byte[byte] = found
        return found


def compile_pattern(pattern: str) -> list[int | None]:
    """A pattern of Redis, place by place; None takes any number of bytes: * ? [abc] [^a] [a-z], and
    a backslash before what is meant as it is."""
    text, found, place = pattern.encode(), list[int | None](), 0
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == ord("*"):
            found.append(None)
        elif letter == ord("?"):
            found.append(ANY)
        elif letter == ord("["):
            taken, place = _class(text, place)
            found.append(taken)
        elif letter == ord("\\") and place < len(text):
            found.append(1 << text[place])
            place += 1
        else:
            found.append(1 << letter)
    return found


def _class(text: bytes, place: int) -> tuple[int, int]:
    """What stands in brackets, and the place behind them."""
    other = text[place : place + 1] == b"^"
    place += other
    taken = 0
    while True:
        if place >= len(text):
            raise bad_input("A bracket of the pattern is not closed.")
        letter = text[place]
        if letter == ord("\\") and place + 1 < len(text):
            taken |= 1 << text[place + 1]
            place += 2
        elif letter == ord("]"):
            return ANY ^ taken if other else taken, place + 1
        elif text[place + 1 : place + 2] == b"-" and place + 2 < len(text):
            first, last = sorted((letter, text[place + 2]))
            taken |= (1 << last + 1) - (1 << first)
            place += 3
        else:
            taken |= 1 << letter
            place += 1
