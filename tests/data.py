"""Data sets for tests: what goes in, and what must come out again, by drivers that know nothing of
Purveyor."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import boto3
import pymongo
import redis
from botocore.config import Config

from support import Stage

MANY_KINDS = """
CREATE EXTENSION pgcrypto; CREATE EXTENSION pg_trgm;
CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('sad', 'glad'); CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE TYPE app.pair AS (a int, b text);
CREATE TABLE app.customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood app.mood DEFAULT 'glad',
    born date, data jsonb, tags text[], photo bytea, p app.pair, n app.positive,
    full_name text GENERATED ALWAYS AS (name || '!') STORED);
INSERT INTO app.customers (name, data, tags, photo, p, n, born)
    SELECT 'c' || g, jsonb_build_object('n', g), ARRAY['a', 'b' || g], decode(md5(g::text), 'hex'), ROW(g, 'x')::app.pair, g,
    '2000-01-01'
    FROM generate_series(1, 5000) g;
CREATE TABLE app.orders (id bigserial PRIMARY KEY, customer int REFERENCES app.customers ON DELETE CASCADE, total numeric(10, 2),
    at timestamptz DEFAULT now()) ;
INSERT INTO app.orders (customer, total) SELECT 1 + g % 5000, g / 7.0 FROM generate_series(1, 20000) g;
CREATE INDEX orders_at ON app.orders (at); CREATE UNIQUE INDEX customers_lower ON app.customers (lower(name));
CREATE INDEX trigrams ON app.customers USING gin (name gin_trgm_ops);
CREATE TABLE app.events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE app.events_2025 PARTITION OF app.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE app.events_2026 PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO app.events SELECT '2025-06-01'::date + g, 'e' || g FROM generate_series(1, 500) g;
CREATE VIEW app.rich AS SELECT customer, sum(total) AS total FROM app.orders GROUP BY 1;
CREATE MATERIALIZED VIEW app.summary AS SELECT count(*) AS n FROM app.orders;
CREATE FUNCTION app.double(x int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN x * 2; END';
CREATE PROCEDURE app.nothing() LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.at := now(); RETURN NEW; END';
CREATE TRIGGER stamped BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.stamp();
ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON app.customers USING (name = current_user);
CREATE RULE quiet AS ON DELETE TO app.events_2025 DO INSTEAD NOTHING;
CREATE SEQUENCE app.numbers START 1000 INCREMENT 7; SELECT nextval('app.numbers'), nextval('app.numbers');
SELECT lo_from_bytea(4711, 'a large object');
CREATE AGGREGATE app.longest (text) (SFUNC = textcat, STYPE = text);
CREATE COLLATION app.plain (locale = 'C');
COMMENT ON TABLE app.customers IS 'who buys; "quoted" and ünïcode';
CREATE PUBLICATION news FOR TABLE app.orders;
CREATE TABLE "Odd ""Na me" ("a b" int); INSERT INTO "Odd ""Na me" VALUES (1);
CREATE UNLOGGED TABLE app.scratch AS SELECT 1 AS x;
CREATE STATISTICS app.stats ON id, customer FROM app.orders;
"""
ROLES = """
CREATE ROLE reader NOLOGIN; CREATE ROLE ada LOGIN PASSWORD 'secret ''quoted''' IN ROLE reader;
ALTER ROLE ada SET work_mem = '7MB';
GRANT USAGE ON SCHEMA app TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA app TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_production IN SCHEMA app GRANT SELECT ON TABLES TO reader;
ALTER TABLE app.orders OWNER TO ada;
ALTER DATABASE shop_production SET statement_timeout = '12345'; REVOKE EXECUTE ON FUNCTION app.double(int) FROM PUBLIC;
ALTER ROLE ada IN DATABASE shop_production SET search_path = app;
"""
FINGERPRINT = """
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT NULL AS line WHERE false UNION ALL SELECT 'rows ' || c.relname || ' ' || (xpath('/row/h/text()', query_to_xml(format(
        'SELECT coalesce(md5(string_agg(md5(t::text), '''' ORDER BY md5(t::text))), ''none'') AS h FROM ONLY %s t',
        c.oid::regclass), false, true, '')))[1]::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm') AND n.nspname IN ('app', 'public')
    UNION ALL SELECT 'owner ' || c.oid::regclass::text || ' ' || c.relkind::text || ' ' || pg_get_userbyid(c.relowner) || ' '
        || coalesce((SELECT string_agg(replace(a::text, 'm/', '/'), ',' ORDER BY a::text) FROM unnest(c.relacl) a), '')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('app', 'public') AND c.relkind <> 't'
    UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname IN ('app', 'public')
    UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace::regnamespace::text IN ('app', 'public') AND contype <> 'n'
    UNION ALL SELECT 'function ' || p.oid::regprocedure::text || ' ' || p.prosrc || coalesce(p.proacl::text, '') FROM pg_proc p
        WHERE pronamespace::regnamespace::text = 'app'
    UNION ALL SELECT 'view ' || viewname || replace(definition, 'orders.', '') FROM pg_views WHERE schemaname = 'app'
    UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'policy ' || polname || pg_get_expr(polqual, polrelid) FROM pg_policy
    UNION ALL SELECT 'sequence ' || sequencename || ' ' || coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'app'
    UNION ALL SELECT 'extension ' || extname FROM pg_extension
    UNION ALL SELECT 'comment ' || coalesce(obj_description('app.customers'::regclass), '')
    UNION ALL SELECT 'large ' || oid || ' ' || convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata
    UNION ALL SELECT 'publication ' || pubname FROM pg_publication
    UNION ALL SELECT 'settings ' || coalesce(setrole::regrole::text, '') || setconfig::text FROM pg_db_role_setting
        WHERE setrole::regrole::text !~ '_production_[0-9]+$'
    UNION ALL SELECT 'role ' || rolname || rolcanlogin::text || rolsuper::text || coalesce(rolpassword, '') FROM pg_authid
        WHERE rolname !~ '^pg_|^purveyor_|_production(_[0-9]+)?$' AND rolname <> 'postgres'
    UNION ALL SELECT 'member ' || roleid::regrole::text || ' ' || member::regrole::text FROM pg_auth_members
        WHERE member::regrole::text !~ '^pg_|_production_[0-9]+$'
) lines
"""


def psql(stage: Stage, service: str, statement: str, database: str = "shop_production") -> str:
    return stage.cli(
        "connect", service, "--", "-d", database, "-v", "ON_ERROR_STOP=1", "-qAtc", statement
    ).strip()


def fill_postgres(stage: Stage, service: str = "main") -> None:
    """As the project's own: what an administrator owns in a project's database becomes the
    project's in a restore."""
    psql(stage, service, "SET ROLE shop_production;" + MANY_KINDS)
    psql(stage, service, ROLES)


def fingerprint(stage: Stage, service: str = "main") -> list[str]:
    """Every row, owner, grant, definition and setting, as text; but for the passwords of projects,
    which a link renews, and MAINTAIN, which PostgreSQL 17 adds to what an owner may."""
    return psql(stage, service, FINGERPRINT).splitlines()


def ask(variables: dict[str, str], statement: str) -> Any:
    """What the app of a project is answered."""

    async def work() -> Any:
        connection = await asyncpg.connect(variables["DATABASE_URL"], timeout=60)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(work())


def fill_redis(variables: dict[str, str], url: str = "REDIS_URL") -> None:
    with redis.from_url(variables[url]) as client:
        client.mset({f"k:{number}": f"value {number}" for number in range(3000)})
        client.hset("hash", mapping={"a": 1, "b": "zwei"})
        client.rpush("list", *range(100))
        client.sadd("set", "x", "y")
        client.zadd("zset", {"one": 1, "two": 2.5})
        client.xadd("stream", {"field": "value"}, id="1-1")
        client.set("binary", bytes(range(256)))
        client.set("ending", "soon", ex=10_000)


def redis_contents(variables: dict[str, str], url: str = "REDIS_URL") -> dict[bytes, Any]:
    """Every key with its value, whatever its kind."""
    readers: dict[str, Callable[[Any, bytes], Any]] = {
        "string": lambda client, key: client.get(key),
        "hash": lambda client, key: client.hgetall(key),
        "list": lambda client, key: client.lrange(key, 0, -1),
        "set": lambda client, key: sorted(client.smembers(key)),
        "zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
        "stream": lambda client, key: client.xrange(key),
    }
    with redis.from_url(variables[url]) as client:
        return {
            key: readers[client.type(key).decode()](client, key) for key in sorted(client.keys("*"))
        }


def fill_mongodb(variables: dict[str, str]) -> None:
    with pymongo.MongoClient(variables["MONGODB_URL"]) as client:
        database = client[variables["MONGODB_DATABASE"]]
        database.people.insert_many(
            [
                {"_id": n, "name": f"p{n}", "tags": ["a", n], "deep": {"x": n / 3}}
                for n in range(2500)
            ]
        )
        database.people.create_index("name", unique=True, name="by_name")
        database.notes.insert_one({"text": "grün 💚", "raw": b"\x00\xff"})


def mongodb_contents(variables: dict[str, str]) -> Any:
    with pymongo.MongoClient(variables["MONGODB_URL"]) as client:
        database = client[variables["MONGODB_DATABASE"]]
        names = sorted(database.list_collection_names())
        documents = {name: list(database[name].find().sort("_id")) for name in names}
        indexes = {name: sorted(database[name].index_information()) for name in names}
        return documents, indexes


def s3(variables: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=variables["S3_ENDPOINT"],
        region_name=variables["S3_REGION"],
        aws_access_key_id=variables["S3_ACCESS_KEY"],
        aws_secret_access_key=variables["S3_SECRET_KEY"],
        config=Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
        ),
    )


def fill_s3(variables: dict[str, str]) -> None:
    client, bucket = s3(variables), variables["S3_BUCKET"]
    for number in range(6):
        client.put_object(
            Bucket=bucket, Key=f"folder/{number}", Body=b"x" * number, ContentType="text/plain"
        )
    client.put_object(
        Bucket=bucket,
        Key="big",
        Body=b"0123456789" * 1_700_000,
        Metadata={"colour": "blue"},
        CacheControl="max-age=5",
    )


def s3_contents(variables: dict[str, str]) -> Any:
    client, bucket = s3(variables), variables["S3_BUCKET"]
    found = {}
    for item in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        held = client.get_object(Bucket=bucket, Key=item["Key"])
        found[item["Key"]] = (
            held["Body"].read(),
            held["ContentType"],
            held["Metadata"],
            held.get("CacheControl"),
        )
    return found
