"""Backups by the driver: of every collection its options, indexes and documents; users and roles of
others. All as BSON.

Users of projects are not among it: they are made anew when their bindings are, with the passwords
that are recorded.
"""

from typing import Any

from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from purveyor_hooks import Access, Failed, Finding, Inventory, Service, Sink
from purveyor_hooks.parts import PartWriter
from purveyor_mongodb import inventory, people
from purveyor_mongodb.inventory import RAW, Holding
from purveyor_mongodb.server import reason

COLLECTION, BROKEN, USERS, ROLES = "collection", "broken", "users", "roles"
ROUNDS = 5
BATCH_BYTES, BATCH_DOCUMENTS = 8 * 1024 * 1024, 1000


class _Tally:
    """What was counted so far."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {"databases": {}, "documents": {}, "indexes": {}}
        self.fleeting: dict[str, dict[str, int]] = {}
        self.digests: dict[str, str] = {}
        self.left_out: list[Finding] = []
        self.failed: list[Finding] = []

    def add(self, holding: Holding, documents: int) -> None:
        """An earlier one of this name, and what was wrong with it, is no more."""
        self.failed = [
            item
            for item in self.failed
            if (item.where, item.what) != (holding.database, holding.name)
        ]
        if holding.counted:
            # of an earlier one of this name
            for kept in (*self.counts.values(), *self.fleeting.values()):
                kept.pop(f"{holding.database}.{holding.name}", None)
            inventory.documents_of(self.counts, self.fleeting, holding, documents)
            self.digests[f"{holding.database}.{holding.name}'s definition"] = holding.digest

    def people(self, kind: str, documents: people.Documents) -> None:
        people.count(self.counts, kind, documents)
        if documents:
            self.digests[f"what {kind} may do"] = people.digest(documents)

    def census(self) -> Inventory:
        return Inventory(
            counts=self.counts,
            fleeting=self.fleeting,
            digests=self.digests,
            left_out=tuple(self.left_out),
            failed=tuple(self.failed),
        )


async def census(service: Service, access: Access) -> Inventory:
    """Documents of each collection as they are; our own marks are left out."""
    tally = _Tally()
    async with inventory.connect(service, access, patience=inventory.PATIENCE) as client:
        names = await inventory.databases(client)
        for database in names:
            found, left = await inventory.holdings(client, database)
            tally.left_out += left
            for holding in found:
                view = holding.kind == "view"
                tally.add(
                    holding, 0 if view else await client[database][holding.name].count_documents({})
                )
        users, roles = await people.read(client, service, names)
        tally.people(USERS, users)
        tally.people(ROLES, roles)
    return tally.census()


async def backup(service: Service, access: Access, sink: Sink) -> Inventory:
    """What is counted is what was written. A collection that cannot be read is named, and the
    others follow."""
    tally, writer = _Tally(), PartWriter(sink)
    try:
        async with inventory.connect(service, access) as client:
            names = await inventory.databases(client)
            for database in names:
                await _database(client, database, writer, tally)
            try:
                users, roles = await people.read(client, service, names)
            except OperationFailure as error:
                tally.failed.append(
                    Finding(
                        where="",
                        what="users and roles",
                        why=f"they could not be read: {reason(error)}",
                    )
                )
            else:
                for kind, documents in ((ROLES, roles), (USERS, users)):
                    await writer.whole(kind, people.pack(documents))
                    tally.people(kind, documents)
    except ConnectionFailure as error:
        raise Failed(
            f"The backup of {service.name} lost its server: {reason(error)}.",
            remedy=f"See its log: purveyor logs {service.slug}",
        ) from None
    await writer.close()
    return tally.census()


async def _database(client: Any, database: str, writer: PartWriter, tally: _Tally) -> None:
    """What is listed, and then what has come meanwhile: a collection that was renamed before it was
    read has a name that was not listed, and reads as empty by its old one. Of one that is there
    twice the later counts."""
    written: set[tuple[str, Any]] = set()
    # what is broken off is read once more: $out puts another one into the place, say
    seen: set[tuple[str, Any]] = set()
    for _ in range(ROUNDS):
        try:
            found, left = await inventory.holdings(client, database)
        except ConnectionFailure:
            raise
        except PyMongoError as error:
            tally.failed.append(
                Finding(where=database, what="", why=f"it could not be read: {reason(error)}")
            )
            return
        due = [holding for holding in found if (holding.name, holding.number) not in written]
        if not seen:
            tally.left_out += left
        for holding in due:
            one = (holding.name, holding.number)
            if await _collection(client, holding, writer, tally) or one in seen:
                written.add(one)
            seen.add(one)
        if not due:
            return
    why = f"collections came in each of {ROUNDS} looks: one that was renamed since may be missing"
    tally.left_out.append(Finding(where=database, what="", why=why))


async def _collection(client: Any, holding: Holding, writer: PartWriter, tally: _Tally) -> bool:
    """Whether it was read to its end."""
    database = holding.database
    facts = {"database": database, "collection": holding.name}
    await writer.begin(COLLECTION, **facts, about=inventory.encode(holding))
    if holding.kind == "view":
        documents, why = 0, ""
    else:
        documents, why = await _pour(client[database], holding.name, writer)
    await writer.end()
    tally.add(holding, documents)
    if why:
        await writer.whole(BROKEN, b"", **facts, why=why)
        tally.failed.append(Finding(where=database, what=holding.name, why=why))
    return not why


async def _pour(database: Any, name: str, writer: PartWriter) -> tuple[int, str]:
    """How many documents were written, and why it ended before the last one."""
    documents, buffer, why = 0, bytearray(), ""
    try:
        collection = database.get_collection(name, codec_options=RAW)
        async for document in collection.find({}, batch_size=BATCH_DOCUMENTS):
            buffer += document.raw
            documents += 1
            if len(buffer) >= BATCH_BYTES:
                await writer.write(buffer)
                buffer = bytearray()
    except ConnectionFailure:
        raise
    except PyMongoError as error:
        why = (
            f"it could not be read to its end, {documents} documents of it are there: "
            f"{reason(error)}"
        )
    if buffer:
        await writer.write(buffer)
    return documents, why
