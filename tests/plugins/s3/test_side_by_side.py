"""Small objects are carried side by side: a bounded number at once, in the order of the backup,
versions one after the other."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from botocore.exceptions import ClientError

from plugins.s3.test_many_objects import SERVICE, Body
from purveyor_hooks import RestoreOptions
from purveyor_hooks.parts import PartWriter, read_parts
from purveyor_s3 import elsewhere, flavours, refill, snapshot
from purveyor_s3.together import AT_ONCE, SMALL, TURN, together

pytestmark = pytest.mark.anyio
AT = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = [f"k{number:03}" for number in range(3 * TURN + 5)]
LARGE = KEYS[TURN + 3]
REFUSED = KEYS[7]


class Stream:
    """A backup in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, chunk: bytes) -> None:
        self.data += chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield bytes(self.data)


class Large(Body):
    async def iter_chunks(self, _: int) -> AsyncIterator[bytes]:
        yield b"x" * (SMALL + 1)


class Server:
    """Answers after a while that differs from call to call; knows how much was under way at once,
    and what came when."""

    def __init__(self) -> None:
        self.under_way, self.most = 0, 0
        self.busy: Counter[str] = Counter()
        self.written: list[tuple[str, int]] = []
        self.taken_back: list[tuple[str, tuple[str, int]]] = []
        self._random = random.Random(7)

    async def _work(self, key: str) -> None:
        self.under_way += 1
        self.busy[key] += 1
        assert self.busy[key] == 1, "two of one object at once"
        self.most = max(self.most, self.under_way)
        for _ in range(self._random.randrange(1, 20)):
            await anyio.lowlevel.checkpoint()
        self.under_way -= 1
        self.busy[key] -= 1

    async def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        await self._work(Key)
        if Key == REFUSED:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")
        return {
            "Body": Large() if Key == LARGE else Body(),
            "ContentLength": SMALL + 1 if Key == LARGE else 1,
        }

    async def put_object(self, *, Bucket: str, Key: str, Body: bytes, **_: Any) -> dict[str, Any]:
        await self._work(Key)
        if Key == REFUSED:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")
        self.written.append((Key, len(Body)))
        return {"VersionId": str(len(self.written))}

    async def get_object_tagging(self, **_: Any) -> dict[str, Any]:
        return {"TagSet": []}

    def __getattr__(self, name: str) -> Any:
        async def answer(**_: Any) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "NoSuchBucket"}}, name)

        return answer

    async def delete_object(self, *, Key: str, VersionId: str, **_: Any) -> None:
        self.taken_back.append((Key, self.written[int(VersionId) - 1]))

    async def create_bucket(self, **_: Any) -> None:
        """It is there."""

    def get_paginator(self, name: str) -> "Server":
        return self

    async def paginate(self, **_: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"Contents": [{"Key": key, "LastModified": AT, "Size": 1} for key in KEYS]}


async def backed_up(server: Server, stream: Stream) -> snapshot._Tally:
    writer, tally = PartWriter(stream), snapshot._Tally()
    tally.elsewhere = elsewhere.Elsewhere(elsewhere.others(flavours.RUSTFS))
    await snapshot._Bucket(SERVICE, server, "b", writer, tally).write()
    await writer.close()
    return tally


async def test_a_backup_has_the_order_of_the_bucket_and_names_what_was_refused() -> None:
    server, stream = Server(), Stream()
    tally = await backed_up(server, stream)
    found = [part.facts["key"] async for part in read_parts(stream) if part.name == snapshot.OBJECT]
    assert found == [key for key in KEYS if key != REFUSED]
    assert [(item.what, item.where) for item in tally.failed] == [(REFUSED, "b")]
    assert tally.counts["objects"] == {"b": len(KEYS) - 1}
    assert tally.counts["bytes"] == {"b": len(KEYS) - 2 + SMALL + 1}
    assert server.most == AT_ONCE


async def refilled(stream: Stream) -> tuple[Server, refill._Refill]:
    server, found = (
        Server(),
        refill._Refill(SERVICE, cast(Any, None), RestoreOptions(takes_over=False)),
    )
    await found.run(server, stream)
    return server, found


async def test_a_restore_writes_the_versions_of_an_object_one_after_the_other() -> None:
    stream = Stream()
    writer = PartWriter(stream)
    await writer.whole(snapshot.BUCKET, b"", bucket="b", settings={})
    for key in KEYS:
        sizes = (1, SMALL + 1, 2) if key == LARGE else (1, 2, 3)
        for size in sizes:
            await writer.whole(
                snapshot.OBJECT, b"x" * size, bucket="b", key=key, size=size, described={}
            )
    await writer.whole(snapshot.BROKEN, b"", bucket="b", key=KEYS[-1])
    await writer.close()
    server, found = await refilled(stream)
    for key in KEYS:
        wrote = [size for name, size in server.written if name == key]
        assert wrote == ([] if key == REFUSED else [1, SMALL + 1, 2] if key == LARGE else [1, 2, 3])
    assert server.taken_back == [(KEYS[-1], (KEYS[-1], 3))]
    assert [item.what for item in found.findings] == [REFUSED] * 3 + [KEYS[-1]]


async def test_what_is_restored_is_under_way_in_a_bounded_number() -> None:
    stream = Stream()
    await backed_up(Server(), stream)
    server, _ = await refilled(stream)
    assert server.most == AT_ONCE
    assert sorted(server.written) == sorted(
        (key, SMALL + 1 if key == LARGE else 1) for key in KEYS if key != REFUSED
    )


async def test_the_first_error_is_told_alone_and_nothing_goes_on() -> None:
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await anyio.lowlevel.checkpoint()
        raise OSError(f"lost at {number}")

    with pytest.raises(OSError, match="lost at"):
        await together(work, range(100))
    assert len(begun) <= AT_ONCE
