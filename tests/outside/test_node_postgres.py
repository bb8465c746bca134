"""node-postgres, as npm publishes it, with TLS demanded and with the variables that are injected."""

import pytest

import npm
from support import Stage

pytestmark = pytest.mark.fortnightly

SCRIPT = """
import pg from "pg";
const url = process.env.DATABASE_URL;
const ask = async (options) => {
  const client = new pg.Client(options);
  try {
    await client.connect();
    const found = await client.query("SELECT count(*)::int AS n FROM things");
    return [Boolean(client.connection.stream.encrypted), found.rows[0].n];
  } catch (error) {
    return error.code || error.message;
  } finally {
    await client.end().catch(() => {});
  }
};
const made = new pg.Client({ connectionString: url });
await made.connect();
await made.query("CREATE TABLE IF NOT EXISTS things (x int); INSERT INTO things VALUES (1)");
await made.end();
console.log(JSON.stringify([
  await ask({ connectionString: url, ssl: { ca: process.env.POSTGRES_CA_PEM } }),
  await ask({ connectionString: `${url}?sslmode=verify-full&sslrootcert=${process.env.POSTGRES_CA_CERT}` }),
  await ask({ connectionString: `${url}?sslmode=verify-full` }),
  await ask({ connectionString: url }),
]));
"""


def test_tls_is_demanded_and_the_authority_checked(house: Stage) -> None:
    house.furnish({"main": "postgres"}, ["alpha"])
    checked, of_the_url, unknown, plain = npm.run(SCRIPT, house.variables("alpha"))
    assert checked == of_the_url == [True, 1]
    assert unknown == "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
    assert plain == [False, 1]
