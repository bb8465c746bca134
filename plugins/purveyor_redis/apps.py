"""How an app uses a Redis: for the conformance kit."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis.asyncio
import redis.exceptions

from purveyor_hooks import Account

TAKING = (
    ("ACL", "SETUSER", "mischief", "on", "nopass", "+@all", "~*"),
    ("CONFIG", "SET", "dir", "/"),
    ("REPLICAOF", "127.0.0.1", "1"),
)


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

    async def mischief(self, account: Account) -> None:
        script = (
            "redis.pcall('SELECT', 0); redis.pcall('SET', 'purveyor:identity', 'another'); return 1"
        )
        tried: tuple[tuple[Any, ...], ...] = (
            ("EVAL", script, 0),
            ("SET", "purveyor:identity", "another"),
            ("SET", b"odd\x00\xff\r\n*1\r\n$8\r\nFLUSHALL", "x" * 100_000),
            ("SET", "gone at once", "x", "PX", 1),
            ("HSET", "fields", "a", 1, "b", 2),
            ("HPEXPIRE", "fields", 1, "FIELDS", 1, "a"),
            ("XADD", "stream", "MAXLEN", 10, "*", "a", "b"),
            ("XGROUP", "CREATE", "stream", "readers", "0"),
            *TAKING,
        )
        async with self._opened(account) as client:
            for words in tried:
                with suppress(redis.exceptions.RedisError):
                    await client.execute_command(*words)

    async def gained(self, account: Account) -> str:
        async with self._opened(account) as client:
            for words in TAKING:
                with suppress(redis.exceptions.RedisError):
                    await client.execute_command(*words)
                    return f"it may do {words[0]} {words[1]}"
        return ""
