"""Which installations have a copy of their state at a place, and the newest copy that opens."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from purveyor.backups.storage import Storage
from purveyor.recovery.sealing import ROOT, Header, Keys, is_document, moment_of, unseal
from purveyor_hooks import BadInput, NotFound


class Found(NamedTuple):
    """A copy that opened, and the newer ones that did not."""

    header: Header
    body: bytes
    refused: tuple[str, ...]


async def documents(place: Storage) -> dict[str, list[str]]:
    """The copies at a place by installation, newest first: by term and revision, which no clock can
    turn round."""
    found: dict[str, list[str]] = {}
    for path in await place.below(ROOT):
        if is_document(path):
            found.setdefault(path.split("/")[1], []).append(path)
    return {name: sorted(paths, reverse=True) for name, paths in sorted(found.items())}


async def choose_copies(
    place: Storage, keys: Keys, installation: str = ""
) -> tuple[str, list[str]]:
    """The installation that is meant, and its copies. Raises `NotFound`, and `BadInput` when that
    has to be said."""
    every = await documents(place)
    if not every:
        raise NotFound(
            f"There is no copy of an installation's state at {place.label}.",
            remedy=(
                "Give the bucket or the folder that its backups went to, with the path that "
                "its source has there."
            ),
        )
    if installation:
        if installation not in every:
            known = ", ".join(every)
            raise NotFound(
                f"There is no installation {installation!r} at {place.label}.",
                remedy=f"There are: {known}.",
                errors={"installation": f"one of {known}"},
            )
        return installation, every[installation]
    ours = {name: paths for name, paths in every.items() if await _opens(place, paths, keys)}
    if len(ours) > 1:
        told = [await _described(place, paths, keys) for paths in ours.values()]
        raise BadInput(
            f"The key opens the copies of {len(ours)} installations at {place.label}: "
            f"{'; '.join(told)}.",
            remedy="Say which one: --installation ID",
            errors={"installation": "which one?"},
        )
    if not ours:
        raise BadInput(
            f"The key opens no copy of a state at {place.label}.",
            remedy=(
                "Give the key of the installation that wrote them: from paper, or its backup.key."
            ),
            errors={"key": "it opens none"},
        )
    return next(iter(ours.items()))


async def _opens(place: Storage, paths: Sequence[str], keys: Keys) -> bool:
    try:
        await newest(place, paths[:5], keys)
    except BadInput:
        return False
    return True


async def _described(place: Storage, paths: Sequence[str], keys: Keys) -> str:
    header = (await newest(place, paths[:5], keys)).header
    return (
        f"{header.installation} ({header.name} on {header.host}, "
        f"{header.moment:%Y-%m-%d %H:%M} UTC)"
    )


async def newest(
    place: Storage, paths: Sequence[str], keys: Keys, at: datetime | None = None
) -> Found:
    """The newest copy that opens, made at a moment at the latest. Raises `BadInput` when none
    does."""
    refused = []
    fitting = [path for path in paths if at is None or moment_of(path) <= at.timestamp() * 1000]
    for path in fitting:
        try:
            header, body = unseal(await place.get(path), path, keys)
        except BadInput as error:
            refused.append(error.detail)
        except NotFound:  # thinned meanwhile
            continue
        else:
            return Found(header, body, tuple(refused))
    if not fitting and paths:
        why = f"the oldest copy is of {min(map(_moment, paths))}"
        raise BadInput(
            f"There is no copy of the state from before that moment: {why}.", errors={"at": why}
        )
    raise BadInput(
        f"No copy of the state opens: {refused[0] if refused else 'there is none'}",
        remedy="Give the key of the installation that wrote them, or another place.",
        errors={"key": "it opens none"},
    )


def _moment(path: str) -> str:
    return datetime.fromtimestamp(moment_of(path) / 1000).astimezone().isoformat(timespec="seconds")
