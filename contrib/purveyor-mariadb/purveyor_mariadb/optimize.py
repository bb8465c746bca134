"""`optimize`: every table of the projects is rebuilt and analysed, one after the other.

What tables are called is a tenant's to choose. Each database is gone over by a login that has rights
on it alone and ends with it, so nothing of a tenant's runs as root; views are left out, and so are
engines that reach out of the server.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, ClassVar

import anyio
import msgspec

import purveyor_hooks as ph

from .dump import LEFT_OVER, loading
from .server import PORT, connected, databases, quoted, root, rows, value

TABLES = """SELECT table_name FROM information_schema.tables WHERE table_schema = %s
AND table_type = 'BASE TABLE' AND engine IN ('InnoDB', 'Aria', 'MyISAM')"""
# an app that leaves a transaction open would have all that comes after wait for this statement
PATIENT = "SET SESSION lock_wait_timeout = 10"
RUNS = "SELECT concat_ws(' ', stage, progress) FROM information_schema.processlist WHERE id = %s"
LOOK = 2.0  # seconds between two looks at how far a statement is
TOLD = 3  # tables that failed, in an error


class OptimizeArguments(ph.Arguments, frozen=True, kw_only=True):
    """What `Optimize` is asked with."""

    database: Annotated[
        str | None, msgspec.Meta(description="Only this database; all of the projects' without it.")
    ] = None


class Optimize(ph.ServiceOperation[OptimizeArguments]):
    """Goes on with the table at which it was killed: a table that is done is not done again."""

    name = "optimize"
    summary = "Rebuild and analyse every table, to give space back and have good plans."
    arguments = OptimizeArguments
    steps: ClassVar[tuple[ph.Step, ...]] = (ph.Step(name="tables", deadline=600),)
    lock = "backup"  # a dump reads what is rebuilt here

    async def draft(self, asked: ph.Asking[OptimizeArguments]) -> ph.Draft:
        async with root(asked.service, asked.access) as cursor:
            names = await databases(cursor)
            if (only := asked.given.database) is not None:
                if only not in names:
                    raise ph.BadInput(
                        f"{asked.service.name} has no database {only!r}.",
                        remedy="Leave it out for all of them.",
                        errors={"database": "not there"},
                    )
                names = [only]
            numbers = {name: len(await rows(cursor, TABLES, name)) for name in names}
        return ph.Draft(
            steps=("tables",),
            state={"databases": names, "at": ["", ""], "done": 0, "failed": 0, "first": []},
            resources=tuple(f"{number} tables of {name}" for name, number in numbers.items()),
            warnings=("A table cannot be changed by its app for the moment of its rebuild.",),
        )

    async def do(self, step: str, run: ph.Running[OptimizeArguments]) -> None:
        async with root(run.service, run.access) as cursor:
            for (user,) in await rows(cursor, LEFT_OVER):  # of a process that was killed
                await cursor.execute(f"DROP USER {quoted(user)}@`%`")
            for name in run.state["databases"]:
                if name >= run.state["at"][0] and name in await databases(cursor):
                    await self._database(run, cursor, name)
        failed, first = run.state["failed"], "; ".join(run.state["first"])
        if failed:
            raise ph.Failed(
                f"{run.state['done']} tables are optimized, and {failed} are not: {first}.",
                remedy="What is done stays done. Run it again when their apps are quiet.",
            )

    async def _database(self, run: ph.Running[OptimizeArguments], cursor: Any, name: str) -> None:
        address = run.access.address(PORT)
        async with (
            loading(cursor, name) as login,
            connected(address.host, address.port, *login, name) as own,
        ):
            await own.execute(PATIENT)
            thread = await value(own, "SELECT connection_id()")
            for table in sorted(str(table) for (table,) in await rows(cursor, TABLES, name)):
                if [name, table] <= run.state["at"]:
                    continue
                why = await _watched(run, thread, partial(_optimized, own, name, table))
                first = run.state["first"]
                if why and len(first) < TOLD:
                    first = [*first, f"{name}.{table} ({why})"]
                await run.save(
                    at=[name, table],
                    done=run.state["done"] + (not why),
                    failed=run.state["failed"] + bool(why),
                    first=first,
                )
                await run.progress(f"{run.state['done']} tables, the last one {name}.{table}")


async def _optimized(own: Any, database: str, table: str) -> str:
    """Why a table could not be optimized, "" when it was, or is not there any more."""
    for _, _, kind, text in await rows(own, f"OPTIMIZE TABLE {quoted(database, table)}"):
        if str(kind).lower() == "error" and table in {
            str(known) for (known,) in await rows(own, TABLES, database)
        }:
            return str(text)[:200]
    return ""


async def _watched(
    run: ph.Running[OptimizeArguments], thread: int, work: Callable[[], Awaitable[str]]
) -> str:
    """Long work that the server says to go on is not taken for stuck."""
    ended: list[str | Exception] = []

    async def look() -> None:
        last = None
        async with root(run.service, run.access) as cursor:  # its own: it is left in the middle
            while True:
                if (now := await value(cursor, RUNS, thread)) != last:
                    last = now
                    run.access.beat()
                await anyio.sleep(LOOK)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        try:
            ended.append(await work())
        except Exception as error:  # as it is: a group would wrap it
            ended.append(error)
        group.cancel_scope.cancel()
    if isinstance(ended[0], Exception):
        raise ended[0]
    return ended[0]
