"""The backup key on paper: four lines of sixteen characters. A slip of the pen is found, and the
line that it is in is named.

The alphabet is Crockford's base32, without letters that look like digits. Each line ends with two
characters that know its text and its number: with them it is a word of a Reed-Solomon code, in
which any one or two wrong characters, and any two that are exchanged, are found for certain. The
whole holds three bytes of the key's own hash, for whatever else may happen to it.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from purveyor_hooks import BadInput

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1", "U": "V"})
LINES, TEXT, CHECK = 4, 14, 2  # characters of a line
GROUP = 4
PURPOSE = b"purveyor paper 1"
PRINTED = ".printed"  # behind the name of a key's file
KEY, SUM = 32, 3  # bytes
POWERS = [1]  # of the generator 2 of the field of 32, which x^5 + x^2 + 1 makes
while len(POWERS) < 31:
    POWERS.append(POWERS[-1] << 1 ^ (0b100101 if POWERS[-1] & 16 else 0))


def render_lines(key: bytes) -> list[str]:
    """The lines to print for a key of 32 bytes."""
    whole = _text(int.from_bytes(key + _sum(key), "big"), LINES * TEXT)
    lines = []
    for number in range(LINES):
        text = whole[number * TEXT : (number + 1) * TEXT]
        line = text + _check(text, number + 1)
        lines.append(" ".join(line[start : start + GROUP] for start in range(0, len(line), GROUP)))
    return lines


def note_printed(path: Path, name: str) -> None:
    """Note beside a key's file that the key of this name was printed: until then the doctor asks
    for it."""
    with suppress(OSError):  # on a full disk it is asked for again
        path.with_name(f"{path.name}{PRINTED}").write_text(f"{name}\n")


def was_printed(path: Path, name: str) -> bool:
    try:
        return path.with_name(f"{path.name}{PRINTED}").read_text().strip() == name
    except OSError:
        return False


def read(lines: Sequence[str]) -> bytes:
    """The key of such lines, in any case and with any blanks. Raises `BadInput` that names the
    lines that are not right."""
    given = [line for line in lines if line.strip()]
    if len(given) != LINES:
        raise BadInput(
            f"A key on paper has {LINES} lines; {len(given)} were given.",
            errors={"key": f"{LINES} lines"},
        )
    texts, wrong = [], []
    for number, line in enumerate(given, 1):
        text = "".join(line.upper().replace("-", "").split()).translate(ALIKE)
        whole = (
            len(text) == TEXT + CHECK
            and set(text) <= set(ALPHABET)
            and text[TEXT:] == _check(text[:TEXT], number)
        )
        if not whole:
            wrong.append(str(number))
        texts.append(text[:TEXT])
    if wrong:
        where = ", ".join(wrong)
        raise BadInput(
            f"Line {where} of the key is not as it was printed.",
            remedy="Compare it with the paper.",
            errors={"key": f"line {where}"},
        )
    value = 0
    for character in "".join(texts):
        value = value << 5 | ALPHABET.index(character)
    content = value.to_bytes(KEY + SUM, "big")
    if _sum(content[:KEY]) != content[KEY:]:
        raise BadInput(
            "The lines are not of one key.",
            remedy="Take all four from one sheet.",
            errors={"key": "not of one key"},
        )
    return content[:KEY]


def _text(value: int, length: int) -> str:
    return "".join(ALPHABET[value >> 5 * (length - 1 - place) & 31] for place in range(length))


def _check(text: str, number: int) -> str:
    """Two characters with which the line's sum is its number, and its sum weighted by place is 0,
    in the field of 32."""
    plain, weighted = number, 0
    for place, character in enumerate(text):
        value = ALPHABET.index(character)
        plain ^= value
        weighted ^= _times(value, place)
    last = _divided(weighted ^ _times(plain, TEXT), POWERS[TEXT] ^ POWERS[TEXT + 1])
    return ALPHABET[plain ^ last] + ALPHABET[last]


def _times(value: int, power: int) -> int:
    """A value times a power of the field's generator."""
    return POWERS[(POWERS.index(value) + power) % len(POWERS)] if value else 0


def _divided(value: int, by: int) -> int:
    return _times(value, -POWERS.index(by))


def _sum(key: bytes) -> bytes:
    return hashlib.sha256(PURPOSE + key).digest()[:SUM]
