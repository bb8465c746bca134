"""What another image means for the data: PostgreSQL's majors do not read each other's files."""

from typing import Any

import asyncpg

from purveyor_hooks import Access, Finding, Service, UpgradePlan
from purveyor_hooks.versions import version_of
from purveyor_postgres.counting import first_line
from purveyor_postgres.record import OF_EXTENSION, SYSTEM
from purveyor_postgres.server import connection, maintenance

# Settings and extensions that a version does not have any more.
GONE_SETTINGS = {
    14: {"operator_precedence_warning", "vacuum_cleanup_index_scale_factor"},
    15: {"stats_temp_directory"},
    16: {"force_parallel_mode", "promote_trigger_file", "vacuum_defer_cleanup_age"},
    17: {"db_user_namespace", "old_snapshot_threshold", "trace_recovery_messages"},
}
GONE_EXTENSIONS = {17: {"adminpack", "old_snapshot"}}
SETTINGS = """
SELECT coalesce(d.datname, '') AS database, concat_ws(' in ', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END,
    d.datname) AS holder, lower(split_part(entry, '=', 1)) AS name
FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) entry
"""
SYSTEM_SETTINGS = """
SELECT '' AS database, 'ALTER SYSTEM' AS holder, lower(name) AS name FROM pg_file_settings
WHERE sourcefile ~ 'postgresql\\.auto\\.conf$' AND name IS NOT NULL
"""
# A function in an index, a materialized view, a generated column or a check is run with an empty
# search_path when these are made or filled again.
UNQUALIFIED = f"""
SELECT DISTINCT o.oid::regprocedure::text AS function, u.oid::regclass::text AS used,
    CASE WHEN g.adrelid IS NOT NULL THEN 'generated column of' WHEN k.oid IS NOT NULL THEN 'check of'
    WHEN u.relkind = 'm' THEN 'materialized view' ELSE 'index' END AS kind
FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace
JOIN pg_depend d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = o.oid
LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN (SELECT f.oid, f.adrelid FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid
    AND a.attnum = f.adnum WHERE a.attgenerated <> '') g ON d.classid = 'pg_attrdef'::regclass AND g.oid = d.objid
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.contype = 'c'
JOIN pg_class u ON u.oid = coalesce(g.adrelid, k.conrelid,
    CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid ELSE w.ev_class END)
WHERE (u.relkind IN ('i', 'I', 'm') OR g.oid IS NOT NULL OR k.oid IS NOT NULL)
AND {SYSTEM} AND NOT {OF_EXTENSION.format("pg_proc")}
AND NOT EXISTS (SELECT 1 FROM unnest(o.proconfig) c WHERE c LIKE 'search_path=%')
AND (o.prosrc ~* '\\m(from|join|into|update)\\s+"?[a-z_][a-z0-9_$]*"?\\s*($|[^.a-z0-9_"$(])'
    OR EXISTS (SELECT 1 FROM pg_proc x JOIN pg_namespace s ON s.oid = x.pronamespace
    WHERE s.nspname NOT IN ('pg_catalog', 'information_schema') AND x.proname ~ '^[a-z_][a-z0-9_]*$'
    AND strpos(lower(o.prosrc), x.proname) > 0
    AND lower(o.prosrc) ~ ('(^|[^.a-z0-9_"$])' || x.proname || '\\s*\\(')))
"""


def plan(service: Service, image: str, major: str) -> UpgradePlan:
    if not major:
        reason = (
            f"The tag of {image} tells no version, and the image is not here to be asked: "
            f"docker pull {image}"
        )
        return UpgradePlan(action="refuse", reason=reason)
    wanted, held = int(major), int(service.major)
    if wanted < held:
        return UpgradePlan(
            action="refuse",
            reason=f"PostgreSQL {wanted} cannot read the data of PostgreSQL {held}: no way back.",
        )
    if wanted == held:
        return UpgradePlan(
            action="restart",
            reason=f"Both are PostgreSQL {held}: the new server reads the same files.",
        )
    return UpgradePlan(
        action="migrate",
        reason=f"PostgreSQL {wanted} does not read the files of PostgreSQL {held}: everything is dumped from the old one by the "
        "new server's programs and restored into the new one beside it, counted on both sides, and "
        "then switched. (pg_upgrade "
        "restores schemas as a superuser, and so would run what projects have put into theirs.)",
    )


async def check(service: Service, access: Access, major: int) -> tuple[Finding, ...]:
    """What the new major will not take, by database; asked of the catalogs, in seconds."""
    recorded = version_of(service.major)
    held = recorded.major if recorded else 0
    gone = set().union(*(names for since, names in GONE_SETTINGS.items() if held < since <= major))
    extensions = set().union(
        *(names for since, names in GONE_EXTENSIONS.items() if held < since <= major)
    )
    found: list[Finding] = []
    async with maintenance(service, access) as opened:
        rows = list(await opened.fetch(SETTINGS))
        if await opened.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = session_user"):
            rows += await opened.fetch(SYSTEM_SETTINGS)
        for row in rows:
            if row["name"] in gone:
                why = f"PostgreSQL {major} has no such setting; it is not set again"
                found.append(
                    Finding(
                        where=row["database"], what=f"{row['name']} of {row['holder']}", why=why
                    )
                )
        databases = await opened.fetch(
            "SELECT datname AS name, datallowconn AS allowed, datconnlimit AS limit FROM "
            "pg_database WHERE datname <> 'template0'"
        )
        for row in await opened.fetch("SELECT gid, database FROM pg_prepared_xacts"):
            found.append(
                Finding(
                    where=row["database"],
                    what=row["gid"],
                    why="a prepared transaction is not carried: end it",
                )
            )
    for row in databases:
        name = row["name"]
        if row["limit"] == -2:
            found.append(
                Finding(
                    where=name,
                    what="",
                    why="a DROP DATABASE of it was interrupted; it is not carried: drop it",
                )
            )
        elif row["allowed"]:
            try:
                async with connection(service, access, name) as opened:
                    await _database(opened, name, major, extensions, found)
            except asyncpg.PostgresError as error:
                found.append(Finding(where=name, what="", why=first_line(error)))
    return tuple(found)


async def _database(
    opened: Any, name: str, major: int, extensions: set[str], found: list[Finding]
) -> None:
    for row in await opened.fetch(
        "SELECT extname AS name FROM pg_extension WHERE extname = ANY($1)", list(extensions)
    ):
        why = (
            f"PostgreSQL {major} does not have it, nor is what depends on it restored: DROP "
            "EXTENSION first"
        )
        found.append(Finding(where=name, what=f"extension {row['name']}", why=why))
    for row in await opened.fetch(UNQUALIFIED):
        why = (
            f"it is used in the {row['kind']} {row['used']} and names tables or functions without "
            "their schema, which are not found when that "
            f"is made again: ALTER FUNCTION {row['function']} SET search_path = …"
        )
        found.append(Finding(where=name, what=f"function {row['function']}", why=why))
    for row in await opened.fetch("SELECT evtname AS name FROM pg_event_trigger"):
        found.append(
            Finding(
                where=name,
                what=f"event trigger {row['name']}",
                why="event triggers are not carried: make it again",
            )
        )
