"""Users and databases of bindings. Every command may be repeated after a crash."""

from typing import Any

from pymongo.errors import OperationFailure

from purveyor_hooks import Access, Binding, Conflict, Service
from purveyor_mongodb.server import REFUSED, connection, own

USER_NOT_FOUND = 11


def roles(binding: Binding) -> list[dict[str, str]]:
    """Everything inside the binding's database but users and roles."""
    return [{"role": role, "db": binding.resource} for role in ("readWrite", "dbAdmin")]


async def _is_ours(client: Any, binding: Binding) -> bool:
    return await own(client, "bindings").find_one({"_id": binding.mark}) is not None


async def _user(client: Any, binding: Binding) -> bool:
    found = await client[binding.resource].command("usersInfo", binding.account)
    return bool(found["users"])


async def bind(service: Service, access: Access, binding: Binding) -> None:
    """Our mark, kept in a database of ours, comes before anything else that is made."""
    async with connection(service, access) as client:
        there = await _user(client, binding)
        if not await _is_ours(client, binding):
            if there:
                raise Conflict(
                    f"{service.name} has a user {binding.account} already, and it is not "
                    "Purveyor's.",
                    remedy="Drop it (db.dropUser), or choose another project name.",
                )
            if await client[binding.resource].list_collection_names():
                raise Conflict(
                    f"{service.name} has a database {binding.resource} that nobody is recorded "
                    "for.",
                    remedy=(
                        f"Look at it (purveyor connect {service.slug}) and rename or drop it, "
                        "or choose another project name."
                    ),
                )
            mark = {"_id": binding.mark, "database": binding.resource}
            await own(client, "bindings").replace_one({"_id": binding.mark}, mark, upsert=True)
        verb = "updateUser" if there else "createUser"
        await client[binding.resource].command(
            verb, binding.account, pwd=binding.password, roles=roles(binding)
        )


async def _drop_user(client: Any, binding: Binding) -> None:
    try:
        await client[binding.resource].command("dropUser", binding.account)
    except OperationFailure as error:
        if error.code != USER_NOT_FOUND:
            raise


async def unbind(service: Service, access: Access, binding: Binding) -> None:
    """The user is gone, its connections may do nothing any more; the database stays, and our mark
    says whose it is."""
    async with connection(service, access) as client:
        if await _is_ours(client, binding):
            await _drop_user(client, binding)


async def purge(service: Service, access: Access, binding: Binding) -> None:
    """Database, user and mark are gone, the mark last."""
    async with connection(service, access) as client:
        if await _is_ours(client, binding):
            await _drop_user(client, binding)
            await client.drop_database(binding.resource)
            await own(client, "bindings").delete_one({"_id": binding.mark})


async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    """One of the two passwords works; from now on it is the new one."""
    account, password = service.parameters["username"], service.parameters["password"]
    try:
        async with connection(previous, access) as client:
            await client.admin.command("updateUser", account, pwd=password)
    except OperationFailure as error:
        if error.code not in REFUSED:
            raise
        async with connection(service, access) as client:  # a crash came after it was set
            await client.admin.command("ping")
