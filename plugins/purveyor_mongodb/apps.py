"""How an app uses a MongoDB: for the conformance kit."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from purveyor_hooks import Account


class Documents:
    """Things are documents of a collection of the app's own database."""

    def account(self, variables: Mapping[str, str]) -> Account:
        return Account(
            host=variables["MONGODB_HOST"],
            port=int(variables["MONGODB_PORT"]),
            user=variables["MONGODB_USERNAME"],
            password=variables["MONGODB_PASSWORD"],
            resource=variables["MONGODB_DATABASE"],
        )

    @asynccontextmanager
    async def _opened(self, account: Account) -> AsyncIterator[Any]:
        from pymongo import AsyncMongoClient

        # a user lives in its own database: whoever comes to another one comes as who it is
        source = account.resource
        if not account.user.startswith(account.resource):
            source = account.user.rpartition("_")[0]
        client: Any = AsyncMongoClient(
            account.host,
            account.port,
            username=account.user,
            password=account.password,
            authSource=source,
            directConnection=True,
            serverSelectionTimeoutMS=5000,
        )
        try:
            yield client[account.resource]["things"]
        finally:
            await client.close()

    async def write(self, account: Account, name: str, value: str) -> None:
        async with self._opened(account) as things:
            await things.replace_one({"_id": name}, {"_id": name, "value": value}, upsert=True)

    async def read(self, account: Account, name: str) -> str | None:
        async with self._opened(account) as things:
            found = await things.find_one({"_id": name})
            return str(found["value"]) if found else None

    async def mischief(self, account: Account) -> None:
        from pymongo.errors import PyMongoError

        code = "function () { throw 'mischief' }"
        async with self._opened(account) as things:
            database = things.database
            made = await database.list_collection_names()
            tried: list[dict[str, Any]] = [
                {
                    "create": "looks",
                    "viewOn": "things",
                    "pipeline": [{"$match": {"$expr": {"$gt": ["$$NOW", 0]}}}],
                },
                {"create": "calls", "viewOn": "things", "pipeline": [{"$match": {"$where": code}}]},
                {"create": "odd $name. \u00fc"},
                {"insert": "system.js", "documents": [{"_id": "count", "value": code}]},
                {
                    "insert": "odd $name. \u00fc",
                    "documents": [{"": {"$where": code}, "a.b": 1, "$c": 2}],
                },
                {"collMod": "odd $name. \u00fc", "validator": {"$expr": {"$eq": [1, 2]}}},
                {
                    "createUser": "mischief",
                    "pwd": "mischief",
                    "roles": [{"role": "root", "db": "admin"}],
                },
                {"grantRolesToUser": account.user, "roles": [{"role": "root", "db": "admin"}]},
            ]
            for command in tried:
                if command.get("create") not in made:
                    with suppress(PyMongoError):
                        await database.command(command)

    async def gained(self, account: Account) -> str:
        async with self._opened(account) as things:
            found = await things.database.command("connectionStatus")
        roles = found["authInfo"]["authenticatedUserRoles"]
        more = [
            f"{role['role']} of {role['db']}" for role in roles if role["db"] != account.resource
        ]
        return f"it has the roles {', '.join(more)}" if more else ""
