"""What a MongoDB holds, listed without a filter: what is carried, and what is not, by name."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from purveyor_hooks import Access, Finding, Service
from purveyor_mongodb import tls
from purveyor_mongodb.server import OWN_DATABASE, PORT

RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
MARKS = "bindings"
OWN_LEFT = ("health", "identity")  # each service has its own
STORED_CODE = "system.js"
# made by the server for its own ends, in config and local
SERVERS_OWN = {
    "actionlog", "cache.chunks", "cache.collections", "cache.databases", "changelog", "chunks",
    "collections", "databases",
    "external_validation_keys", "image_collection", "lockpings", "locks", "migrationCoordinators",
    "mongos", "rangeDeletions",
    "sampledQueries", "sampledQueriesDiff", "shards", "startup_log", "tags", "transactions",
    "vectorClock", "version",
}  # fmt: skip
SERVERS_PREFIXES = (
    "system.",
    "replset.",
    "oplog.",
    "cache.",
    "tenantMigration",
    "analyzeShardKey",
    "reshardingOperations",
)
ADMINS_OWN = (
    "system.users",
    "system.roles",
    "system.version",
    "system.keys",
    "system.new_users",
    "tempusers",
    "temproles",
)
NAME = "purveyor data"
PATIENCE, WATCHED = 3_600_000, 5.0  # milliseconds, seconds
GONE = 26  # NamespaceNotFound
INVALID_OPTIONS = (9, 72, 40415)  # FailedToParse, InvalidOptions, IDLUnknownField


class Holding(NamedTuple):
    """One collection or view: its options without their later part, its finished indexes."""

    database: str
    name: str
    kind: str  # collection, view, timeseries
    options: dict[str, Any]
    indexes: list[dict[str, Any]]
    number: Any = None  # the server's own: another collection of the same name has another one

    @property
    def capped(self) -> bool:
        return bool(self.options.get("capped"))

    @property
    def expires(self) -> bool:
        return "expireAfterSeconds" in self.options or any(
            "expireAfterSeconds" in index for index in self.indexes
        )

    @property
    def counted(self) -> bool:
        """Our own marks are no data of anybody's."""
        return (self.database, self.name) != (OWN_DATABASE, MARKS)

    @property
    def digest(self) -> str:
        """Of its options and indexes, whatever the order that a server tells them in."""
        indexes = sorted((_plain(index, ordered=("key",)) for index in self.indexes), key=repr)
        return hashlib.sha256(
            repr((self.kind, _plain(self.options), indexes)).encode()
        ).hexdigest()[:16]


def _plain(value: Any, ordered: tuple[str, ...] = (), name: str = "") -> Any:
    """A document with its keys sorted, but where their order means something."""
    if isinstance(value, Mapping):
        items = [
            (key, _plain(item, ordered, key))
            for key, item in value.items()
            if key not in ("v", "ns")
        ]
        return items if name in ordered else sorted(items, key=repr)
    if isinstance(value, list):
        return [_plain(item, ordered) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@asynccontextmanager
async def connect(
    service: Service, access: Access, *, patience: int | None = None
) -> AsyncIterator[Any]:
    """The administrator's client for work of any length: who watches its progress ends it. What
    moves on the server, though no document comes over, is told by a beat."""
    address = access.address(PORT)
    with tls.driven(service) as encrypted:
        client: Any = AsyncMongoClient(
            address.host,
            address.port,
            username=service.parameters["username"],
            password=service.parameters["password"],
            authSource="admin",
            directConnection=True,
            retryWrites=False,
            appname=NAME,
            serverSelectionTimeoutMS=5000,
            socketTimeoutMS=patience,
            **encrypted,
        )
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, client, access)
            yield client
            group.cancel_scope.cancel()
    except BaseExceptionGroup as found:
        raise _first(found) from None
    finally:
        await client.close()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _watch(client: Any, access: Access) -> None:
    """Counts and index builds move no document: the server's list of what it does says whether they
    get on."""
    seen = ""
    while True:
        await anyio.sleep(WATCHED)
        try:
            found = await client.admin.command("currentOp", active=True)
        except PyMongoError:
            continue
        wanted = ("opid", "msg", "progress", "numYields")
        moved = repr(
            [
                {name: item.get(name) for name in wanted}
                for item in found["inprog"]
                if item.get("appName") == NAME
            ]
        )
        if moved != seen:
            seen = moved
            access.beat()


async def databases(client: Any) -> list[str]:
    return sorted(await client.list_database_names())


async def holdings(client: Any, database: str) -> tuple[list[Holding], list[Finding]]:
    """What one database holds and a backup carries, views last; and what of it is not carried, with
    the reason."""
    found: list[Holding] = []
    left: list[Finding] = []
    items = [item async for item in await client[database].list_collections()]
    for item in sorted(items, key=lambda item: (item.get("type") == "view", item["name"])):
        name, kind = str(item["name"]), str(item.get("type") or "collection")
        if not is_carried(database, name):
            if await _is_somebodys(client, database, name):
                left.append(Finding(where=database, what=name, why=_why_left(database)))
            continue
        options = dict(item.get("options") or {})
        kind = "timeseries" if "timeseries" in options else kind
        try:
            indexes, unfinished = (
                ([], []) if kind == "view" else await _indexes(client, database, name)
            )
        except OperationFailure as error:
            if error.code != GONE:
                raise
            continue  # dropped since it was listed
        left += [
            Finding(
                where=database, what=f"{name}: the index {index}", why="its build is not finished"
            )
            for index in unfinished
        ]
        found.append(
            Holding(database, name, kind, options, indexes, (item.get("info") or {}).get("uuid"))
        )
    return found, left


def is_carried(database: str, name: str) -> bool:
    """Whether a backup has it, and a restore may write it."""
    if database in ("config", "local") or (database == "admin" and name in ADMINS_OWN):
        return False
    if database == OWN_DATABASE and name in OWN_LEFT:
        return False
    return not name.startswith("system.") or name == STORED_CODE


def _why_left(database: str) -> str:
    if database in ("config", "local"):
        return f"what is in {database} is the server's own and in no backup"
    return "it is kept by the server for itself and in no backup"


async def _is_somebodys(client: Any, database: str, name: str) -> bool:
    """Whether it holds something that the server did not put there to run."""
    if (
        database == OWN_DATABASE
        or name in ADMINS_OWN
        or name.startswith(("system.buckets.", "system.views"))
    ):
        return False
    if database in ("config", "local") and (
        name in SERVERS_OWN or name.startswith(SERVERS_PREFIXES)
    ):
        return False
    try:
        return await client[database][name].find_one({}, {"_id": 1}) is not None
    except OperationFailure:
        return False  # nobody can read it, whoever it is


async def _indexes(client: Any, database: str, name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Those that are finished, and the names of those that are being built."""
    try:
        answer = await client[database].command(
            "listIndexes", name, includeIndexBuildInfo=True, cursor={"batchSize": 1000}
        )
        # a collection has 64 at most
        listed = [dict(index) for index in answer["cursor"]["firstBatch"]]
    except OperationFailure as error:
        if error.code not in INVALID_OPTIONS:
            raise
        listed = [dict(index) async for index in await client[database][name].list_indexes()]
    finished = [
        dict(index.get("spec", index))
        for index in listed
        if "indexBuildInfo" not in index and "buildUUID" not in index
    ]
    building = [
        str(dict(index.get("spec", index))["name"])
        for index in listed
        if "indexBuildInfo" in index or "buildUUID" in index
    ]
    return [
        {key: value for key, value in index.items() if key != "ns"} for index in finished
    ], building


def encode(holding: Holding) -> str:
    """Options and indexes hold types that JSON has not."""
    return bson.encode(
        {"kind": holding.kind, "options": holding.options, "indexes": holding.indexes}
    ).hex()


def decode(database: str, name: str, about: str) -> Holding:
    found = bson.decode(bytes.fromhex(about))
    kind = found.get("kind") or ("view" if "viewOn" in found["options"] else "collection")
    return Holding(
        database, name, kind, found["options"], [dict(index) for index in found["indexes"]]
    )


def documents_of(
    counts: dict[str, dict[str, int]],
    fleeting: dict[str, dict[str, int]],
    holding: Holding,
    number: int,
) -> None:
    """Note how many it has. What expires, and what makes room for newer ones, is at most so much
    later."""
    counts.setdefault("databases", {})[holding.database] = 1
    if holding.kind != "view":
        kept = fleeting if holding.expires or holding.capped else counts
        kept.setdefault("documents", {})[f"{holding.database}.{holding.name}"] = number
        counts.setdefault("indexes", {})[f"{holding.database}.{holding.name}"] = len(
            holding.indexes
        )
    else:
        counts.setdefault("views", {})[f"{holding.database}.{holding.name}"] = 1
