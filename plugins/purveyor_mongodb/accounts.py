"""Users and databases of bindings. Every command may be repeated after a crash.

Each credential has a user of its own. Our mark of the binding says which, and until when those work
that a rotation has left. A mark of before says nothing of it: its user has the database's name.
"""

from datetime import UTC, datetime
from typing import Any

from pymongo.errors import OperationFailure

from purveyor_hooks import Access, Binding, Conflict, Service
from purveyor_mongodb import quota
from purveyor_mongodb.server import REFUSED, connection, own
from purveyor_mongodb.users import FULL, Users, drop_user, roles, users_of


async def _mark(client: Any, binding: Binding) -> dict[str, Any] | None:
    mark: dict[str, Any] | None = await own(client, "bindings").find_one({"_id": binding.mark})
    return mark


async def _noted(client: Any, binding: Binding) -> Users | None:
    """The users of a binding, None where it is not ours."""
    mark = await _mark(client, binding)
    return users_of(mark) if mark is not None else None


async def _note(client: Any, binding: Binding, users: Users) -> None:
    listed = [
        {"user": name} | ({} if until is None else {"until": until})
        for name, until in users.items()
    ]
    noted = {"database": binding.resource, "users": listed}
    await own(client, "bindings").update_one({"_id": binding.mark}, {"$set": noted}, upsert=True)


async def _exists(client: Any, binding: Binding, name: str) -> bool:
    return bool((await client[binding.resource].command("usersInfo", name))["users"])


async def bind(service: Service, access: Access, binding: Binding) -> None:
    """Other users of the binding end, but for those whose time is not over."""
    now = datetime.now(UTC)
    async with connection(service, access) as client:
        users = await _ensure(client, service, binding)
        kept: Users = {
            name: until for name, until in users.items() if until and _aware(until) > now
        }
        await _end(client, binding, users, but=kept)


async def _ensure(client: Any, service: Service, binding: Binding) -> Users:
    """The binding's user works, and is noted before it is made; the answer is all there are."""
    users = await _noted(client, binding)
    if users is None:
        await _require_nobodys(client, service, binding)
        users = {}
    users = {**users, binding.account: None}
    await _note(client, binding, users)
    verb = "updateUser" if await _exists(client, binding, binding.account) else "createUser"
    full = await _is_full(client, binding)
    await client[binding.resource].command(
        verb, binding.account, pwd=binding.password, roles=roles(binding.resource, full=full)
    )
    if full != await _is_full(client, binding):  # a look came in between, and did not know of it
        may = roles(binding.resource, full=not full)
        await client[binding.resource].command("updateUser", binding.account, roles=may)
    return users


async def _is_full(client: Any, binding: Binding) -> bool:
    """Whether its database has filled its storage; there is a role for that then."""
    full = bool((await _mark(client, binding) or {}).get("full"))
    if full:
        await quota.ensure_role(client, binding.resource)
    return full


async def _require_nobodys(client: Any, service: Service, binding: Binding) -> None:
    for name in {binding.account, binding.resource}:
        if await _exists(client, binding, name):
            raise Conflict(
                f"{service.name} has a user {name} already, and it is not Purveyor's.",
                remedy="Drop it (db.dropUser), or choose another project name.",
            )
    if await client[binding.resource].list_collection_names():
        raise Conflict(
            f"{service.name} has a database {binding.resource} with no recorded owner.",
            remedy=(
                f"Look at it (purveyor connect {service.slug}) and rename or drop it, "
                "or choose another project name."
            ),
        )


async def _end(client: Any, binding: Binding, users: Users, but: Users) -> None:
    """Drop all users but the binding's own and those, and forget them."""
    left = {**but, binding.account: None}
    for name in users.keys() - left.keys():
        await drop_user(client, binding.resource, name)
    if left != users:
        await _note(client, binding, left)


def _aware(moment: datetime) -> datetime:
    """A time as the server gives it, which is UTC and does not say so."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def rotate(
    service: Service, access: Access, binding: Binding, until: datetime | None
) -> None:
    """The new user works before the others end, at once or in their time."""
    async with connection(service, access) as client:
        users = await _ensure(client, service, binding)
        kept: Users = {} if until is None else dict.fromkeys(users, until)
        await _end(client, binding, users, but=kept)


async def retire(service: Service, access: Access, binding: Binding) -> None:
    """Whoever logs in with something else than what the binding has now."""
    async with connection(service, access) as client:
        if (users := await _noted(client, binding)) is not None:
            await _end(client, binding, users, but={})


async def unbind(service: Service, access: Access, binding: Binding) -> None:
    """The users are gone, their connections may do nothing any more; the database stays, and our
    mark says whose it is."""
    async with connection(service, access) as client:
        await _drop_all(client, binding)


async def _drop_all(client: Any, binding: Binding) -> bool:
    """Whether the binding is ours."""
    users = await _noted(client, binding)
    if users is None:
        return False
    for name in users.keys() | {binding.account}:
        await drop_user(client, binding.resource, name)
    await _note(client, binding, {})
    return True


async def purge(service: Service, access: Access, binding: Binding) -> None:
    """Database, users and mark are gone, the mark last."""
    async with connection(service, access) as client:
        if await _drop_all(client, binding):
            await client.drop_database(binding.resource)
            await _drop_role(client, binding)
            await own(client, "bindings").delete_one({"_id": binding.mark})


async def _drop_role(client: Any, binding: Binding) -> None:
    try:
        await client[binding.resource].command("dropRole", FULL)
    except OperationFailure as error:
        if error.code != quota.ROLE_NOT_FOUND:
            raise


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
