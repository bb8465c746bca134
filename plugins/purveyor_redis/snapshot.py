"""Backups as RDB: the server's own snapshot, and its users; restored by replication from a server beside it.

A dump.rdb put beside ``appendonly yes`` loads nothing at all. So a second server in the same container loads it, on a
port of the container's own, and the service copies from that one: it goes on serving until the copy is whole, and its
append-only file is written anew by itself.
"""

import secrets
from typing import Any

import anyio
from redis.exceptions import RedisError

from purveyor_hooks import Access, Census, Command, Failed, Service, Sink, Source
from purveyor_hooks.parts import PartWriter, read_parts
from purveyor_redis.server import HEALTH_KEY, IDENTITY_KEY, LAST_OF_OTHERS, OWN_DATABASE, connection, login, tool

USERS, DATA = "users", "rdb"
FILE, BESIDE_PORT, SOCKET = "/data/restore.rdb", 6391, "/tmp/purveyor-restore.sock"  # noqa: S108 - in the container
PID = "/tmp/purveyor-restore.pid"  # noqa: S108 - in the container
OWN_KEYS = "purveyor:*"
POLLS, PAUSE = 36_000, "0.1"


async def census(service: Service, access: Access) -> Census:
    """Keys of each database; those that expire by themselves are counted apart."""
    async with connection(service, access) as client:
        return await _count(service, client)


async def _count(service: Service, client: Any) -> Census:
    keys: dict[str, int] = {}
    expiring: dict[str, int] = {}
    for name, facts in (await client.info("keyspace")).items():
        if name == f"db{OWN_DATABASE}":
            continue
        expiring[name] = int(facts["expires"])
        keys[name] = int(facts["keys"]) - expiring[name]
        if name == f"db{LAST_OF_OTHERS}" and service.imported:  # ours are not its owner's
            expiring[name] -= await client.exists(HEALTH_KEY)
            keys[name] -= len([key async for key in client.scan_iter(OWN_KEYS, count=1000) if key != HEALTH_KEY])
    return Census(counts={"keys": keys}, fleeting={"keys": expiring})


async def backup(service: Service, access: Access, sink: Sink) -> Census:
    writer = PartWriter(sink)
    async with connection(service, access) as client:
        users = await client.execute_command("ACL", "LIST")
        await writer.whole(USERS, "\n".join(users).encode())
        await _hurry(client)
        for _ in range(3):  # what is counted must be what is in the snapshot: on a quiet server it is at once
            before = await _count(service, client)
            await writer.begin(DATA)
            cli = tool(service, "cli")
            command = Command(argv=(cli, "--rdb", "-"), environment=login(service))
            async with access.process(command) as process:
                async for chunk in process.output():
                    await writer.write(chunk)
                await process.finish()
            await writer.end()
            after = await _count(service, client)
            if before.counts == after.counts:
                break
    await writer.close()
    if before.counts == after.counts:
        return before
    return _between(before, after)


def _between(before: Census, after: Census) -> Census:
    """A server that is being written to: what stayed is certain, what came or went may be in it or not."""
    certain: dict[str, int] = {}
    perhaps: dict[str, int] = dict(after.fleeting["keys"])
    for name in {*before.counts["keys"], *after.counts["keys"]}:
        low, high = sorted((before.counts["keys"].get(name, 0), after.counts["keys"].get(name, 0)))
        certain[name] = low
        perhaps[name] = perhaps.get(name, 0) + high - low
    return Census(counts={}, fleeting={"keys": {name: certain[name] + perhaps.get(name, 0) for name in certain}})


async def _hurry(client: Any) -> None:
    """Else the server waits five seconds for more replicas."""
    try:
        await client.config_set("repl-diskless-sync-delay", 0)
    except RedisError:  # it is slower then, and no less right
        return


async def restore(service: Service, access: Access, source: Source) -> None:
    users: list[str] = []
    async for part in read_parts(source):
        if part.name == USERS:
            users = (await part.read()).decode().splitlines()
        elif part.name == DATA:
            async with access.process(Command(argv=("sh", "-c", f"cat > {FILE}"))) as process:
                async for chunk in part:
                    await process.write(chunk)
                await process.end_input()
                await process.finish()
    async with connection(service, access) as client:
        mark = await client.get(IDENTITY_KEY)
        await _copy_from_beside(service, access, client)
        await _written(client)
        await _clear_marks(service, access)
        if mark:
            await client.set(IDENTITY_KEY, mark)
        else:
            await client.delete(IDENTITY_KEY)
        for line in users:
            _, name, *rules = line.split(" ")
            if name != "default":
                await client.execute_command("ACL", "SETUSER", name, "reset", *rules)
        await client.execute_command("ACL", "SAVE")


async def _clear_marks(service: Service, access: Access) -> None:
    """What an imported server had of ours in its last database is not data."""
    async with connection(service, access, LAST_OF_OTHERS) as client:
        if not service.imported and await client.exists(IDENTITY_KEY):
            async for key in client.scan_iter(OWN_KEYS, count=1000):
                await client.delete(key)


async def _copy_from_beside(service: Service, access: Access, client: Any) -> None:
    """Load the file in a second server and copy from it."""
    server, cli = tool(service, "server"), tool(service, "cli")
    databases = (await client.config_get("databases"))["databases"]
    password = secrets.token_hex(16)
    config = (
        f"port {BESIDE_PORT}\nbind 127.0.0.1\nunixsocket {SOCKET}\nrequirepass {password}\ndir /data\n"
        f'dbfilename restore.rdb\nsave ""\nappendonly no\ndatabases {databases}\ndaemonize yes\n'
        f'repl-diskless-sync yes\nrepl-diskless-sync-delay 0\nlogfile ""\npidfile {PID}\n'
    )
    # one that a crash has left behind is ended first
    clear = f"[ -f {PID} ] && kill -9 $(cat {PID}) 2>/dev/null; rm -f {PID} {SOCKET}"
    launch = f"{clear}; umask 077; cat > /tmp/purveyor-restore.conf && {server} /tmp/purveyor-restore.conf"
    async with access.process(Command(argv=("sh", "-c", launch))) as process:
        await process.write(config.encode())
        await process.end_input()
        await process.finish()
    ask = f"{cli} -s {SOCKET}"
    secret = {"REDISCLI_AUTH": password}
    try:
        await _until(access, f"{ask} PING 2>/dev/null | grep -q PONG", secret, "the backup is loaded")
        await client.config_set("masterauth", password)
        await client.execute_command("REPLICAOF", "127.0.0.1", BESIDE_PORT)
        for _ in range(POLLS):
            state = await client.info("replication")
            if state.get("master_link_status") == "up":
                break
            await anyio.sleep(0.05)
        else:
            raise Failed("The data of the backup was not copied into the service.")
    finally:
        await client.execute_command("REPLICAOF", "NO", "ONE")
        await client.config_set("masterauth", "")
        end = f"{ask} SHUTDOWN NOSAVE 2>/dev/null; rm -f {FILE} {SOCKET} /tmp/purveyor-restore.conf"
        await access.exec(Command(argv=("sh", "-c", end), environment=secret))


async def _until(access: Access, test: str, environment: dict[str, str], what: str) -> None:
    alive = f"[ $i -lt 50 ] || kill -0 $(cat {PID}) || exit 1"
    script = f"for i in $(seq {POLLS}); do {test} && exit 0; {alive}; sleep {PAUSE}; done; exit 1"
    ended = await access.exec(Command(argv=("sh", "-c", script), environment=environment), timeout=3600.0)
    if ended.exit_code:
        raise Failed(f"It cannot be seen that {what}: {ended.stderr.strip()[-200:]}")


async def _written(client: Any) -> None:
    """Wait until the append-only file holds what was copied: a server that is stopped before has lost it."""
    for _ in range(POLLS):
        state = await client.info("persistence")
        waiting = int(state["aof_rewrite_in_progress"]) or int(state["aof_rewrite_scheduled"])
        if not int(state["aof_enabled"]) or (not waiting and state["aof_last_bgrewrite_status"] == "ok"):
            return
        if not waiting:  # it failed, for a full disk perhaps: ask once more, and be told
            await client.bgrewriteaof()
        await anyio.sleep(0.05)
    raise Failed("The server did not write the restored data to its append-only file.", remedy="Is the disk full?")
