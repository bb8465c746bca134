"""ACL users of bindings. Every command may be repeated after a crash."""

from typing import Any

from redis.exceptions import ResponseError

from purveyor_hooks import Access, Binding, Conflict, Service
from purveyor_redis.server import connection, hashed

# Of what is dangerous or administrative, apps need these, and they do not leave the selected database.
NEEDED = ("+info", "+keys", "+flushdb", "+sort", "+sort_ro", "+restore")

# What reaches other databases, or other projects' scripts and channels.
DENIED = ("-copy", "-move", "-swapdb", "-flushall", "-function", "-script|flush", "-script|kill", "-pubsub", "-select")


def mark(binding: Binding) -> str:
    """A channel that nobody uses tells our users from others: ACL users carry no comment."""
    return f"purveyor-binding-{binding.id}"


def rules(binding: Binding) -> list[str]:
    """What a project's user may do: everything inside its own database."""
    channels = [f"&{mark(binding)}", f"&{binding.account}:*"]
    channels += [f"&__keyspace@{binding.slot}__:*", f"&__keyevent@{binding.slot}__:*"]
    commands = ["+@all", "-@admin", "-@dangerous", *NEEDED, *DENIED, f"+select|{binding.slot}"]
    return ["reset", "on", hashed(binding.password), "~*", *channels, *commands]


async def _channels(client: Any, account: str) -> str | None:
    """The channel rules of a user as text, None when there is no such user."""
    user = await client.execute_command("ACL", "GETUSER", account)
    if not user:
        return None
    fields = user if isinstance(user, dict) else dict(zip(user[::2], user[1::2], strict=True))
    channels = fields.get("channels", "")
    return " ".join(channels) if isinstance(channels, list) else str(channels)


async def _is_ours(client: Any, binding: Binding) -> bool:
    channels = await _channels(client, binding.account)
    return channels is not None and f"&{mark(binding)}" in channels.split()


async def bind(service: Service, access: Access, binding: Binding) -> None:
    assert binding.slot is not None
    async with connection(service, access, binding.slot) as client:
        channels = await _channels(client, binding.account)
        if channels is None:
            if await client.dbsize():
                raise Conflict(
                    f"Database {binding.slot} of {service.name} holds keys that nobody is recorded for.",
                    remedy=f"Look at them (purveyor connect {service.slug}, SELECT {binding.slot}) and move or delete them.",
                )
        elif f"&{mark(binding)}" not in channels.split():
            raise Conflict(
                f"{service.name} has a user {binding.account} already, and it is not Purveyor's.",
                remedy="Delete it (ACL DELUSER), or choose another project name.",
            )
        await client.execute_command("ACL", "SETUSER", binding.account, *rules(binding))
        await client.execute_command("ACL", "SAVE")


async def _kick(client: Any, account: str) -> None:
    try:
        await client.execute_command("CLIENT", "KILL", "USER", account)
    except ResponseError as error:
        if "No such user" not in str(error):
            raise


async def unbind(service: Service, access: Access, binding: Binding) -> None:
    """The user stays, without a password and switched off; its keys stay."""
    async with connection(service, access) as client:
        if await _is_ours(client, binding):
            await client.execute_command("ACL", "SETUSER", binding.account, "resetpass", "off")
            await client.execute_command("ACL", "SAVE")
            await _kick(client, binding.account)


async def purge(service: Service, access: Access, binding: Binding) -> None:
    """Keys and user are gone."""
    assert binding.slot is not None
    async with connection(service, access, binding.slot) as client:
        if await _is_ours(client, binding):
            await _kick(client, binding.account)
            await client.flushdb()
            await client.execute_command("ACL", "DELUSER", binding.account)
            await client.execute_command("ACL", "SAVE")
