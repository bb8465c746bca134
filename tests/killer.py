"""A process that runs one verb and is killed at a chosen point: ``killer.py STATE COUNT WHEN VERB
JSON``.

WHEN is "act": right after the act of the number COUNT that another process has done for it, an
engine that made a container or a server that made a role, and before anything is recorded of that.
Or it is "before" or "after" the durable write of the number COUNT. Ends with 0 when the verb came
to its end first.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiodocker
import anyio
import asyncpg
import msgspec
import redis.asyncio
from sqlite_utils.migrations import Migrations

from purveyor.app import open_app
from purveyor.docker.containers import DockerContainers
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.db.secrets import Secrets
from purveyor_hooks import PurveyorError

READING = (
    "ACL GETUSER",
    "ACL LIST",
    "ACL USERS",
    "ACL WHOAMI",
    "PING",
    "INFO",
    "GET ",
    "HELLO",
    "CLIENT",
    "SELECT",
    "EXISTS",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillingStore(Store):
    """A store that kills its process at one of its writes, once it is armed."""

    armed = 0
    when = ""

    async def write(self, work: Callable[[Tx], Any]) -> Any:
        if not self.armed or self.when == "act":
            return await super().write(work)
        self.armed -= 1
        last = not self.armed

        def kill_before(tx: Tx) -> Any:
            work(tx)
            die()

        answer = await super().write(kill_before if last and self.when == "before" else work)
        if last:
            die()
        return answer

    def acted(self) -> None:
        """Something was done outside of this process."""
        if self.armed and self.when == "act":
            self.armed -= 1
            if not self.armed:
                die()


def watch_acts(acted: Callable[[], None]) -> None:
    """Have the clients of the engine and of the servers say when an act of theirs has been done."""

    def watched(kind: Any, name: str, acts: Callable[..., bool]) -> None:
        original = getattr(kind, name)

        async def call(self: Any, *given: Any, **options: Any) -> Any:
            answer = await original(self, *given, **options)
            if acts(*given, **options):
                acted()
            return answer

        setattr(kind, name, call)

    def changes_the_engine(path: Any = "", method: str = "GET", **_: Any) -> bool:
        return method != "GET" and not str(path).endswith("/exec")

    watched(aiodocker.Docker, "_do_query", changes_the_engine)
    watched(
        DockerContainers,
        "execute",
        lambda _, command, **__: command.argv[1:2] in (("add",), ("load",), ("purge",)),
    )
    watched(asyncpg.Connection, "execute", lambda statement, *_, **__: True)
    watched(
        redis.asyncio.Redis,
        "execute_command",
        lambda *words, **_: not " ".join(map(str, words)).startswith(READING),
    )


async def main(state: str, count: str, when: str, verb: str, arguments: str) -> None:
    stores: list[KillingStore] = []

    def make(folder: Path, secrets: Secrets, migrations: Migrations) -> Store:
        stores.append(KillingStore(folder, secrets, migrations))
        return stores[-1]

    async with open_app(Path(state), make_store=make) as app:
        given = msgspec.json.decode(arguments, type=app.operation_type(verb).arguments)
        watch_acts(stores[0].acted)
        stores[0].when = when
        stores[0].armed = int(count)
        try:
            await app.run(verb, given, "killer")
        except PurveyorError as error:
            sys.exit(f"{verb} failed: {error}")
        if os.environ.get("PURVEYOR_TEST_ACTS"):
            print(int(count) - stores[0].armed)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
