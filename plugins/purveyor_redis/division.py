"""A server for each environment, beside the service's own in its container: its accounts, its data,
and how it is asked.

The launcher (`launcher.sh`) keeps them. Everything here is a command in the container: nobody on
the network is let in as an administrator of these servers. A server is known by its number, that of
the binding, and listens on a port of that number.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

import anyio

from purveyor_hooks import Access, Binding, Command, Conflict, Failed, Service
from purveyor_hooks.protocols import Process
from purveyor_redis.server import hash_password, port_of, project_maxmemory

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
# a launcher of before, in a container that runs on, would take a word that it does not know for a
# start
LOOK = (
    f'if grep -q "^look)" "$(command -v {LAUNCHER})"; then exec {LAUNCHER} look; fi; '
    f"exec {LAUNCHER} list"
)
SECTIONS = ("keyspace", "memory", "persistence")
SHOWN = 10
# the words of the launcher for what does not serve
AMISS = {
    "down": "is down, and is started again (status {code}, started {starts} times)",
    "silent": "does not answer",
    "stopped": "was stopped by a signal, and is told to go on",
    "busy": "is held by a script without end",
    "locked": "does not know its administrator",
    "loading": "is loading its data",
    "unwritable": "cannot write to its disk",
    "full": "is full, and takes no more data (project_maxmemory)",
}

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
            await wait_until_loaded(access, number)
            return
    await run(access, "restart", str(port_of(number)))
    await wait_until_loaded(access, number)


async def wait_until_loaded(access: Access, number: int) -> None:
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
        hash_password(binding.password),
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


async def list_held(access: Access) -> dict[int, Held]:
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
    if number is None or not _is_ours((await list_held(access)).get(number), binding):
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
    if number is not None and _is_ours((await list_held(access)).get(number), binding):
        await bind(service, access, binding)
        await ask(access, number, "CLIENT", "KILL", "USER", binding.account)


async def unbind(access: Access, binding: Binding) -> None:
    """Nobody is let in any more; the server goes on with its keys, which backups hold."""
    number = binding.slot
    if number is None or not _is_ours((await list_held(access)).get(number), binding):
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
    if binding.slot is not None and _is_ours((await list_held(access)).get(binding.slot), binding):
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
    """Which of them do not serve their project as they should, as a person is told; "" when all
    do. A part of many is asked at a time."""
    amiss = []
    done = await access.exec(Command(argv=("sh", "-c", LOOK)))
    if done.exit_code:
        return f"The projects' servers cannot be looked at: {done.stderr.strip()[:200]}."
    for line in done.stdout.splitlines():
        port, word, starts, code, account = f"{line} {UNKNOWN}".split()[:5]
        word = "down" if word == UNKNOWN else word
        if word in AMISS:
            how = AMISS[word].format(starts=starts, code=code)
            whose = account if account != UNKNOWN else "nobody's"
            amiss.append(f"{whose} (db{int(port) - port_of(0)}) {how}")
    if not amiss:
        return ""
    more = f"; and {len(amiss) - SHOWN} more" if len(amiss) > SHOWN else ""
    return f"Of the projects' servers: {'; '.join(amiss[:SHOWN])}{more}."


async def examine(
    service: Service, access: Access, bindings: Sequence[Binding]
) -> list[tuple[str, str]]:
    """What is amiss with the servers of bindings: of whom, and what. Each has to know its one
    account with the password that is recorded, nobody else, and its limit."""
    accounts = _parts(await _read(access, "each", "ACL", "LIST"))
    limits = _parts(await _read(access, "each", "CONFIG", "GET", "maxmemory"))
    known = {binding.slot: binding for binding in bindings}
    found = []
    for number, text in accounts.items():
        binding = known.pop(number, None)
        whose = binding.account if binding else f"db{number}"
        if "user " not in text:
            found.append((whose, f"its server (db{number}) does not answer"))
            continue
        found += [(whose, why) for why in _strangers(text, binding)]
        limit = limits.get(number, "").split()
        if limit[1:] and int(limit[1]) != project_maxmemory(service):
            why = f"it may take {limit[1]} bytes, and {project_maxmemory(service)} is what is set"
            found.append((whose, why))
    found += [(item.account, f"it has no server (db{number})") for number, item in known.items()]
    return found


def _strangers(text: str, binding: Binding | None) -> Iterator[str]:
    """What the accounts of a server, as ACL LIST tells them, have beside its binding's."""
    account = binding.account if binding else ""
    for line in text.splitlines():
        if not line.startswith("user "):
            continue
        _, name, *words = line.split()
        if name == "purveyor" or ("off" in words and name != account):
            continue
        if name != account or binding is None:
            yield f"{name} may log in there"
        elif "nopass" in words:
            yield "it lets its account in without a password"
        elif "off" in words or hash_password(binding.password) not in words:
            yield "it does not know the password that is recorded"
        account = "" if name == account else account
    if account:
        yield "it does not know its account"


@asynccontextmanager
async def loading(access: Access, number: int) -> AsyncIterator[Process]:
    """An RDB that is written in there is what a server finds when it is added."""
    async with access.process(Command(argv=(LAUNCHER, "load", str(port_of(number))))) as process:
        yield process
        await process.end_input()
        await process.finish()
