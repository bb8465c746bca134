"""ACL users of bindings. Every command may be repeated after a crash."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from redis.exceptions import AuthenticationError, ResponseError

from purveyor_hooks import Access, Binding, Conflict, Service
from purveyor_redis import division
from purveyor_redis.division import MARK, PROJECT
from purveyor_redis.server import (
    LAST_SLOT,
    connection,
    hash_password,
    is_divided,
    opens,
    own_database,
)

# Of what is dangerous or administrative, apps need these, and they do not leave the selected
# database.
NEEDED = ("+info", "+keys", "+flushdb", "+sort", "+sort_ro")

# It reads what the server wrote itself; a payload made by hand ends the server, unless it looks at
# each closely.
RESTORE = "+restore"

# What reaches other databases, or other projects' keys by name, scripts, connections and channels.
DENIED = (
    "-client|tracking", "-client|trackinginfo", "-copy", "-move", "-swapdb", "-flushall",
    "-function",
    "-script|flush", "-script|kill", "-pubsub", "-select",
)  # fmt: skip


def mark(binding: Binding) -> str:
    """A channel that nobody uses tells our users from others: ACL users carry no comment."""
    return f"{MARK}{binding.number}"


def owner(binding: Binding) -> str:
    """The same for its project."""
    return f"{PROJECT}{binding.scope.project}"


def words(rules: Iterable[str]) -> set[str]:
    """A user's rules as ACL LIST shows them, those of its selectors too."""
    return {rule.strip("()") for rule in rules}


def is_ours(rules: Iterable[str]) -> bool:
    """Whether a user's rules are those of a binding."""
    return any(rule.startswith(f"&{MARK}") for rule in words(rules))


def is_open(service: Service) -> bool:
    """Whether its one project has all channels."""
    return opens(service.parameters)


def rules(binding: Binding, *, restore: bool = True, opened: bool = False) -> list[str]:
    """What a project's user may do: everything inside its own database. `restore`: the server looks
    at payloads closely. `opened`: all channels are its; the marks then stand in a selector that
    allows nothing, for no channel goes beside all."""
    needed = (*NEEDED, RESTORE) if restore else NEEDED
    commands = ["+@all", "-@admin", "-@dangerous", *needed, *DENIED, f"+select|{binding.slot}"]
    if opened:
        channels = ["&*", f"(&{mark(binding)} &{owner(binding)} -@all)"]
        commands.append("+pubsub")
    else:
        channels = [f"&{mark(binding)}", f"&{owner(binding)}", f"&{binding.account}:*"]
        channels += [f"&__keyspace@{binding.slot}__:*", f"&__keyevent@{binding.slot}__:*"]
    return ["reset", "on", hash_password(binding.password), "~*", *channels, *commands]


async def _channels(client: Any, account: str) -> str | None:
    """The channel rules of a user as text, None when there is no such user."""
    user = await client.execute_command("ACL", "GETUSER", account)
    if not user:
        return None
    fields = user if isinstance(user, dict) else dict(zip(user[::2], user[1::2], strict=True))
    found = []
    for part in (fields, *fields.get("selectors", ())):
        part = part if isinstance(part, dict) else dict(zip(part[::2], part[1::2], strict=True))
        channels = part.get("channels", "")
        found.append(" ".join(channels) if isinstance(channels, list) else str(channels))
    return " ".join(found)


async def _is_ours(client: Any, binding: Binding) -> bool:
    channels = await _channels(client, binding.account)
    return channels is not None and f"&{mark(binding)}" in channels.split()


async def _looks_closely(service: Service, client: Any) -> bool:
    """Have a server of ours look at each payload of RESTORE, and say whether it does: one of
    somebody else's is left as it is."""
    name = "sanitize-dump-payload"
    if not service.imported:
        await client.config_set(name, "yes")
    try:
        return bool((await client.config_get(name)).get(name) in ("yes", "clients"))
    except ResponseError:  # its owner has taken CONFIG away
        return False


async def _save(client: Any) -> None:
    """Write the users where the server keeps them. One that somebody else configured without a file
    forgets them when it stops; they are made anew when it is seen again."""
    try:
        await client.execute_command("ACL", "SAVE")
    except ResponseError as error:
        if "ACL file" not in str(error):
            raise
        try:
            await client.config_rewrite()
        except ResponseError as other:
            if "without a config file" not in str(other) and "Rewriting config file" not in str(
                other
            ):
                raise


def _key(binding: Binding) -> str:
    return f"purveyor:binding:{binding.slot}"


async def _require_room(service: Service, access: Access, binding: Binding) -> None:
    """On a server of somebody else's: nothing of theirs may come into a project's reach. What is
    ours there is marked."""
    if binding.slot == own_database(service):
        remedy = f"Create another Redis: purveyor create {service.service_type} NAME"
        raise Conflict(
            f"The last database of {service.name} is Purveyor's own; no further project fits.",
            remedy=remedy,
        )
    async with connection(service, access, 0) as client:
        if held := await client.dbsize():
            raise Conflict(
                f"Database 0 of {service.name} holds {held} keys, which every project could read: "
                "connections begin there.",
                remedy=(
                    "Move them (SWAPDB 0 N), or copy the server into one of ours: purveyor "
                    f"clone {service.slug} NAME"
                ),
            )


async def _noted(service: Service, access: Access, binding: Binding) -> bool:
    """Whether a database that holds keys is known to be this binding's."""
    async with connection(service, access) as client:
        return bool(await client.get(_key(binding)) == mark(binding))


async def _require_alone(service: Service, client: Any, binding: Binding) -> None:
    """No other project is let in where all channels are one's."""
    for line in await client.execute_command("ACL", "LIST"):
        rules = line.split()
        if is_ours(rules) and "on" in rules and f"&{owner(binding)}" not in words(rules):
            raise Conflict(
                f"{service.name} has all its channels open, and {rules[1]} uses it: it takes one "
                "project alone.",
                remedy=f"Create another one: purveyor create {service.service_type} NAME",
            )


async def bind(service: Service, access: Access, binding: Binding) -> None:
    assert binding.slot is not None
    if is_divided(service):
        await division.bind(service, access, binding)
        return
    if service.service_type == "redis" and binding.slot > LAST_SLOT:
        raise Conflict(
            f"All {LAST_SLOT} numbers of {service.name} are in use.",
            remedy=(
                "Purge what is not linked any more, or create another one: purveyor create "
                f"{service.service_type} NAME"
            ),
        )
    if service.imported:
        await _require_room(service, access, binding)
    async with connection(service, access, binding.slot) as client:
        if is_open(service):
            await _require_alone(service, client, binding)
        channels = await _channels(client, binding.account)
        if channels is None:
            if await client.dbsize() and not (
                service.imported and await _noted(service, access, binding)
            ):
                raise Conflict(
                    f"Database {binding.slot} of {service.name} holds keys with no recorded owner.",
                    remedy=(
                        f"Look at them (purveyor connect {service.slug}, SELECT "
                        f"{binding.slot}) and move or delete them."
                    ),
                )
        elif f"&{mark(binding)}" not in channels.split():
            raise Conflict(
                f"{service.name} has a user {binding.account} already, and it is not Purveyor's.",
                remedy="Delete it (ACL DELUSER), or choose another project name.",
            )
        allowed = rules(
            binding, restore=await _looks_closely(service, client), opened=is_open(service)
        )
        await client.execute_command("ACL", "SETUSER", binding.account, *allowed)
        await _save(client)
    if service.imported:
        async with connection(service, access) as client:
            await client.set(_key(binding), mark(binding))


async def _kick(client: Any, account: str) -> None:
    if await client.acl_getuser(account) is not None:
        await client.execute_command("CLIENT", "KILL", "USER", account)


async def unbind(service: Service, access: Access, binding: Binding) -> None:
    """The user stays, without a password and switched off; its keys stay."""
    if is_divided(service):
        await division.unbind(access, binding)
        return
    async with connection(service, access) as client:
        if await _is_ours(client, binding):
            await client.execute_command("ACL", "SETUSER", binding.account, "resetpass", "off")
            await _save(client)
            await _kick(client, binding.account)


async def purge(service: Service, access: Access, binding: Binding) -> None:
    """Keys and user are gone."""
    assert binding.slot is not None
    if is_divided(service):
        await division.purge(access, binding)
        return
    async with connection(service, access, binding.slot) as client:
        if await _is_ours(client, binding):
            await _kick(client, binding.account)
            await client.flushdb()
            await client.execute_command("ACL", "DELUSER", binding.account)
            await _save(client)
    if service.imported:
        async with connection(service, access) as client:
            await client.delete(_key(binding))


async def rotate(
    service: Service, access: Access, binding: Binding, until: datetime | None
) -> None:
    """The new password is set in place of all others, at once, and the sessions end: or beside
    them."""
    if is_divided(service):
        await division.rotate(service, access, binding, until)
        return
    async with connection(service, access) as client:
        if not await _is_ours(client, binding):
            raise Conflict(
                f"{service.name} has no user {binding.account} of ours.",
                remedy="Link the project again.",
            )
        others = () if until is not None else ("resetpass",)
        await client.execute_command(
            "ACL", "SETUSER", binding.account, *others, hash_password(binding.password)
        )
        await _save(client)
        if until is None:
            await _kick(client, binding.account)


async def retire(service: Service, access: Access, binding: Binding) -> None:
    """No session says with which password it was opened: all end, and whoever has the new one comes
    back."""
    if is_divided(service):
        await division.retire(service, access, binding)
        return
    async with connection(service, access) as client:
        if await _is_ours(client, binding):
            await client.execute_command(
                "ACL", "SETUSER", binding.account, "resetpass", hash_password(binding.password)
            )
            await _save(client)
            await _kick(client, binding.account)


async def _end_password(client: Any, account: str, password: str) -> None:
    """Take a password from a user that has it. The server is asked whether it has: what it says to
    whom takes one that is not there differs from version to version."""
    user = await client.acl_getuser(account)
    if hash_password(password)[1:] in (user or {}).get("passwords", []):
        await client.execute_command("ACL", "SETUSER", account, f"!{hash_password(password)[1:]}")


async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    """The new password is added, saved, and then the old one is taken."""
    try:
        async with connection(previous, access) as client:
            await client.execute_command(
                "ACL", "SETUSER", "default", hash_password(service.parameters["password"])
            )
            await _save(client)
    except AuthenticationError:
        pass  # a crash came after the old one was taken
    async with connection(service, access) as client:
        await _end_password(client, "default", previous.parameters["password"])
        await _save(client)
