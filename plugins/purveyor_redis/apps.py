"""How an app uses a Redis: for the conformance kit."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio

from purveyor_hooks import Account


class Keys:
    """Things are keys of the app's own database."""

    def account(self, variables: Mapping[str, str]) -> Account:
        return Account(
            host=variables["REDIS_HOST"],
            port=int(variables["REDIS_PORT"]),
            user=variables["REDIS_USERNAME"],
            password=variables["REDIS_PASSWORD"],
            resource=variables["REDIS_DATABASE"],
        )

    @asynccontextmanager
    async def _opened(self, account: Account) -> AsyncIterator[Any]:
        client = redis.asyncio.Redis(
            host=account.host,
            port=account.port,
            username=account.user,
            password=account.password,
            db=int(account.resource),
            decode_responses=True,
            socket_timeout=5,
        )
        try:
            yield client
        finally:
            await client.aclose()

    async def write(self, account: Account, name: str, value: str) -> None:
        async with self._opened(account) as client:
            await client.set(name, value)

    async def read(self, account: Account, name: str) -> str | None:
        async with self._opened(account) as client:
            found: str | None = await client.get(name)
            return found
