"""What a dump does not say, read from the catalogs beside it: roles, settings, and what of a
database only the administrator can make again. It is data, never SQL: names and values are put into
statements when they are used.
"""

from typing import Any

import msgspec

from purveyor_hooks import Failed, Finding
from purveyor_postgres import collations
from purveyor_postgres.logins import PREFIX

FORMAT = 3
SYSTEM = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What all parts of a record are."""


class Grant(Part, frozen=True, kw_only=True):
    """One right of one role; grantee "" is everybody."""

    grantor: str
    grantee: str
    right: str
    grantable: bool = False


class Setting(Part, frozen=True, kw_only=True):
    """A setting of a database, of a role, or of a role in a database."""

    database: str = ""
    role: str = ""
    name: str
    value: str


class Role(Part, frozen=True, kw_only=True):
    name: str
    superuser: bool
    inherit: bool
    createrole: bool
    createdb: bool
    login: bool
    replication: bool
    bypass: bool
    limit: int
    until: str | None
    password: str | None
    comment: str | None


class Parameter(Part, frozen=True, kw_only=True):
    """A right to a setting that a superuser alone may set."""

    name: str
    grant: Grant


class Member(Part, frozen=True, kw_only=True):
    role: str
    member: str
    admin: bool
    inherit: bool = True
    set: bool = True


class Database(Part, frozen=True, kw_only=True):
    """A database as the server's shared catalogs have it; `grants` None are the usual ones."""

    name: str
    owner: str
    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str | None
    rules: str | None
    limit: int
    template: bool
    allowed: bool
    comment: str | None
    grants: tuple[Grant, ...] | None


class Server(Part, frozen=True, kw_only=True):
    """What the databases share. `system` is what ALTER SYSTEM has set."""

    format: int = FORMAT
    version: int
    roles: tuple[Role, ...]
    members: tuple[Member, ...]
    settings: tuple[Setting, ...]
    databases: tuple[Database, ...]
    system: tuple[Setting, ...]
    parameters: tuple[Parameter, ...] = ()


class Object(Part, frozen=True, kw_only=True):
    """Something in a database, as pg_get_object_address finds it."""

    kind: str
    name: tuple[str, ...]
    arguments: tuple[str, ...] = ()


class Owned(Part, frozen=True, kw_only=True):
    object: Object
    owner: str


class Granted(Part, frozen=True, kw_only=True):
    """All rights on an object on which others than its owner have given some."""

    object: Object
    owner: str
    grants: tuple[Grant, ...]
    column: str = ""


class Default(Part, frozen=True, kw_only=True):
    """Default privileges of a role; schema "" is everywhere."""

    role: str
    schema: str
    kind: str
    grants: tuple[Grant, ...]


class Extension(Part, frozen=True, kw_only=True):
    name: str
    schema: str
    version: str
    by_administrator: bool
    tables: tuple[tuple[str, str], ...]  # of its configuration, whose rows are dumped
    comment: str | None = None


class Mapping(Part, frozen=True, kw_only=True):
    user: str  # "" is everybody
    options: tuple[str, ...]


class Foreign(Part, frozen=True, kw_only=True):
    """A foreign server, with the logins for it."""

    name: str
    wrapper: str
    kind: str | None
    version: str | None
    options: tuple[str, ...]
    owner: str
    grants: tuple[Grant, ...]
    mappings: tuple[Mapping, ...]


class Publication(Part, frozen=True, kw_only=True):
    """One that only the administrator can make: of all tables, or of schemas. What else is in one
    of schemas, the dump has."""

    name: str
    all_tables: bool
    publish: str
    by_root: bool
    schemas: tuple[str, ...]
    generated: str = "n"  # as pg_publication has it: n none, s stored
    comment: str | None = None


class Inside(Part, frozen=True, kw_only=True):
    """What is in one database."""

    schemas: tuple[tuple[str, str], ...]
    extensions: tuple[Extension, ...]
    owned: tuple[Owned, ...]
    granted: tuple[Granted, ...]
    defaults: tuple[Default, ...]
    servers: tuple[Foreign, ...]
    publications: tuple[Publication, ...]
    subscriptions: tuple[dict[str, Any], ...]
    administrators: tuple[str, ...]  # objects that a superuser owns
    definers: tuple[str, ...]  # of these, functions that run with their owner's rights
    collations: dict[str, str] = {}  # by which version of its library what sorts


# ---------------------------------------------------------------- reading: the server

DATABASES = """
SELECT d.datname AS name, pg_get_userbyid(d.datdba) AS owner, pg_encoding_to_char(d.encoding) AS encoding,
    d.datcollate AS collate, d.datctype AS ctype, to_jsonb(d)->>'datlocprovider' AS provider,
    coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale') AS locale,
    coalesce(to_jsonb(d)->>'daticurules', to_jsonb(d)->>'daticurules') AS rules,
    d.datconnlimit AS "limit", d.datistemplate AS template, d.datallowconn AS allowed,
    shobj_description(d.oid, 'pg_database') AS comment, d.datacl IS NULL AS usual, d.oid AS oid
FROM pg_database d WHERE d.oid = ANY($1::oid[]) ORDER BY d.datname
"""
ACL = """
SELECT pg_get_userbyid(a.grantor) AS grantor, CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END AS grantee,
    a.privilege_type AS right, a.is_grantable AS grantable FROM aclexplode({}) a
"""
MEMBERS = """
SELECT pg_get_userbyid(m.roleid) AS role, pg_get_userbyid(m.member) AS member, bool_or(m.admin_option) AS admin,
    coalesce(bool_or((to_jsonb(m)->>'inherit_option')::bool), true) AS inherit,
    coalesce(bool_or((to_jsonb(m)->>'set_option')::bool), true) AS "set"
FROM pg_auth_members m WHERE m.member = ANY($1::oid[]) GROUP BY m.roleid, m.member ORDER BY 1, 2
"""
SETTINGS = """
SELECT coalesce(d.datname, '') AS database, CASE WHEN s.setrole = 0 THEN '' ELSE pg_get_userbyid(s.setrole) END AS role,
    split_part(entry, '=', 1) AS name, substr(entry, position('=' IN entry) + 1) AS value
FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase,
    unnest(s.setconfig) WITH ORDINALITY AS e(entry, place)
WHERE s.setrole = 0 OR s.setrole = ANY($1::oid[]) ORDER BY 1, 2, e.place
"""
SYSTEM_SETTINGS = """
SELECT DISTINCT ON (name) name, setting AS value FROM pg_file_settings
WHERE sourcefile ~ 'postgresql\\.auto\\.conf$' AND name IS NOT NULL ORDER BY name, seqno DESC
"""


# Of what databases share.
NOT_CARRIED = """
SELECT 'tablespace ' || spcname AS what, 'what is in it comes back in the default tablespace' AS why FROM pg_tablespace
    WHERE oid >= 16384
UNION ALL SELECT 'database ' || d.datname, 'it comes back in the default tablespace' FROM pg_database d
    WHERE d.dattablespace >= 16384
UNION ALL SELECT concat_ws(' ', 'security label of', i.type, i.identity, 'by', l.provider),
    'labels of what databases share are not carried' FROM pg_shseclabel l, pg_identify_object(l.classoid, l.objoid, 0) i
ORDER BY 1
"""


async def names(opened: Any, sql: str) -> tuple[dict[str, int], list[str]]:
    """Names with their numbers, and those that are no text in the server's encoding."""
    good, bad = {}, []
    for row in await opened.fetch(sql):
        try:
            good[
                row["raw"].decode(
                    "latin-1" if opened.get_settings().client_encoding == "LATIN1" else "utf-8"
                )
            ] = row["oid"]
        except UnicodeDecodeError:
            bad.append(row["raw"].decode("ascii", errors="backslashreplace"))
    return good, bad


async def read_server(opened: Any) -> tuple[Server, list[Finding]]:
    """Everything that databases share, and what of it cannot be carried."""
    left_out = []
    roles, unreadable = await names(
        opened,
        f"SELECT oid, namesend(rolname) AS raw FROM pg_roles WHERE rolname !~ '^(pg_|{PREFIX})' "
        "ORDER BY rolname",
    )
    databases, more = await names(
        opened, "SELECT oid, namesend(datname) AS raw FROM pg_database WHERE datname <> 'template0'"
    )
    for bad in [*unreadable, *more]:
        left_out.append(
            Finding(where="", what=bad, why="its name is no text in the server's encoding")
        )
    numbers = list(roles.values())
    may_read = await opened.fetchval("SELECT has_table_privilege('pg_authid', 'SELECT')")
    secret = "a.rolpassword" if may_read else "NULL"
    table = "pg_authid" if may_read else "pg_roles"
    if not may_read:
        left_out.append(
            Finding(where="", what="passwords of roles", why="only a superuser may read them")
        )
    found = await opened.fetch(
        f"""SELECT a.rolname AS name, a.rolsuper AS superuser, a.rolinherit AS inherit, a.rolcreaterole AS createrole,
        a.rolcreatedb AS createdb, a.rolcanlogin AS login, a.rolreplication AS replication, a.rolbypassrls AS bypass,
        a.rolconnlimit AS "limit", a.rolvaliduntil::text AS until, {secret} AS password,
        shobj_description(a.oid, 'pg_authid') AS comment FROM {table} a WHERE a.oid = ANY($1::oid[]) ORDER BY 1""",
        numbers,
    )
    listed = []
    for row in await opened.fetch(DATABASES, list(databases.values())):
        facts = dict(row)
        number, usual = facts.pop("oid"), facts.pop("usual")
        grants = (
            None
            if usual
            else await acl(opened, "(SELECT datacl FROM pg_database WHERE oid = $1)", number)
        )
        listed.append(msgspec.convert({**facts, "grants": grants}, Database))
    can_see = await opened.fetchval(
        "SELECT has_table_privilege('pg_file_settings', 'SELECT') AND rolsuper FROM pg_roles WHERE "
        "rolname = session_user"
    )
    system = await opened.fetch(SYSTEM_SETTINGS) if can_see else []
    for row in await opened.fetch(NOT_CARRIED):
        left_out.append(Finding(where="", what=row["what"], why=row["why"]))
    for row in await opened.fetch("SELECT gid, database FROM pg_prepared_xacts"):
        left_out.append(
            Finding(
                where=row["database"], what=row["gid"], why="a prepared transaction is not carried"
            )
        )
    for row in await opened.fetch(
        "SELECT slot_name, database FROM pg_replication_slots WHERE slot_name <> 'purveyor' AND "
        "NOT temporary"
    ):
        left_out.append(
            Finding(
                where=row["database"] or "",
                what=row["slot_name"],
                why="a replication slot is not carried",
            )
        )
    return (
        Server(
            version=await opened.fetchval("SELECT current_setting('server_version_num')::int"),
            roles=tuple(msgspec.convert(dict(row), Role) for row in found),
            members=tuple(
                msgspec.convert(dict(row), Member) for row in await opened.fetch(MEMBERS, numbers)
            ),
            settings=tuple(
                msgspec.convert(dict(row), Setting) for row in await opened.fetch(SETTINGS, numbers)
            ),
            databases=tuple(listed),
            parameters=await _parameters(opened, numbers),
            system=tuple(Setting(name=row["name"], value=row["value"] or "") for row in system),
        ),
        left_out,
    )


async def _parameters(opened: Any, roles: list[int]) -> tuple[Parameter, ...]:
    if not await opened.fetchval("SELECT to_regclass('pg_parameter_acl') IS NOT NULL"):
        return ()
    sql = (
        ACL.format("p.paracl")
        .replace("SELECT", "SELECT p.parname AS name,", 1)
        .replace("FROM", "FROM pg_parameter_acl p,", 1)
    )
    found = await opened.fetch(
        f"{sql} WHERE a.grantee = 0 OR a.grantee = ANY($1::oid[]) ORDER BY 1, 3, 4", roles
    )
    return tuple(
        Parameter(
            name=row["name"],
            grant=msgspec.convert({key: row[key] for key in Grant.__struct_fields__}, Grant),
        )
        for row in found
    )


async def acl(opened: Any, expression: str, *values: Any) -> tuple[Grant, ...]:
    return tuple(
        msgspec.convert(dict(row), Grant)
        for row in await opened.fetch(ACL.format(expression), *values)
    )


# ---------------------------------------------------------------- reading: one database

OF_EXTENSION = (
    "EXISTS (SELECT 1 FROM pg_depend x WHERE x.classid = '{0}'::regclass AND x.objid = o.oid "
    "AND x.deptype = 'e')"
)
# Every kind of thing that has an owner: its catalog, the owner's column, and which of its rows are
# things of their own.
OWNERS = {
    "pg_class": ("relowner",
    "NOT pg_is_other_temp_schema(o.relnamespace) AND (o.relkind IN ('r', 'p', 'v', 'm', 'f') "
                 "OR o.relkind = 'S' AND NOT EXISTS (SELECT 1 FROM pg_depend l WHERE l.classid = 'pg_class'::regclass "
                 "AND l.objid = o.oid AND l.deptype IN ('a', 'i')))"),
    "pg_proc": ("proowner",
    "NOT pg_is_other_temp_schema(o.pronamespace) AND NOT EXISTS (SELECT 1 FROM pg_depend l "
                "WHERE l.classid = 'pg_proc'::regclass AND l.objid = o.oid AND l.deptype = 'i')"),
    "pg_type": ("typowner", "NOT pg_is_other_temp_schema(o.typnamespace) AND o.typelem = 0 "
                "AND (o.typrelid = 0 OR (SELECT relkind FROM pg_class WHERE oid = o.typrelid) = 'c') "
                "AND NOT EXISTS (SELECT 1 FROM pg_range r WHERE to_jsonb(r)->>'rngmultitypid' = o.oid::text)"),
    "pg_namespace": ("nspowner", "o.nspname NOT IN ('pg_catalog', 'information_schema', 'public') "
                     "AND o.nspname !~ '^pg_(toast|temp)'"),
    "pg_collation": ("collowner", "true"),
    "pg_conversion": ("conowner", "true"),
    "pg_operator": ("oprowner", "true"),
    "pg_opclass": ("opcowner", "true"),
    "pg_opfamily": ("opfowner", "true"),
    "pg_statistic_ext": ("stxowner", "true"),
    "pg_ts_config": ("cfgowner", "true"),
    "pg_ts_dict": ("dictowner", "true"),
    "pg_largeobject_metadata": ("lomowner", "true"),
    "pg_publication": ("pubowner", "NOT (SELECT rolsuper FROM pg_roles WHERE oid = o.pubowner)"),
}  # fmt: skip
FIRST_OID = 16384  # what initdb makes is below; a large object has whatever number its owner chose
# A large object is known by another catalog than the one that it stands in, and by its number: that
# is its name, also when it was dropped after the snapshot. Of anything else that was dropped since,
# the server says nothing.
LARGE, LARGE_ROWS = "'pg_largeobject'::regclass", "pg_largeobject_metadata"
NAMED = f"""CASE WHEN {{0}}.class = {LARGE} THEN 'large object' ELSE i.type END AS kind,
    CASE WHEN {{0}}.class = {LARGE} THEN ARRAY[{{0}}.id::text] ELSE i.object_names END AS name,
    CASE WHEN {{0}}.class = {LARGE} THEN ARRAY[]::text[] ELSE i.object_args END AS arguments"""
ADDRESS = (
    "LEFT JOIN LATERAL pg_identify_object_as_address({0}.class, {0}.id, 0) i ON "
    f"{{0}}.class <> {LARGE}"
)
COMES_AND_GOES = "What is in it comes and goes: it was not twice the same."


def _owned(condition: str) -> str:
    parts = []
    for catalog, (column, rows) in OWNERS.items():
        large = catalog == LARGE_ROWS
        known_by, ours = ("pg_largeobject", "true") if large else (catalog, f"o.oid >= {FIRST_OID}")
        parts.append(
            f"SELECT '{known_by}'::regclass::oid AS class, o.oid AS id, o.{column} AS owner FROM "
            f"{catalog} o "
            f"WHERE {ours} AND ({rows}) AND NOT {OF_EXTENSION.format(known_by)}"
        )
    return f"""
    SELECT {NAMED.format("f")}, pg_get_userbyid(f.owner) AS owner, coalesce(n.identity, f.id::text) AS identity,
        f.class AS class, f.id AS id
    FROM ({" UNION ALL ".join(parts)}) f {ADDRESS.format("f")}
        LEFT JOIN LATERAL pg_identify_object(f.class, f.id, 0) n ON f.class <> {LARGE}
    WHERE {condition} ORDER BY 5"""


OWNED = _owned("f.owner <> (SELECT datdba FROM pg_database WHERE datname = current_database()) "
               "AND NOT (SELECT rolsuper FROM pg_roles WHERE oid = f.owner)")  # fmt: skip
ADMINISTRATORS = _owned("(SELECT rolsuper FROM pg_roles WHERE oid = f.owner)")
OWNER_ROLES = f"SELECT DISTINCT owner FROM ({_owned('true')}) all_owned"
GRANTED = f"""
SELECT {NAMED.format("g")}, pg_get_userbyid(g.owner) AS owner,
    coalesce(g.column_name, '') AS "column", g.class AS class, g.id AS id, g.sub AS sub
FROM (
    SELECT 'pg_class'::regclass::oid AS class, oid AS id, relowner AS owner, relacl AS acl, NULL AS column_name, 0 AS sub
        FROM pg_class WHERE NOT pg_is_other_temp_schema(relnamespace)
    UNION ALL SELECT 'pg_class'::regclass, c.oid, c.relowner, a.attacl, a.attname::text, a.attnum FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL AND NOT pg_is_other_temp_schema(c.relnamespace)
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, proacl, NULL, 0 FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, typowner, typacl, NULL, 0 FROM pg_type
    UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, nspacl, NULL, 0 FROM pg_namespace
    UNION ALL SELECT {LARGE}, oid, lomowner, lomacl, NULL, 0 FROM {LARGE_ROWS}
) g {ADDRESS.format("g")}
WHERE (g.id >= {FIRST_OID} OR g.class = {LARGE}) AND g.acl IS NOT NULL
AND EXISTS (SELECT 1 FROM aclexplode(g.acl) e WHERE e.grantor <> g.owner)
AND NOT EXISTS (SELECT 1 FROM pg_depend x WHERE x.classid = g.class AND x.objid = g.id AND x.deptype = 'e')
"""
ACL_OF = {
    "pg_class": "(SELECT relacl FROM pg_class WHERE oid = $1)",
    "pg_proc": "(SELECT proacl FROM pg_proc WHERE oid = $1)",
    "pg_type": "(SELECT typacl FROM pg_type WHERE oid = $1)",
    "pg_namespace": "(SELECT nspacl FROM pg_namespace WHERE oid = $1)",
    "pg_largeobject": "(SELECT lomacl FROM pg_largeobject_metadata WHERE oid = $1)",
}
EXTENSIONS = """
SELECT e.extname AS name, n.nspname AS schema, e.extversion AS version,
    (SELECT rolsuper FROM pg_roles WHERE oid = e.extowner) OR NOT coalesce((SELECT (to_jsonb(v)->>'trusted')::bool
        FROM pg_available_extension_versions v WHERE v.name = e.extname AND v.version = e.extversion), false) AS by_administrator,
    ARRAY(SELECT ARRAY[cn.nspname::text, c.relname::text] FROM unnest(e.extconfig) t JOIN pg_class c ON c.oid = t
        JOIN pg_namespace cn ON cn.oid = c.relnamespace) AS tables,
    obj_description(e.oid, 'pg_extension') AS comment
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY e.oid
"""
SERVERS = """
SELECT s.oid AS oid, s.srvname AS name, w.fdwname AS wrapper, s.srvtype AS kind, s.srvversion AS version,
    coalesce(s.srvoptions, '{}') AS options, pg_get_userbyid(s.srvowner) AS owner
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw ORDER BY 2
"""
PUBLICATIONS = """
SELECT p.oid AS oid, p.pubname AS name, p.puballtables AS all_tables, concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END,
    CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END,
    CASE WHEN p.pubtruncate THEN 'truncate' END) AS publish, p.pubviaroot AS by_root,
    coalesce(to_jsonb(p)->>'pubgencols', 'n') AS generated, obj_description(p.oid, 'pg_publication') AS comment
FROM pg_publication p ORDER BY 2
"""
DEFAULTS = """
SELECT d.oid AS oid, pg_get_userbyid(d.defaclrole) AS role, coalesce(n.nspname, '') AS schema, d.defaclobjtype::text AS kind
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace ORDER BY 2, 3, 4
"""
# What no dump has, with or without a superuser.
MISSING = f"""
SELECT 'event trigger ' || evtname AS what, 'event triggers act as an administrator and are not carried: make it again' AS why
    FROM pg_event_trigger t WHERE NOT EXISTS (SELECT 1 FROM pg_depend x WHERE x.classid = 'pg_event_trigger'::regclass
    AND x.objid = t.oid AND x.deptype = 'e')
UNION ALL SELECT 'index ' || c.oid::regclass::text, 'it is invalid, of a build that was broken off: REINDEX'
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind = 'i' AND {SYSTEM}
UNION ALL SELECT 'table ' || c.oid::regclass::text, 'its owner added it to an extension, whose objects and rows are in no dump'
    FROM pg_class c JOIN pg_depend x ON x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e'
    JOIN pg_roles r ON r.oid = c.relowner JOIN pg_extension e ON e.oid = x.refobjid
    WHERE NOT r.rolsuper AND c.relkind IN ('r', 'p') AND (c.oid <> ALL(coalesce(e.extconfig, '{{}}')))
    AND EXISTS (SELECT 1 FROM pg_available_extension_versions v WHERE v.name = e.extname AND v.version = e.extversion
    AND v.superuser)
UNION ALL SELECT 'table ' || c.oid::regclass::text, 'it comes back in the default tablespace'
    FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE c.relkind IN ('r', 'p', 'm') AND c.oid >= {FIRST_OID}
UNION ALL SELECT 'index ' || c.oid::regclass::text, 'it comes back in the default tablespace'
    FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE c.relkind IN ('i', 'I') AND c.oid >= {FIRST_OID}
UNION ALL SELECT 'language ' || l.lanname, 'only what an extension makes is carried: CREATE LANGUAGE, then restore again'
    FROM pg_language l WHERE l.oid >= {FIRST_OID} AND NOT EXISTS (SELECT 1 FROM pg_depend x
    WHERE x.classid = 'pg_language'::regclass AND x.objid = l.oid AND x.deptype = 'e')
UNION ALL SELECT 'foreign data wrapper ' || w.fdwname, 'only what an extension makes is carried'
    FROM pg_foreign_data_wrapper w WHERE w.oid >= {FIRST_OID} AND NOT EXISTS (SELECT 1 FROM pg_depend x
    WHERE x.classid = 'pg_foreign_data_wrapper'::regclass AND x.objid = w.oid AND x.deptype = 'e')
ORDER BY 1
"""


def _object(row: Any) -> Object:
    """What a row is about. Raises `Failed` for what is in the snapshot and was dropped since: the
    server has no name for it."""
    if row["name"] is None or row["arguments"] is None:
        raise Failed(COMES_AND_GOES)
    return Object(kind=row["kind"], name=tuple(row["name"]), arguments=tuple(row["arguments"]))


async def read_inside(opened: Any, database: str) -> tuple[Inside, list[Finding]]:
    """What of one database the administrator makes again, and what is not carried at all."""
    left_out = [
        Finding(where=database, what=row["what"], why=row["why"])
        for row in await opened.fetch(MISSING)
    ]
    owned = await opened.fetch(OWNED)
    administrators = await opened.fetch(ADMINISTRATORS)
    catalogs = {row["oid"]: row["name"] for row in await opened.fetch(
        "SELECT oid, relname AS name FROM pg_class WHERE relname = ANY($1)",
        list(ACL_OF))}  # fmt: skip
    granted = []
    for row in await opened.fetch(GRANTED):
        if row["sub"]:
            grants = await acl(
                opened,
                "(SELECT attacl FROM pg_attribute WHERE attrelid = $1 AND attnum = $2)",
                row["id"],
                row["sub"],
            )
        else:
            grants = await acl(opened, ACL_OF[catalogs[row["class"]]], row["id"])
        granted.append(
            Granted(object=_object(row), owner=row["owner"], grants=grants, column=row["column"])
        )
    defaults = []
    for row in await opened.fetch(DEFAULTS):
        grants = await acl(
            opened, "(SELECT defaclacl FROM pg_default_acl WHERE oid = $1)", row["oid"]
        )
        defaults.append(
            Default(role=row["role"], schema=row["schema"], kind=row["kind"], grants=grants)
        )
    may_read = await opened.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
    subscriptions = [] if not may_read else await opened.fetch(
        "SELECT (to_jsonb(s) || jsonb_build_object('owner', pg_get_userbyid(s.subowner)))::text AS facts FROM pg_subscription s "
        "WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY subname"
    )  # fmt: skip
    definers = await opened.fetch(
        "SELECT p.oid::regprocedure::text AS name FROM pg_proc p WHERE p.oid = ANY($1::oid[]) AND "
        "p.prosecdef ORDER BY 1",
        [row["id"] for row in administrators if row["kind"] in ("function", "procedure")],
    )
    return (
        Inside(
            schemas=tuple((row["name"], row["owner"]) for row in await opened.fetch(
                f"SELECT n.nspname AS name, pg_get_userbyid(n.nspowner) AS owner FROM pg_namespace n WHERE {SYSTEM} ORDER BY 1")),
            extensions=tuple(msgspec.convert(dict(row),
            Extension) for row in await opened.fetch(EXTENSIONS)),
            owned=tuple(Owned(object=_object(row), owner=row["owner"]) for row in owned),
            granted=tuple(granted),
            defaults=tuple(defaults),
            servers=await _servers(opened, may_read),
            publications=await _publications(opened),
            subscriptions=tuple(msgspec.json.decode(row["facts"]) for row in subscriptions),
            administrators=tuple(f"{row['kind']} {row['identity']}" for row in administrators),
            definers=tuple(row["name"] for row in definers),
            collations=await collations.versions(opened),
        ),
        left_out,
    )  # fmt: skip


async def _servers(opened: Any, may_read: bool) -> tuple[Foreign, ...]:
    found = []
    for row in await opened.fetch(SERVERS):
        facts = dict(row)
        number = facts.pop("oid")
        facts["grants"] = await acl(
            opened, "(SELECT srvacl FROM pg_foreign_server WHERE oid = $1)", number
        )
        mappings = [] if not may_read else await opened.fetch(
            "SELECT CASE WHEN umuser = 0 THEN '' ELSE pg_get_userbyid(umuser) END AS user, coalesce(umoptions, '{}') AS options "
            "FROM pg_user_mapping WHERE umserver = $1 ORDER BY 1",
            number,
        )  # fmt: skip
        facts["mappings"] = [dict(item) for item in mappings]
        found.append(msgspec.convert(facts, Foreign))
    return tuple(found)


async def _publications(opened: Any) -> tuple[Publication, ...]:
    found = []
    newer = await opened.fetchval("SELECT to_regclass('pg_publication_namespace') IS NOT NULL")
    for row in await opened.fetch(PUBLICATIONS):
        facts = dict(row)
        number = facts.pop("oid")
        schemas = await opened.fetch(
            "SELECT n.nspname AS name FROM pg_publication_namespace p JOIN pg_namespace n ON n.oid = p.pnnspid "
            "WHERE p.pnpubid = $1",
            number,
        ) if newer else []  # fmt: skip
        if not facts["all_tables"] and not schemas:
            continue  # its owner can make it: it is in the dump
        facts["schemas"] = [item["name"] for item in schemas]
        found.append(msgspec.convert(facts, Publication))
    return tuple(found)
