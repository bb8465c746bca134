"""Restores: data first, then what watches over it; what could not be brought back as it was is
answered by name."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from purveyor_hooks import Access, Failed, Finding, RestoreOptions, Service, Source
from purveyor_hooks.parts import Part, read_parts
from purveyor_mongodb import inventory, people
from purveyor_mongodb.inventory import RAW, Holding
from purveyor_mongodb.server import reason
from purveyor_mongodb.snapshot import BATCH_BYTES, BATCH_DOCUMENTS, BROKEN, COLLECTION, ROLES, USERS

VALIDATION = ("validator", "validationLevel", "validationAction")
EXPIRY = "expireAfterSeconds"


async def restore(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    """Each collection is dropped before it is filled: after a crash it begins anew. Expiry is set
    in the end, when all was counted: the server deletes at once what is past it."""
    found: list[Finding] = []
    expiring: list[Holding] = []
    try:
        async with inventory.connect(service, access) as client:
            async for part in read_parts(source):
                if part.name == COLLECTION:
                    holding = inventory.decode(
                        part.facts["database"], part.facts["collection"], part.facts["about"]
                    )
                    if _wanted(holding, options):
                        found = [item for item in found if not _of(item, holding)]
                        expiring = [
                            item
                            for item in expiring
                            if (item.database, item.name) != (holding.database, holding.name)
                        ]
                        found += await _refill(client, service, holding, part, options)
                        if holding.expires:
                            expiring.append(holding)
                elif part.name == BROKEN and (
                    not options.only or part.facts["database"] in options.only
                ):
                    why = f"in the backup {part.facts['why']}"
                    found.append(
                        Finding(
                            where=part.facts["database"], what=part.facts["collection"], why=why
                        )
                    )
                elif part.name in (ROLES, USERS):
                    documents = people.unpack(await part.read())
                    chosen = [
                        item for item in documents if not options.only or item["db"] in options.only
                    ]
                    found += await people.write(client, service, part.name, chosen)
            for holding in expiring:
                found += await _expire(client, holding)
    except PyMongoError as error:
        raise Failed(
            f"The restore into {service.name} was broken off by its server: {reason(error)}.",
            remedy=f"See its log: purveyor logs {service.slug}",
        ) from None
    return tuple(found)


def _of(finding: Finding, holding: Holding) -> bool:
    """Whether it is of an earlier one of this name, in whose place this one comes."""
    whose = finding.what == holding.name or finding.what.startswith(f"{holding.name}: ")
    return finding.where == holding.database and whose


def _wanted(holding: Holding, options: RestoreOptions) -> bool:
    """Our marks come along with whatever is chosen. What a stream has no business to write is not
    written."""
    chosen = not options.only or holding.database in options.only or not holding.counted
    return chosen and inventory.is_carried(holding.database, holding.name)


async def _refill(
    client: Any, service: Service, holding: Holding, part: Part, options: RestoreOptions
) -> list[Finding]:
    database = client[holding.database]

    def finding(why: str, what: str = "") -> Finding:
        return Finding(
            where=holding.database,
            what=f"{holding.name}: {what}" if what else holding.name,
            why=why,
        )

    later = {name: holding.options[name] for name in VALIDATION if name in holding.options}
    made = {
        name: value for name, value in holding.options.items() if name not in (*VALIDATION, EXPIRY)
    }
    try:
        await database.drop_collection(holding.name)
        await database.command("create", holding.name, **made)
    except ConnectionFailure as error:
        raise _lost(service, holding, error) from None
    except OperationFailure as error:
        return [finding(f"the server does not make it: {reason(error)}")]
    if holding.kind == "view":
        return []
    found: list[Finding] = []
    try:
        number, refused = await _pour(database, holding, part, options)
        found += (
            [finding(f"{len(refused)} of its documents were refused: {refused[0]}")]
            if refused
            else []
        )
        there = await database[holding.name].count_documents({})
        if there != number - len(refused) and not holding.capped:
            found.append(finding(f"{number} documents were written into it, and {there} are there"))
        for index in holding.indexes:
            if index["name"] != "_id_" and not index.get("clustered") and EXPIRY not in index:
                found += await _index(database, holding, index)
        if later:
            await database.command("collMod", holding.name, **later)
    except ConnectionFailure as error:
        raise _lost(service, holding, error) from None
    except OperationFailure as error:
        found.append(finding(f"the server refused: {reason(error)}"))
    return found


def _lost(service: Service, holding: Holding, error: Exception) -> Failed:
    return Failed(
        f"The restore into {service.name} lost its server at {holding.database}.{holding.name}: "
        f"{reason(error)}.",
        remedy=f"See its log: purveyor logs {service.slug}",
    )


async def _pour(
    database: Any, holding: Holding, part: Part, options: RestoreOptions
) -> tuple[int, list[str]]:
    """How many documents came, and what the server said to those that it refused."""
    collection = database.get_collection(holding.name, codec_options=RAW)
    number, refused = 0, []
    async for batch in _batches(part):
        if not holding.counted and options.only:
            batch = [raw for raw in batch if bson.decode(raw).get("database") in options.only]
        if not batch:
            continue
        number += len(batch)
        try:
            await collection.insert_many(
                [RawBSONDocument(raw) for raw in batch],
                ordered=holding.capped,
                bypass_document_validation=True,
            )
        except BulkWriteError as error:
            told = [
                str(item.get("errmsg", ""))[:200]
                for item in (error.details or {}).get("writeErrors", [])
            ]
            if not told:
                raise
            refused += told
    return number, refused


async def _index(database: Any, holding: Holding, index: Mapping[str, Any]) -> list[Finding]:
    wanted = {key: value for key, value in index.items() if key != "ns"}
    try:
        await database.command("createIndexes", holding.name, indexes=[wanted])
    except OperationFailure as error:
        why = f"it could not be built: {reason(error)}"
        return [
            Finding(
                where=holding.database, what=f"{holding.name}: the index {index['name']}", why=why
            )
        ]
    return []


async def _expire(client: Any, holding: Holding) -> list[Finding]:
    found: list[Finding] = []
    database = client[holding.database]
    for index in holding.indexes:
        if EXPIRY in index:
            found += await _index(database, holding, index)
    if EXPIRY in holding.options:
        try:
            await database.command(
                "collMod", holding.name, expireAfterSeconds=holding.options[EXPIRY]
            )
        except OperationFailure as error:
            why = f"its documents do not expire: {reason(error)}"
            found.append(Finding(where=holding.database, what=holding.name, why=why))
    return found


async def _batches(part: Part) -> AsyncIterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    async for raw in documents(part):
        batch.append(raw)
        size += len(raw)
        if size >= BATCH_BYTES or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def documents(part: Part) -> AsyncIterator[bytes]:
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
