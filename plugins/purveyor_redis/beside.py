"""A second server in a service's container, which reads an RDB so that the service can copy it.

It runs in the foreground, and what it prints is read: when it ends, the wait for it ends at once
with its last words.
"""

import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import anyio
from redis.exceptions import RedisError

from purveyor_hooks import Access, Command, Failed, Service
from purveyor_hooks.protocols import Process
from purveyor_redis.server import tool

T = TypeVar("T")
FILE, BESIDE_PORT, SOCKET = "/data/restore.rdb", 6391, "/tmp/purveyor-restore.sock"  # noqa: S108 - in the container
PID = "/tmp/purveyor-restore.pid"  # noqa: S108 - in the container
# by its command line as well: the number may be another's by now
END = (
    f'p=$(cat {PID} 2>/dev/null); [ -n "$p" ] && grep -qa {BESIDE_PORT} /proc/$p/cmdline '
    "2>/dev/null && kill -9 $p; "
    f"rm -f {PID} {SOCKET}; "
)
LINE = re.compile(r"(?:\d+:\w \d+ \w+ \d+ [\d:.]+ )?([.*#-]) (.*)")
LOADED = re.compile(
    r"Done loading RDB, keys loaded: (\d+), keys expired: (\d+)(?:, empty keys skipped: (\d+))?"
)
COPIES = 3  # times that the service may ask for the data anew
PAUSE, SLOW_PAUSE, END_TIME = 0.05, 0.5, 20.0


class Beside:
    """The second server. `loaded`, `expired` and `empty` are what it says of the keys that it
    read."""

    def __init__(self, service: Service, access: Access, databases: int) -> None:
        self._access, self._databases = access, databases
        self._server, self._cli = tool(service, "server"), tool(service, "cli")
        self.password = secrets.token_hex(16)
        self.loaded = self.expired = self.empty = 0
        self.asked = 0  # how often it was asked for all of its data
        self._told = False
        self._ready = anyio.Event()
        self._words: deque[str] = deque(maxlen=20)
        self._rest = b""

    async def run(self, work: Callable[["Beside"], Awaitable[T]]) -> T:
        """Start it, wait until it has read the file, do the work, end it. Raises `Failed` with its
        last words."""
        answer: list[T] = []
        failed: list[Exception] = []
        over = False
        config = (
            f"port {BESIDE_PORT}\nbind 127.0.0.1\nunixsocket {SOCKET}\nrequirepass "
            f"{self.password}\ndir /data\n"
            'dbfilename restore.rdb\nsave ""\nappendonly no\ndatabases '
            f"{self._databases}\nsanitize-dump-payload yes\n"
            f'repl-diskless-sync yes\nrepl-diskless-sync-delay 0\nlogfile ""\nmaxmemory 0\n'
        )
        # its configuration comes as its input
        launch = f"{END}umask 077; echo $$ >{PID}; exec {self._server} -"
        try:
            async with self._access.process(Command(argv=("sh", "-c", launch))) as process:
                await process.write(config.encode())
                await process.end_input()
                async with anyio.create_task_group() as group:

                    async def listen() -> None:
                        nonlocal over
                        await self._listen(process)
                        over = True
                        group.cancel_scope.cancel()

                    group.start_soon(listen)
                    try:
                        await self._loading()
                        answer.append(await work(self))
                    except Exception as error:  # carried out of the group, which would wrap it
                        failed.append(error)
                    group.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(END_TIME, shield=True):
                await self._access.exec(Command(argv=("sh", "-c", f"{END}rm -f {FILE}")))
        if failed:
            raise failed[0]
        if not answer:
            assert over
            raise Failed(
                f"The server that reads the backup ended: {self._last_words()}",
                remedy="Restore another backup.",
            )
        return answer[0]

    async def keys(self) -> dict[int, int]:
        """How many keys it has by database."""
        found = re.finditer(r"^db(\d+):keys=(\d+)", await self._ask("INFO keyspace"), re.MULTILINE)
        return {int(line[1]): int(line[2]) for line in found}

    async def _ask(self, words: str) -> str:
        command = Command(
            argv=("sh", "-c", f"{self._cli} -s {SOCKET} {words}"),
            environment={"REDISCLI_AUTH": self.password},
        )
        return (await self._access.exec(command)).stdout

    async def _loading(self) -> None:
        """Wait until it serves; that it goes on reading is told."""
        before = ""
        while True:
            with anyio.move_on_after(SLOW_PAUSE):
                await self._ready.wait()
            if self._ready.is_set():
                return
            found = re.search(r"loading_loaded_bytes:(\d+)", await self._ask("INFO persistence"))
            if found and found[1] != before:
                before = found[1]
                self._access.beat()

    async def _listen(self, process: Process) -> None:
        async for chunk in process.output():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._rest = self._rest[-4096:]
            for line in lines:
                self._hear(line[:4096].decode(errors="replace").strip())

    def _hear(self, line: str) -> None:
        found = LINE.fullmatch(line)
        level, words = (found[1], found[2]) if found else ("#", line)
        if said := LOADED.search(words):
            self.loaded, self.expired, self.empty = (int(number or 0) for number in said.groups())
        elif "Ready to accept connections" in words:
            self._ready.set()
        elif "asks for synchronization" in words:
            self.asked += 1
        elif level == "#" and words and not words.startswith("WARNING"):
            self._words.append(words[:300])

    def _last_words(self) -> str:
        found = list(self._words)
        fatal = [
            line for line in found if re.search(r"fatal|error|can't|cannot", line, re.IGNORECASE)
        ]
        return (
            " ".join((fatal or found)[:2])
            or "it was killed; does its data need more memory than maxmemory allows?"
        )


async def copy_all(access: Access, client: Any, beside: Beside) -> dict[int, tuple[int, int]]:
    """Have the service copy everything: how many keys came, and how many there are to come, by
    database.

    Raises `Failed` when it asks for them again and again.
    """
    try:
        await client.config_set("masterauth", beside.password)
        await client.execute_command("REPLICAOF", "127.0.0.1", BESIDE_PORT)
        before: Any = None
        while True:
            state = await client.info()
            if state.get("master_link_status") == "up":
                break
            if beside.asked > COPIES:
                raise Failed(
                    "The service does not take the data of the backup.",
                    remedy="Is its disk full? See its log.",
                )
            moved = [
                state.get(name)
                for name in (
                    "master_sync_read_bytes",
                    "master_sync_left_bytes",
                    "loading_loaded_bytes",
                )
            ]
            if moved != before:
                before = moved
                access.beat()
            await anyio.sleep(PAUSE)
        come = {
            int(name[2:]): int(facts["keys"])
            for name, facts in (await client.info("keyspace")).items()
        }
        there = await beside.keys()  # asked later: keys that end are fewer here
    except BaseException:
        with anyio.move_on_after(END_TIME, shield=True), suppress(RedisError, OSError):
            await _let_go(client)
        raise
    await _let_go(client)
    return {number: (come.get(number, 0), count) for number, count in there.items()}


async def _let_go(client: Any) -> None:
    await client.execute_command("REPLICAOF", "NO", "ONE")
    await client.config_set("masterauth", "")
