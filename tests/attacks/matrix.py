"""What a project tries on the servers of data, and what it may do all the same: server × way in ×
what for.

Each attack has an honest counterpart: what a project does there every day, and what a rule that is
too wide would break. The modules that run the attacks read these tables, and so does `page.py`,
which writes them into the security page.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx

OTHERS, RIGHTS, SERVER, STOP, STAY = (
    "another's data",
    "more rights",
    "the server itself",
    "to stop others",
    "to stay",
)


class Attack(NamedTuple):
    """`do` is what the server's runner takes: a statement, a command, a function of a client.
    `honest` names the counterpart."""

    way: str
    aim: str
    what: str
    do: Any
    honest: str


class Matrix(NamedTuple):
    """One server's attacks, and the counterparts by name."""

    server: str
    attacks: tuple[Attack, ...]
    honest: Mapping[str, Any]

    def ids(self) -> list[str]:
        return [attack.what for attack in self.attacks]


A, B = "alpha_production", "beta_production"
A1, B1 = f"{A}_1", f"{B}_1"  # the logins, where A and B name the data


def _table(
    server: str, honest: Mapping[str, Any], *rows: tuple[str, str, str, Mapping[str, Any]]
) -> Matrix:
    """Attacks of one way in, one aim and one counterpart stand together."""
    attacks = tuple(
        Attack(way, aim, what, do, kept)
        for way, aim, kept, group in rows
        for what, do in group.items()
    )
    unknown = {attack.honest for attack in attacks} ^ set(honest)
    assert not unknown, unknown
    assert len({attack.what for attack in attacks}) == len(attacks)
    return Matrix(server, attacks, honest)


# -------------------------------------------------------- PostgreSQL: a statement, or how to log in


def _function(language: str, body: str) -> str:
    return f"CREATE FUNCTION public.f() RETURNS int LANGUAGE {language} AS {body}"


ABOVE = ("SUPERUSER", "CREATEDB", "CREATEROLE", "BYPASSRLS", "REPLICATION")
UNTRUSTED = (
    "dblink", "postgres_fdw", "file_fdw", "pageinspect", "pg_stat_statements", "pg_buffercache",
    "plpython3u", "amcheck",
)  # fmt: skip
POSTGRES = _table(
    "PostgreSQL",
    {
        "logs in to its own database": {},
        "chooses settings of its session and of its role": f"SET work_mem = '8MB'; ALTER ROLE {A} SET work_mem = '8MB'",
        "copies rows out and in": "COPY (SELECT 1) TO STDOUT",
        "keeps large objects": "SELECT lo_unlink(lo_from_bytea(0, 'x'))",
        "writes functions in SQL and PL/pgSQL": _function("plpgsql",
        "$$ BEGIN RETURN 1; END $$") + "; DROP FUNCTION public.f()",
        "makes trusted extensions": "CREATE EXTENSION IF NOT EXISTS hstore",
        "reads the catalog of its own database": "SELECT count(*) FROM pg_class c JOIN pg_stats s ON s.tablename = c.relname",
        "sees and ends its own sessions": (
            f"SET ROLE NONE; SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '{A1}' AND pid <> "
            "pg_backend_pid()"
        ),
        "makes schemas and publications": (
            "CREATE SCHEMA s CREATE TABLE t (x int); CREATE PUBLICATION p FOR TABLE s.t; DROP PUBLICATION p; "
            "DROP SCHEMA s CASCADE"
        ),
        "locks its own tables, and listens": (
            "CREATE TABLE IF NOT EXISTS own (x int); BEGIN; LOCK TABLE own; COMMIT; LISTEN c; NOTIFY "
            "c"
        ),
        "vacuums and measures its own tables": "SELECT pg_total_relation_size('pg_class'); ANALYZE",
    },
    ("login", OTHERS, "logs in to its own database", {
        "open another project's database": {"database": B},
        "log in as another project with its own password": {"user": B, "database": B},
    }),
    ("login", SERVER, "logs in to its own database", {
        "open the administrator's database": {"database": "postgres"},
        "open the template of all databases": {"database": "template1"},
        "log in as the administrator without a password": {"user": "postgres", "password": "",
        "database": "postgres"},
        "log in as the owner of all databases": {"user": "purveyor_databases", "database": A},
        "replicate everything": {"server_settings": {"replication": "database"}},
        "begin with a library of its own": {"server_settings": {"session_preload_libraries": "/tmp/x"}},
        "begin with triggers and constraints off": {"server_settings": {"session_replication_role": "replica"}},
        "begin as another role": {"server_settings": {"role": "postgres"}},
    }),
    ("roles", RIGHTS, "chooses settings of its session and of its role", {
        **{f"make itself {right}": f"ALTER ROLE {A1} {right}" for right in ABOVE},
        "lift its limit of connections": f"ALTER ROLE {A1} CONNECTION LIMIT -1",
        "become the owner of all databases": "SET ROLE purveyor_databases",
        "become the administrator": "SET SESSION AUTHORIZATION postgres",
        "give itself all data": f"GRANT pg_read_all_data TO {A1}",
        "give itself the server's programs": f"GRANT pg_execute_server_program TO {A1}",
        "give itself the server's files": f"GRANT pg_write_server_files TO {A}",
        "give itself the ending of others' sessions": f"GRANT pg_signal_backend TO {A1}",
        "take the connections that are kept for the administrator": f"GRANT pg_use_reserved_connections TO {A1}",
        "keep what it does out of the server's log": "SET log_min_error_statement = panic",
        "lift its limit of temporary files": "SET temp_file_limit = -1",
        "take the limit of temporary files from its role": f"ALTER ROLE {A1} SET temp_file_limit = -1",
        "turn triggers and constraints off": "SET session_replication_role = replica",
        "have functions of the owner run as the administrator": (
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION public.f() OWNER "
            "TO postgres"
        ),
    }),
    ("roles", OTHERS, "chooses settings of its session and of its role", {
        "become another project": f"SET ROLE {B}",
        "become another project's login": f"SET SESSION AUTHORIZATION {B1}",
        "be a member of another project": f"GRANT {B} TO {A1}",
        "have another project be a member of its own": f"GRANT {A} TO {B1}",
        "set another project's password": f"ALTER ROLE {B1} PASSWORD 'x'",
        "set what another project begins with": f"ALTER ROLE {B1} SET search_path = x",
        "set what the administrator begins with": "ALTER ROLE postgres SET search_path = x",
    }),
    ("roles", STAY, "chooses settings of its session and of its role", {
        "make a role for later": "CREATE ROLE later LOGIN PASSWORD 'x'",
        "set its own password": f"ALTER ROLE {A1} PASSWORD 'x'",
        "set what its own sessions begin as": f"ALTER ROLE {A1} SET role = none",
        "let the owner of its data log in": f"ALTER ROLE {A} LOGIN PASSWORD 'x'",
        "log in as the owner of its data": {"user": A, "database": A},
        "forge the mark of another project": f"COMMENT ON ROLE {A1} IS 'purveyor binding 99 login x'",
        "forge its owner's mark": f"COMMENT ON ROLE {A} IS 'purveyor binding 99'",
        "have its password never end": f"SET ROLE NONE; ALTER ROLE {A1} VALID UNTIL 'infinity'",
        "rename itself": f"SET ROLE NONE; ALTER ROLE {A1} RENAME TO other",
        "make a login for later a member of the owner": f"SET ROLE NONE; GRANT {A} TO {A1} WITH ADMIN OPTION",
    }),
    ("files and programs", SERVER, "copies rows out and in", {
        "run a program": "COPY (SELECT 1) TO PROGRAM 'id'",
        "read from a program": "CREATE TEMP TABLE x (l text); COPY x FROM PROGRAM 'id'",
        "read the administrator's password": "CREATE TEMP TABLE x (l text); COPY x FROM '/etc/purveyor/postgres-password'",
        "write a file": "COPY (SELECT 1) TO '/tmp/x'",
        "read a file by a function": "SELECT pg_read_file('/etc/purveyor/postgres-password')",
        "list a folder": "SELECT pg_ls_dir('/')",
        "list the log of writes": "SELECT pg_ls_waldir()",
        "read a file by an entity of XML": (
            "SELECT 1 / position('root' IN xmlparse(DOCUMENT '<!DOCTYPE a [<!ENTITY e SYSTEM "
            "\"file:///etc/passwd\">]><a>&e;</a>')::text)"
        ),
        "ask for a file's facts": "SELECT pg_stat_file('/etc/passwd')",
        "put a tablespace somewhere": "CREATE TABLESPACE x LOCATION '/tmp'",
    }),
    ("files and programs", SERVER, "keeps large objects", {
        "read a file into a large object": "SELECT lo_import('/etc/passwd')",
        "write a large object to a file": "SELECT lo_export(lo_from_bytea(0, 'x'), '/tmp/x')",
    }),
    ("code", RIGHTS, "writes functions in SQL and PL/pgSQL", {
        "call the C library": _function("c", "'libc.so.6', 'system'"),
        "call what is inside the server": _function("internal", "'pg_read_file'"),
        "load a library": "LOAD '/tmp/x.so'",
        "run for whoever connects": (
            "CREATE FUNCTION public.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT "
            "TRIGGER e ON ddl_command_start EXECUTE FUNCTION public.e()"
        ),
        "have a function of its own taken for the server's": (
            "CREATE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql AS 'SELECT "
            "1'"
        ),
        "have its function called leakproof": "CREATE FUNCTION public.l() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1'",
        "make an access method": "CREATE ACCESS METHOD m TYPE INDEX HANDLER bthandler",
        "make a base type": "CREATE TYPE base; CREATE FUNCTION public.i(cstring) RETURNS base LANGUAGE internal AS 'textin'",
        "make a language": "CREATE LANGUAGE x HANDLER plpgsql_call_handler",
    }),
    ("extensions", SERVER, "makes trusted extensions", {
        f"make the extension {name}": f"CREATE EXTENSION {name}"
        for name in UNTRUSTED
    }),
    ("extensions", OTHERS, "makes trusted extensions", {
        "make a wrapper of its own": "CREATE FOREIGN DATA WRAPPER w",
        "subscribe to another database": f"CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 user={B} dbname={B}' PUBLICATION p",
    }),
    ("catalog", OTHERS, "reads the catalog of its own database", {
        "read everybody's verifier": "SELECT rolpassword FROM pg_authid",
        "read them by the old name": "SELECT passwd FROM pg_shadow",
        "read who may come in how": "SELECT * FROM pg_hba_file_rules",
        "read the server's files of settings": "SELECT * FROM pg_file_settings",
        "read what subscriptions log in with": "SELECT subconninfo FROM pg_subscription",
        "read what servers beside are logged in to with": "SELECT umoptions FROM pg_user_mapping",
        "read samples of tables that are not its own": "SELECT * FROM pg_statistic",
        "read what another project asks": (
            f"SELECT 1 / count(*) FROM pg_stat_activity WHERE usename = '{B1}' AND query ~ "
            "'pg_sleep'"
        ),
        "read where another project comes from": f"SELECT 1 / count(client_addr) FROM pg_stat_activity WHERE usename = '{B1}'",
        "read how the server was built": "SELECT * FROM pg_config",
    }),
    ("catalog", RIGHTS, "reads the catalog of its own database", {
        "change the catalog by hand": f"UPDATE pg_authid SET rolsuper = true WHERE rolname = '{A}'",
        "put itself into a role by hand": "INSERT INTO pg_auth_members SELECT 1, 10, 16384, 10, true",
        "make a table of the server's": "CREATE TABLE pg_catalog.x (x int)",
        "make a schema of the server's": "CREATE SCHEMA pg_x",
        "change the server's own function": "ALTER FUNCTION pg_catalog.version() OWNER TO CURRENT_USER",
        "let everybody read verifiers": (
            "GRANT SELECT ON pg_authid TO PUBLIC; SELECT 1 / has_table_privilege('pg_authid', "
            "'SELECT')::int"
        ),
    }),
    ("databases", STOP, "makes schemas and publications", {
        "set what everybody gets who looks into its database": f"ALTER DATABASE {A} SET search_path = x",
        "shut everybody out by a library": f"ALTER DATABASE {A} SET local_preload_libraries = 'nope'",
        "shut the backup out by a limit": f"ALTER DATABASE {A} CONNECTION LIMIT 0",
        "keep its database from being dropped": f"ALTER DATABASE {A} IS_TEMPLATE true",
        "forbid connections to its database": f"ALTER DATABASE {A} ALLOW_CONNECTIONS false",
        "rename its database": f"ALTER DATABASE {A} RENAME TO other",
        "drop its database": f"DROP DATABASE {A}",
        "drop another project's database": f"DROP DATABASE {B} WITH (FORCE)",
        "set what another project's database begins with": f"ALTER DATABASE {B} SET search_path = x",
        "have every change of every table kept": "CREATE PUBLICATION p FOR ALL TABLES",
    }),
    ("databases", OTHERS, "makes schemas and publications", {
        "copy another project's database": f"CREATE DATABASE loot TEMPLATE {B}",
        "let another project into its own": (
            f"GRANT CONNECT ON DATABASE {A} TO {B}; SELECT 1 / has_database_privilege('{B}', '{A}', "
            "'CONNECT')::int"
        ),
        "make another project's database its own": f"ALTER DATABASE {B} OWNER TO {A}",
        "forge the mark of another project's database": f"COMMENT ON DATABASE {B} IS 'x'",
    }),
    ("sessions", STOP, "sees and ends its own sessions", {
        "end another project's sessions": f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{B1}'",
        "cancel another project's work": f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '{B1}'",
        "end the server's own processes": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IS NULL",
        "have another session's memory printed": (
            "SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE usename = "
            f"'{B1}'"
        ),
    }),
    ("locks", STOP, "locks its own tables, and listens", {
        "lock the catalog of roles": "BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE",
        "lock the catalog of databases": "BEGIN; LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE",
        "hold the rows of all databases": "SELECT * FROM pg_database FOR UPDATE",
        "leave a transaction that no session has": "BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'x'",
    }),
    ("the server", STOP, "vacuums and measures its own tables", {
        "change the server's settings": "ALTER SYSTEM SET max_connections = 1",
        "have settings read again": "SELECT pg_reload_conf()",
        "force a checkpoint": "CHECKPOINT",
        "begin a new file of the log of writes": "SELECT pg_switch_wal()",
        "keep the log of writes for ever": "SELECT pg_create_physical_replication_slot('s', true)",
        "read the log of writes": "SELECT pg_create_logical_replication_slot('s', 'test_decoding')",
        "drop the slot of the archive": "SELECT pg_drop_replication_slot('purveyor')",
        "turn the server's log over": "SELECT pg_rotate_logfile()",
        "make a point to recover to": "SELECT pg_create_restore_point('x')",
        "begin a backup that never ends": "SELECT pg_backup_start('x')",
        "have the server promoted": "SELECT pg_promote()",
        "forget the statistics": "SELECT pg_stat_reset_shared('bgwriter')",
    }),
)  # fmt: skip


# ---------------------------------------------------------------- Redis: a command


def _lua(text: str) -> tuple[str, ...]:
    return ("EVAL", text, "0")


LIBRARY = "#!lua name=x\nredis.register_function('f', function() return 1 end)"
REDIS = _table(
    "Redis",
    {
        "says who it is, and asks its own connection": ("CLIENT", "SETNAME", "worker"),
        "works in its own database": ("SET", "own", "1"),
        "empties its own database": ("FLUSHDB",),
        "runs scripts on its keys": ("EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "k"),
        "publishes to its own channels": ("PUBLISH", f"{A}:news", "x"),
        "reads what the server is": ("INFO", "server"),
        "waits for work": ("BLPOP", "queue", "0.05"),
    },
    ("connections", OTHERS, "says who it is, and asks its own connection", {
        "see every key name that others touch": ("CLIENT", "TRACKING", "ON", "BCAST"),
        "ask whom tracking tells": ("CLIENT", "TRACKINGINFO"),
        "list others' connections": ("CLIENT", "LIST"),
        "read every command that others send": ("MONITOR",),
        "log in as another project with its own password": ("AUTH", B, "x"),
        "log in as the administrator without a password": ("AUTH", "default", ""),
        "log in while it says hello": ("HELLO", "3", "AUTH", "default", ""),
    }),
    ("connections", STOP, "says who it is, and asks its own connection", {
        "end others' connections": ("CLIENT", "KILL", "USER", B),
        "wake others": ("CLIENT", "UNBLOCK", "1"),
        "halt everybody": ("CLIENT", "PAUSE", "10000"),
        "have nothing of its own evicted": ("CLIENT", "NO-EVICT", "ON"),
    }),
    ("databases", OTHERS, "works in its own database", {
        "select another project's database": ("SELECT", "2"),
        "select the database that nobody has": ("SELECT", "0"),
        "select the database of the manager": ("SELECT", "16"),
        "move a key to another's": ("MOVE", "own", "2"),
        "copy a key to another's": ("COPY", "own", "own", "DB", "2"),
        "exchange two databases": ("SWAPDB", "1", "2"),
        "send keys to another server": ("MIGRATE", "127.0.0.1", "6379", "own", "2", "100"),
        "send keys into a neighbour's server": (
            "MIGRATE", "127.0.0.1", "7002", "", "0", "100", "AUTH2", B, "x", "KEYS", "own",
        ),
        "copy all of a neighbour's server": ("REPLICAOF", "127.0.0.1", "7002"),
        "replicate everything": ("PSYNC", "?", "-1"),
        "copy everything": ("SYNC",),
    }),
    ("databases", STOP, "empties its own database", {
        "empty every database": ("FLUSHALL",),
        "empty every database at once": ("FLUSHALL", "ASYNC"),
    }),
    ("scripts", OTHERS, "runs scripts on its keys", {
        "select another's database in a script": _lua("return redis.call('SELECT', '2')"),
        "copy to another's in a script": _lua("return redis.call('COPY', 'own', 'own', 'DB', '2')"),
        "publish to others in a script": _lua("return redis.call('PUBLISH', 'all', 'x')"),
    }),
    ("scripts", SERVER, "runs scripts on its keys", {
        "run a program": _lua("return os.execute('id')"),
        "open a file": _lua("return io.open('/etc/passwd')"),
        "load bytecode": _lua("return load('x')()"),
        "read a file as a script": _lua("return dofile('/etc/passwd')"),
        "look at what is around a script": _lua("return debug.getinfo(1).source"),
        "read the configuration in a script": _lua("return redis.call('CONFIG', 'GET', '*')"),
        "change what all scripts share": _lua("redis.call = nil return 1"),
        "leave a function for others": ("FUNCTION", "LOAD", LIBRARY),
    }),
    ("scripts", STOP, "runs scripts on its keys", {
        "empty every database in a script": _lua("return redis.call('FLUSHALL')"),
        "forget others' scripts": ("SCRIPT", "FLUSH"),
        "end others' scripts": ("SCRIPT", "KILL"),
        "forget others' functions": ("FUNCTION", "FLUSH"),
        "stop the server in a script": _lua("return redis.call('SHUTDOWN')"),
    }),
    ("channels", OTHERS, "publishes to its own channels", {
        "hear every channel": ("PSUBSCRIBE", "*"),
        "hear another's channel": ("SUBSCRIBE", f"{B}:news"),
        "hear a channel of a shard": ("SSUBSCRIBE", "news"),
        "hear of keys in another's database": ("SUBSCRIBE", "__keyspace@2__:k"),
        "publish to another's channel": ("PUBLISH", f"{B}:news", "x"),
        "list the channels": ("PUBSUB", "CHANNELS"),
    }),
    ("users", RIGHTS, "reads what the server is", {
        "list the users": ("ACL", "LIST"),
        "read another's rules": ("ACL", "GETUSER", B),
        "widen itself": ("ACL", "SETUSER", A, "allcommands", "allchannels"),
        "make a user": ("ACL", "SETUSER", "later", "on", "nopass", "~*", "+@all"),
        "remove another": ("ACL", "DELUSER", B),
        "read the log of refusals": ("ACL", "LOG"),
        "try what another may": ("ACL", "DRYRUN", B, "GET", "k"),
        "read the users again from a file": ("ACL", "LOAD"),
        "let everybody in": ("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all"),
    }),
    ("the server", SERVER, "reads what the server is", {
        "read the configuration": ("CONFIG", "GET", "*"),
        "write a file where it wants": ("CONFIG", "SET", "dir", "/tmp"),
        "lift the limit of memory": ("CONFIG", "SET", "maxmemory", "0"),
        "have payloads taken as they are": ("CONFIG", "SET", "sanitize-dump-payload", "no"),
        "write the configuration": ("CONFIG", "REWRITE"),
        "list modules": ("MODULE", "LIST"),
        "load a module": ("MODULE", "LOAD", "/tmp/x.so"),
        "load a module with arguments": ("MODULE", "LOADEX", "/data/x.so", "CONFIG", "x", "y"),
        "write a program of the launcher's as a dump": ("CONFIG", "SET", "dbfilename", "redis-launcher"),
        "listen at a neighbour's socket": ("CONFIG", "SET", "unixsocket", "/run/redis-projects/7002/sock"),
        "read slow commands of others": ("SLOWLOG", "GET"),
        "read the latencies": ("LATENCY", "LATEST"),
    }),
    ("the server", STOP, "waits for work", {
        "stop it": ("SHUTDOWN", "NOSAVE"),
        "have it sleep": ("DEBUG", "SLEEP", "5"),
        "crash it": ("DEBUG", "SEGFAULT"),
        "make it another's replica": ("REPLICAOF", "127.0.0.1", "1"),
        "have it fail over": ("FAILOVER",),
        "write everything down now": ("SAVE",),
        "write everything down beside": ("BGSAVE",),
        "write the log anew": ("BGREWRITEAOF",),
        "make it a cluster": ("CLUSTER", "MEET", "127.0.0.1", "1"),
        "forget the statistics": ("CONFIG", "RESETSTAT"),
        "shut the administrator out": ("ACL", "SETUSER", "purveyor", "off"),
    }),
)  # fmt: skip


# Where each environment has a server of its own, these reach nobody else, and frameworks need them.
HARMLESS = {
    "see every key name that others touch", "ask whom tracking tells", "list others' connections",
    "wake others",
    "select another project's database", "select the database that nobody has",
    "move a key to another's",
    "copy a key to another's", "exchange two databases", "empty every database",
    "empty every database at once",
    "select another's database in a script", "copy to another's in a script",
    "publish to others in a script",
    "read the configuration in a script", "leave a function for others",
    "empty every database in a script",
    "forget others' scripts", "forget others' functions", "hear every channel",
    "hear another's channel",
    "hear a channel of a shard", "hear of keys in another's database",
    "publish to another's channel", "list the channels",
    "read the configuration", "read slow commands of others", "read the latencies",
}  # fmt: skip
REDIS_SERVERS = Matrix(
    "Redis, a server each",
    tuple(attack for attack in REDIS.attacks if attack.what not in HARMLESS),
    REDIS.honest,
)

# ---------------------------------------------------------------- MongoDB: a function of a client

Mongo = Callable[[Any], Any]


def _admin(*command: Any, **options: Any) -> Mongo:
    return lambda client: client.admin.command(*command, **options)


def _own(*command: Any, **options: Any) -> Mongo:
    return lambda client: client[A].command(*command, **options)


def _piped(*stages: dict[str, Any], of: str = A) -> Mongo:
    return lambda client: list(client[of].notes.aggregate(list(stages)))


JOIN = {"$lookup": {"from": "secrets", "as": "x", "localField": "a", "foreignField": "a"}}
MONGODB = _table(
    "MongoDB",
    {
        "writes and reads its own documents": lambda client: client[A].notes.insert_one({"mine": True}),
        "aggregates its own documents": _piped({"$group": {"_id": None, "n": {"$sum": 1}}}),
        "makes indexes": lambda client: client[A].notes.create_index("mine"),
        "logs in": _own("ping"),
    },
    ("documents", OTHERS, "writes and reads its own documents", {
        "read another's documents": lambda client: client[B].secrets.find_one(),
        "write into another's database": lambda client: client[B].secrets.insert_one({"x": 1}),
        "change another's documents": lambda client: client[B].secrets.update_many({},
        {"$set": {"x": 1}}),
        "delete another's documents": lambda client: client[B].secrets.delete_many({}),
        "count another's documents": lambda client: client[B].secrets.count_documents({}),
        "list another's collections": lambda client: client[B].list_collection_names(),
        "drop another's database": lambda client: client.drop_database(B),
        "make a collection in another's database": lambda client: client[B].create_collection("x"),
        "read the manager's marks": lambda client: list(client["purveyor"].bindings.find()),
        "read the manager's identity": lambda client: list(client["purveyor"].identity.find()),
        "read the log of all writes": lambda client: client["local"]["oplog.rs"].find_one(),
        "read what the server keeps of itself": lambda client: client["config"].settings.find_one(),
        "list all databases": lambda client: client.list_database_names(),
        "have another's work written down": lambda client: client[B].command("profile", 2),
    }),
    ("indexes", OTHERS, "makes indexes", {
        "make an index in another's database": lambda client: client[B].secrets.create_index("x"),
        "list another's indexes": lambda client: list(client[B].secrets.list_indexes()),
    }),
    ("aggregations", OTHERS, "aggregates its own documents", {
        "join another's documents": _piped(JOIN, of=B),
        "write its result into another's": _piped({"$match": {}},
        {"$out": {"db": B, "coll": "stolen"}}),
        "merge its result into another's": _piped({"$match": {}},
        {"$merge": {"into": {"db": B, "coll": "secrets"}}}),
        "watch another's changes": lambda client: client[B].secrets.watch(),
        "watch everybody's changes": lambda client: client.watch(),
        "see what others do": lambda client: list(client.admin.aggregate([{"$currentOp": {"allUsers": True}}])),
    }),
    ("users", RIGHTS, "logs in", {
        "make itself root": _own("updateUser", A1, roles=["root"]),
        "make a user": _admin("createUser", "mallory", pwd="x", roles=["root"]),
        "make a user in its own database": _own("createUser", "mallory", pwd="x",
        roles=["readWrite"]),
        "read the users": lambda client: list(client.admin["system.users"].find()),
        "ask for everybody's accounts": _admin("usersInfo", {"forAllDBs": True}),
        "take another's password": lambda client: client[B].command("updateUser", B1, pwd="x"),
        "remove another's user": lambda client: client[B].command("dropUser", B1),
        "give itself another's database": _own("grantRolesToUser", A1,
        roles=[{"role": "readWrite", "db": B}]),
        "make a role": _own("createRole", "r", privileges=[], roles=[]),
    }),
    ("users", STAY, "logs in", {
        "take the manager's mark from its user": _own("updateUser", A1, customData={}),
        "set its own password": _own("updateUser", A1, pwd="x"),
    }),
    ("the server", STOP, "logs in", {
        "halt all writes": _admin("fsync", 1, lock=True),
        "end others' work": _admin("killOp", 1, op=1),
        "change how it works": _admin("setParameter", 1, notablescan=True),
        "read its log": _admin("getLog", "global"),
    }),
)  # fmt: skip


# ---------------------------------------------------------------- S3: a function of a client

BUCKET, BETA = "alpha-production", "beta-production"
READ_BETA = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": ["s3:GetObject"],
    "Resource": [f"arn:aws:s3:::{BETA}/*"],
}
SHUT = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": ["s3:*"],
    "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
}
WIDER = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}
OFF = {"Status": "Suspended"}
LOCK = {
    "ObjectLockEnabled": "Enabled",
    "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 9}},
}


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _delete_many(s3: Any) -> None:
    said = s3.delete_objects(Bucket=BETA, Delete={"Objects": [{"Key": "secret"}]})
    if said.get("Errors"):
        raise PermissionError(said["Errors"])


def _part_of_beta(s3: Any) -> None:
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="loot")["UploadId"]
    s3.upload_part_copy(
        Bucket=BUCKET, Key="loot", UploadId=begun, PartNumber=1, CopySource=f"{BETA}/secret"
    )


def _answered(answer: httpx.Response) -> None:
    if answer.is_client_error:
        raise PermissionError(f"{answer.status_code} {answer.text}")
    answer.raise_for_status()


def _read_by_address(bucket: str, key: str, signed_for: str = "") -> Callable[[Any], None]:
    """By an address that is signed for a bucket, this one or another."""

    def work(s3: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="own", Body=b"x")
        params = {"Bucket": signed_for or bucket, "Key": key}
        address = s3.generate_presigned_url("get_object", Params=params)
        _answered(httpx.get(address.replace(f"/{signed_for or bucket}/", f"/{bucket}/")))

    return work


def _write_by_address(s3: Any) -> None:
    params = {"Bucket": BETA, "Key": "x"}
    _answered(httpx.put(s3.generate_presigned_url("put_object", Params=params), content=b"x"))


def _post_form(signed_for: str) -> Callable[[Any], None]:
    """A form for another's bucket, signed for a bucket."""

    def work(s3: Any) -> None:
        form = s3.generate_presigned_post(signed_for, "x")
        fields = {**form["fields"], "bucket": BETA}
        address = form["url"].replace(f"/{signed_for}", f"/{BETA}")
        _answered(httpx.post(address, data=fields, files={"file": b"x"}))

    return work


def _versioned(s3: Any) -> None:
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})


S3 = _table(
    "S3",
    {
        "writes, reads and deletes its own objects": lambda s3: s3.put_object(Bucket=BUCKET,
        Key="own", Body=b"x"),
        "lists its own bucket": lambda s3: s3.list_objects_v2(Bucket=BUCKET),
        "uploads in parts": lambda s3: s3.create_multipart_upload(Bucket=BUCKET, Key="own-parts"),
        "turns versions on": _versioned,
        "reads its own object by an address that it signs": _read_by_address(BUCKET, "own"),
    },
    ("signed addresses", OTHERS, "reads its own object by an address that it signs", {
        "read another's object by an address that it signs": _read_by_address(BETA, "secret"),
        "read another's object by an address signed for its own": _read_by_address(BETA, "secret",
        BUCKET),
        "write another's object by an address that it signs": _write_by_address,
        "post a form that it signs into another's bucket": _post_form(BETA),
        "post a form signed for its own bucket into another's": _post_form(BUCKET),
    }),
    ("objects", OTHERS, "writes, reads and deletes its own objects", {
        "read another's object": lambda s3: s3.get_object(Bucket=BETA, Key="secret"),
        "ask for another's object": lambda s3: s3.head_object(Bucket=BETA, Key="secret"),
        "write into another's bucket": lambda s3: s3.put_object(Bucket=BETA, Key="x", Body=b"x"),
        "delete another's object": lambda s3: s3.delete_object(Bucket=BETA, Key="secret"),
        "delete many of another's": _delete_many,
        "copy another's object to its own": lambda s3: s3.copy_object(Bucket=BUCKET, Key="y",
        CopySource=f"{BETA}/secret"),
        "copy its own over another's": lambda s3: s3.copy_object(Bucket=BETA, Key="secret",
        CopySource=f"{BUCKET}/own"),
        "read another's tags": lambda s3: s3.get_object_tagging(Bucket=BETA, Key="secret"),
        "tag another's object": lambda s3: s3.put_object_tagging(Bucket=BETA, Key="secret",
        Tagging={"TagSet": []}),
        "read another's by a path that climbs": lambda s3: s3.get_object(Bucket=BUCKET,
        Key=f"../{BETA}/secret"),
    }),
    ("parts", OTHERS, "uploads in parts", {
        "copy another's object as a part": _part_of_beta,
        "upload parts into another's bucket": lambda s3: s3.create_multipart_upload(Bucket=BETA,
        Key="x"),
        "list another's uploads": lambda s3: s3.list_multipart_uploads(Bucket=BETA),
    }),
    ("buckets", OTHERS, "lists its own bucket", {
        "list another's objects": lambda s3: s3.list_objects_v2(Bucket=BETA),
        "list another's versions": lambda s3: s3.list_object_versions(Bucket=BETA),
        "open another's bucket to all": lambda s3: s3.put_bucket_policy(Bucket=BETA,
        Policy=_policy(READ_BETA)),
        "read another's policy": lambda s3: s3.get_bucket_policy(Bucket=BETA),
        "remove another's bucket": lambda s3: s3.delete_bucket(Bucket=BETA),
        "turn another's versions off": lambda s3: s3.put_bucket_versioning(Bucket=BETA,
        VersioningConfiguration=OFF),
        "read the manager's marks": lambda s3: s3.list_objects_v2(Bucket="purveyor"),
        "read the manager's identity": lambda s3: s3.get_object(Bucket="purveyor", Key="identity"),
    }),
    ("its own bucket", STOP, "turns versions on", {
        "shut the administrator and the backups out": lambda s3: s3.put_bucket_policy(Bucket=BUCKET,
        Policy=_policy(SHUT)),
        "lift such a policy": lambda s3: s3.delete_bucket_policy(Bucket=BUCKET),
        "lock its bucket for years": lambda s3: s3.put_object_lock_configuration(Bucket=BUCKET,
        ObjectLockConfiguration=LOCK),
        "remove its own bucket": lambda s3: s3.delete_bucket(Bucket=BUCKET),
        "make a bucket": lambda s3: s3.create_bucket(Bucket="loot"),
    }),
    ("its own bucket", STAY, "turns versions on", {
        "open its bucket to all": lambda s3: s3.put_bucket_acl(Bucket=BUCKET,
        ACL="public-read-write"),
    }),
)  # fmt: skip

IAM: dict[str, Callable[[Any], Any]] = {
    "make a user": lambda iam: iam.create_user(UserName="mallory"),
    "widen itself": lambda iam: iam.put_user_policy(
        UserName="alpha", PolicyName="p", PolicyDocument=_policy(WIDER)
    ),
    "list the users": lambda iam: iam.list_users(),
    "make a key for another": lambda iam: iam.create_access_key(UserName="beta"),
}


# -------------------------------------------------- KV and Blob: a request (method, path, its body)


def _rest(*words: Any) -> tuple[str, str, Any]:
    return ("POST", "/api/kv/rest", list(words))


KV = _table(
    "KV",
    {
        "writes and reads its own keys": ("POST", "/api/kv/set", {"key": "own", "value": 1}),
        "runs commands, pipelines and scripts": _rest("EVAL",
        "return redis.call('SET', KEYS[1], '1')", 1, "k"),
    },
    ("requests", OTHERS, "writes and reads its own keys", {
        "read another's key by its number": ("POST", "/api/kv/get",
        {"key": "secret", "project_id": "BETA"}),
        "read another's key by its name": ("POST", "/api/kv/get",
        {"key": "secret", "project_id": "beta"}),
        "write another's key": ("POST", "/api/kv/set",
        {"key": "secret", "value": 1, "project_id": "beta"}),
        "delete another's key": ("POST", "/api/kv/del", {"keys": ["secret"], "project_id": "beta"}),
        "list another's keys": ("POST", "/api/kv/keys", {"project_id": "beta"}),
        "climb to another by its environment": ("POST", "/api/kv/get",
        {"key": "secret", "environment": "../beta"}),
        "take an environment of another": ("POST", "/api/kv/get",
        {"key": "secret", "environment": "elsewhere"}),
    }),
    ("requests", STOP, "writes and reads its own keys", {
        "switch it off": ("DELETE", "/api/kv/disable", None),
        "change its image": ("PATCH", "/api/kv/update", {"docker_image": "evil:1"}),
        "write a value of 9 MB": ("POST", "/api/kv/set", {"key": "own", "value": "x" * 9_000_000}),
    }),
    ("commands", OTHERS, "runs commands, pipelines and scripts", {
        "select another's database": _rest("SELECT", "18"),
        "select it in a script": _rest("EVAL", "return redis.call('SELECT', '18')", 0),
        "move a key to another's": _rest("MOVE", "own", 18),
        "copy a key to another's": _rest("COPY", "own", "own", "DB", 18),
        "log in as the administrator": _rest("AUTH", "default", ""),
        "read every command": _rest("MONITOR"),
        "hear every channel": _rest("PSUBSCRIBE", "*"),
        "read the users": _rest("ACL", "LIST"),
        "read the configuration": _rest("CONFIG", "GET", "*"),
        "hear another's channel by its whole name": _rest("SUBSCRIBE", f"{B}:news"),
        "publish to another's channel in a script": _rest("EVAL",
        f"return redis.call('PUBLISH', '{B}:news', 'x')", 0),
        "select another's database among the commands of a pipeline": ("POST",
        "/api/kv/rest/pipeline", [["SELECT", "18"], ["GET", "secret"]]),
        "end a transaction early, and go on outside it": ("POST", "/api/kv/rest/multi-exec",
        [["EXEC"], ["SELECT", "18"], ["GET", "secret"]]),
        "climb out of the commands by the path": ("GET",
        "/api/kv/rest/..%2f..%2fexternal-services", None),
    }),
    ("commands", STOP, "runs commands, pipelines and scripts", {
        "hold a connection for ever": _rest("BLPOP", "a", 0),
        "hold one for ever by what stands behind the path": ("POST",
        "/api/kv/rest/xread?BLOCK=0&STREAMS=a&0", None),
        "hold one for ever by a body": ("POST", "/api/kv/rest/xread/STREAMS/a/0/x", b"BLOCK"),
        "leave a transaction open": _rest("MULTI"),
        "turn answers off": _rest("CLIENT", "REPLY", "OFF"),
        "empty every database": _rest("FLUSHALL"),
        "stop the server": _rest("SHUTDOWN"),
        "have it sleep": _rest("DEBUG", "SLEEP", 5),
        "make it another's replica": _rest("REPLICAOF", "h", 1),
        "run code of a body": ("POST", "/api/kv/rest", {"__class__": "x"}),
    }),
)  # fmt: skip

BLOB = _table(
    "Blob",
    {
        "writes and reads its own blobs": ("POST", "/api/blob?pathname=own", b"x"),
        "copies and deletes its own blobs": ("DELETE", "/api/blob", {"pathnames": ["nothing"]}),
    },
    ("requests", OTHERS, "writes and reads its own blobs", {
        "read another's blob by its number": ("GET", "/api/blob/BETA/secret", None),
        "read another's blob by its name": ("GET", "/api/blob/beta/secret", None),
        "climb to another's blob": ("GET", "/api/blob/..%2Fbeta-production%2Fsecret", None),
        "climb with doubled escapes": ("GET", "/api/blob/%252e%252e%252fbeta-production%252fsecret",
        None),
        "list another's blobs": ("GET", "/api/blob?project_id=beta", None),
        "write another's blob": ("POST", "/api/blob?pathname=secret&project_id=beta", b"x"),
        "write outside its bucket": ("POST", "/api/blob?pathname=../beta-production/secret", b"x"),
        "write a name with a NUL": ("POST", "/api/blob?pathname=a%00b", b"x"),
        "put a header into the type": ("POST",
        "/api/blob?pathname=own&content_type=a%0d%0aX-Evil:%201", b"x"),
    }),
    ("requests", OTHERS, "copies and deletes its own blobs", {
        "copy another's blob": ("POST", "/api/blob/copy",
        {"fromUrl": "/api/blob/BETA/secret", "toPathname": "loot"}),
        "have this host fetch an address": ("POST", "/api/blob/copy",
        {"fromUrl": "http://169.254.169.254/", "toPathname": "x"}),
        "delete another's blob": ("DELETE", "/api/blob",
        {"pathnames": ["secret"], "projectId": "beta"}),
        "delete another's blob by its address": ("DELETE", "/api/blob",
        {"pathnames": ["/api/blob/BETA/secret"]}),
    }),
    ("requests", STOP, "writes and reads its own blobs", {
        "switch it off": ("DELETE", "/api/blob/disable", None),
        "delete more at once than there may be": ("DELETE", "/api/blob",
        {"pathnames": ["x"] * 1001}),
        "ask for a page without end": ("GET", "/api/blob?limit=1000000", None),
    }),
)  # fmt: skip

ALL = (POSTGRES, REDIS, REDIS_SERVERS, MONGODB, S3, KV, BLOB)
