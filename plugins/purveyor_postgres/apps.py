"""How an app uses a PostgreSQL: for the conformance kit."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from purveyor_hooks import Account

TABLE = "CREATE TABLE IF NOT EXISTS things (name text PRIMARY KEY, value text)"
PUT = "INSERT INTO things VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class Rows:
    """Things are rows of a table of the app's own."""

    def account(self, variables: Mapping[str, str]) -> Account:
        return Account(
            host=variables["POSTGRES_HOST"],
            port=int(variables["POSTGRES_PORT"]),
            user=variables["POSTGRES_USER"],
            password=variables["POSTGRES_PASSWORD"],
            resource=variables["POSTGRES_DATABASE"],
        )

    @asynccontextmanager
    async def _opened(self, account: Account) -> AsyncIterator[Any]:
        opened = await asyncpg.connect(
            host=account.host,
            port=account.port,
            user=account.user,
            password=account.password,
            database=account.resource,
            timeout=5,
        )
        try:
            yield opened
        finally:
            await opened.close()

    async def write(self, account: Account, name: str, value: str) -> None:
        async with self._opened(account) as opened:
            await opened.execute(TABLE)
            await opened.execute(PUT, name, value)

    async def read(self, account: Account, name: str) -> str | None:
        async with self._opened(account) as opened:
            if not await opened.fetchval("SELECT to_regclass('things')"):
                return None
            found: str | None = await opened.fetchval("SELECT value FROM things WHERE name = $1", name)
            return found
