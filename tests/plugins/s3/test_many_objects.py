"""Many objects of one project: what is asked of the server grows with their number, and no
faster."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from botocore.exceptions import ClientError

from purveyor_hooks import Image, Service
from purveyor_hooks.parts import PartWriter
from purveyor_s3 import elsewhere, flavours, listing, snapshot

PAGE = 1000
SERVICE = Service(
    id=1, name="s", slug="s", service_type="s3", host="s", image=Image(reference="rustfs:1"),
    parameters={"flavour": "rustfs"},
    secrets={},
)  # fmt: skip
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Body:
    async def __aenter__(self) -> object:
        return object()  # the driver's own answer is another one

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    async def iter_chunks(self, _: int) -> AsyncIterator[bytes]:
        yield b"x"


class Server:
    """A bucket of so many objects of one byte, each with an older version where it has versions;
    counts what it is asked."""

    def __init__(self, number: int, *, versioned: bool = False) -> None:
        self.asked: Counter[str] = Counter()
        self._number, self._versioned = number, versioned

    def __getattr__(self, name: str) -> Any:
        async def answer(**_: Any) -> dict[str, Any]:
            self.asked[name] += 1
            if name == "get_object":
                return {"Body": Body(), "ContentLength": 1}
            if name == "get_object_tagging":
                return {"TagSet": []}
            if name == "get_bucket_versioning":
                return {"Status": "Enabled"} if self._versioned else {}
            raise ClientError({"Error": {"Code": "NoSuchConfiguration"}}, name)

        return answer

    def get_paginator(self, name: str) -> "Server":
        return self

    async def paginate(self, **_: Any) -> AsyncIterator[dict[str, Any]]:
        for start in range(0, self._number, PAGE):
            self.asked["a page"] += 1
            keys = [f"k{number:07}" for number in range(start, min(start + PAGE, self._number))]
            found = [
                {
                    "Key": key,
                    "VersionId": str(number),
                    "IsLatest": number == 2,
                    "LastModified": AT,
                    "Size": 1,
                }
                for key in keys
                for number in ((2, 1) if self._versioned else (2,))
            ]
            yield {"Contents": found, "Versions": found, listing.ORDER: [b"Version"] * len(found)}


class Roomy:
    async def write(self, chunk: bytes) -> None:
        """There is room."""


def backed_up(number: int, *, versioned: bool) -> Counter[str]:
    server, tally = Server(number, versioned=versioned), snapshot._Tally()
    tally.elsewhere = elsewhere.Elsewhere(elsewhere.others(flavours.RUSTFS))
    anyio.run(snapshot._Bucket(SERVICE, server, "b", PartWriter(Roomy()), tally).write)
    assert tally.counts["objects"] == {"b": number}
    return server.asked


@pytest.mark.parametrize("versioned", [False, True])
def test_ten_times_as_many_are_asked_for_ten_times_as_often_at_most(versioned: bool) -> None:
    few, many = backed_up(PAGE, versioned=versioned), backed_up(10 * PAGE, versioned=versioned)
    assert all(many[name] <= 10 * few[name] for name in many)
    assert many["get_object"] == 10 * few["get_object"] == 10 * PAGE * (2 if versioned else 1)
    assert many["get_bucket_versioning"] == few["get_bucket_versioning"]


@pytest.mark.parametrize("versioned", [False, True])
def test_a_hundred_thousand_are_counted_by_a_hundred_pages_and_nothing_else(
    versioned: bool,
) -> None:
    server = Server(100_000, versioned=versioned)

    async def count() -> int:
        return sum(
            [1 async for item in listing.items(server, "b", versioned=versioned) if item.latest]
        )

    assert anyio.run(count) == 100_000
    assert server.asked == {"a page": 100}
