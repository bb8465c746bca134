"""Users and roles that are not ours: carried as the documents that the server keeps, passwords
hashed as they are."""

import hashlib
import secrets as random
from typing import Any

import bson
from pymongo.errors import OperationFailure

from purveyor_hooks import Finding, Service
from purveyor_mongodb.server import OWN_DATABASE, own, reason
from purveyor_mongodb.users import FULL, users_of

TEMPORARY = {"users": "tempusers", "roles": "temproles"}  # as mongorestore names them
NO_SUCH_COMMAND, NOT_AUTHORIZED, EXISTS = 59, 13, (51002, 51003)
Documents = list[dict[str, Any]]


async def read(client: Any, service: Service, databases: list[str]) -> tuple[Documents, Documents]:
    """Users and roles. The server's own list of both has no filter; what it does not show is asked
    for by database."""
    ours = await _ours(client)
    users = [dict(item) async for item in client.admin["system.users"].find()]
    roles = [dict(item) async for item in client.admin["system.roles"].find()]
    places = sorted({*databases, "admin"} | {str(item["db"]) for item in users})
    for place in places:
        if any("credentials" not in item for item in users if item["db"] == place):
            asked = await client[place].command(
                "usersInfo", 1, showCredentials=True, showCustomData=True
            )
            users = [item for item in users if item["db"] != place] + [
                dict(item) for item in asked["users"]
            ]
        known = {item["role"] for item in roles if item["db"] == place}
        asked = await client[place].command("rolesInfo", 1, showPrivileges=True)
        roles += [
            dict(item)
            for item in asked["roles"]
            if not item.get("isBuiltin") and item["role"] not in known
        ]
    others = [item for item in users if not _is_ours(item, ours, service)]
    theirs = [item for item in roles if not _is_ours_for_full(item, ours)]
    return sorted(others, key=_name), sorted(theirs, key=_name)


async def _ours(client: Any) -> dict[str, set[str]]:
    """The users of bindings by their database; one of its name is ours there, whether noted or of
    before."""
    return {
        mark["database"]: {mark["database"], *users_of(mark)}
        async for mark in own(client, "bindings").find()
    }


def _is_ours(user: dict[str, Any], ours: dict[str, set[str]], service: Service) -> bool:
    """The administrator's, and those of bindings, which are made anew with the passwords that are
    recorded."""
    if user["db"] == "admin" and user["user"] == service.parameters["username"]:
        return True
    return user["user"] in ours.get(user["db"], ())


def _is_ours_for_full(role: dict[str, Any], ours: dict[str, set[str]]) -> bool:
    return role["role"] == FULL and role["db"] in ours


def _name(item: dict[str, Any]) -> tuple[str, str]:
    return str(item["db"]), str(item.get("user") or item.get("role"))


def digest(documents: Documents) -> str:
    """Who may do what, passwords apart."""

    def may(item: dict[str, Any]) -> Any:
        roles = sorted((role["db"], role["role"]) for role in item.get("roles", []))
        privileges = sorted(
            repr((sorted(p["resource"].items()), sorted(p["actions"])))
            for p in item.get("privileges", [])
        )
        return _name(item), roles, privileges

    return hashlib.sha256(repr([may(item) for item in documents]).encode()).hexdigest()[:16]


def count(counts: dict[str, dict[str, int]], kind: str, documents: Documents) -> None:
    for item in documents:
        held = counts.setdefault(kind, {})
        held[item["db"]] = held.get(item["db"], 0) + 1


async def write(client: Any, service: Service, kind: str, documents: Documents) -> list[Finding]:
    """Users or roles as they were; the administrator and the users of bindings are not touched,
    whatever the documents say."""
    if kind == "users":
        ours = await _ours(client)
        documents = [item for item in documents if not _is_ours(item, ours, service)]
    documents = [item for item in documents if item["db"] not in ("local", "config", OWN_DATABASE)]
    if not documents:
        return []
    temporary = client.admin[TEMPORARY[kind]]
    try:
        await temporary.drop()
        await temporary.insert_many([_merged(item) for item in documents])
        named = {f"temp{kind.capitalize()}Collection": f"admin.{TEMPORARY[kind]}"}
        await client.admin.command("_mergeAuthzCollections", 1, drop=False, db="", **named)
    except OperationFailure as error:
        if error.code not in (NO_SUCH_COMMAND, NOT_AUTHORIZED):
            raise
        made = [
            await (_user(client, item) if kind == "users" else _role(client, item))
            for item in documents
        ]
        return [finding for finding in made if finding]
    finally:
        await temporary.drop()
    return []


def _merged(item: dict[str, Any]) -> dict[str, Any]:
    """A document as the server keeps it, without what its commands add for a reader."""
    shown = (
        "mechanisms",
        "isBuiltin",
        "inheritedRoles",
        "inheritedPrivileges",
        "inheritedAuthenticationRestrictions",
    )
    return {
        "_id": ".".join(_name(item)),
        **{key: value for key, value in item.items() if key not in (*shown, "_id")},
    }


async def _role(client: Any, item: dict[str, Any]) -> Finding | None:
    held = {"privileges": item.get("privileges", []), "roles": item.get("roles", [])}
    try:
        try:
            await client[item["db"]].command("createRole", item["role"], **held)
        except OperationFailure as error:
            if error.code not in EXISTS:
                raise
            await client[item["db"]].command("updateRole", item["role"], **held)
    except OperationFailure as error:
        return Finding(
            where=item["db"],
            what=f"the role {item['role']}",
            why=f"the server refused it: {reason(error)}",
        )
    return None


async def _user(client: Any, item: dict[str, Any]) -> Finding | None:
    """By the command for it, which takes no hashed password."""
    held: dict[str, Any] = {"roles": item.get("roles", [])}
    if item.get("customData"):
        held["customData"] = item["customData"]
    what = f"the user {item['user']}"
    try:
        try:
            await client[item["db"]].command(
                "createUser", item["user"], pwd=random.token_urlsafe(32), **held
            )
        except OperationFailure as error:
            if error.code not in EXISTS:
                raise
            await client[item["db"]].command("updateUser", item["user"], **held)
    except OperationFailure as error:
        return Finding(where=item["db"], what=what, why=f"the server refused it: {reason(error)}")
    return Finding(
        where=item["db"],
        what=what,
        why="this server takes no hashed password: give it a new one (db.changeUserPassword)",
    )


def pack(documents: Documents) -> bytes:
    return b"".join(bson.encode(item) for item in documents)


def unpack(data: bytes) -> Documents:
    return [dict(item) for item in bson.decode_all(data)]
