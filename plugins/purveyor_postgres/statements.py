"""What the administrator says to make again what a record tells. The record is not trusted: names
are quoted, kinds are of a closed set, objects are looked up by the server and named by it, and
nobody gets more than what a closed list has.
"""

import re
from collections.abc import Collection
from typing import Any

import asyncpg

from purveyor_hooks import Finding
from purveyor_postgres.counting import first_line
from purveyor_postgres.record import (
    Default,
    Foreign,
    Grant,
    Granted,
    Object,
    Owned,
    Parameter,
    Publication,
    Role,
    Setting,
)
from purveyor_postgres.sql import literal, quote

VERIFIER = re.compile(r"(SCRAM-SHA-256\$|md5)[A-Za-z0-9+/=:$]+")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")
OWN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\.[A-Za-z_][A-Za-z0-9_$]*")
RIGHTS = {
    "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN",
    "USAGE", "CREATE", "EXECUTE",
    "CONNECT", "TEMPORARY", "TEMP",
}  # fmt: skip
KINDS = {
    "table": "TABLE", "view": "VIEW", "materialized view": "MATERIALIZED VIEW",
    "sequence": "SEQUENCE",
    "foreign table": "FOREIGN TABLE", "function": "FUNCTION", "procedure": "PROCEDURE",
    "aggregate": "AGGREGATE", "type": "TYPE",
    "composite type": "TYPE", "schema": "SCHEMA", "collation": "COLLATION",
    "conversion": "CONVERSION",
    "large object": "LARGE OBJECT", "operator": "OPERATOR", "operator class": "OPERATOR CLASS",
    "operator family": "OPERATOR FAMILY", "statistics object": "STATISTICS",
    "text search dictionary": "TEXT SEARCH DICTIONARY",
    "text search configuration": "TEXT SEARCH CONFIGURATION",
    "publication": "PUBLICATION",
}  # fmt: skip
GRANTED_ON = {"table", "view", "materialized view", "sequence", "foreign table", "function",
"procedure", "aggregate", "type",
              "schema", "large object"}  # fmt: skip
DEFAULTS = {
    "r": "TABLES",
    "S": "SEQUENCES",
    "f": "FUNCTIONS",
    "T": "TYPES",
    "n": "SCHEMAS",
    "L": "LARGE OBJECTS",
}
LISTS = {"search_path", "temp_tablespaces", "shared_preload_libraries", "session_preload_libraries"}
NEVER = {
    "role",
    "session_authorization",
    "local_preload_libraries",
    "session_preload_libraries",
    "session_replication_role",
}
# Of what a superuser alone may set, what does no harm on somebody's account.
HARMLESS = re.compile(r"log_\w+|track_\w+|temp_file_limit|lc_messages|deadlock_timeout")
# Roles of the server's own that are as good as a superuser.
TOO_MUCH = {"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"}
WATCHERS = {
    "pg_monitor",
    "pg_read_all_settings",
    "pg_read_all_stats",
    "pg_stat_scan_tables",
    "pg_use_reserved_connections",
}
# Of ALTER SYSTEM, what makes the server run or read something, or is where our container says it.
OF_THE_CONTAINER = re.compile(
    r".*_command|.*_library|.*_libraries|.*_preload.*|.*_directory|.*_directories|.*_file|.*_dir|dynamic_library_path|jit_provider|"
    r"extension_control_path|listen_addresses|port|unix_socket_.*|ssl.*|primary_.*|recovery_.*|restore_.*|krb_.*|log_filename|"
    r"max_logical_replication_workers|allow_system_table_mods|zero_damaged_pages|ignore_system_indexes|ignore_checksum_failure|"
    r"fsync|full_page_writes|event_triggers|session_replication_role|oauth_.*"
)


async def role(opened: Any, given: Role, *, trusted: bool, closed: bool) -> list[Finding]:
    """Make a role, or bring it to what the record says. What goes beyond a project's rights comes
    back where the service takes over (`trusted`), a superuser nowhere. A `closed` one cannot log
    in."""
    findings = []
    name = quote(given.name)
    high = {
        "SUPERUSER": given.superuser,
        "CREATEROLE": given.createrole,
        "REPLICATION": given.replication,
        "BYPASSRLS": given.bypass,
    }
    rights = [
        f"{'' if given.createdb else 'NO'}CREATEDB",
        f"{'' if given.inherit else 'NO'}INHERIT",
    ]
    rights.append("LOGIN" if given.login and not closed else "NOLOGIN")
    for right, had in high.items():
        keeps = had and trusted and right != "SUPERUSER"
        rights.append(right if keeps else f"NO{right}")
        if had and not keeps:
            why = f"it was {right} and is not: ALTER ROLE {name} {right}"
            findings.append(
                Finding(where="", what=f"role {given.name}", why=why, notice=not trusted)
            )
    there = await opened.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", given.name)
    verb = "ALTER" if there else "CREATE"
    password = "NULL"
    if given.password is not None:
        if VERIFIER.fullmatch(given.password):
            password = literal(given.password)
        else:
            findings.append(
                Finding(
                    where="", what=f"role {given.name}", why="its password is of an unknown kind"
                )
            )
    until = f" VALID UNTIL {literal(given.until or 'infinity')}" if given.until or there else ""
    async with opened.transaction():
        await opened.execute(
            f"{verb} ROLE {name} {' '.join(rights)} CONNECTION LIMIT {int(given.limit)} PASSWORD "
            f"{password}{until}"
        )
        await opened.execute(
            f"COMMENT ON ROLE {name} IS "
            f"{literal(given.comment) if given.comment is not None else 'NULL'}"
        )
        await opened.execute(f"ALTER ROLE {name} RESET ALL")
    return findings


async def setting(opened: Any, given: Setting, version: int) -> Finding | None:
    """A setting of a database, of a role, or of both, if anybody could have set it."""
    holder = " in ".join(part for part in (given.role, given.database) if part)
    what = f"{given.name} of {holder or 'every role'}"
    if not NAME.fullmatch(given.name) or given.name in NEVER:
        return Finding(
            where=given.database,
            what=what,
            why="it is not set again: it would act on whoever logs in",
        )
    known = await opened.fetchval(
        "SELECT context FROM pg_settings WHERE lower(name) = lower($1)", given.name
    )
    if known is None and not OWN_NAME.fullmatch(given.name):
        return Finding(
            where=given.database,
            what=what,
            why=f"PostgreSQL {version // 10000} has no such setting",
        )
    if known not in (None, "user") and not (
        known == "superuser" and HARMLESS.fullmatch(given.name)
    ):
        return Finding(
            where=given.database,
            what=what,
            why="it is not set again: only an administrator may set it",
        )
    target = f"ROLE {quote(given.role)}" if given.role else f"DATABASE {quote(given.database)}"
    if not holder:
        target = "ROLE ALL"
    if given.role and given.database:
        target += f" IN DATABASE {quote(given.database)}"
    try:
        async with opened.transaction():
            if given.name.lower() in LISTS:  # a list must not become one quoted name
                await opened.execute("SELECT set_config($1, $2, true)", given.name, given.value)
                await opened.execute(f"ALTER {target} SET {given.name} FROM CURRENT")
            else:
                await opened.execute(
                    f"ALTER {target} SET {_setting_name(given.name)} TO {literal(given.value)}"
                )
    except asyncpg.PostgresError as error:
        return Finding(where=given.database, what=what, why=first_line(error))
    return None


def _setting_name(name: str) -> str:
    return ".".join(quote(part) for part in name.split("."))


async def system(
    opened: Any, given: Setting, version: int, trusted: bool, libraries: Collection[str]
) -> Finding | None:
    """What ALTER SYSTEM had set."""
    row = await opened.fetchrow(
        "SELECT context, setting FROM pg_settings WHERE lower(name) = lower($1)", given.name
    )
    what = f"ALTER SYSTEM SET {given.name}"
    if not NAME.fullmatch(given.name) or (row is None and not OWN_NAME.fullmatch(given.name)):
        return Finding(
            where="", what=what, why=f"PostgreSQL {version // 10000} has no such setting"
        )
    value = literal(given.value)
    if given.name.lower() == "shared_preload_libraries" and trusted:
        wanted = [part.strip().strip('"') for part in given.value.split(",") if part.strip()]
        missing = [part for part in wanted if part not in libraries]
        if missing:
            return Finding(where="", what=what, why=f"the image does not have {', '.join(missing)}")
        value = ", ".join(literal(part) for part in wanted) or "''"
    elif OF_THE_CONTAINER.fullmatch(given.name.lower()):
        return Finding(
            where="", what=what, why="it is not set again: it is of the container and its files"
        )
    try:
        await opened.execute(f"ALTER SYSTEM SET {_setting_name(given.name)} TO {value}")
    except asyncpg.PostgresError as error:
        return Finding(where="", what=what, why=first_line(error))
    return None


async def find_object(opened: Any, given: Object) -> tuple[str, str, int, int] | None:
    """An object's kind and its name, as this server says them."""
    if given.kind not in KINDS:
        return None
    try:
        row = await opened.fetchrow(
            "SELECT i.type AS kind, i.identity AS name, a.classid AS class, a.objid AS id "
            "FROM pg_get_object_address($1, $2, $3) a, pg_identify_object(a.classid, a.objid, 0) i",
            given.kind, list(given.name), list(given.arguments),
        )  # fmt: skip
    except asyncpg.PostgresError:
        return None
    return (
        (KINDS[row["kind"]], row["name"], row["class"], row["id"])
        if row and row["kind"] in KINDS
        else None
    )


async def owner(opened: Any, database: str, given: Owned, roles: Collection[str]) -> Finding | None:
    there = await find_object(opened, given.object)
    what = f"{given.object.kind} {'.'.join(given.object.name)}"
    if there is None:
        return None  # it was not restored, which was said
    if given.owner not in roles:
        return Finding(
            where=database,
            what=what,
            why=f"it belonged to {given.owner}, and now to the database's owner",
            notice=True,
        )
    try:
        await opened.execute(f"ALTER {there[0]} {there[1]} OWNER TO {quote(given.owner)}")
    except asyncpg.PostgresError as error:
        return Finding(
            where=database,
            what=what,
            why=f"it does not belong to {given.owner}: {first_line(error)}",
        )
    return None


async def grants(
    opened: Any, database: str, given: Granted, roles: Collection[str]
) -> list[Finding]:
    """All rights on an object, each given by whoever gave it."""
    there = await find_object(opened, given.object)
    if there is None or given.object.kind not in GRANTED_ON:
        return []
    kind = "TABLE" if there[0] in ("VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE") else there[0]
    what = f"{given.object.kind} {'.'.join(given.object.name)}"
    findings = []
    column = f" ({quote(given.column)})" if given.column else ""
    await opened.execute(f"REVOKE ALL{column} ON {kind} {there[1]} FROM PUBLIC")
    for item in sorted(given.grants, key=lambda grant: grant.grantor != given.owner):
        if (
            item.right not in RIGHTS
            or item.grantor not in roles
            or (item.grantee and item.grantee not in roles)
        ):
            continue
        to = quote(item.grantee) if item.grantee else "PUBLIC"
        option = " WITH GRANT OPTION" if item.grantable and item.grantee else ""
        try:
            async with opened.transaction():
                await opened.execute(f"SET LOCAL ROLE {quote(item.grantor)}")
                await opened.execute(
                    f"GRANT {item.right}{column} ON {kind} {there[1]} TO {to}{option}"
                )
        except asyncpg.PostgresError as error:
            why = (
                f"{item.grantor} does not give {item.right} to {item.grantee or 'everybody'}: "
                f"{first_line(error)}"
            )
            findings.append(Finding(where=database, what=what, why=why))
    return findings


async def default(
    opened: Any, database: str, given: Default, roles: Collection[str]
) -> list[Finding]:
    if given.kind not in DEFAULTS:
        return []
    what = f"default privileges of {given.role}"
    if given.role not in roles:
        return [
            Finding(
                where=database, what=what, why="they are the administrator's and are not set again"
            )
        ]
    within = f" IN SCHEMA {quote(given.schema)}" if given.schema else ""
    begin = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quote(given.role)}{within}"
    kind = DEFAULTS[given.kind]
    try:
        async with opened.transaction():
            if not given.schema:
                await opened.execute(
                    f"{begin} REVOKE ALL ON {kind} FROM PUBLIC, {quote(given.role)}"
                )
            for item in given.grants:
                if item.right in RIGHTS and (not item.grantee or item.grantee in roles):
                    to = quote(item.grantee) if item.grantee else "PUBLIC"
                    option = " WITH GRANT OPTION" if item.grantable and item.grantee else ""
                    await opened.execute(f"{begin} GRANT {item.right} ON {kind} TO {to}{option}")
    except asyncpg.PostgresError as error:
        return [Finding(where=database, what=what, why=first_line(error))]
    return []


def pairs(options: Collection[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (option.partition("=") for option in options)]


def with_options(options: Collection[str]) -> str:
    said = ", ".join(f"{quote(name)} {literal(value)}" for name, value in pairs(options))
    return f" OPTIONS ({said})" if said else ""


async def server(
    opened: Any, database: str, given: Foreign, holder: str, roles: Collection[str]
) -> Finding | None:
    kind = f" TYPE {literal(given.kind)}" if given.kind else ""
    version = f" VERSION {literal(given.version)}" if given.version else ""
    wrapper = quote(given.wrapper)
    try:
        async with opened.transaction():
            await opened.execute(
                f"CREATE SERVER {quote(given.name)}{kind}{version} FOREIGN DATA WRAPPER "
                f"{wrapper}{with_options(given.options)}"
            )
            await opened.execute(
                f"GRANT USAGE ON FOREIGN DATA WRAPPER {wrapper} TO {quote(holder)}"
            )
            await opened.execute(f"ALTER SERVER {quote(given.name)} OWNER TO {quote(holder)}")
            for item in given.grants:
                if item.right == "USAGE" and item.grantee in roles and item.grantee != given.owner:
                    await opened.execute(
                        f"GRANT USAGE ON FOREIGN SERVER {quote(given.name)} TO "
                        f"{quote(item.grantee)}"
                    )
    except asyncpg.PostgresError as error:
        return Finding(where=database, what=f"server {given.name}", why=first_line(error))
    return None


async def publication(
    opened: Any, database: str, given: Publication, administrator: str
) -> Finding | None:
    """Of all tables: made. Of schemas: these are added to what the dump has made of it, tables with
    their conditions."""
    name = quote(given.name)
    try:
        if given.all_tables:
            publish = [
                part
                for part in given.publish.split(", ")
                if part in ("insert", "update", "delete", "truncate")
            ]
            options = (
                f"publish = '{', '.join(publish)}', publish_via_partition_root = "
                f"{'true' if given.by_root else 'false'}"
            )
            if given.generated == "s":
                options += ", publish_generated_columns = stored"
            await opened.execute(f"CREATE PUBLICATION {name} FOR ALL TABLES WITH ({options})")
            if given.comment is not None:
                await opened.execute(f"COMMENT ON PUBLICATION {name} IS {literal(given.comment)}")
        else:
            await opened.execute(f"ALTER PUBLICATION {name} OWNER TO {quote(administrator)}")
            schemas = ", ".join(quote(schema) for schema in given.schemas)
            await opened.execute(f"ALTER PUBLICATION {name} ADD TABLES IN SCHEMA {schemas}")
    except asyncpg.PostgresError as error:
        return Finding(where=database, what=f"publication {given.name}", why=first_line(error))
    return None


async def parameter(
    opened: Any, given: Parameter, roles: Collection[str], *, trusted: bool
) -> Finding | None:
    """The right to a setting that a superuser alone may set. Like all that goes beyond a project's
    rights, it comes back where the service takes over; of what makes the server run or read
    something, nowhere."""
    name, grant = given.name, given.grant
    if (not grant.grantee and grant.right == "SET") or grant.grantee in roles:
        statement = (
            f"GRANT {grant.right} ON PARAMETER {name} TO "
            f"{quote(grant.grantee) if grant.grantee else 'PUBLIC'}"
        )
        allowed = (
            NAME.fullmatch(name)
            and grant.right in ("SET", "ALTER SYSTEM")
            and HARMLESS.fullmatch(name)
        )
        if not (trusted and allowed):
            why = f"it may {grant.right} {name} and may not any more: {statement}"
            return Finding(
                where="",
                what=f"role {grant.grantee or 'of everybody'}",
                why=why,
                notice=not trusted,
            )
        try:
            await opened.execute(
                statement + (" WITH GRANT OPTION" if grant.grantable and grant.grantee else "")
            )
        except asyncpg.PostgresError as error:
            return Finding(
                where="",
                what=f"role {grant.grantee or 'of everybody'}",
                why=f"{grant.right} {name}: {first_line(error)}",
            )
    return None


STREAMING = {"f": "off", "t": "on", "p": "parallel", "false": "off", "true": "on"}
SINCE_16, SINCE_17 = 160000, 170000


def find_withheld(database: str, facts: dict[str, Any], administrator: str) -> Finding | None:
    """What a subscription is made without: what lets its owner, or the publisher, do more."""
    lost = []
    if str(facts.get("owner") or administrator) != administrator:
        lost.append(f"OWNER TO {quote(str(facts['owner']))}")
    if facts.get("subpasswordrequired") is False:
        lost.append("SET (password_required = false)")
    if facts.get("subrunasowner"):
        lost.append("SET (run_as_owner = true)")
    if not lost:
        return None
    return Finding(
        where=database,
        what=f"subscription {facts['subname']}",
        why=f"it belongs to the administrator, and runs as whoever owns the tables; it was: "
        f"ALTER SUBSCRIPTION … {', '.join(lost)}",
        notice=True,
    )


async def subscription(
    opened: Any, database: str, facts: dict[str, Any], version: int, takes_over: bool
) -> Finding | None:
    """Made without a word to the publisher. A copy comes up with it off and without a slot; what
    takes over goes on."""
    name = str(facts["subname"])
    what = f"subscription {name}"
    options = {"connect": "false", "enabled": "false", "create_slot": "false", "slot_name": "NONE"}
    slot = facts.get("subslotname")
    if takes_over and slot:
        options["slot_name"] = literal(str(slot))
    options["binary"] = "true" if facts.get("subbinary") else "false"
    options["streaming"] = STREAMING.get(str(facts.get("substream")).lower(), "off")
    if facts.get("subtwophasestate", "d") != "d":
        options["two_phase"] = "true"
    if facts.get("subfailover") and version >= SINCE_17:
        options["failover"] = "true"
    if facts.get("subdisableonerr") is not None:
        options["disable_on_error"] = "true" if facts["subdisableonerr"] else "false"
    if version >= SINCE_16:
        options["run_as_owner"] = "false"
        options["origin"] = "none" if facts.get("suborigin") == "none" else "any"
    commit = str(facts.get("subsynccommit", "off"))
    options["synchronous_commit"] = literal(
        commit if commit in ("on", "off", "local", "remote_write", "remote_apply") else "off"
    )
    wanted = ", ".join(quote(str(item)) for item in facts.get("subpublications") or ())
    said = ", ".join(f"{key} = {value}" for key, value in options.items())
    try:
        await opened.execute(
            f"CREATE SUBSCRIPTION {quote(name)} CONNECTION {literal(str(facts['subconninfo']))} "
            f"PUBLICATION {wanted} WITH ({said})"
        )
        if not takes_over:
            why = (
                "it is off in a copy, and has no slot: ALTER SUBSCRIPTION … SET (slot_name = "
                "…), ENABLE, REFRESH PUBLICATION"
            )
            return Finding(where=database, what=what, why=why, notice=True)
        if not facts.get("subenabled"):
            return None
        if version < SINCE_16:
            return Finding(
                where=database,
                what=what,
                why=(
                    "it is off: before PostgreSQL 16 it acts as an administrator; ENABLE it if "
                    "that is right"
                ),
            )
        await opened.execute(f"ALTER SUBSCRIPTION {quote(name)} ENABLE")
        await opened.execute(
            f"ALTER SUBSCRIPTION {quote(name)} REFRESH PUBLICATION WITH (copy_data = false)"
        )
    except asyncpg.PostgresError as error:
        return Finding(
            where=database,
            what=what,
            why=(
                f"{first_line(error)}; when that is mended: ALTER SUBSCRIPTION … REFRESH "
                "PUBLICATION WITH (copy_data = false)"
            ),
        )
    return None


async def database_grants(
    opened: Any, name: str, owner: str, given: tuple[Grant, ...] | None, roles: Collection[str]
) -> None:
    """Who may come in: what was so, or what is usual."""
    database = quote(name)
    await opened.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, {quote(owner)}")
    if given is None:
        await opened.execute(f"GRANT ALL ON DATABASE {database} TO {quote(owner)}")
        await opened.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC")
        return
    for item in given:
        if item.right in RIGHTS and (
            not item.grantee or item.grantee in roles or item.grantee == owner
        ):
            to = quote(item.grantee) if item.grantee else "PUBLIC"
            option = " WITH GRANT OPTION" if item.grantable and item.grantee else ""
            await opened.execute(f"GRANT {item.right} ON DATABASE {database} TO {to}{option}")
