"""Continuous archiving: every moment of a PostgreSQL can be restored, and an archive that cannot be
reached harms nobody."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import data
from support import POSTGRES, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

SETTINGS = "archive-interval = 0.5\nhealth-interval = 2\narchive-queue = 40"


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage(SETTINGS).serving() as made:
        made.furnish({"busy": "postgres", "pause": "postgres", "far": "s3"})
        made.furnish({"main": "postgres"}, ["shop"])
        yield made


SUBSCRIBED = (
    "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = "
    "false, slot_name = 'feed')"
)
FOLLOWS = "SELECT subenabled, subslotname FROM pg_subscription"


def archive(stage: Stage, service: str = "main") -> Any:
    return next(
        item for item in stage.call("GET", "/backups/archives") if item["service"] == service
    )


def wait_until(stage: Stage, moment: datetime, service: str = "main") -> None:
    """Until everything up to a moment is at the archive's place."""
    eventually(
        lambda: (
            (until := archive(stage, service)["until"]) and datetime.fromisoformat(until) > moment
        )
    )


def rows(stage: Stage, service: str = "main") -> int:
    return int(data.psql(stage, service, "SELECT count(*) FROM orders").strip())


def now() -> datetime:
    time.sleep(0.05)
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def moments(stage: Stage) -> dict[str, datetime]:
    """A history: rows come, and the table is dropped in the end."""
    data.psql(stage, "main", SUBSCRIBED, "postgres")
    data.psql(stage, "main", "ALTER SUBSCRIPTION feed ENABLE", "postgres")
    assert "create beside it" in stage.cli("backup", "archive", "start", "main", "--plan")
    stage.cli("backup", "archive", "start", "main", "--encrypt")
    app = stage.variables("shop")
    data.ask(app, "CREATE TABLE orders AS SELECT g FROM generate_series(1, 1000) g")
    found = {"thousand": now()}
    # more than one segment
    data.ask(app, "INSERT INTO orders SELECT g FROM generate_series(1, 200000) g")
    data.psql(stage, "main", "SELECT pg_switch_wal()")
    found["many"] = now()
    data.ask(app, "DROP TABLE orders")
    found["dropped"] = now()
    wait_until(stage, found["dropped"])
    return found


def test_how_far_it_reaches_is_told(stage: Stage, moments: dict[str, datetime]) -> None:
    found = archive(stage)
    assert found["state"] == "following"
    assert found["lag_seconds"] < 120
    assert found["encryption"] == "age"
    assert "following" in stage.cli("backup", "archive", "list")
    assert any(item["backup_type"] == "base" for item in stage.json("backup", "list"))


@pytest.mark.parametrize(
    ("word", "count"),
    [("many", 201_000), pytest.param("thousand", 1000, marks=pytest.mark.nightly)],
)
def test_a_moment_is_restored_into_a_new_service(
    word: str, count: int, stage: Stage, moments: dict[str, datetime]
) -> None:
    wanted = ("backup", "restore", "main", "--at", moments[word].isoformat(), "--new", word)
    assert f"subscriptions for example, is off in {word}" in stage.cli(*wanted, "--plan")
    done = stage.run(*wanted)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "as it was" in said
    # what it subscribes to is the original's
    assert "subscription feed: it is off in a copy" in said
    assert data.psql(stage, word, FOLLOWS, "postgres") == "f|"
    assert data.psql(stage, "main", FOLLOWS, "postgres") == "t|feed"
    assert rows(stage, word) == count
    assert stage.json("health", word)["healthy"]
    stage.cli("restart", word)
    assert rows(stage, word) == count
    # the project comes back to its own when it is linked
    stage.cli("unlink", "main", "shop")
    stage.cli("link", word, "shop")
    assert data.ask(stage.variables("shop"), "SELECT count(*) FROM orders") == count
    stage.cli("unlink", word, "shop")
    stage.cli("link", "main", "shop")
    stage.cli("delete", word, "--purge", "--yes")


@pytest.mark.parametrize(("at", "says"), [
    (lambda moments: "2020-01-01T00:00:00Z", "begins at"),
    (lambda moments: (datetime.now(UTC) + timedelta(hours=1)).isoformat(), "reaches to"),
    (lambda moments: moments["many"].isoformat()[:19], "time zone"),
    (lambda moments: "yesterday", "at"),
])  # fmt: skip
def test_a_moment_that_cannot_be_reached_is_refused(
    at: Any, says: str, stage: Stage, moments: dict[str, datetime]
) -> None:
    world = stage.world()
    with stage.local() as client:
        answer = client.post(
            "/api/backups/archives/main/restore", json={"at": at(moments), "new_name": "never"}
        )
    assert answer.status_code == 400
    assert says in json.dumps(answer.json())
    assert stage.world() == world


def test_in_place_the_service_is_as_it_was_and_goes_on_being_archived(
    stage: Stage, moments: dict[str, datetime]
) -> None:
    variables = stage.variables("shop")
    stage.cli(
        "backup", "restore", "main", "--at", moments["thousand"].isoformat(), "--in-place", "main"
    )
    assert rows(stage) == 1000
    assert data.psql(stage, "main", FOLLOWS, "postgres") == "t|feed"
    assert stage.variables("shop") == variables
    assert data.ask(variables, "SELECT count(*) FROM orders") == 1000
    assert "kept" in stage.cli("volumes")
    wait_until(stage, now())  # it has begun anew, with a base copy of the restored data
    data.psql(stage, "main", "INSERT INTO orders VALUES (0)")
    later = now()
    data.psql(stage, "main", "TRUNCATE orders")
    wait_until(stage, now())
    stage.cli("backup", "restore", "main", "--at", later.isoformat(), "--new", "again")
    assert rows(stage, "again") == 1001
    stage.cli("delete", "again", "--purge", "--yes")


def test_it_goes_on_after_a_restart_of_the_service_and_of_the_daemon(stage: Stage) -> None:
    stage.cli("restart", "main")
    wait_until(stage, now())
    docker("kill", f"{stage.namespace}-main.archive")
    data.psql(stage, "main", "CREATE TABLE after AS SELECT 1 AS x")
    wait_until(stage, now())
    assert archive(stage)["state"] == "following"


def test_a_segment_that_was_altered_is_refused(stage: Stage) -> None:
    wait_until(stage, now())
    folder = max(stage.state.glob("backups/main/changes-*"), key=lambda path: path.name)
    victim = next(
        path for path in sorted(folder.iterdir(), reverse=True) if ".partial" not in path.name
    )
    kept = victim.read_bytes()
    victim.write_bytes(kept[:-20] + bytes([kept[-20] ^ 1]) + kept[-19:])
    world = stage.world()
    try:
        done = stage.run(
            "backup", "restore", "main", "--at", archive(stage)["until"], "--new", "never"
        )
    finally:
        victim.write_bytes(kept)
    assert done.returncode
    assert "checksum" in done.stderr or "altered" in done.stderr
    assert stage.world() == world


def test_another_installation_restores_a_moment_from_what_lies_there(
    stage: Stage, make_stage: Callable[..., Stage], moments: dict[str, datetime]
) -> None:
    moment = datetime.fromisoformat(archive(stage)["until"])
    other = make_stage(f'backups = "{stage.state}/backups"')
    (other.state / "backup.key").write_bytes((stage.state / "backup.key").read_bytes())
    with other.serving():
        other.cli("backup", "adopt")
        bases = [item for item in other.json("backup", "list") if item["backup_type"] == "base"]
        newest = max(bases, key=lambda item: item["started_at"])
        other.cli(
            "backup", "restore", str(newest["id"]), "--at", moment.isoformat(), "--new", "main"
        )
        assert data.psql(other, "main", "SELECT x FROM after").strip() == "1"


def test_an_archive_that_cannot_be_reached_is_said_and_the_server_is_let_go(stage: Stage) -> None:
    stage.cli("project", "create", "copies")
    stage.cli("link", "far", "copies")
    keys = stage.variables("copies")
    stage.cli(
        "backup", "source", "add", "far", "--accept-own",
        "-p", f"bucket_name={keys['S3_BUCKET']}", "-p", f"endpoint={keys['S3_ENDPOINT']}",
        "-p", f"access_key_id={keys['S3_ACCESS_KEY']}", "-p", f"secret_key={keys['S3_SECRET_KEY']}",
        "-p", "force_path_style=true",
    )  # fmt: skip
    stage.cli("backup", "archive", "start", "busy", "--to", "far")
    wait_until(stage, now(), "busy")
    slots = "SELECT count(*) FROM pg_replication_slots"
    assert stage.sql("busy", slots) == ["1"]
    stage.cli("stop", "far")
    eventually(lambda: archive(stage, "busy")["state"] == "waiting")
    assert archive(stage, "busy")["reason"]
    for _ in range(6):
        stage.sql(
            "busy",
            "CREATE TABLE IF NOT EXISTS t AS SELECT 1; SELECT pg_logical_emit_message(true, 'x', "
            "'y')",
        )
        stage.sql("busy", "SELECT pg_switch_wal()")
    eventually(lambda: archive(stage, "busy")["state"] == "broken")
    eventually(lambda: stage.sql("busy", slots) == ["0"])
    assert f"{stage.namespace}-busy.archive" not in stage.containers()
    assert stage.json("health", "busy")["healthy"]
    stage.cli("start", "far")
    eventually(lambda: archive(stage, "busy")["state"] == "following")
    moment = now()
    wait_until(stage, moment, "busy")
    stage.cli("backup", "restore", "busy", "--at", moment.isoformat(), "--new", "busy-2")
    assert stage.json("health", "busy-2")["healthy"]


def test_ended_it_asks_nothing_more_of_the_server_and_what_was_archived_stays(stage: Stage) -> None:
    until = archive(stage)["until"]
    stage.cli("backup", "archive", "stop", "main")
    assert stage.sql("main", "SELECT count(*) FROM pg_replication_slots") == ["0"]
    assert f"{stage.namespace}-main.archive" not in stage.containers()
    assert not [name for name in stage.volumes() if name.endswith("main-archive")]
    stage.cli("backup", "restore", "main", "--at", until, "--new", "from-before")
    assert data.psql(stage, "from-before", "SELECT x FROM after").strip() == "1"
    assert "not archived" in stage.run("backup", "archive", "stop", "main", "--yes").stderr


def test_a_type_that_cannot_be_archived_says_so(stage: Stage) -> None:
    stage.cli("create", "redis", "cache")
    assert "continuous archiving" in stage.run("backup", "archive", "start", "cache").stderr


def test_with_tls_required_and_with_a_service_that_is_deleted_meanwhile(stage: Stage) -> None:
    stage.cli("create", "postgres", "tls", "-p", "ssl_mode=require")
    stage.cli("backup", "archive", "start", "tls")
    wait_until(stage, now(), "tls")
    stage.cli("delete", "tls")
    assert not [name for name in stage.containers() if name.endswith("tls.archive")]
    assert not [item for item in stage.call("GET", "/backups/archives") if item["service"] == "tls"]
    assert not Path(stage.state / "archives" / "tls").exists()


def test_a_server_that_was_stopped_or_deleted_meanwhile_keeps_nothing_for_an_archive_that_ended(
    stage: Stage,
) -> None:
    slots = "SELECT count(*) FROM pg_replication_slots"
    stage.cli("backup", "archive", "start", "pause")
    stage.cli("stop", "pause")
    stage.cli("backup", "archive", "stop", "pause")
    stage.cli("start", "pause")
    eventually(lambda: stage.sql("pause", slots) == ["0"])
    stage.cli("backup", "archive", "start", "pause")
    stage.cli("delete", "pause")
    stage.cli("undelete", "pause")
    assert stage.sql("pause", slots) == ["0"]


@pytest.mark.nightly
def test_an_imported_server_is_archived_too(stage: Stage) -> None:
    name = f"{stage.namespace}-theirs"
    docker("run", "-d", "--name", name, "-e", "POSTGRES_PASSWORD=hunter22", POSTGRES)
    eventually(lambda: stage.run("import", name, "theirs", "--use-found").returncode == 0)
    stage.cli("backup", "archive", "start", "theirs")
    wait_until(stage, now(), "theirs")
    stage.cli("backup", "archive", "stop", "theirs")
    assert (
        docker(
            "exec",
            name,
            "psql",
            "-U",
            "postgres",
            "-Atc",
            "SELECT count(*) FROM pg_replication_slots",
        )
        == "0"
    )
