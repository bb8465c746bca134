"""What one environment may store: measured, told before it is full, then refused until it is less.

It is put in force whenever the server is asked whether it serves. A database that is full has its
users in a role of ours, which reads and deletes; the server has rights of users that are connected
end with the next command, and what they have under way is ended.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import anyio
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from purveyor_hooks import Service, quotas
from purveyor_mongodb.limits import STORAGE
from purveyor_mongodb.server import own, reason
from purveyor_mongodb.users import FULL, end_sessions, roles, users_of

LONGEST = 4.0  # seconds of one look
ROLE_NOT_FOUND = 31
# what reads, and what makes room
LEFT = (
    "find", "remove", "listCollections", "listIndexes", "collStats", "dbStats", "dbHash",
    "killCursors", "changeStream", "planCacheRead", "dropCollection", "dropIndex", "dropDatabase",
    "validate", "compact",
)  # fmt: skip


async def put_in_force(service: Service, client: Any) -> str:
    """Measure the databases, and refuse or allow what has changed. The answer is what a person
    should know, the same while nothing changes."""
    limit = quotas.size(service, STORAGE)
    said: list[str] = []
    why = "the server is too slow"
    try:
        with anyio.move_on_after(LONGEST):
            async for mark in own(client, "bindings").find({} if limit else {"full": True}):
                said += await _look(service, client, mark, limit)
            return " ".join(said)
    except ConnectionFailure:
        raise
    except PyMongoError as error:
        why = reason(error)
    return f"What projects store cannot be measured: {why}."


async def _look(service: Service, client: Any, mark: dict[str, Any], limit: int) -> list[str]:
    name, was_full = str(mark["database"]), bool(mark.get("full"))
    share = await _used(client, name, limit) / limit if limit else 0.0
    full = bool(limit) and quotas.is_full(share, was_full=was_full)
    if full != was_full:  # whoever gets an account from now on has what it may
        await own(client, "bindings").update_one({"_id": mark["_id"]}, {"$set": {"full": full}})
    if full or was_full:
        await _hold(client, name, list(users_of(mark)), full=full)
    return list(_told(service, name, share, full=full))


def _told(service: Service, name: str, share: float, *, full: bool) -> Iterator[str]:
    text = service.parameters.get(STORAGE.name, STORAGE.default)
    if full:
        yield f"{name} has filled its storage ({text}): writes are refused."
    elif share >= quotas.WARNED:
        yield f"{name} has filled more than {quotas.WARNED:.0%} of its storage ({text})."


async def _used(client: Any, name: str, limit: int) -> float:
    """Bytes of documents, before compression, and of indexes. What a deletion leaves free in the
    files of these is not told with each look: asking takes longer."""
    stats = await client[name].command("dbStats")
    used = float(stats["dataSize"]) + float(stats["indexSize"])
    if used >= quotas.FREE * limit and stats["indexSize"]:
        try:
            stats = await client[name].command("dbStats", freeStorage=1)
        except OperationFailure:  # an older server has no such figure
            return used
        used = float(stats["dataSize"]) + float(stats["indexSize"])
        used -= float(stats.get("indexFreeStorageSize") or 0)
    return used


async def _hold(client: Any, name: str, users: Sequence[str], *, full: bool) -> None:
    """Have the database's users in force what they may now."""
    if full:
        await ensure_role(client, name)
    wanted = roles(name, full=full)
    held = (await client[name].command("usersInfo", 1))["users"]
    changed = [
        item["user"]
        for item in held
        if item["user"] in users and _named(item["roles"]) != _named(wanted)
    ]
    for user in changed:
        await client[name].command("updateUser", user, roles=wanted)
    if full and changed:
        await end_sessions(client, name, changed)


def _named(held: Sequence[Mapping[str, str]]) -> set[tuple[str, str]]:
    return {(item["role"], item["db"]) for item in held}


async def ensure_role(client: Any, name: str) -> None:
    """The role of users of a full database; it is nobody's before."""
    allowed = {
        "privileges": [
            {"resource": {"db": name, "collection": ""}, "actions": list(LEFT)},
            {
                "resource": {"db": name, "collection": "system.profile"},
                "actions": ["find", "dropCollection"],
            },
        ],
        "roles": [],
    }
    try:
        await client[name].command("updateRole", FULL, **allowed)
    except OperationFailure as error:
        if error.code != ROLE_NOT_FOUND:
            raise
        await client[name].command("createRole", FULL, **allowed)
