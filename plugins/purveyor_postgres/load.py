"""Restores: the administrator makes what a record tells, and a login of one use loads the dump as
the database's owner.

Nothing of a backup runs with the administrator's power: its dumps are read by pg_restore alone,
logged in as *load*.
"""

import re
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import asyncpg
import msgspec

from purveyor_hooks import (
    Access,
    BadInput,
    Command,
    Failed,
    Finding,
    RestoreOptions,
    Service,
    Source,
)
from purveyor_hooks.parts import Part, read_parts
from purveyor_postgres import collations, older, statements, walls
from purveyor_postgres.counting import first_line
from purveyor_postgres.dump import DUMP, RECORD, SERVER, STATE, why
from purveyor_postgres.extensions import KNOWN
from purveyor_postgres.logins import Login, end_sessions, login, opened_as, sweep
from purveyor_postgres.record import ADMINISTRATORS, FORMAT, Database, Extension, Inside, Server
from purveyor_postgres.server import ROOT, connection, maintenance
from purveyor_postgres.sql import literal, quote
from purveyor_postgres.toc import Contents, Entry
from purveyor_postgres.tools import NOBODY, environment, while_busy, within
from purveyor_postgres.walls import HEIR, KEEPER, ensure_role

SHARED = ("template1", "postgres")
SPOOL = f"{ROOT}/purveyor-load"
PROJECTS = walls.MARK  # what the comment of a project's role begins with
LOGIN = re.compile(f"{PROJECTS}[0-9]+ {walls.LOGIN} ")
MOST = 200  # findings of one database
LONGEST = 300  # characters of a reason
# What pg_restore says of its own begins with its name: the rest are words of the server's, of
# definitions, of functions.
FROM_ENTRY = "{}: from TOC entry ([0-9]+);.*"
ERROR = "{}: error: (?:could not execute query: )?(.*)"
ENDED = "{}: ended with ([0-9]{{1,3}})"
NOT_LOADED = {
    "SERVER", "USER MAPPING", "EVENT TRIGGER", "SUBSCRIPTION", "SUBSCRIPTION TABLE",
    "PROCEDURAL LANGUAGE", "DATABASE",
    "DATABASE PROPERTIES", "FOREIGN DATA WRAPPER", "DEFAULT ACL", "PUBLICATION TABLES IN SCHEMA",
    "ENCODING", "STDSTRINGS",
    "SEARCHPATH",
}  # fmt: skip
ABOUT_NOT_LOADED = (
    "FOREIGN SERVER ",
    "FOREIGN DATA WRAPPER ",
    "EVENT TRIGGER ",
    "SUBSCRIPTION ",
    "LANGUAGE ",
    "PROCEDURAL LANGUAGE ",
)
# entries that are about another one, whose kind and name are their tag
ABOUT = ("ACL", "COMMENT", "SECURITY LABEL")
# The list is one of a file's descriptors: the file that pg_restore reads is open already, whoever
# may not open it. What a tenant's code says is printed as well. So pg_restore runs by a name that
# nobody there can know, for each line of its own begins with it; where a wrapper goes by the name,
# it is what the wrapper would run.
RUN = f"""{NOBODY}
real=$(readlink -f "$(command -v pg_restore)")
[ "${{real##*/}}" = pg_restore ] || real=$(ls /usr/lib/postgresql/*/bin/pg_restore | tail -n 1)
place=$(mktemp -d) && chmod 0755 "$place" && ln -s "$real" "$place/$PURVEYOR_MARK" || exit 1
exec 3<"$PURVEYOR_LIST" <"$PURVEYOR_DUMP"
as_nobody "$place/$PURVEYOR_MARK" "$@" 2>&1
echo "$PURVEYOR_MARK: ended with $?"
rm -rf "$place"
"""


class Restored:
    """A restore under way."""

    def __init__(self, service: Service, access: Access, options: RestoreOptions) -> None:
        self.service = service
        self.access = access
        self.options = options
        self.findings: list[Finding] = []
        self.server: Server | None = None
        self.roles: set[str] = set()  # that a record may name
        self.inside: Inside | None = None
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self.contents = Contents()  # of the dump that is there
        self.listed: list[str] | None = None

    def wanted(self, name: str) -> bool:
        return not self.options.only or name in self.options.only

    def say(self, finding: Finding | None) -> None:
        if finding is not None:
            self.findings.append(finding)


async def restore(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    """Into a server that has only what initdb makes, or what an earlier try left: that is made
    anew."""
    under_way = Restored(service, access, options)
    await _clear(access)
    async with maintenance(service, access) as opened:
        await sweep(service, access, opened)
    async for part in read_parts(source):
        if part.name in (older.ROLES, older.DATABASE):
            if part.name == older.ROLES or under_way.wanted(str(part.facts["database"])):
                await older.restore_part(service, access, part)
        elif part.name == SERVER:
            await _begin(under_way, part)
        elif under_way.server is not None and under_way.wanted(str(part.facts.get("database", ""))):
            await _database_part(under_way, part)
    if under_way.server is not None:
        await _finish(under_way, under_way.server)
    await _clear(access)
    return tuple(under_way.findings)


async def _clear(access: Access) -> None:
    await access.exec(Command(argv=("rm", "-rf", SPOOL)))


# ---------------------------------------------------------------- what databases share


async def _begin(here: Restored, part: Part) -> None:
    try:
        server = msgspec.json.decode(await part.read(), type=Server)
    except msgspec.DecodeError as error:
        raise BadInput(
            f"The backup's list of roles and databases cannot be read: {error}"
        ) from None
    if server.format > FORMAT:
        raise BadInput("The backup is of a newer Purveyor.", remedy="Restore it with that one.")
    here.server = server
    administrator = str(here.service.parameters["username"])
    for name in SHARED:  # the names of roles are in the encoding of these
        for database in server.databases:
            if database.name == name and here.wanted(name):
                await _make_database(here, database)
    trusted = here.options.takes_over
    async with maintenance(here.service, here.access) as opened:
        for name in (KEEPER, HEIR):
            await ensure_role(opened, name)
        made = {KEEPER, HEIR}
        for role in server.roles:
            if role.name in (administrator, KEEPER, HEIR) or role.name.startswith("pg_"):
                continue
            if not trusted and LOGIN.match(role.comment or ""):
                continue  # of the original: whoever is linked here gets one of its own
            closed = not trusted and (role.comment or "").startswith(PROJECTS)
            here.findings += await statements.role(opened, role, trusted=trusted, closed=closed)
            made.add(role.name)
        here.roles = made
        await _members(here, opened, server)


async def _members(here: Restored, opened: Any, server: Server) -> None:
    version = await opened.fetchval("SELECT current_setting('server_version_num')::int")
    projects = _projects(server)
    for item in server.members:
        if item.member not in here.roles:
            continue
        what = f"role {item.member}"
        if item.role.startswith("pg_"):
            usual = item.role in statements.WATCHERS or here.options.takes_over
            if item.role in statements.TOO_MUCH or not usual or item.member in projects:
                why = (
                    f"it was a member of {item.role} and is not: GRANT {item.role} TO "
                    f"{quote(item.member)}"
                )
                here.say(Finding(where="", what=what, why=why, notice=not here.options.takes_over))
                continue
        elif item.role not in here.roles:
            here.say(
                Finding(
                    where="",
                    what=what,
                    why=f"it is no member of {item.role}: that was an administrator",
                )
            )
            continue
        options = [f"ADMIN {'TRUE' if item.admin else 'FALSE'}"]
        if version >= statements.SINCE_16:
            options += [
                f"INHERIT {'TRUE' if item.inherit else 'FALSE'}",
                f"SET {'TRUE' if item.set else 'FALSE'}",
            ]
            said = f" WITH {', '.join(options)}"
        else:
            said = " WITH ADMIN OPTION" if item.admin else ""
        try:
            await opened.execute(f"GRANT {quote(item.role)} TO {quote(item.member)}{said}")
        except asyncpg.PostgresError as error:
            here.say(
                Finding(
                    where="", what=what, why=f"it is no member of {item.role}: {first_line(error)}"
                )
            )


def _projects(server: Server) -> set[str]:
    """Roles of projects."""
    return {role.name for role in server.roles if (role.comment or "").startswith(PROJECTS)}


async def _finish(here: Restored, server: Server) -> None:
    """What acts on databases and roles alike, when all of them are there; then whether everything
    is as it should be."""
    for name, reason in here.failed.items():
        here.say(Finding(where=name, what="", why=reason))
    names = {database.name for database in server.databases}
    for name in here.options.only:
        if name not in names:
            here.say(Finding(where=name, what="", why="there is no such database in the backup"))
    skipped = {name.lower() for name in here.options.skip_settings}
    async with maintenance(here.service, here.access) as opened:
        version = await opened.fetchval("SELECT current_setting('server_version_num')::int")
        logins = {role.name for role in server.roles if LOGIN.match(role.comment or "")}
        for setting in server.settings:
            if setting.name == "role" and setting.role in logins:
                continue  # follows from whose login it is
            if setting.name.lower() in skipped or (setting.role and setting.role not in here.roles):
                continue
            if not setting.database or setting.database in here.done:
                here.say(await statements.setting(opened, setting, version))
        if not here.options.only:
            libraries = await _libraries(opened, server)
            for item in server.parameters:
                trusted = here.options.takes_over and item.grant.grantee not in _projects(server)
                here.say(await statements.parameter(opened, item, here.roles, trusted=trusted))
            for setting in server.system:
                if setting.name.lower() not in skipped:
                    here.say(
                        await statements.system(
                            opened, setting, version, here.options.takes_over, libraries
                        )
                    )
            await opened.execute("SELECT pg_reload_conf()")
        for text in await walls.keep(here.service, here.access, opened):
            here.say(Finding(where="", what="role", why=text))
        await _check(here, opened, server)


async def _libraries(opened: Any, server: Server) -> set[str]:
    """Of the libraries that ALTER SYSTEM wants loaded, those that are known and that the image
    has."""
    wanted = {
        part.strip().strip('"')
        for item in server.system
        if item.name == "shared_preload_libraries"
        for part in item.value.split(",")
    }
    folder = await opened.fetchval("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'")
    found = set()
    for name in wanted & KNOWN:
        if await opened.fetchval("SELECT size FROM pg_stat_file($1, true)", f"{folder}/{name}.so"):
            found.add(name)
    return found


ABOVE = """
SELECT rolname FROM pg_roles WHERE (rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls) AND rolname <> $1
AND rolname !~ '^pg_' AND rolname <> ALL($2)
UNION SELECT m.member::regrole::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
WHERE r.rolname = ANY($3) AND m.member::regrole::text !~ '^pg_'
"""


async def _check(here: Restored, opened: Any, server: Server) -> None:
    """Nobody has more power than is known. Raises `Failed` where somebody has."""
    known = [
        role.name
        for role in server.roles
        if here.options.takes_over
        and not role.superuser
        and (role.createrole or role.replication or role.bypass)
    ]
    administrator = str(here.service.parameters["username"])
    above = [
        row[0]
        for row in await opened.fetch(ABOVE, administrator, known, sorted(statements.TOO_MUCH))
    ]
    if above:
        raise Failed(
            f"After the restore {', '.join(above)} had more rights than they should have.",
            remedy="Do not use the restored server; the backup may have been tampered with.",
        )


# ---------------------------------------------------------------- one database


async def _database_part(here: Restored, part: Part) -> None:
    name = str(part.facts["database"])
    if part.name == RECORD:
        here.inside = msgspec.json.decode(await part.read(), type=Inside)
    elif part.name == DUMP:
        await _spool(here, part)
    elif part.name == STATE:
        if not part.facts["whole"]:
            here.failed[name] = f"it is not in the backup: {part.facts['why']}"
            return
        assert here.server is not None
        database = next((item for item in here.server.databases if item.name == name), None)
        if database is None or here.inside is None:
            raise BadInput(
                f"The backup has a database {name} that it does not list.",
                remedy="Restore another backup.",
            )
        here.failed.pop(name, None)
        try:
            await _load_database(here, database, here.inside)
        except Exception as error:  # whatever one database does, the others are restored
            here.access.logger.warning(
                "postgres.restore", database=name, error=type(error).__name__
            )
            here.failed[name] = f"it could not be restored: {why(error)}"
        here.inside = None


async def _spool(here: Restored, part: Part) -> None:
    """To a file, for a dump is read more than once: its table of contents, what comes first, what
    failed."""
    script = f"umask 077 && mkdir -p {SPOOL} && cat > {SPOOL}/dump"
    contents = Contents()
    async with here.access.process(Command(argv=("sh", "-c", script))) as process:
        async for chunk in part:
            contents.feed(chunk)
            await process.write(chunk)
        await process.end_input()
        await process.finish()
    here.contents = contents


def _holder(here: Restored, database: Database, inside: Inside) -> str:
    """Who loads a database: its owner; where that is us or a superuser, whose project it is, or
    somebody without any power."""
    if database.owner in here.roles and database.owner != KEEPER:
        return database.owner
    if database.owner == KEEPER:
        common = [name for name, _ in Counter(item.owner for item in inside.owned).most_common()]
        for name in (dict(inside.schemas).get("public", ""), *common):
            if name in here.roles and name != KEEPER:
                return name
    return HEIR


async def _make_database(here: Restored, database: Database) -> None:
    """An empty one, with the encoding and locale of before; only the administrator may come in."""
    name = quote(database.name)
    locale = [
        f"ENCODING {literal(database.encoding)}",
        f"LC_COLLATE {literal(database.collate)}",
        f"LC_CTYPE {literal(database.ctype)}",
    ]
    if database.provider in ("i", "b"):
        word = "ICU" if database.provider == "i" else "BUILTIN"
        locale += [
            f"LOCALE_PROVIDER {word.lower()}",
            f"{word}_LOCALE {literal(database.locale or 'C')}",
        ]
        if database.rules and database.provider == "i":
            locale.append(f"ICU_RULES {literal(database.rules)}")
    async with maintenance(here.service, here.access, but=database.name) as opened:
        if await opened.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database.name):
            await opened.execute(f"ALTER DATABASE {name} IS_TEMPLATE false")
            await _drop_subscriptions(here, opened, database.name)
            await opened.execute(f"DROP DATABASE {name} WITH (FORCE)")
        begin = f"CREATE DATABASE {name} TEMPLATE template0"
        try:
            await opened.execute(f"{begin} {' '.join(locale)}")
        except asyncpg.PostgresError as error:
            await opened.execute(begin)
            wanted = database.locale or database.collate
            here.say(
                Finding(
                    where=database.name,
                    what=f"locale {wanted}",
                    why=f"the image does not have it: {first_line(error)}",
                )
            )
        await opened.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")


async def _drop_subscriptions(here: Restored, opened: Any, database: str) -> None:
    """Of an earlier try: they would keep the database."""
    sql = (
        "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE "
        "d.datname = $1"
    )
    found = [row["subname"] for row in await opened.fetch(sql, database)]
    if found:
        async with connection(here.service, here.access, database) as inside:
            for name in found:
                await drop_subscription(inside, name)


async def drop_subscription(inside: Any, name: str) -> None:
    await inside.execute(f"ALTER SUBSCRIPTION {quote(name)} DISABLE")
    await inside.execute(f"ALTER SUBSCRIPTION {quote(name)} SET (slot_name = NONE)")
    await inside.execute(f"DROP SUBSCRIPTION {quote(name)}")


async def _load_database(here: Restored, database: Database, inside: Inside) -> None:
    name = database.name
    holder = _holder(here, database, inside)
    await _make_database(here, database)
    async with maintenance(here.service, here.access) as opened:
        await opened.execute(
            f"GRANT CREATE, TEMPORARY ON DATABASE {quote(name)} TO {quote(holder)}"
        )
    async with connection(here.service, here.access, name) as opened:
        made = await _prepare(here, opened, name, inside, holder)
    said: list[Finding] = []
    async with login(
        here.service,
        here.access,
        name,
        "load",
        [holder],
        becomes="" if holder.isascii() else holder,
    ) as who:
        async with connection(here.service, here.access, name) as opened:
            said += await _load(here, opened, who, name, inside, holder, made)
        await _mappings(here, who, name, inside, holder, said)
        await while_busy(here.service, here.access, who.name, lambda: _analyze(here, who, holder))
        async with maintenance(here.service, here.access) as opened:
            await opened.execute(f"ALTER ROLE {quote(who.name)} NOLOGIN")
            await end_sessions(opened, who.name)
        async with connection(here.service, here.access, name) as opened:
            await opened.execute(f"REASSIGN OWNED BY {quote(who.name)} TO {quote(holder)}")
    async with connection(here.service, here.access, name) as opened:
        await _complete(here, opened, name, inside, holder, said)
    here.findings += said[:MOST]
    if len(said) > MOST:
        here.say(
            Finding(where=name, what="", why=f"there are {len(said) - MOST} more such findings")
        )
    await _close(here, database, holder)
    here.done.add(name)


async def _prepare(here: Restored, opened: Any, name: str, inside: Inside, holder: str) -> set[str]:
    """In the empty database, where nobody's code is yet: what only the administrator can make.
    Answers the schemas."""
    schemas = {schema for schema, _ in inside.schemas}
    if "public" in schemas:
        await opened.execute(f"ALTER SCHEMA public OWNER TO {quote(holder)}")
    else:
        await opened.execute("DROP SCHEMA public")
    if "plpgsql" not in {item.name for item in inside.extensions}:
        await opened.execute("DROP EXTENSION IF EXISTS plpgsql")
    made: set[str] = set()
    for item in inside.extensions:
        if not item.by_administrator or item.name == "plpgsql":
            continue
        if item.name not in KNOWN:
            why = (
                "it is not on the list of known extensions, and is not made by itself: CREATE "
                "EXTENSION, then restore again"
            )
            here.say(Finding(where=name, what=f"extension {item.name}", why=why))
            continue
        here.say(await _extension(opened, name, item, made, schemas))
        if item.comment is not None:
            statement = f"COMMENT ON EXTENSION {quote(item.name)} IS {literal(item.comment)}"
            await _try(opened, name, f"comment on extension {item.name}", statement, here.findings)
    for schema in made:
        await opened.execute(f"ALTER SCHEMA {quote(schema)} OWNER TO {quote(holder)}")
    for server in inside.servers:
        here.say(await statements.server(opened, name, server, holder, here.roles))
    return made


async def _extension(
    opened: Any, database: str, item: Extension, made: set[str], schemas: Collection[str]
) -> Finding | None:
    begin = f"CREATE EXTENSION IF NOT EXISTS {quote(item.name)}"
    try:
        if (
            not await opened.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", item.schema)
            and item.schema in schemas
        ):
            controlled = await opened.fetchval(
                "SELECT schema FROM pg_available_extension_versions WHERE name = $1 AND schema IS "
                "NOT NULL LIMIT 1",
                item.name,
            )
            if controlled != item.schema:
                await opened.execute(f"CREATE SCHEMA {quote(item.schema)}")
                made.add(item.schema)
        try:
            await opened.execute(f"{begin} SCHEMA {quote(item.schema)} CASCADE")
        except asyncpg.FeatureNotSupportedError:  # it chooses its schema itself
            await opened.execute(f"{begin} CASCADE")
    except asyncpg.PostgresError as error:
        return Finding(where=database, what=f"extension {item.name}", why=first_line(error))
    return None


# ---------------------------------------------------------------- pg_restore


async def _load(
    here: Restored, opened: Any, who: Login, name: str, inside: Inside, holder: str, made: set[str]
) -> list[Finding]:
    """Before the data, data, what failed once more, after the data."""
    here.listed = None
    entries, first, rights = _contents(here.contents.finish(), inside, made)
    shown = {entry.number: str(entry) for entry in here.contents.finish()}
    said: list[Finding] = []
    for section, numbers in (
        ("pre-data", entries),
        ("data", entries),
        ("post-data", entries),
        ("", rights),
    ):
        if section == "data" and first:
            await _configuration(here, opened, who, name, _tables(inside), first, shown, said)
        failed = await _pg_restore(here, who, name, numbers, section, holder, shown, said)
        again = {
            number: entry for number, entry in failed.items() if entry.startswith("TABLE DATA")
        }
        if section == "data" and again:
            still: list[Finding] = []
            left = await _pg_restore(here, who, name, list(again), section, holder, shown, still)
            cured = {entry for number, entry in again.items() if number not in left}
            said = [item for item in said if item.what not in cured]
    # rights that others than the owner gave follow from the record
    return [
        item
        for item in said
        if not (item.what.startswith("ACL ") and "session authorization" in item.why)
    ]


def _tables(inside: Inside) -> set[tuple[str, str]]:
    """Extensions' own tables, whose rows are in a dump."""
    return {table for item in inside.extensions for table in item.tables}


def _contents(
    entries: Iterable[Entry], inside: Inside, made: Collection[str]
) -> tuple[list[str], list[str], list[str]]:
    """The numbers of what is loaded; of the rows of extensions' own tables, which come before
    others; of rights, which come last, for an owner may have taken its own away. `made` are schemas
    that are there."""
    administrators = {item.name for item in inside.extensions if item.by_administrator}
    publications = {item.name for item in inside.publications if item.all_tables}
    settings = _tables(inside)
    left_out = {("SCHEMA", name) for name in ("public", *made)} | {
        ("EXTENSION", name) for name in administrators
    }
    left_out |= {("PUBLICATION", name) for name in publications}
    # a tag says a name as it is, or quoted where it needs that
    about = {
        f"{kind} {form}"
        for kind, name in left_out
        if kind != "SCHEMA"
        for form in (name, quote(name))
    }
    loaded: list[str] = []
    first: list[str] = []
    rights: list[str] = []
    for entry in entries:
        if entry.kind in ("TABLE DATA", "SEQUENCE SET") and (entry.schema, entry.tag) in settings:
            first.append(entry.number)
        elif not (
            entry.kind in NOT_LOADED
            or (entry.kind, entry.tag) in left_out
            or (
                entry.kind in ABOUT
                and not entry.schema
                and (entry.tag.startswith(ABOUT_NOT_LOADED) or entry.tag in about)
            )
        ):
            (rights if entry.kind == "ACL" else loaded).append(entry.number)
    return loaded, first, rights


async def _configuration(
    here: Restored,
    opened: Any,
    who: Login,
    name: str,
    settings: Iterable[tuple[str, str]],
    numbers: list[str],
    shown: Mapping[str, str],
    said: list[Finding],
) -> None:
    """Rows of extensions' own tables, as the login itself, which may write there for as long as it
    takes."""
    role = quote(who.name)
    for schema, table in settings:
        kind = await opened.fetchval(
            "SELECT c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = $1 AND c.relname = $2",
            schema, table,
        )  # fmt: skip
        if kind in ("r", "p"):
            await opened.execute(
                f"GRANT SELECT, INSERT ON TABLE {quote(schema)}.{quote(table)} TO {role}"
            )
        elif kind == "S":
            await opened.execute(
                f"GRANT USAGE, UPDATE ON SEQUENCE {quote(schema)}.{quote(table)} TO {role}"
            )
    await _pg_restore(here, who, name, numbers, "data", "none", shown, said)
    for schema, table in settings:
        if await opened.fetchval(
            "SELECT to_regclass($1) IS NOT NULL", f"{quote(schema)}.{quote(table)}"
        ):
            await opened.execute(f"REVOKE ALL ON {quote(schema)}.{quote(table)} FROM {role}")


async def _pg_restore(
    here: Restored,
    who: Login,
    name: str,
    numbers: list[str],
    section: str,
    role: str,
    shown: Mapping[str, str],
    said: list[Finding],
) -> dict[str, str]:
    """One section of these entries. Errors are findings, and their entries are answered; the rest
    goes on."""
    failed: dict[str, str] = {}
    if not numbers:
        return failed
    number, code, last, mark = "", 0, "", f"pg_restore-{secrets.token_hex(8)}"
    from_entry, error, ended = (
        re.compile(form.format(mark)) for form in (FROM_ENTRY, ERROR, ENDED)
    )
    arguments = ["--verbose", "--no-owner", "--no-tablespaces", "--dbname=", "--use-list=/dev/fd/3"]
    if section:
        arguments.append(f"--section={section}")

    async def work() -> None:
        nonlocal number, code, last
        async for line in _lines(here, who, arguments, numbers, role, mark):
            here.access.beat()
            if found := from_entry.fullmatch(line):
                number = found[1]
            elif found := ended.fullmatch(line):
                code = int(found[1])
            elif found := error.match(line):
                last = found[1].strip()
                if number in shown:
                    failed[number] = shown[number]
                    said.append(
                        Finding(
                            where=name,
                            what=shown[number],
                            why=last.removeprefix("ERROR:").strip()[:LONGEST],
                        )
                    )
            elif line.strip():
                last = last or line.strip()

    await while_busy(here.service, here.access, who.name, work)
    if code and not failed:
        raise Failed(f"pg_restore ended with {code}: {last[:LONGEST]}")
    return failed


async def _lines(
    here: Restored, who: Login, arguments: Iterable[str], listed: list[str], role: str, mark: str
) -> Any:
    """What pg_restore says of these entries of the dump, line by line."""
    paths = {
        "PURVEYOR_DUMP": f"{SPOOL}/dump",
        "PURVEYOR_LIST": f"{SPOOL}/list",
        "PURVEYOR_MARK": mark,
    }
    if listed is not here.listed:
        here.listed = listed
        script = f"cat > {SPOOL}/list && chmod 0644 {SPOOL}/list"
        async with here.access.process(Command(argv=("sh", "-c", script))) as process:
            for start in range(0, len(listed), 10_000):
                await process.write(
                    "".join(f"{number};\n" for number in listed[start : start + 10_000]).encode()
                )
            await process.end_input()
            await process.finish()
    variables = environment(here.service, within(here.service), who, role=role) | paths
    async with here.access.process(
        Command(argv=("sh", "-c", RUN, "load", *arguments), environment=variables)
    ) as process:
        await process.end_input()
        rest = b""
        async for chunk in process.output():
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-100_000:]
            for line in lines:
                yield line[:4000].decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")
        await process.finish()


# ---------------------------------------------------------------- after the dump


async def _mappings(
    here: Restored, who: Login, name: str, inside: Inside, holder: str, said: list[Finding]
) -> None:
    """Logins for foreign servers, made by whom they belong to: the administrator's would open
    more."""
    mappings = [(server, item) for server in inside.servers for item in server.mappings]
    if not mappings:
        return
    async with opened_as(here.service, here.access, who, role=holder) as opened:
        for server, item in mappings:
            what = f"user mapping of {item.user or 'everybody'} for {server.name}"
            if item.user and item.user not in here.roles:
                said.append(
                    Finding(
                        where=name,
                        what=what,
                        why="it is the administrator's, and is not made by itself",
                    )
                )
                continue
            user = quote(item.user) if item.user else "PUBLIC"
            options = statements.with_options(item.options)
            try:
                await opened.execute(
                    f"CREATE USER MAPPING FOR {user} SERVER {quote(server.name)}{options}"
                )
            except asyncpg.PostgresError as error:
                said.append(Finding(where=name, what=what, why=first_line(error)))


async def _analyze(here: Restored, who: Login, holder: str) -> None:
    async with opened_as(
        here.service, here.access, who, role=holder, client_min_messages="error"
    ) as opened:
        try:
            await opened.execute("ANALYZE")
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            # the server does it by itself in time
            here.access.logger.warning(
                "postgres.analyze", database=who.database, error=first_line(error)
            )


async def _complete(
    here: Restored, opened: Any, name: str, inside: Inside, holder: str, said: list[Finding]
) -> None:
    """What belongs to others, and what only the administrator can say."""
    said += await collations.compare(opened, name, inside.collations)
    version = await opened.fetchval("SELECT current_setting('server_version_num')::int")
    for item in inside.owned:
        if item.owner == holder:
            continue
        if finding := await statements.owner(opened, name, item, here.roles):
            said.append(finding)
    for granted in inside.granted:
        said += await statements.grants(opened, name, granted, here.roles)
    for default in inside.defaults:
        said += await statements.default(opened, name, default, here.roles)
    for server in inside.servers:
        if server.owner in here.roles and server.owner != holder:
            await _try(
                opened,
                name,
                f"server {server.name}",
                f"ALTER SERVER {quote(server.name)} OWNER TO {quote(server.owner)}",
                said,
            )
    owners = dict(inside.schemas)
    if "public" in owners:
        owner = owners["public"] if owners["public"] in here.roles else "pg_database_owner"
        await _try(
            opened, name, "schema public", f"ALTER SCHEMA public OWNER TO {quote(owner)}", said
        )
    administrator = str(here.service.parameters["username"])
    for publication in inside.publications:
        if finding := await statements.publication(opened, name, publication, administrator):
            said.append(finding)
    for facts in inside.subscriptions:
        if finding := await statements.subscription(
            opened, name, facts, version, here.options.takes_over
        ):
            said.append(finding)
        if finding := statements.find_withheld(name, facts, administrator):
            said.append(finding)
    if inside.administrators:
        shown = ", ".join(inside.administrators[:3]) + (
            " and others" if len(inside.administrators) > 3 else ""
        )
        said.append(
            Finding(
                where=name,
                what=shown,
                why=f"belonged to the administrator, and belongs to {holder} now",
                notice=True,
            )
        )
    for function in inside.definers:
        why = f"it ran with the administrator's rights, and runs with those of {holder} now"
        said.append(Finding(where=name, what=f"function {function}", why=why, notice=True))
    for row in await opened.fetch(ADMINISTRATORS):
        said.append(
            Finding(
                where=name,
                what=f"{row['kind']} {row['identity']}",
                why="it belongs to the administrator",
            )
        )


async def _try(opened: Any, database: str, what: str, statement: str, said: list[Finding]) -> None:
    try:
        await opened.execute(statement)
    except asyncpg.PostgresError as error:
        said.append(Finding(where=database, what=what, why=first_line(error)))


async def _close(here: Restored, database: Database, holder: str) -> None:
    """Its owner, comment, limits, and who may come in: last, for until now nobody could."""
    name = quote(database.name)
    administrator = str(here.service.parameters["username"])
    owner = (
        database.owner
        if database.owner in here.roles
        else administrator
        if database.owner == administrator
        else HEIR
    )
    grants = database.grants
    if grants is not None:
        grants = tuple(
            msgspec.structs.replace(item, grantee=owner) if item.grantee == database.owner else item
            for item in grants
        )
    async with maintenance(here.service, here.access) as opened:
        await opened.execute(f"REVOKE ALL ON DATABASE {name} FROM {quote(holder)}")
        await opened.execute(f"ALTER DATABASE {name} OWNER TO {quote(owner)}")
        await statements.database_grants(opened, database.name, owner, grants, here.roles)
        if database.comment is not None:
            await opened.execute(f"COMMENT ON DATABASE {name} IS {literal(database.comment)}")
        await opened.execute(f"ALTER DATABASE {name} RESET ALL")
        await opened.execute(f"ALTER DATABASE {name} CONNECTION LIMIT {int(database.limit)}")
        await opened.execute(
            f"ALTER DATABASE {name} IS_TEMPLATE {'true' if database.template else 'false'}"
        )
        if not database.allowed:
            await opened.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
