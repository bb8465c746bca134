"""How an app uses the service, and what a hostile one does, for the conformance kit."""

from collections.abc import Mapping
from typing import Any

import aiomysql

import purveyor_hooks as ph

from .server import connected, every_table_of, quoted, rows, value

FIELDS = ("HOST", "PORT", "USER", "PASSWORD", "DATABASE")
THINGS = "CREATE TABLE IF NOT EXISTS things (name VARCHAR(99) PRIMARY KEY, value TEXT)"
# a client that reads it in a dump takes the third line for a command of its own, and what comes
# after for statements
LED_ON = """CREATE OR REPLACE PROCEDURE led() BEGIN
SELECT 1 AS
delimiter ;
DO 0;
EXECUTE IMMEDIATE 'CREATE DEFINER=root@localhost PROCEDURE up() GRANT ALL ON *.* TO {account}';
EXECUTE IMMEDIATE 'CALL up()';
GRANT ALL ON *.* TO {account} WITH GRANT OPTION;
END"""
MISCHIEF = (
    "CREATE OR REPLACE TABLE gone (x INT)",
    "CREATE OR REPLACE VIEW broken AS SELECT * FROM gone",
    "DROP TABLE gone",
    "CREATE TABLE IF NOT EXISTS `odd\nUSE ``mysql``;\n% name` (x INT)",
    "CREATE OR REPLACE VIEW `z is first` AS SELECT * FROM things",
    "CREATE OR REPLACE VIEW `looks\n;` AS SELECT * FROM `z is first`",
    "CREATE OR REPLACE TRIGGER again BEFORE INSERT ON things FOR EACH ROW SET NEW.value = NEW.value",
    "CREATE OR REPLACE EVENT later ON SCHEDULE EVERY 1 HOUR DO DELETE FROM things WHERE name = ''",
    "CREATE OR REPLACE DEFINER=root@localhost PROCEDURE above() SELECT * FROM mysql.global_priv",
    "GRANT ALL ON *.* TO CURRENT_USER",
    "SET GLOBAL event_scheduler = ON",
    LED_ON,
)


class Rows:
    """How an app uses it."""

    def account(self, variables: Mapping[str, str]) -> ph.Account:
        host, port, user, password, resource = (variables[f"MARIADB_{name}"] for name in FIELDS)
        return ph.Account(
            host=host, port=int(port), user=user, password=password, resource=resource
        )

    async def _ask(self, account: ph.Account, statement: str, *arguments: str) -> Any:
        async with connected(
            account.host, account.port, account.user, account.password, account.resource
        ) as cursor:
            await cursor.execute(THINGS)
            return await value(cursor, statement, *arguments)

    async def write(self, account: ph.Account, name: str, value: str) -> None:
        await self._ask(account, "REPLACE INTO things VALUES (%s, %s)", name, value)

    async def read(self, account: ph.Account, name: str) -> str | None:
        found: str | None = await self._ask(
            account, "SELECT value FROM things WHERE name = %s", name
        )
        return found

    async def mischief(self, account: ph.Account) -> None:
        login = f"{quoted(account.user)}@`%`"
        for statement in MISCHIEF:
            try:
                await self._ask(account, statement.replace("{account}", login))
            except aiomysql.Error:
                continue

    async def gained(self, account: ph.Account) -> str:
        own = f"ON {every_table_of(account.resource)} "
        async with connected(account.host, account.port, account.user, account.password) as cursor:
            held = [str(row[0]) for row in await rows(cursor, "SHOW GRANTS")]
            more = [it for it in held if own not in it and not it.startswith("GRANT USAGE ON *.* ")]
        return f"it has {more[0].partition(' TO ')[0]}" if more else ""
