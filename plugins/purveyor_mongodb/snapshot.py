"""Backups by the driver: every collection's options, indexes and documents, as BSON.

Users are not among it: those of projects are made anew when their bindings are, with the passwords that are recorded.
"""

from collections.abc import AsyncIterator
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from purveyor_hooks import Access, Census, Service, Sink, Source
from purveyor_hooks.parts import Part, PartWriter, read_parts
from purveyor_mongodb.server import OWN_DATABASE, PORT

COLLECTION = "collection"
SYSTEM = ("admin", "config", "local")
OWN_KEPT = ("bindings",)
BATCH_BYTES, BATCH_DOCUMENTS = 8 * 1024 * 1024, 1000
RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
TIMEOUT = 300_000  # milliseconds


def _client(service: Service, access: Access) -> Any:
    """The administrator's client, for calls that take long."""
    address = access.address(PORT)
    return AsyncMongoClient(
        address.host,
        address.port,
        username=service.parameters["username"],
        password=service.parameters["password"],
        authSource="admin",
        directConnection=True,
        retryWrites=False,
        serverSelectionTimeoutMS=5000,
        socketTimeoutMS=TIMEOUT,
    )


async def _collections(client: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Database, and what listCollections says of each collection and view, collections first."""
    for database in sorted(await client.list_database_names()):
        if database in SYSTEM:
            continue
        found = [item async for item in await client[database].list_collections()]
        for item in sorted(found, key=lambda item: (item.get("type") == "view", item["name"])):
            own = database == OWN_DATABASE
            if not item["name"].startswith("system.") and (not own or item["name"] in OWN_KEPT):
                yield database, item


async def census(service: Service, access: Access) -> Census:
    """Documents of each collection; our own marks are left out."""
    counts: dict[str, dict[str, int]] = {"databases": {}, "documents": {}, "indexes": {}}
    async with _client(service, access) as client:
        async for database, item in _collections(client):
            if database != OWN_DATABASE and item.get("type") != "view":
                collection = client[database][item["name"]]
                indexes = [index async for index in await collection.list_indexes()]
                _count(counts, database, item["name"], await collection.count_documents({}), len(indexes))
    return Census(counts=counts)


def _count(counts: dict[str, dict[str, int]], database: str, name: str, documents: int, indexes: int) -> None:
    counts["databases"][database] = 1
    counts["documents"][f"{database}.{name}"] = documents
    counts["indexes"][f"{database}.{name}"] = indexes


async def backup(service: Service, access: Access, sink: Sink) -> Census:
    counts: dict[str, dict[str, int]] = {"databases": {}, "documents": {}, "indexes": {}}
    writer = PartWriter(sink)
    async with _client(service, access) as client:
        async for database, item in _collections(client):
            view = item.get("type") == "view"
            collection = client[database].get_collection(item["name"], codec_options=RAW)
            indexes = [] if view else [dict(index) async for index in await client[database][item["name"]].list_indexes()]
            # options and indexes hold types that JSON has not
            about = bson.encode({"options": item.get("options") or {}, "indexes": indexes}).hex()
            await writer.begin(COLLECTION, database=database, collection=item["name"], about=about)
            documents = 0 if view else await _pour(collection, writer)
            await writer.end()
            if database != OWN_DATABASE and not view:
                _count(counts, database, item["name"], documents, len(indexes))
    await writer.close()
    return Census(counts=counts)


async def _pour(collection: Any, writer: PartWriter) -> int:
    documents, buffer = 0, bytearray()
    async for document in collection.find({}, batch_size=BATCH_DOCUMENTS):
        buffer += document.raw
        documents += 1
        if len(buffer) >= BATCH_BYTES:
            await writer.write(buffer)
            buffer = bytearray()
    if buffer:
        await writer.write(buffer)
    return documents


async def restore(service: Service, access: Access, source: Source) -> None:
    async with _client(service, access) as client:
        async for part in read_parts(source):
            if part.name == COLLECTION:
                await _fill(client, part)


async def _fill(client: Any, part: Part) -> None:
    database, name = client[part.facts["database"]], part.facts["collection"]
    about = bson.decode(bytes.fromhex(part.facts["about"]))
    if name not in await database.list_collection_names():
        await database.create_collection(name, check_exists=False, **about["options"])
    collection = database.get_collection(name, codec_options=RAW)
    batch: list[RawBSONDocument] = []
    size = 0
    async for raw in _documents(part):
        batch.append(RawBSONDocument(raw))
        size += len(raw)
        if size >= BATCH_BYTES or len(batch) >= BATCH_DOCUMENTS:
            await collection.insert_many(batch, ordered=True)
            batch, size = [], 0
    if batch:
        await collection.insert_many(batch, ordered=True)
    wanted = [index for index in about["indexes"] if index["name"] != "_id_"]
    if wanted:
        specifications = [{key: value for key, value in index.items() if key not in ("v", "ns")} for index in wanted]
        await database.command("createIndexes", name, indexes=specifications)


async def _documents(part: Part) -> AsyncIterator[bytes]:
    """Documents begin with their own length."""
    buffer = bytearray()
    async for chunk in part:
        buffer += chunk
        start = 0
        while len(buffer) - start >= 4:
            size = int.from_bytes(buffer[start : start + 4], "little")
            if len(buffer) - start < size:
                break
            yield bytes(buffer[start : start + size])
            start += size
        del buffer[:start]
