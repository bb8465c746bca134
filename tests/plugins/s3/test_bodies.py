"""A backup of objects closes every answer that it was given, also of objects that it has to leave
out."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from botocore.exceptions import ClientError

from purveyor_hooks import Image, Service
from purveyor_hooks.parts import PartWriter
from purveyor_s3 import listing, snapshot

SERVICE = Service(
    id=1,
    name="s",
    slug="s",
    service_type="s3",
    host="s",
    image=Image(reference="rustfs:1"),
    parameters={"flavour": "rustfs"},
    secrets={},
)


class Body:
    def __init__(self) -> None:
        self.open = True

    async def __aenter__(self) -> "Body":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    async def iter_chunks(self, _: int) -> AsyncIterator[bytes]:
        yield b"x"


class Client:
    """A server that refuses to tell an object's tags, in words of its own."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.bodies: list[Body] = []

    async def get_object(self, **_: Any) -> dict[str, Any]:
        self.bodies.append(Body())
        return {"Body": self.bodies[-1], "ContentLength": 1}

    async def get_object_tagging(self, **_: Any) -> dict[str, Any]:
        if self.code:
            raise ClientError({"Error": {"Code": self.code}}, "GetObjectTagging")
        return {"TagSet": []}


class Full:
    async def write(self, chunk: bytes) -> None:
        raise OSError("the disk is full")


class Roomy:
    async def write(self, chunk: bytes) -> None:
        """There is room."""


ITEM = listing.Item(
    "key",
    "",
    1,
    latest=True,
    marker=False,
    modified=datetime(2026, 1, 1, tzinfo=UTC),
    storage_class="STANDARD",
)


@pytest.mark.parametrize(("code", "named"), [("AccessDenied", 1), ("NoSuchKey", 0)])
def test_the_body_of_an_object_whose_tags_cannot_be_read_is_closed(code: str, named: int) -> None:
    client, tally = Client(code), snapshot._Tally()
    bucket = snapshot._Bucket(SERVICE, client, "b", PartWriter(Roomy()), tally)
    anyio.run(bucket._object, ITEM)
    assert [body.open for body in client.bodies] == [False]
    assert len(tally.failed) == named


def test_the_body_of_an_object_that_cannot_be_written_is_closed() -> None:
    client = Client("")
    bucket = snapshot._Bucket(SERVICE, client, "b", PartWriter(Full()), snapshot._Tally())
    with pytest.raises(OSError, match="full"):
        anyio.run(bucket._object, ITEM)
    assert [body.open for body in client.bodies] == [False]
