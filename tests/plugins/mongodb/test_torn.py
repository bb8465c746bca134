"""Backups of a MongoDB whose collections are exchanged while they are read, as $out does."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from purveyor_hooks import Inventory
from purveyor_hooks.parts import PartWriter, read_parts
from purveyor_mongodb import snapshot
from purveyor_mongodb.snapshot import BROKEN, COLLECTION

pytestmark = pytest.mark.anyio


class Chunks:
    """`Sink` and `Source` in memory."""

    def __init__(self) -> None:
        self.data = b""

    async def write(self, chunk: bytes) -> None:
        self.data += chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


class Database:
    """One collection of ten documents; as often as it is `torn`, what reads it is ended by the
    server after three, and another one of its name has its place afterwards where it is
    `exchanged`."""

    def __init__(self, torn: int, *, exchanged: bool) -> None:
        self.torn, self.exchanged, self.number = torn, exchanged, 1

    def __getitem__(self, name: str) -> "Database":
        return self

    async def list_collections(self) -> AsyncIterator[dict[str, Any]]:
        async def listed() -> AsyncIterator[dict[str, Any]]:
            yield {
                "name": "report",
                "type": "collection",
                "options": {},
                "info": {"uuid": self.number},
            }

        return listed()

    async def command(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"cursor": {"firstBatch": [{"name": "_id_", "key": {"_id": 1}}]}}

    def get_collection(self, name: str, **_: Any) -> Any:
        return SimpleNamespace(find=self._find)

    async def _find(self, *_: Any, **__: Any) -> AsyncIterator[RawBSONDocument]:
        torn, self.torn = self.torn > 0, self.torn - 1
        for number in range(10):
            if torn and number == 3:
                self.number += self.exchanged
                raise OperationFailure("collection renamed or dropped", 175)
            yield RawBSONDocument(bson.encode({"_id": number}))


async def saved(database: Database) -> tuple[Inventory, list[tuple[str, int]]]:
    """What is counted, and the parts that were written with how many bytes."""
    chunks, tally = Chunks(), snapshot._Tally()
    writer = PartWriter(chunks)
    await snapshot._database(database, "shop", writer, tally)
    await writer.close()
    return tally.census(), [
        (part.name, len(await part.read())) async for part in read_parts(chunks)
    ]


@pytest.mark.parametrize("exchanged", [True, False])
async def test_one_that_is_exchanged_while_it_is_read_is_read_again_and_is_whole(
    exchanged: bool,
) -> None:
    census, parts = await saved(Database(1, exchanged=exchanged))
    assert census.failed == ()
    assert census.counts["documents"] == {"shop.report": 10}
    assert [name for name, _ in parts] == [COLLECTION, BROKEN, COLLECTION]
    assert parts[2][1] == 10 * len(bson.encode({"_id": 1}))


async def test_one_that_cannot_be_read_is_named_once_and_tried_no_more_than_twice() -> None:
    census, parts = await saved(Database(99, exchanged=False))
    assert [(item.where, item.what) for item in census.failed] == [("shop", "report")]
    assert [name for name, _ in parts] == [COLLECTION, BROKEN, COLLECTION, BROKEN]
    assert census.counts["documents"] == {"shop.report": 3}
