"""Backups as RDB: the server's own snapshot, its users and what was set; restored by replication
from a server beside it.

What is counted are the keys of the RDB that streams by: one pass, and exact however much is written
meanwhile. A dump.rdb put beside ``appendonly yes`` loads nothing at all. So a second server in the
same container reads it, and the service copies from that one: it goes on serving until the copy is
whole, and its append-only file is written anew by itself.
"""

import re
from collections.abc import AsyncIterable, Mapping
from contextlib import suppress
from typing import Any

import anyio
import msgspec
from redis.exceptions import RedisError

from purveyor_hooks import (
    Access,
    BadInput,
    Command,
    Failed,
    Finding,
    Inventory,
    NotFound,
    RestoreOptions,
    Service,
    Sink,
    Source,
)
from purveyor_hooks.parts import PartWriter, read_parts
from purveyor_redis import division, settings
from purveyor_redis.accounts import is_ours
from purveyor_redis.beside import FILE, Beside, copy_all
from purveyor_redis.carving import Carving, held_by
from purveyor_redis.division import Held, Keys
from purveyor_redis.rdb import Chosen, DamagedRdb, Reader
from purveyor_redis.server import (
    HEALTH_KEY,
    IDENTITY_KEY,
    LAST_OF_OTHERS,
    OWN_DATABASE,
    OWN_KEYS,
    cli,
    connection,
    is_divided,
    login,
    maxmemory,
    own_database,
)

USERS, SETTINGS, DATA, PROJECT = "users", "settings", "rdb", "project"
FAILED = "failed"  # the part before it is not whole
MARK_FILE = "/data/restore.mark"
DATABASE = re.compile(r"db(\d{1,10})")
PAUSE, REWRITES = 0.05, 3
Counts = dict[str, dict[str, int]]


# ---------------------------------------------------------------- counting


def _census(
    lasting: dict[int, int],
    fleeting: dict[int, int],
    libraries: int,
    servers: Mapping[int, Keys] | None = None,
) -> Inventory:
    """What is none is not named. With `servers` of environments, each is what a number is
    elsewhere, and the service's own has only number 0 like others; what somebody put into further
    ones there is told apart."""
    further = "db" if servers is None else "own/db"
    by_name = [
        {
            f"{further if number else 'db'}{number}": count
            for number, count in sorted(kind.items())
            if count
        }
        for kind in (lasting, fleeting)
    ]
    functions = {"libraries": libraries} if libraries else {}
    for number, held in sorted((servers or {}).items()):
        for kind, count in (
            (by_name[0], held.lasting),
            (by_name[1], held.fleeting),
            (functions, held.libraries),
        ):
            kind |= {f"db{number}": count} if count else {}
    counts = {"keys": by_name[0], "functions": functions}
    return Inventory(
        counts={kind: names for kind, names in counts.items() if names},
        fleeting={"keys": by_name[1]} if by_name[1] else {},
    )


async def census(service: Service, access: Access) -> Inventory:
    """Keys of each database, those that may go by themselves apart. What the server says is enough
    unless there are fields that expire: it does not say whether whole keys go with them, so that an
    RDB is read."""
    servers = await _servers(service, access) if is_divided(service) else None
    async with connection(service, access) as client:
        info = await client.info()
        keyspace = {
            int(name[2:]): facts for name, facts in info.items() if DATABASE.fullmatch(name)
        }
        if not any(
            facts.get(name)
            for facts in keyspace.values()
            for name in ("subexpiry", "keys_with_volatile_items")
        ):
            fleeting = {number: int(facts["expires"]) for number, facts in keyspace.items()}
            lasting = {
                number: int(facts["keys"]) - fleeting[number] for number, facts in keyspace.items()
            }
            ours = (
                {key async for key in client.scan_iter(f"{OWN_KEYS}*", count=1000)}
                if own_database(service) in keyspace
                else set()
            )
            if ours:
                fleeting[own_database(service)] -= len(ours & {HEALTH_KEY})
                lasting[own_database(service)] -= len(ours - {HEALTH_KEY})
            return _census(lasting, fleeting, int(info.get("number_of_libraries", 0)), servers)
        await _hurry(service, client)
    reader = Reader(own_database(service), OWN_KEYS.encode())
    await _read(service, access, reader, None)
    return _census(reader.lasting, reader.fleeting, reader.functions, servers)


async def _servers(service: Service, access: Access) -> dict[int, Keys]:
    """What the servers of environments hold."""
    found = await division.keys(access)
    for number, held in found.items():
        if held.volatile:
            reader = Reader()
            await _read(service, access, reader, None, number)
            found[number] = _counted(reader)
    return found


def _counted(reader: Reader) -> Keys:
    return Keys(
        sum(reader.lasting.values()), sum(reader.fleeting.values()), reader.functions, False
    )


async def _hurry(service: Service, client: Any) -> None:
    """Else the server waits five seconds for more replicas. One of somebody else's is left as it
    is."""
    if not service.imported:
        with suppress(RedisError):  # it is slower then, and no less right
            await client.config_set("repl-diskless-sync-delay", 0)


async def _read(
    service: Service,
    access: Access,
    reader: Reader,
    writer: PartWriter | None,
    server: int | None = None,
) -> None:
    """Have the server, or that of an environment, make an RDB and read it, up to its end: the mark
    that may follow is no part of it."""
    command = Command(argv=(*cli(service), "--rdb", "-"), environment=login(service))
    if server is not None:
        await division.settle(access, server)
        command = division.stream(server)
    size = 0
    try:
        async with access.process(command) as process:
            async for chunk in process.output():
                reader.feed(chunk)
                if writer is not None and (
                    rest := chunk[: reader.offset - size] if reader.ended else chunk
                ):
                    await writer.write(rest)
                elif writer is None:
                    access.beat()
                size += len(chunk)
            await process.finish()
        reader.finish()
    except DamagedRdb as error:
        raise Failed(
            f"What {service.name} sends as its data is damaged: {error}.",
            remedy="Try again; see its log.",
        ) from None


# ---------------------------------------------------------------- out


async def backup(service: Service, access: Access, sink: Sink) -> Inventory:
    own = own_database(service)
    async with connection(service, access) as client:
        users = await client.execute_command("ACL", "LIST")
        carried, left_out = await settings.changed(service, access, client)
        await _hurry(service, client)
    writer, reader = PartWriter(sink), Reader(own, OWN_KEYS.encode())
    await writer.whole(USERS, "\n".join(users).encode(errors="surrogateescape"))
    await writer.whole(SETTINGS, msgspec.json.encode(carried))
    await writer.begin(DATA, own=own, divided=is_divided(service))
    await _read(service, access, reader, writer)
    await writer.end()
    servers, failed = None, []
    if is_divided(service):
        servers = {}
        for number, whose in sorted((await division.list_held(access)).items()):
            found = await _server(service, access, writer, number, whose)
            if isinstance(found, Reader):
                reader.modules |= found.modules
                failed += _unknown(found, f"db{number}")
                servers[number] = _counted(found)
            else:
                failed.append(found)
    await writer.close()
    left_out += tuple(
        Finding(
            where="",
            what=f"module {name}",
            why="its data is read only by a server that has this module",
        )
        for name in sorted(reader.modules)
    )
    failed += _unknown(reader, f"db{reader.unknown_in}")
    counted = _census(reader.lasting, reader.fleeting, reader.functions, servers)
    return msgspec.structs.replace(counted, left_out=left_out, failed=tuple(failed))


def _unknown(reader: Reader, where: str) -> list[Finding]:
    return (
        [Finding(where=where, what="", why=f"{reader.unknown}; from there on nothing is counted")]
        if reader.unknown
        else []
    )


async def _server(
    service: Service, access: Access, writer: PartWriter, number: int, whose: Held
) -> Reader | Finding:
    """What an environment's server holds, as a part. One that cannot be read keeps nobody else's
    data out of the backup."""
    reader = Reader()
    await writer.begin(
        PROJECT, number=number, mark=whose.mark, project=whose.project, account=whose.account
    )
    try:
        await _read(service, access, reader, writer, number)
    except Failed as error:
        await writer.end()
        await writer.whole(FAILED, b"", number=number)
        return Finding(where=f"db{number}", what="", why=error.detail)
    await writer.end()
    return reader


async def extract(source: Source, database: str, sink: Sink) -> None:
    """One database as an RDB of its own, with the functions; Redis' own tools read it."""
    named = DATABASE.fullmatch(database)
    number, chosen, several, found = int(named[1]) if named else -1, None, False, False
    async for part in read_parts(source):
        if part.name == PROJECT and part.facts.get("number") == number:
            found = True
            async for chunk in part:
                await sink.write(chunk)
        elif part.name == DATA and part.facts.get("divided") and number:
            several = True
        elif part.name == DATA and chosen is None:
            chosen = _chosen((number,), part.facts, shared=True)
            try:
                async for chunk in part:
                    if kept := chosen.feed(chunk):
                        await sink.write(kept)
                end = chosen.finish()
            except DamagedRdb as error:
                raise _damaged(error) from None
            if not _there(chosen.reader, number):
                raise _no_such(database)
            await sink.write(end)
    if several and not found:
        raise _no_such(database)


def _no_such(database: str) -> NotFound:
    return NotFound(
        f"The backup holds no database {database}.", remedy="Its databases are named db0, db1, …"
    )


def _chosen(numbers: tuple[int, ...], facts: dict[str, Any], *, shared: bool) -> Chosen:
    own = facts.get("own")
    return Chosen(numbers, own if isinstance(own, int) else None, OWN_KEYS.encode(), shared=shared)


def _there(reader: Reader, number: int) -> bool:
    return number in reader.lasting or number in reader.fleeting


def _damaged(error: DamagedRdb) -> BadInput:
    return BadInput(f"The backup's data cannot be read: {error}.", remedy="Restore another backup.")


# ---------------------------------------------------------------- in


async def restore(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    if is_divided(service):
        return await _divide(service, access, source, options)
    only = _only(options)
    users: list[str] = []
    carried: dict[str, str] = {}
    reader, own = None, None
    async for part in read_parts(source):
        if part.name == USERS:
            users = (await part.read()).decode(errors="surrogateescape").splitlines()
        elif part.name == SETTINGS:
            carried = _settings(await part.read())
        elif part.name == DATA:
            if part.facts.get("divided"):
                raise BadInput(
                    "The backup is of a Redis with a server for each environment, and "
                    f"{service.name} has one for all.",
                    remedy="Restore it as a new service.",
                )
            own = part.facts.get("own")
            reader = await _put(access, part, part.facts, only)
    if reader is None:
        raise BadInput("The backup holds no data of a Redis.", remedy="Restore another backup.")
    findings = await _pour(service, access, reader, own, only)
    async with connection(service, access) as client:
        if only is None:
            findings += await _users(client, users)
            findings += await settings.apply(
                service, access, client, carried, options.skip_settings
            )
        findings += await _room(service, client)
    return tuple(findings)


async def _divide(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    """Into servers of environments, and what is nobody's into the service's own."""
    only = _only(options)
    users: list[str] = []
    carried: dict[str, str] = {}
    carving, own, findings = Carving(access, only, {}), None, []
    async for part in read_parts(source):
        if part.name == USERS:
            users = (await part.read()).decode(errors="surrogateescape").splitlines()
            carving = Carving(access, only, held_by(users))
        elif part.name == SETTINGS:
            carried = _settings(await part.read())
        elif part.name == DATA:
            own = part.facts.get("own")
            if not part.facts.get("divided"):
                await carving.split(part, own)
                findings += _told(carving.rest)
            elif only is None or 0 in only:
                carving.rest = await _put(access, part, part.facts, only and (0,))
        elif part.name == PROJECT:
            await carving.take(part, part.facts)
        elif part.name == FAILED:
            await carving.drop(part.facts)
    await carving.require_whole()
    if only is not None:
        carving.require(only)
    if carving.rest.total or carving.rest.functions:
        findings += await _pour(service, access, carving.rest, own, only and (0,))
    await access.exec(Command(argv=("rm", "-f", FILE)))
    async with connection(service, access) as client:
        if only is None:
            findings += await _users(client, [line for line in users if not is_ours(line.split())])
            findings += await settings.apply(
                service, access, client, carried, options.skip_settings
            )
    return (*findings, *await carving.start(own))


def _told(rest: Reader) -> list[Finding]:
    """What was reached by all projects where one server was for all, and is by none now."""
    findings = []
    if count := rest.lasting.get(0, 0) + rest.fleeting.get(0, 0):
        why = (
            f"its {count} keys are no project's; they are on the service's own server, which "
            "none reaches"
        )
        findings.append(Finding(where="db0", what="keys", why=why, notice=True))
    if rest.functions:
        why = (
            "libraries of functions are on the service's own server; projects load theirs on "
            "their own"
        )
        findings.append(Finding(where="", what="functions", why=why))
    return findings


async def _pour(
    service: Service, access: Access, reader: Reader, own: Any, only: tuple[int, ...] | None
) -> list[Finding]:
    """Have the service's server take over what lies in the file, and keep its own mark."""
    findings: list[Finding] = []
    async with connection(service, access) as client:
        databases = int((await client.config_get("databases"))["databases"])
        await _require_room(service, access, reader, only, databases)
        mark = await _mark(access, await client.get(IDENTITY_KEY))
        # else what is full takes neither our mark nor what came last
        await client.config_set("maxmemory", 0)
        beside = Beside(service, access, databases)
        come = await beside.run(lambda second: copy_all(access, client, second))
        findings += proof(reader, beside, come, only)
        await _written(access, client)
        await _clear_marks(service, access, own)
        if mark:
            await client.set(IDENTITY_KEY, mark)
        else:
            await client.delete(IDENTITY_KEY)
        await client.config_set("maxmemory", maxmemory(service))
    await access.exec(Command(argv=("rm", "-f", MARK_FILE)))
    return findings


def _only(options: RestoreOptions) -> tuple[int, ...] | None:
    """The numbers of the chosen databases, None for all."""
    if not options.only:
        return None
    found = [DATABASE.fullmatch(name) for name in options.only]
    if not all(found):
        why = "a Redis' databases are named db0, db1, …"
        raise BadInput(
            f"{', '.join(options.only)} names no database: {why}", errors={"database": why}
        )
    return tuple(int(name[1]) for name in found if name)


def _settings(data: bytes) -> dict[str, str]:
    try:
        return msgspec.json.decode(data, type=dict[str, str])
    except msgspec.DecodeError:
        raise BadInput(
            "The backup's settings cannot be read.", remedy="Restore another backup."
        ) from None


async def _put(
    access: Access, part: AsyncIterable[bytes], facts: dict[str, Any], only: tuple[int, ...] | None
) -> Reader:
    """Write the RDB, or some databases of it, to where the second server reads it; the answer has
    counted it."""
    chosen = _chosen(only or (), facts, shared=False)
    reader = chosen.reader if only else Reader(chosen.own, OWN_KEYS.encode())
    command = Command(argv=("sh", "-c", f"umask 077; cat >{FILE}"))
    try:
        async with access.process(command) as process:
            async for chunk in part:
                if only:
                    chunk = chosen.feed(chunk)
                else:
                    reader.feed(chunk)
                if chunk:
                    await process.write(chunk)
            reader.finish()
            if only:
                await process.write(chosen.finish())
            await process.end_input()
            await process.finish()
    except DamagedRdb as error:
        raise _damaged(error) from None
    return reader


async def _require_room(
    service: Service, access: Access, reader: Reader, only: tuple[int, ...] | None, databases: int
) -> None:
    """A server that meets a database that it cannot have ends, the one that serves as well."""
    numbers = {*reader.lasting, *reader.fleeting}
    missing = sorted({*(only or ())} - numbers)
    wrong = ""
    if missing:
        wrong = f"The backup holds no database {', '.join(f'db{number}' for number in missing)}."
    elif (highest := max(numbers & {*(only or numbers)}, default=0)) >= databases:
        wrong = (
            f"The backup holds keys in database {highest}, and {service.name} has {databases} "
            "databases."
        )
    if wrong:
        await access.exec(Command(argv=("rm", "-f", FILE)))
        why = "choose some that are there and fit"
        raise BadInput(
            wrong, remedy="Restore only databases that are there and fit.", errors={"database": why}
        )


async def _mark(access: Access, found: str | None) -> str:
    """The mark of this data set; kept aside, for after a crash the server may hold the backup's."""
    script = f'[ -e {MARK_FILE} ] || printf %s "$MARK" >{MARK_FILE}; cat {MARK_FILE}'
    kept = await access.exec(Command(argv=("sh", "-c", script), environment={"MARK": found or ""}))
    return kept.stdout.strip()


def proof(
    reader: Reader, beside: Beside, come: dict[int, tuple[int, int]], only: tuple[int, ...] | None
) -> list[Finding]:
    """What was read is what the RDB holds, and what was copied is what was read."""
    findings = []
    if only is None:
        held = reader.total + reader.ours
    else:
        held = sum(
            kind.get(number, 0) for kind in (reader.lasting, reader.fleeting) for number in only
        )
    if not reader.unknown and held != beside.loaded + beside.expired + beside.empty:
        why = (
            f"the backup holds {held} keys; {beside.loaded} were read and {beside.expired} had "
            "ended"
        )
        findings.append(Finding(where="", what="keys", why=why))
    if beside.empty:
        findings.append(
            Finding(
                where="",
                what="keys",
                why=f"{beside.empty} were left out, for nothing is in them",
                notice=True,
            )
        )
    for number, (here, there) in sorted(come.items()):
        if here < there:
            findings.append(
                Finding(where=f"db{number}", what="keys", why=f"{here} of {there} came over")
            )
    return findings


async def _users(client: Any, lines: list[str]) -> list[Finding]:
    """Users come along; those of projects switched off: only a link, or whoever links them again,
    lets them in."""
    findings = []
    for line in lines:
        word, _, rest = line.partition(" ")
        name, *rules = rest.split(" ")
        if word != "user" or not name or name == "default":
            continue
        if is_ours(rules):
            rules = [*rules, "resetpass", "off"]
        try:
            await client.execute_command("ACL", "SETUSER", name, "reset", *rules)
        except RedisError as error:
            findings.append(
                Finding(where="", what=f"user {name}", why=f"this server does not take it: {error}")
            )
    await client.execute_command("ACL", "SAVE")
    return findings


async def _clear_marks(service: Service, access: Access, own: Any) -> None:
    """What an imported server had of ours in its last database is not data."""
    async with connection(service, access, LAST_OF_OTHERS) as client:
        marked = own == LAST_OF_OTHERS if own is not None else await client.exists(IDENTITY_KEY)
        if own_database(service) == OWN_DATABASE and marked:
            async for key in client.scan_iter(f"{OWN_KEYS}*", count=1000):
                await client.delete(key)


async def _written(access: Access, client: Any) -> None:
    """Wait until the append-only file holds what was copied: a server that is stopped before has
    lost it."""
    before: Any = None
    tries = 0
    while True:
        state = await client.info("persistence")
        waiting = int(state["aof_rewrite_in_progress"]) or int(state["aof_rewrite_scheduled"])
        if not int(state["aof_enabled"]) or (
            not waiting and state["aof_last_bgrewrite_status"] == "ok"
        ):
            return
        if not waiting:  # it failed, for a full disk perhaps: ask once more, and be told
            tries += 1
            if tries > REWRITES:
                raise Failed(
                    "The server did not write the restored data to its append-only file.",
                    remedy="Is the disk full?",
                )
            await client.bgrewriteaof()
        moved = [
            state.get(name)
            for name in (
                "current_save_keys_processed",
                "current_cow_size",
                "aof_rewrite_in_progress",
            )
        ]
        if moved != before:
            before = moved
            access.beat()
        await anyio.sleep(PAUSE)


async def _room(service: Service, client: Any) -> list[Finding]:
    used, limit = int((await client.info("memory"))["used_memory"]), maxmemory(service)
    if limit and used > limit:
        why = (
            f"its data takes {used} bytes and its parameter maxmemory allows {limit}: it takes "
            "no more until that is raised"
        )
        return [Finding(where="", what="maxmemory", why=why)]
    return []
