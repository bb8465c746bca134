"""Backups of Purveyor before its format 2: roles and databases as SQL, which psql reads as the
administrator.

psql is told to obey no command that is in the text.
"""

import re
import secrets
from collections.abc import AsyncIterator

from purveyor_hooks import Access, Command, Service
from purveyor_hooks.parts import Part
from purveyor_hooks.versions import version_of
from purveyor_postgres.server import connection, major, options, pins
from purveyor_postgres.sql import quote

ROLES, DATABASE = "roles", "database"
SHARED = ("postgres", "template1")
HEAD, TAIL = 64 * 1024, 256
RESTRICTION = re.compile(rb"^\\(un)?restrict \S+\n", re.MULTILINE)
CONNECT = re.compile(rb"^\\connect [^\n]*\n", re.MULTILINE)
UNRESTRICT = re.compile(rb"\n\\unrestrict \S+\n")
KNOWS_RESTRICT = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}  # the minor of each major


async def restore_part(service: Service, access: Access, part: Part) -> None:
    administrator = str(service.parameters["username"])
    if part.name == ROLES:
        await _feed(service, access, "postgres", _roles(part, administrator))
    elif part.name == DATABASE:
        name = str(part.facts["database"])
        head = b""
        async for chunk in part:
            head += chunk
            if len(head) > HEAD or CONNECT.search(head):
                break
        if name not in SHARED:
            async with connection(service, access, "postgres") as opened:
                await opened.execute(f"DROP DATABASE IF EXISTS {quote(name)} WITH (FORCE)")
            if found := CONNECT.search(head):  # the database is made from outside of it
                await _feed(
                    service,
                    access,
                    "postgres",
                    _pieces(RESTRICTION.sub(b"", head[: found.start()])),
                )
                head = head[found.end() :]
        # the dump's own restriction is taken out at both its ends: ours holds, and psql takes one
        # only
        begin, rest = head[:TAIL], head[TAIL:]
        await _feed(
            service,
            access,
            name,
            _with_statistics(RESTRICTION.sub(b"", begin, count=1) + rest, part),
        )


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _roles(part: Part, administrator: str) -> AsyncIterator[bytes]:
    """The statements on roles, but for the administrator's own: it is there, with the password that
    is recorded."""
    own = {administrator, quote(administrator)}
    begins = tuple(
        f"{verb} ROLE {name}{end}".encode()
        for verb in ("CREATE", "ALTER")
        for name in own
        for end in (";", " WITH ")
    )
    for line in (await part.read()).splitlines(keepends=True):
        if not line.startswith((*begins, b"\\restrict ", b"\\unrestrict ")):
            yield line


async def _with_statistics(head: bytes, part: Part) -> AsyncIterator[bytes]:
    held = head
    async for chunk in part:
        yield held[:-TAIL]
        held = held[-TAIL:] + chunk
    yield UNRESTRICT.sub(b"\n", held)
    yield b"\nANALYZE;\n"


async def _feed(
    service: Service, access: Access, database: str, statements: AsyncIterator[bytes]
) -> None:
    """psql stops at the first error, and so does the restore."""
    flags = (
        "--no-psqlrc",
        "--quiet",
        "--output=/dev/null",
        "--set=ON_ERROR_STOP=1",
        "--username",
        service.parameters["username"],
    )
    environment = {
        "PGPASSWORD": str(service.parameters["password"]),
        "PGDATABASE": database,
        "PGOPTIONS": options(pins(major(service))),
    }
    restricted = await _restricts(access)
    async with access.process(Command(argv=("psql", *flags), environment=environment)) as process:
        if restricted:
            await process.write(f"\\restrict {secrets.token_hex(16)}\n".encode())
        async for chunk in statements:
            await process.write(chunk)
            access.beat()
        await process.end_input()
        await process.finish()


async def _restricts(access: Access) -> bool:
    said = (await access.exec(Command(argv=("psql", "--version")))).stdout
    found = version_of(said.removeprefix("psql (PostgreSQL) "))
    return found is not None and found.minor >= KNOWS_RESTRICT.get(found.major, 0)
