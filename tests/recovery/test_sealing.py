"""A copy of the state that was altered, exchanged or made by somebody else is refused and named,
and the one before is taken."""

import os
import random
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from purveyor.backups.storage import LocalStorage
from purveyor.recovery import finding
from purveyor.recovery.copier import newest_mark
from purveyor.recovery.sealing import (
    MAGIC,
    Header,
    Keys,
    Mark,
    is_document,
    owner_path,
    read_mark,
    seal,
    unseal,
    write_mark,
)
from purveyor_hooks import BadInput, NotFound

pytestmark = pytest.mark.anyio
INSTALLATION = "0123456789abcdef"
OURS, THEIRS = Keys(b"k" * 32), Keys(b"o" * 32)
BODY = random.Random(1).randbytes(3000) + bytes(20_000)
NOW = 1_800_000_000_000


def header(
    revision: int = 7,
    term: int = 3,
    at: int = NOW,
    keys: Keys = OURS,
    installation: str = INSTALLATION,
) -> Header:
    return Header(
        installation=installation,
        incarnation="i",
        term=term,
        revision=revision,
        at=at,
        key=keys.id,
        name="n",
        host="h",
    )


MADE = header()
GOOD = seal(MADE, BODY, OURS)


def refused(content: bytes, path: str = MADE.path, keys: Keys = OURS) -> str:
    with pytest.raises(BadInput) as told:
        unseal(content, path, keys)
    assert path in told.value.detail
    return told.value.detail


def test_what_was_sealed_opens_under_its_name_and_gives_away_nothing() -> None:
    assert unseal(GOOD, MADE.path, OURS) == (MADE, BODY)
    assert BODY[:64] not in GOOD
    assert seal(MADE, BODY, OURS) != GOOD, "no nonce is used twice"
    assert is_document(MADE.path)
    assert MADE.moment == datetime.fromtimestamp(NOW / 1000, UTC)


def flipped(step: int) -> None:
    for at in range(0, len(GOOD), step):
        for bit in (1, 128):
            bad = bytearray(GOOD)
            bad[at] ^= bit
            refused(bytes(bad))


def test_any_byte_that_was_altered_is_found() -> None:
    flipped(11)


@pytest.mark.nightly
def test_every_byte_that_was_altered_is_found() -> None:
    flipped(1)


def test_one_that_is_cut_short_or_has_something_more_is_refused() -> None:
    for end in (*range(200), *range(200, len(GOOD), 97), len(GOOD) - 1):
        refused(GOOD[:end])
    for more in (b"\0", b"x" * 100, GOOD):
        refused(GOOD + more)
    for other in (b"", MAGIC, MAGIC + b"\xff" * 100, os.urandom(5000)):
        refused(other)


def test_another_key_opens_nothing() -> None:
    refused(GOOD, keys=THEIRS)
    refused(seal(header(keys=THEIRS), BODY, THEIRS))


@pytest.mark.parametrize(
    "other",
    [
        header(revision=8),
        header(term=4),
        header(at=NOW + 1),
        header(installation="fedcba9876543210"),
        header(revision=6),
    ],
)
def test_one_under_another_name_is_refused(other: Header) -> None:
    assert "another name than its own" in refused(GOOD, path=other.path)


def test_a_header_of_another_document_is_refused() -> None:
    """Whose header says more than what is sealed with it."""
    other = seal(header(revision=9), BODY, OURS)
    length = len(MAGIC) + 4 + int.from_bytes(GOOD[len(MAGIC) : len(MAGIC) + 4])
    same = len(MAGIC) + 4 + int.from_bytes(other[len(MAGIC) : len(MAGIC) + 4])
    refused(other[:same] + GOOD[length:], path=header(revision=9).path)


# ---------------------------------------------------------------- what is taken


@pytest.fixture
async def place(tmp_path: Path) -> LocalStorage:
    """Three documents, the newest of revision 3."""
    made = LocalStorage(tmp_path)
    for revision in (1, 2, 3):
        item = header(revision=revision, at=NOW + revision * 1000)
        await made.put(item.path, seal(item, BODY + bytes([revision]), OURS))
    return made


async def newest(
    place: LocalStorage, keys: Keys = OURS, at: datetime | None = None
) -> finding.Found:
    return await finding.newest(place, (await finding.documents(place))[INSTALLATION], keys, at)


async def test_the_newest_that_opens_is_taken_and_those_that_do_not_are_named(
    place: LocalStorage,
) -> None:
    found = await newest(place)
    assert (found.header.revision, found.body, found.refused) == (3, BODY + b"\x03", ())
    content = bytearray(await place.get(found.header.path))
    content[-1] ^= 1
    await place.put(found.header.path, bytes(content))
    old = await place.get(header(revision=1, at=NOW + 1000).path)
    await place.put(header(revision=99, term=4, at=NOW + 99_000).path, old)
    again = await newest(place)
    assert again.header.revision == 2
    assert len(again.refused) == 2
    assert "lies under another name" in again.refused[0]
    assert "00000004/" in again.refused[0]
    assert "altered" in again.refused[1]
    assert found.header.path in again.refused[1]


async def test_one_that_was_taken_away_meanwhile_is_passed_over(place: LocalStorage) -> None:
    paths = (await finding.documents(place))[INSTALLATION]
    await place.delete(paths[0])
    assert (await finding.newest(place, paths, OURS)).header.revision == 2


async def test_the_newest_of_a_moment_is_the_last_before_it(place: LocalStorage) -> None:
    at = datetime.fromtimestamp((NOW + 2500) / 1000, UTC)
    assert (await newest(place, at=at)).header.revision == 2
    with pytest.raises(BadInput, match="no copy of the state from before that moment"):
        await newest(place, at=datetime.fromtimestamp(NOW / 1000, UTC))


async def test_the_order_is_that_of_terms_and_numbers_whatever_clocks_say(
    place: LocalStorage,
) -> None:
    later = header(revision=1, term=4, at=NOW - 10_000)
    await place.put(later.path, seal(later, BODY, OURS))
    assert (await newest(place)).header == later


async def test_with_another_key_there_is_none_and_that_is_said(place: LocalStorage) -> None:
    with pytest.raises(BadInput, match="altered, or is sealed with another key"):
        await newest(place, THEIRS)
    with pytest.raises(BadInput, match="opens no copy of a state"):
        await finding.choose_copies(place, THEIRS)
    assert (await finding.choose_copies(place, OURS))[0] == INSTALLATION


async def test_of_two_installations_in_one_place_the_key_or_a_person_chooses(
    place: LocalStorage, tmp_path: Path
) -> None:
    other = header(installation="fedcba9876543210", keys=THEIRS)
    await place.put(other.path, seal(other, BODY, THEIRS))
    assert (await finding.choose_copies(place, OURS))[0] == INSTALLATION
    assert (await finding.choose_copies(place, THEIRS))[0] == other.installation
    third = header(installation="00000000000000aa")
    await place.put(third.path, seal(third, BODY, OURS))
    with pytest.raises(BadInput, match="copies of 2 installations") as told:
        await finding.choose_copies(place, OURS)
    assert all(name in told.value.detail for name in (INSTALLATION, third.installation))
    assert (await finding.choose_copies(place, OURS, third.installation))[1] == [third.path]
    with pytest.raises(NotFound):
        await finding.choose_copies(place, OURS, "1" * 16)
    with pytest.raises(NotFound, match="no copy of an installation's state"):
        await finding.choose_copies(LocalStorage(tmp_path / "empty"), OURS)


async def test_strange_files_between_them_disturb_nothing(place: LocalStorage) -> None:
    for name in (
        "x.pvs",
        "00000009/x.pvs",
        "00000009/1-2.pvs",
        "99999999/owner",
        "00000003/owner/deep.pvs",
        "README",
    ):
        await place.put(f"state/{INSTALLATION}/{name}", b"x")
    found = await newest(place, at=datetime.fromtimestamp((NOW + 9000) / 1000, UTC))
    assert (found.header.revision, found.refused) == (3, ())
    assert await newest_mark(place, INSTALLATION, OURS) is None


# ---------------------------------------------------------------- who writes


def mark(term: int = 3) -> Mark:
    return Mark(installation=INSTALLATION, term=term, incarnation="i", host="h", at=NOW)


def test_an_owners_mark_is_believed_when_our_key_made_it_for_its_place() -> None:
    ours = write_mark(mark(), OURS)
    assert read_mark(ours, mark().path, OURS) == mark()
    assert read_mark(write_mark(mark(), THEIRS), mark().path, OURS) is None
    assert read_mark(ours, owner_path(INSTALLATION, 4), OURS) is None, "an old one in a later term"
    assert read_mark(ours, owner_path("f" * 16, 3), OURS) is None
    signed = msgspec.json.decode(ours)
    forged = {"owner": signed["owner"].replace('"host":"h"', '"host":"evil"'), "mac": signed["mac"]}
    for content in (
        msgspec.json.encode(forged),
        b"",
        b"{}",
        b"[]",
        ours[:-1],
        msgspec.json.encode({**signed, "mac": "0" * 64}),
    ):
        assert read_mark(content, mark().path, OURS) is None
    for at in range(len(ours)):
        bad = bytearray(ours)
        bad[at] ^= 1
        assert read_mark(bytes(bad), mark().path, OURS) in (None, mark())


async def test_a_forged_mark_of_a_later_term_stops_nobody(place: LocalStorage) -> None:
    await place.put(mark().path, write_mark(mark(), OURS))
    await place.put(mark(9).path, write_mark(mark(9), THEIRS))
    await place.put(mark(8).path, write_mark(mark(7), OURS))
    assert await newest_mark(place, INSTALLATION, OURS) == mark()
