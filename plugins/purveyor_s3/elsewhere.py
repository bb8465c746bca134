"""What the other servers would not take of what is here: told with a backup and before a copy, not
when half of it is over."""

from collections.abc import Iterable, Mapping
from typing import Any

from purveyor_hooks import Access, Finding, Image, Service
from purveyor_s3 import flavours, settings
from purveyor_s3.grammar import NO_SETTINGS, Prefixes, lessened, unheld, unsealed
from purveyor_s3.listing import buckets, connect, items
from purveyor_s3.server import OWN_BUCKET

MOST = 20  # findings for each server: a backup's manifest is no list of all objects


class Elsewhere:
    """Looks at everything in the order of a listing, for each of some servers."""

    def __init__(self, servers: Iterable[str]) -> None:
        self._prefixes = {server: Prefixes(server) for server in servers}
        self._found: dict[str, dict[Finding, None]] = {server: {} for server in servers}
        self._more = dict.fromkeys(self._found, 0)

    def bucket(self, bucket: str, held: Mapping[str, Any]) -> None:
        for server in self._found:
            self._prefixes[server] = Prefixes(server)
            for name in NO_SETTINGS[server]:
                if name in held:
                    self._find(server, bucket, f"its {name}", "the server has no such setting")

    def key(self, bucket: str, key: str, size: int) -> list[str]:
        """The servers that take an object of this name."""
        taking = []
        for server, prefixes in self._prefixes.items():
            why = unheld(server, key, size)
            if not why and (other := prefixes.hidden_by(key)):
                why = f"the server would hide it behind the object {other}"
            if why:
                self._find(server, bucket, key, why)
            else:
                taking.append(server)
        return taking

    def marker(self, bucket: str, key: str) -> None:
        for server in self._found:
            if why := unheld(server, key, 0):
                self._find(server, bucket, f"{key}, a delete marker", why)

    def object(
        self, bucket: str, key: str, size: int, described: Mapping[str, Any], tags: list[list[str]]
    ) -> None:
        for server in self.key(bucket, key, size):
            for why in lessened(server, key, described, tags):
                self._find(server, bucket, key, why)
            if why := unsealed(server, described):
                self._find(server, bucket, "its objects", why)

    def _find(self, server: str, bucket: str, what: str, why: str) -> None:
        finding = Finding(where=bucket, what=what, why=why)
        if finding in self._found[server]:
            return  # another version, or another object of which it is said once
        if len(self._found[server]) < MOST:
            self._found[server][finding] = None
        else:
            self._more[server] += 1

    def found(self) -> dict[str, tuple[Finding, ...]]:
        """For each server that would not take all of it: what, and why."""
        said = {}
        for server, found in self._found.items():
            more = self._more[server]
            rest = (
                [Finding(where="", what="", why=f"{more} more would not come over as they are")]
                if more
                else []
            )
            if listed := (*found, *rest):
                said[server] = listed
        return said


def others(flavour: str) -> list[str]:
    return [name for name in flavours.FLAVOURS if name != flavour]


async def upgrade_check(service: Service, access: Access, image: Image) -> tuple[Finding, ...]:
    """What an image of another server would not take, by the names of all keys and the settings of
    all buckets. Headers and tags, which no list tells, are named when they come over."""
    wanted = flavours.named(image.reference)
    if wanted is None or wanted == flavours.of(service).name:
        return ()
    seen = Elsewhere([wanted])
    async with connect(service, access) as client:
        for bucket in await buckets(client):
            if bucket == OWN_BUCKET:
                continue
            held, _ = await settings.read(client, bucket)
            seen.bucket(bucket, held)
            async for item in items(client, bucket, versioned=settings.versioned(held)):
                if item.marker:
                    seen.marker(bucket, item.key)
                else:
                    seen.key(bucket, item.key, item.size)
    return seen.found().get(wanted, ())
