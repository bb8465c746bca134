"""What matters is in a copy of the state, row by row, and every change of it is counted; what is
only seen is not."""

import random
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from fake.scene import Scene, create, do, look_after
from purveyor.app import App
from purveyor.migrations import migrations
from purveyor.recovery import beside, document
from purveyor.recovery.document import File
from purveyor.services import store as services
from purveyor_hooks import BadInput

pytestmark = pytest.mark.anyio

# Every table and column there is, apart from the code: whoever adds one decides here what it is,
# and there what follows from it.
STATE = {
    "_sqlite_migrations": "id migration_set name applied_at",
    "archives": "id service_id s3_source_id encryption keep_days volume_id folder base_at created_at",
    "authorities": "id state certificate key created_at expires_at",
    "backups": "id backup_id service_id service_name service_type state backup_type s3_source_id schedule_id folder location "
    "size_bytes plain_bytes checksum encryption error_message metadata proven_at proven_seconds "
    "started_at completed_at "
    "expires_at",
    "bindings": "id service_id project_id environment_id project environment resource account password slot state created_at "
    "origin ends_after chosen_after awaited former_until extras",
    "certificates": "service_id authority_id names certificate key created_at expires_at",
    "deployments": (
        "id project_id environment_id app state container url error created_at ended_at "
        "variables image_id"
    ),
    "environments": "id project_id slug created_at",
    "images": "id digest",
    "installed_plugins": "distribution version source sha256 size_bytes record_sha256 installed_at actor",
    "links": "id service_id project_id service_type state created_at",
    "meta": "key value",
    "networks": "id environment_id name subnet gateway",
    "plugin_documents": "plugin service_id key value sealed",
    "ports": "port service_id deployment_id parameter",
    "projects": "id slug name created_at",
    "s3_sources": (
        "id name bucket_name bucket_path access_key_id secret_key region endpoint "
        "force_path_style created_at"
    ),
    "schedules": "id name backup_type retention_period retention_count schedule_expression enabled description tags s3_source_id "
    "service_ids verify next_run created_at timezone jitter verify_deep",
    "services": "id name slug service_type parameters secrets given image image_id image_environment volume_id container_name "
    "desired state refusal created_at purpose imported",
    "tokens": (
        "id name hash scope project_id created_at expires_at revoked_at environment_id sealed "
        "user_id"
    ),
    "users": "id name created_at disabled_at removed_at account",
    "volumes": (
        "id name path service_type major identity state origin created_at kept_at kept_until "
        "facts credentials"
    ),
}
UNFINISHED = {  # state for as long as it is under way, history from then on
    "operations": "id verb service_id project_id actor arguments private state error created_at ended_at locks outcome token_id "
    "step_names internal",
}
HISTORY = {
    "audit": (
        "id at actor token_id origin action target outcome status reveals operation_id times "
        "detail hash"
    ),
    "audit_marks": "name entry hash mac",
    "events": "id type at operation service project data",
    "looks": "id service_id kind seen",
    "steps": "operation_id name state started_at ended_at number",
    "web_sessions": "id hash token_id peer agent created_at last_used_at expires_at",
}
OBSERVATION = {
    "archives": "state reason until queue_bytes",
    "schedules": "last_run last_result under_way",
    "services": "updated_at",
    "tokens": "last_used_at",
}


def columns(tables: dict[str, str]) -> set[tuple[str, str]]:
    return {(table, name) for table, names in tables.items() for name in names.split()}


def tables_of(db: sqlite3.Connection) -> dict[str, list[Any]]:
    found = db.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' "
        "ESCAPE '!'"
    )
    return {
        name: db.execute(f'PRAGMA table_info("{name}")').fetchall() for name, _ in found.fetchall()
    }


@pytest.fixture
def path(furnished: tuple[Scene, Path], room: Path) -> Iterator[Path]:
    """A database with one of everything."""
    with tempfile.TemporaryDirectory(dir=room) as folder:
        yield Path(shutil.copy(furnished[1] / "purveyor.db", folder))


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """The connection of a writer that is watched."""
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("PRAGMA foreign_keys = ON")
        document.watch(opened)
        yield opened


def opened(body: bytes) -> sqlite3.Connection:
    made = sqlite3.connect(":memory:")
    made.deserialize(body)
    return made


def same(db: sqlite3.Connection, path: Path) -> None:
    """The document of a database is what that holds."""
    number, body = document.make(path, {})
    with closing(opened(body)) as copy:
        assert number == document.revision(path)
        assert dict(document.rows(copy)) == dict(document.rows(db))
        assert copy.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert not copy.execute("PRAGMA foreign_key_check").fetchall()
        numbers = "SELECT name, seq FROM sqlite_sequence ORDER BY name"
        assert copy.execute(numbers).fetchall() == db.execute(numbers).fetchall()
        schema = (
            "SELECT type, name FROM sqlite_master WHERE name != 'carried' AND name NOT LIKE "
            "'sqlite!_%' ESCAPE '!' ORDER BY 2"
        )
        assert copy.execute(schema).fetchall() == db.execute(schema).fetchall()


# ---------------------------------------------------------------- nothing is forgotten


def test_every_table_and_column_is_named_as_state_history_or_observation() -> None:
    db = Database(memory=True)
    migrations.apply(db)
    there = {(table, row[1]) for table, rows in tables_of(db.conn).items() for row in rows}
    named = [columns(part) for part in (STATE, UNFINISHED, HISTORY, OBSERVATION)]
    assert sum(map(len, named)) == len(set().union(*named)), "something is named twice"
    assert there == set().union(*named), (
        "a migration has added what nobody has named: what is it, and does a copy need it?"
    )


def test_the_code_takes_each_for_what_it_is_named() -> None:
    assert set(document.PASSING) == set(HISTORY)
    assert set(document.COUNTED) == set(UNFINISHED)
    assert set(document.HISTORY) == {*HISTORY, *UNFINISHED}
    assert {table: set(names.split()) for table, names in OBSERVATION.items()} == document.OBSERVED


def other(kind: str, value: Any) -> Any:
    """Another value of a column than the one that it has."""
    return (value or 0) + 1000 if kind in ("INTEGER", "REAL") else f"{value or ''}x"


CHECKED = {  # columns of which few values are allowed
    ("archives", "state"): ("following", "waiting"),
    ("authorities", "state"): ("current", "old"),
    ("backups", "state"): ("ok", "failed"),
    ("bindings", "state"): ("bound", "unbound"),
    ("deployments", "state"): ("active", "retired"),
    ("links", "state"): ("linked", "unlinking"),
    ("operations", "state"): ("running", "undoing"),
    ("plugin_documents", "sealed"): (0, 1),
    ("services", "desired"): ("running", "stopped"),
    ("services", "state"): ("active", "deleting"),
    ("steps", "state"): ("started", "done"),
    ("tokens", "scope"): ("admin", "read"),
    ("volumes", "state"): ("used", "kept"),
    ("looks", "kind"): ("health", "usage"),
}
AT = "2030-01-01T00:00:00+00:00"


def fill(db: sqlite3.Connection) -> None:
    """A row in each table that the scene leaves empty."""
    with db:
        db.execute(
            "INSERT INTO tokens (name, hash, scope, created_at) VALUES ('t', 'h', 'admin', ?)", [AT]
        )
        db.execute(
            "INSERT INTO web_sessions (hash, token_id, peer, agent, created_at, last_used_at, "
            "expires_at) "
            "SELECT 'h', max(id), '127.0.0.1', '', ?, ?, ? FROM tokens",
            [AT, AT, AT],
        )
        db.execute(
            "INSERT INTO s3_sources VALUES (1, 's', 'b', '', 'a', 's', 'r', 'e', 0, ?)", [AT]
        )
        db.execute("INSERT INTO looks VALUES (1, 1, 'health', '{}')")
        db.execute(
            "INSERT INTO schedules (name, backup_type, retention_period, retention_count, "
            "schedule_expression, enabled, "
            "description, tags, service_ids, verify, created_at) "
            "VALUES ('n', 'manual', 7, 0, '0 3 * * *', 1, '', '[]', '[]', 0, ?)",
            [AT],
        )
        db.execute(
            "INSERT INTO operations (id, verb, arguments, state, created_at) VALUES (9000, 'x', "
            "'{}', 'running', ?)",
            [AT],
        )
        db.execute(
            "INSERT INTO steps (operation_id, name, state, started_at, ended_at) VALUES (9000, "
            "'x', 'started', ?, NULL)",
            [AT],
        )
        db.execute(
            "INSERT OR IGNORE INTO authorities VALUES (1, 'current', 'c', 'k', ?, ?)", [AT, AT]
        )
        db.execute(
            "INSERT OR IGNORE INTO certificates VALUES (1, 1, 'n', 'c', 'k', ?, ?)", [AT, AT]
        )
        db.execute("INSERT INTO meta VALUES ('aaa', 'x')")
        db.execute("INSERT INTO images VALUES ('sha256:1', 'a@sha256:2')")
        db.execute("INSERT INTO users (name, created_at) VALUES ('ada', ?)", [AT])
        db.execute("INSERT INTO plugin_documents VALUES ('x', 1, 'k', '{}', 0)")
        db.execute(
            "INSERT INTO installed_plugins VALUES ('x', '1', 'x.whl', 's', 1, 'r', ?, 'ada')", [AT]
        )
        db.execute(
            "INSERT INTO audit VALUES (1, ?, 'ada', 1, 'o', 'a', 't', 'ok', 200, '', 1, 1, '', "
            "'h')",
            [AT],
        )
        db.execute("INSERT INTO audit_marks VALUES ('last', 1, 'h', 'm')")
        db.execute("DROP TRIGGER audit_is_not_changed")


def test_each_column_counts_or_does_not_as_it_is_named(db: sqlite3.Connection, path: Path) -> None:
    fill(db)
    db.execute("PRAGMA foreign_keys = OFF")
    counting = columns(STATE) | columns(UNFINISHED)
    wrong = []
    for table, rows in tables_of(db).items():
        where = (
            "id = 9000"
            if table == "operations"
            else "operation_id = 9000"
            if table == "steps"
            else "TRUE"
        )
        where = "key = 'aaa'" if table == "meta" else where
        keys = (
            ("operation_id", "name")
            if table == "steps"
            else ("key",)
            if table == "meta"
            else ("rowid",)
        )
        key = db.execute(f"SELECT {', '.join(keys)} FROM {table} WHERE {where} LIMIT 1").fetchone()
        assert key is not None, f"no row in {table}"
        which = " AND ".join(f"{name} = ?" for name in keys)
        for row in rows:
            name = row[1]
            (before,) = db.execute(f"SELECT {name} FROM {table} WHERE {which}", key).fetchone()
            allowed = CHECKED.get((table, name))
            value = (
                next(item for item in allowed if item != before)
                if allowed
                else other(row[2], before)
            )
            was = document.revision(path)
            db.execute("BEGIN")
            # the same is no change
            db.execute(f"UPDATE {table} SET {name} = {name} WHERE {which}", key)
            (untouched,) = db.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()
            db.execute(f"UPDATE {table} SET {name} = ? WHERE {which}", [value, *key])
            (now,) = db.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()
            db.execute("ROLLBACK")
            if int(untouched) != was or (int(now) > was) != ((table, name) in counting):
                wrong.append((table, name, was, untouched, now))
    assert not wrong


# ---------------------------------------------------------------- what is counted


async def raised(app: App, work: Awaitable[Any]) -> int:
    """By how much the revision is raised by what is done."""
    before = document.revision(app.context.store.path)
    await work
    return document.revision(app.context.store.path) - before


async def test_verbs_raise_the_revision_and_reading_does_not(scene: Scene) -> None:
    async with scene.open() as app:
        assert await raised(app, create(app, "fresh"))
        assert await raised(app, do(app, "create-project", name="other"))
        assert await raised(app, do(app, "link", service="fresh", project="other"))
        assert await raised(app, do(app, "backup", service="fresh"))
        assert await raised(app, do(app, "rotate", project="other"))
        assert await raised(app, do(app, "unlink", project="other", service="fresh"))
        assert await raised(app, do(app, "delete-project", project="other"))
        assert not await raised(app, app.context.store.read(services.list_all))


async def test_an_idle_daemon_changes_nothing_that_matters(scene: Scene) -> None:
    async with scene.open() as app:
        for _ in range(3):  # what was left is finished
            await look_after(app, ship=True)
            await app.scheduler.turn()
        assert not await raised(app, look_after(app, ship=True))
        assert not await raised(app, app.scheduler.turn())
        assert not await raised(app, app.retention.sweep())


def count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0])


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE services SET desired = 'stopped' WHERE slug = 'main'",
        "INSERT INTO projects (slug, name, created_at) VALUES ('a', 'a', 'now')",
        "INSERT OR REPLACE INTO meta VALUES ('api-gateway', '172.18.0.9')",
        "DELETE FROM bindings WHERE id = (SELECT max(id) FROM bindings)",
        "DELETE FROM ports WHERE port = (SELECT max(port) FROM ports)",
        "INSERT INTO operations (verb, arguments, state, created_at) VALUES ('x', '{}', 'running', "
        "'now')",
        "UPDATE volumes SET kept_until = 'then' WHERE state = 'kept'",
    ],
)
def test_raw_sql_raises_it_in_the_same_transaction(
    db: sqlite3.Connection, path: Path, sql: str
) -> None:
    before = count(db)
    db.execute("BEGIN IMMEDIATE")
    assert db.execute(sql).rowcount
    assert count(db) > before
    assert document.revision(path) == before, "nobody else sees it before what it counts"
    db.execute("ROLLBACK")
    assert count(db) == before


def test_a_cascade_raises_it_by_what_it_takes_along(db: sqlite3.Connection) -> None:
    with db:
        number = db.execute(
            "INSERT INTO projects (slug, name, created_at) VALUES ('a', 'a', 'now')"
        ).lastrowid
    before = count(db)
    with db:
        db.execute("DELETE FROM projects WHERE id = ?", [number])
    alone = count(db) - before
    with db:
        number = db.execute(
            "INSERT INTO projects (slug, name, created_at) VALUES ('a', 'a', 'now')"
        ).lastrowid
        for slug in ("production", "preview"):
            db.execute(
                "INSERT INTO environments (project_id, slug, created_at) VALUES (?, ?, 'now')",
                [number, slug],
            )
    before = count(db)
    with db:
        db.execute("DELETE FROM projects WHERE id = ?", [number])
    assert count(db) - before == alone + 2


def test_what_is_only_seen_does_not_raise_it(db: sqlite3.Connection) -> None:
    fill(db)
    with db:
        db.execute(
            "INSERT INTO operations (id, verb, arguments, state, created_at) VALUES (9001, 'x', "
            "'{}', 'failed', ?)",
            [AT],
        )
    before = count(db)
    with db:
        db.execute("UPDATE tokens SET last_used_at = ?", [AT])
        db.execute(
            "UPDATE archives SET until = ?, queue_bytes = 9, reason = 'x', state = 'waiting'", [AT]
        )
        db.execute("UPDATE schedules SET last_run = ?, last_result = '{}'", [AT])
        db.execute("UPDATE services SET updated_at = ?", [AT])
        db.execute("INSERT INTO looks (service_id, kind, seen) VALUES (1, 'usage', '{}')")
        db.execute("DELETE FROM looks")
        db.execute("INSERT INTO events (type, at, data) VALUES ('x', ?, '{}')", [AT])
        db.execute("UPDATE steps SET state = 'done', ended_at = ? WHERE operation_id = 9000", [AT])
        db.execute(
            "INSERT INTO steps (operation_id, name, state, started_at, ended_at) VALUES (9000, "
            "'y', 'started', ?, NULL)",
            [AT],
        )
        db.execute("UPDATE operations SET error = 'x' WHERE id = 9001")
        # as retention does
        db.execute("DELETE FROM operations WHERE state NOT IN ('running', 'undoing')")
        db.execute("INSERT OR REPLACE INTO meta VALUES ('incident-service-1', '{}')")
        for name in ("term", "incarnation", "took-over"):
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, '7')", [name])
        db.execute("UPDATE services SET desired = desired, parameters = parameters")
        db.execute("DELETE FROM projects WHERE slug = 'nobody'")
    assert count(db) == before


def test_a_disk_that_is_full_is_still_read_and_what_is_written_later_counts(path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(sqlite3.connect(path)) as opened:
        before = count(opened)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
        try:
            with pytest.raises(sqlite3.OperationalError), opened:
                opened.execute("DELETE FROM bindings")
            document.watch(opened)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert count(opened) == before
        with opened:
            opened.execute("UPDATE services SET desired = 'stopped' WHERE slug = 'main'")
        assert count(opened) == before + 1


def test_an_operation_counts_from_its_begin_to_its_end(db: sqlite3.Connection) -> None:
    told = [count(db)]
    for sql in (
        "INSERT INTO operations (id, verb, arguments, state, created_at) VALUES (9000, 'x', '{}', "
        "'running', 'now')",
        "UPDATE operations SET outcome = '{}' WHERE id = 9000",
        "UPDATE operations SET state = 'undoing' WHERE id = 9000",
        "UPDATE operations SET state = 'failed', private = NULL WHERE id = 9000",
    ):
        with db:
            db.execute(sql)
        told.append(count(db))
    assert told == sorted(set(told))


# ---------------------------------------------------------------- what it holds


def test_the_document_of_a_furnished_installation_is_what_its_database_holds(
    db: sqlite3.Connection, path: Path
) -> None:
    fill(db)
    same(db, path)
    with closing(opened(document.make(path, {})[1])) as copy:
        assert [
            copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("events", "looks")
        ] == [0, 0]
        assert copy.execute("SELECT id FROM operations").fetchall() == [(9000,)]
        assert copy.execute("SELECT operation_id FROM steps").fetchall() == [(9000,)]
        seen = (
            "SELECT last_used_at FROM tokens",
            "SELECT until, queue_bytes FROM archives",
            "SELECT updated_at FROM services",
        )
        assert [copy.execute(sql).fetchall() for sql in seen] == [
            db.execute(sql).fetchall() for sql in seen
        ], "it travels along"


def transaction(db: sqlite3.Connection, rnd: random.Random) -> None:
    """Some random statements: several tables, cascades, what matters and what does not."""
    word = "".join(rnd.choices("abcdefghij", k=12))
    pick = {
        table: (
            db.execute(f"SELECT id FROM {table} ORDER BY random() LIMIT 1").fetchone() or [None]
        )[0]
        for table in ("projects", "services", "bindings", "operations")
    }
    statements: list[tuple[str, list[Any]]] = [
        ("INSERT INTO projects (slug, name, created_at) VALUES (?, 'x', 'now')", [word]),
        (
            "INSERT OR IGNORE INTO environments (project_id, slug, created_at) VALUES (?, ?, "
            "'now')",
            [pick["projects"], word],
        ),
        (
            "DELETE FROM projects WHERE id = ? AND id NOT IN (SELECT project_id FROM links)",
            [pick["projects"]],
        ),
        (
            "UPDATE services SET parameters = ?, updated_at = ? WHERE id = ?",
            [word, word, pick["services"]],
        ),
        ("UPDATE bindings SET password = ? WHERE id = ?", [word, pick["bindings"]]),
        (
            "INSERT INTO operations (verb, arguments, private, state, created_at) VALUES ('x', ?, "
            "?, 'running', 'now')",
            [word, word],
        ),
        (
            "INSERT OR IGNORE INTO steps (operation_id, name, state, started_at, ended_at) VALUES "
            "(?, ?, 'started', 'now', NULL)",
            [pick["operations"], word],
        ),
        (
            "UPDATE operations SET state = 'failed', private = NULL WHERE id = ?",
            [pick["operations"]],
        ),
        ("DELETE FROM operations WHERE state = 'failed'", []),
        ("INSERT OR REPLACE INTO meta VALUES (?, ?)", [rnd.choice(["a", "b", "incident-c"]), word]),
        ("INSERT INTO events (type, at, data) VALUES (?, 'now', '{}')", [word]),
        ("UPDATE tokens SET last_used_at = ?", [word]),
        (
            "INSERT INTO deployments (project_id, environment_id, state, created_at) "
            "SELECT project_id, id, 'failed', 'now' FROM environments ORDER BY random() LIMIT 1",
            [],
        ),
    ]
    for sql, values in rnd.sample(statements, rnd.randint(1, 5)):
        with suppress(sqlite3.IntegrityError):  # what it is about was deleted just now
            db.execute(sql, values)


def compared(db: sqlite3.Connection) -> str:
    return repr(sorted(document.rows(db)))


@pytest.mark.parametrize("seed", range(3))
def test_random_transactions_raise_it_whenever_the_document_is_another(
    db: sqlite3.Connection, path: Path, seed: int
) -> None:
    db.execute("PRAGMA synchronous = OFF")
    rnd = random.Random(seed)
    before, state = count(db), compared(db)
    for number in range(120):
        db.execute("BEGIN IMMEDIATE")
        transaction(db, rnd)
        if rnd.random() < 0.2:
            db.execute("ROLLBACK")
        else:
            db.execute("COMMIT")
        after, now = count(db), compared(db)
        if now != state:
            assert after > before
        before, state = after, now
        if number % 10 == 0:
            same(db, path)


def test_a_document_is_one_moment_while_others_write(db: sqlite3.Connection, path: Path) -> None:
    """Two rows that are changed together are never seen apart, and no writer waits."""
    fill(db)
    seen = set()
    with closing(sqlite3.connect(path, timeout=0)) as writer:
        document.watch(writer)
        for number in range(40):
            with writer:
                writer.execute("UPDATE tokens SET name = ?", [str(number)])
                writer.execute("UPDATE s3_sources SET name = ?", [str(number)])
            made, body = document.make(path, {})
            with closing(opened(body)) as copy:
                (pair,) = copy.execute(
                    "SELECT tokens.name, s3_sources.name FROM tokens, s3_sources"
                ).fetchall()
            assert pair == (str(number), str(number))
            seen.add(made)
    assert len(seen) == 40


def test_one_that_is_not_whole_is_refused(
    db: sqlite3.Connection, path: Path, tmp_path: Path
) -> None:
    _, body = document.make(path, {"key": File(0o600, b"v")})
    assert document.write(body, tmp_path / "good.db") == {"key": File(0o600, b"v")}
    with closing(sqlite3.connect(tmp_path / "good.db")) as good:
        assert dict(document.rows(good)) == dict(document.rows(db))
        assert (tmp_path / "good.db").stat().st_mode & 0o777 == 0o600
    with closing(opened(body)) as broken:
        broken.execute(
            "INSERT INTO environments (project_id, slug, created_at) VALUES (9999, 'x', 'now')"
        )
        broken.commit()
        unclean = broken.serialize()
    page = len(body) // 4096 // 2 * 4096
    damaged = body[:page] + bytes(4096) + body[page + 4096 :]
    for content in (unclean, damaged, body[: len(body) // 2], b"", b"no database"):
        with pytest.raises(BadInput, match="copy of the state"):
            document.write(content, tmp_path / "bad.db")
        assert not (tmp_path / "bad.db").exists()


# ---------------------------------------------------------------- what lies beside


def test_what_lies_beside_is_carried_and_comes_back_as_it_was(tmp_path: Path) -> None:
    state, back = tmp_path / "state", tmp_path / "back"
    for name in ("hooks/after-deploy", "volumes/x", "elsewhere/main", "webhooks"):
        (state / name).mkdir(parents=True)
    (state / "settings.toml").write_text("namespace = 'x'")
    (state / "key").write_bytes(b"vault")
    (state / "empty").touch()
    (state / "hooks/after-deploy/tell").write_text("#!/bin/sh")
    (state / "hooks/after-deploy/tell").chmod(0o750)
    for name in (
        "backup.key",
        "lock",
        "volumes/x/data",
        "elsewhere/main/data.zst",
        "purveyor.db",
        "daemon.log",
    ):
        (state / name).write_bytes(b"never")
    (tmp_path / "managed.toml").write_text("x = 1")
    (state / "linked.toml").symlink_to(tmp_path / "managed.toml")
    (state / "nowhere").symlink_to(tmp_path / "nowhere")
    (state / "broken.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4080)
    with closing(sqlite3.connect(state / "webhooks/outbox.db")) as outbox:
        outbox.execute("PRAGMA journal_mode = WAL")
        outbox.execute("CREATE TABLE hooks (url TEXT)")
        outbox.execute("INSERT INTO hooks VALUES ('https://x')")
        outbox.commit()
        without = [state / "elsewhere"]
        before = beside.stamp(state, without)
        files = beside.read_files(state, without)
        assert beside.stamp(state, without) == before, "looking changes nothing"
    assert files["linked.toml"].content == b"x = 1"
    assert files["broken.db"].content.startswith(b"SQLite"), (
        "what cannot be read as a database is carried as it is"
    )
    assert set(files) - {"linked.toml", "broken.db"} == {
        "settings.toml",
        "key",
        "empty",
        "hooks/after-deploy/tell",
        "webhooks/outbox.db",
    }
    beside.put_back({**files, "../outside": File(0o600, b"x")}, back)
    assert not (tmp_path / "outside").exists()
    assert (back / "key").read_bytes() == b"vault"
    assert (back / "hooks/after-deploy/tell").stat().st_mode & 0o777 == 0o750
    with closing(sqlite3.connect(back / "webhooks/outbox.db")) as outbox:
        assert outbox.execute("SELECT url FROM hooks").fetchall() == [("https://x",)]


def test_a_file_of_any_size_is_carried_as_it_is(tmp_path: Path) -> None:
    for size in (0, 1, 2, 15, 16, 99, 100, 511, 512, 513, 1024, 4095, 4096, 4097, 70_000):
        for name, content in (
            ("text", b"x" * size),
            ("noise", random.Random(size).randbytes(size)),
            ("nothing", bytes(size)),
        ):
            (tmp_path / f"{name}-{size}").write_bytes(content)
    files = beside.read_files(tmp_path)
    assert {name: file.content for name, file in files.items()} == {
        item.name: item.read_bytes() for item in tmp_path.iterdir()
    }


def test_a_database_beside_that_is_locked_makes_no_copy_that_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "PATIENCE", 0.1)
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as held:
        held.execute("CREATE TABLE x (y)")
        held.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            beside.read_files(tmp_path)
        held.rollback()
    assert set(beside.read_files(tmp_path)) == {"outbox.db"}


def test_the_locks_that_this_process_holds_on_a_database_beside_are_kept(tmp_path: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any handle of it."""
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path)) as held:
        held.execute("CREATE TABLE x (y)")
        held.execute("BEGIN IMMEDIATE")
        assert set(beside.read_files(tmp_path)) == {"outbox.db"}
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        inode = f":{path.stat().st_ino}"
        assert [line for line in locks if line[5].endswith(inode)], "the lock is gone"
