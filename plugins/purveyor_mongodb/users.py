"""The users of bindings: what our mark says of them, what they may do, and the end of what they have
under way."""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from typing import Any

from pymongo.errors import OperationFailure

FULL = "purveyor_full"  # the role of a database that has filled its storage
USER_NOT_FOUND = 11
Users = dict[str, datetime | None]  # until when each works, None where that is not set


def roles(database: str, *, full: bool) -> list[dict[str, str]]:
    """Everything inside a binding's database but users and roles; of one that is full, what reads
    and deletes."""
    names = (FULL,) if full else ("readWrite", "dbAdmin")
    return [{"role": name, "db": database} for name in names]


def users_of(mark: dict[str, Any]) -> Users:
    """The users that a mark names."""
    if "users" not in mark:
        return {str(mark["database"]): None}
    return {item["user"]: item.get("until") for item in mark["users"]}


async def drop_user(client: Any, database: str, name: str) -> None:
    """Its sessions may do nothing any more, and what they have under way ends."""
    try:
        await client[database].command("dropUser", name)
    except OperationFailure as error:
        if error.code != USER_NOT_FOUND:
            raise
    await end_sessions(client, database, [name])


async def end_sessions(client: Any, database: str, names: Collection[str]) -> None:
    """End what users have under way, which goes on with the rights that it began with. A server
    that somebody else administrates may not let us."""
    wanted = {(name, database) for name in names}
    with suppress(OperationFailure):
        found = await client.admin.command("currentOp", {"$all": True})
        for item in found.get("inprog", []):
            whose = {(user["user"], user["db"]) for user in item.get("effectiveUsers") or ()}
            if wanted & whose and item.get("opid") is not None:
                await client.admin.command("killOp", op=item["opid"])
