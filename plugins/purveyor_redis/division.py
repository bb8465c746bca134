"""A server for each environment, beside the service's own in its container: its accounts, its data,
and how it is asked.

The launcher (`launcher.sh`) keeps them. Everything here is a command in the container: nobody on
the network is let in as an administrator of these servers. A server is known by its number, that of
the binding, and listens on a port of that number.
"""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

import anyio

from purveyor_hooks import Access, Binding, Command, Conflict, Failed, Service
from purveyor_hooks.protocols import Process
from purveyor_redis.server import hashed, port_of

LAUNCHER = "redis-launcher"
MARK, PROJECT = "purveyor-binding-", "purveyor-project-"
HEADING = re.compile(r"^@(\d{1,6})$", re.MULTILINE)
MARKED = re.compile(rf"^# {MARK}(\d{{1,18}}) {PROJECT}(\S+) (\S+)$", re.MULTILINE)
KEYSPACE = re.compile(r"^db\d+:(.*)$", re.MULTILINE)
LOADING = re.compile(r"^loading:1", re.MULTILINE)
LOADED = re.compile(r"^loading_loaded_bytes:(\d+)", re.MULTILINE)
LIBRARIES = re.compile(r"^number_of_libraries:(\d+)", re.MULTILINE)
ANSWERS = re.compile("PONG|MISCONF")  # a disk that is full is told to whoever writes
PAUSE, PATIENCE = 0.1, 40.0  # seconds; a server that keeps falling is tried again every thirty
UNKNOWN = "-"
SECTIONS = ("keyspace", "memory", "persistence")

# Of what is dangerous or administrative, apps and frameworks need these, and nobody else is on the
# server.
NEEDED = (
    "+info", "+keys", "+flushdb", "+flushall", "+swapdb", "+sort", "+sort_ro", "+restore", "+role",
    "+lastsave", "+client|list",
    "+config|get", "+pubsub", "+slowlog|get", "+slowlog|len", "+latency|latest",
    "+latency|histogram",
)  # fmt: skip
DENIED = ("-client|no-evict",)


class Held(NamedTuple):
    """Whose a server is: the number of its binding's mark, the project and the account. All are ""
    for one that came with a backup and is nobody's."""

    mark: str
    project: str
    account: str


class Keys(NamedTuple):
    """What a server says of its keys. `volatile`: fields of some end by themselves, and it does not
    say what goes with them."""

    lasting: int
    fleeting: int
    libraries: int
    volatile: bool


class Taken(Exception):
    """A server is another's; the text is the line that says whose."""


# ---------------------------------------------------------------- commands


async def run(access: Access, *words: str, stdin: bytes = b"") -> str:
    """A command of the launcher. Raises `Failed` with what it said."""
    done = await access.exec(Command(argv=(LAUNCHER, *words)), stdin=stdin)
    if done.exit_code:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise Failed(
            f"{LAUNCHER} {words[0]}: {said or f'it ended with {done.exit_code}'}",
            remedy="See the service's log.",
        )
    return done.stdout


async def _read(access: Access, *words: str) -> str:
    """The same, however much it prints."""
    async with access.process(Command(argv=(LAUNCHER, *words))) as process:
        said = b"".join([chunk async for chunk in process.output()])
        await process.finish()
    return said.decode(errors="replace")


def stream(number: int) -> Command:
    """What prints a server's data, as an RDB."""
    return Command(argv=(LAUNCHER, "stream", str(port_of(number))))


async def ask(access: Access, number: int, *words: str) -> str:
    """A command to one server, as its administrator."""
    return await run(access, "ask", str(port_of(number)), *words)


def _parts(text: str) -> dict[int, str]:
    """What a command printed for each server, by number."""
    pieces = HEADING.split(text)
    return {
        int(port) - port_of(0): said for port, said in zip(pieces[1::2], pieces[2::2], strict=True)
    }


async def settle(access: Access, number: int) -> None:
    """Have a server answer that a script without end keeps busy: it is ended, by a restart when it
    has written."""
    for kind in ("", "SCRIPT", "FUNCTION"):
        if kind:
            await access.exec(Command(argv=(LAUNCHER, "ask", str(port_of(number)), kind, "KILL")))
        said = await access.exec(Command(argv=(LAUNCHER, "ask", str(port_of(number)), "PING")))
        if ANSWERS.search(said.stdout + said.stderr):
            return
        if "LOADING" in said.stdout + said.stderr:
            await loaded(access, number)
            return
    await run(access, "restart", str(port_of(number)))
    await loaded(access, number)


async def loaded(access: Access, number: int) -> None:
    """Wait until a server has read its data. Raises `Failed` when it does not come up."""
    before, begun = "", anyio.current_time()
    while True:
        done = await access.exec(Command(argv=(LAUNCHER, "ask", str(port_of(number)), "INFO")))
        if not done.exit_code and not LOADING.search(done.stdout):
            return
        found = LOADED.search(done.stdout)
        if found and found[1] != before:
            before, begun = found[1], anyio.current_time()
            access.beat()
        if anyio.current_time() - begun > PATIENCE:
            raise Failed(
                f"The server db{number} does not come up.", remedy="See the service's log."
            )
        await anyio.sleep(PAUSE)


# ---------------------------------------------------------------- accounts


def rules(binding: Binding) -> list[str]:
    """What a project's user may do: everything but to administrate the server."""
    return [
        "on",
        hashed(binding.password),
        "~*",
        "&*",
        "+@all",
        "-@admin",
        "-@dangerous",
        *NEEDED,
        *DENIED,
    ]


def _accounts(held: Held, allowed: Iterable[str]) -> bytes:
    """What `add` takes, up to its last line: whose it is, and who may log in besides the administrator."""
    lines = [
        f"# {MARK}{held.mark} {PROJECT}{held.project} {held.account}"
        if held.mark
        else f"# {UNKNOWN}",
        "user default off",
    ]
    if allowed:
        lines.append(" ".join(("user", held.account, *allowed)))
    return "".join(f"{line}\n" for line in (*lines, "end")).encode()


async def add(
    access: Access, number: int, held: Held, allowed: Iterable[str] = (), *, own: bool = False
) -> None:
    """Have a server run, made now unless it is there, with these accounts, now and at each start of
    it. `own`: only one that is theirs already, or nobody's and empty. Raises `Taken`."""
    accounts = _accounts(held, allowed)
    mark = (f"{MARK}{held.mark}",) if own else ()
    for _ in range(2):
        said = await run(access, "add", str(port_of(number)), *mark, stdin=accounts)
        if said.startswith("held"):
            raise Taken(said.removeprefix("held").strip())
        if ANSWERS.search(said):
            return
        await settle(access, number)  # it has not been told of them while it was busy


async def held(access: Access) -> dict[int, Held]:
    """Whose the servers are, by number."""
    found = {}
    for number, text in _parts(await _read(access, "accounts")).items():
        marked = MARKED.search(text)
        found[number] = Held(marked[1], marked[2], marked[3]) if marked else Held("", "", "")
    return found


def _held_by(binding: Binding) -> Held:
    return Held(str(binding.number), binding.scope.project, binding.account)


def _is_ours(known: Held | None, binding: Binding) -> bool:
    return known is not None and known.mark == str(binding.number)


async def bind(service: Service, access: Access, binding: Binding) -> None:
    """In one command: a start of the service does it for each of its environments."""
    assert binding.slot is not None
    try:
        await add(access, binding.slot, _held_by(binding), rules(binding), own=True)
    except Taken as taken:
        known = MARKED.search(str(taken))
        whose = f"is marked as {known[3]}'s" if known else "holds keys with no recorded owner"
        raise Conflict(
            f"The server db{binding.slot} of {service.name} {whose}.",
            remedy=(
                f"Look at it: purveyor browse {service.slug} db{binding.slot}. Restore what is "
                "needed of it elsewhere."
            ),
        ) from None


async def rotate(
    service: Service, access: Access, binding: Binding, until: datetime | None
) -> None:
    """The new password takes the place of all others in one go, and sessions end: or comes beside
    them."""
    number = binding.slot
    if number is None or not _is_ours((await held(access)).get(number), binding):
        raise Conflict(
            f"{service.name} has no server of {binding.account}.", remedy="Link the project again."
        )
    if until is None:
        await retire(service, access, binding)
        return
    text = _parts(await _read(access, "accounts"))[number]
    known = re.search(rf"^user {re.escape(binding.account)} (.*)$", text, re.MULTILINE)
    others = [word for word in known[1].split() if word.startswith("#")] if known else []
    await add(access, number, _held_by(binding), [*rules(binding), *others])


async def retire(service: Service, access: Access, binding: Binding) -> None:
    """No password but the one that the binding has, and no session: whoever has that one comes
    back."""
    number = binding.slot
    if number is not None and _is_ours((await held(access)).get(number), binding):
        await bind(service, access, binding)
        await ask(access, number, "CLIENT", "KILL", "USER", binding.account)


async def unbind(access: Access, binding: Binding) -> None:
    """Nobody is let in any more; the server goes on with its keys, which backups hold."""
    number = binding.slot
    if number is None or not _is_ours((await held(access)).get(number), binding):
        return
    try:
        await add(access, number, _held_by(binding))
        await ask(access, number, "ACL", "DELUSER", binding.account)  # which ends its sessions
    except Failed:
        # one that does not run lets nobody in, and comes up with the accounts that it has by now
        if str(port_of(number)) in await _running(
            access
        ) or f"\nuser {binding.account} " in await _read(access, "accounts"):
            raise


async def purge(access: Access, binding: Binding) -> None:
    """The server is gone, with its data."""
    if binding.slot is not None and _is_ours((await held(access)).get(binding.slot), binding):
        await run(access, "purge", str(port_of(binding.slot)))


# ---------------------------------------------------------------- what they hold


def _keys(text: str) -> Keys:
    lasting = fleeting = 0
    volatile = False
    for line in KEYSPACE.findall(text):
        facts = dict(item.split("=", 1) for item in line.strip().split(",") if "=" in item)
        lasting += int(facts["keys"]) - int(facts["expires"])
        fleeting += int(facts["expires"])
        volatile |= any(
            int(facts.get(name) or 0) for name in ("subexpiry", "keys_with_volatile_items")
        )
    libraries = LIBRARIES.search(text)
    return Keys(lasting, fleeting, int(libraries[1]) if libraries else 0, volatile)


async def keys(access: Access) -> dict[int, Keys]:
    """What all of them hold, by number."""
    found = {}
    for number, text in _parts(await _read(access, "each", "INFO", *SECTIONS)).items():
        if "# Keyspace" not in text or LOADING.search(text):
            await settle(access, number)
            text = await ask(access, number, "INFO", *SECTIONS)
        found[number] = _keys(text)
    return found


async def _running(access: Access) -> list[str]:
    return [
        line.split()[0]
        for line in (await run(access, "list")).splitlines()
        if line.split()[1] != "-"
    ]


async def trouble(access: Access) -> str:
    """Which of them do not run, as a person is told; "" when all do."""
    down = []
    for line in (await run(access, "list")).splitlines():
        port, pid, starts, code = line.split()
        if pid == "-":
            down.append(f"db{int(port) - port_of(0)} (status {code}, started {starts} times)")
    return (
        f"Of the projects' servers these are down, and are started again: {', '.join(down)}."
        if down
        else ""
    )


@asynccontextmanager
async def loading(access: Access, number: int) -> AsyncIterator[Process]:
    """An RDB that is written in there is what a server finds when it is added."""
    async with access.process(Command(argv=(LAUNCHER, "load", str(port_of(number))))) as process:
        yield process
        await process.end_input()
        await process.finish()
