"""Upgrade, its way back, new credentials, undelete, purge: the verbs where other tools lose
data."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest
import redis

import data
from support import Stage, docker

pytestmark = pytest.mark.fortnightly

POSTGRES = "purveyor-test/postgres:{}".format


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """A PostgreSQL 15 that holds many kinds of objects, linked to a project."""
    with make_stage(images={"postgres": POSTGRES(15)}).serving() as made:
        made.cli("create", "postgres", "main", "-p", "max_connections=77")
        made.cli("project", "create", "shop")
        made.cli("link", "main", "shop")
        data.fill_postgres(made)
        yield made


def refused(stage: Stage, path: str, body: dict[str, Any]) -> Any:
    with stage.local() as client:
        answer = client.post(f"/api/external-services{path}", json=body)
    assert not answer.is_success, answer.text
    return answer.json()


def version(stage: Stage) -> str:
    return stage.sql("main", "SHOW server_version")[0].partition(".")[0]


def test_the_plan_says_what_will_be_done_and_does_nothing(stage: Stage) -> None:
    world = stage.world()
    said = stage.cli("upgrade", "main", POSTGRES(17), "--plan")
    assert "migrate" in said
    assert "does not read the files" in said
    assert stage.world() == world


def test_a_rehearsal_runs_all_of_it_and_changes_nothing(stage: Stage) -> None:
    before, world = data.fingerprint(stage), stage.world()
    assert "It works" in stage.cli("upgrade", "main", POSTGRES(17), "--rehearse")
    assert data.fingerprint(stage) == before
    assert stage.world() == world


@pytest.mark.parametrize("image", [
    POSTGRES(18) + "-that-is-not-there", "somebody/postgres:latest",
    "purveyor-test/demo:1", "purveyor-test/redis:17", "purveyor-test/demo:18",
])  # fmt: skip
def test_an_image_that_cannot_be_had_or_does_not_start_leaves_everything_as_it_was(
    image: str, stage: Stage
) -> None:
    if image.endswith("demo:18"):
        docker("tag", "purveyor-test/demo:1", image)
    before, world = data.fingerprint(stage), stage.world()
    try:
        said = refused(stage, "/main/upgrade", {"docker_image": image})
    finally:
        if image.endswith("demo:18"):
            docker("rmi", image)
    assert said["detail"]
    assert stage.world() == world
    assert data.fingerprint(stage) == before
    assert stage.json("health", "main")["healthy"]


def test_from_15_over_17_to_18_nothing_is_lost_and_back_again(stage: Stage) -> None:
    before, variables = data.fingerprint(stage), stage.variables("shop")
    port = stage.json("show", "main")["service"]["port"]
    for major in ("17", "18"):
        assert "is kept" in stage.cli("upgrade", "main", POSTGRES(major))
        assert version(stage) == major
        assert data.fingerprint(stage) == before
        assert stage.variables("shop") == variables
        assert data.ask(variables, "SELECT current_user") == "shop_production"
        for database in ("postgres", "template1"):
            other = re.sub(r"/shop_production($|\?)", rf"/{database}\1", variables["DATABASE_URL"])
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                data.ask({"DATABASE_URL": other}, "SELECT 1")
        assert stage.json("show", "main")["service"]["port"] == port
        assert stage.sql("main", "SHOW max_connections") == ["77"]
    stage.sql("main", "CREATE TABLE since (x int)")
    kept = [item for item in stage.json("volumes") if item["state"] == "kept"]
    assert sorted(item["major"] for item in kept) == ["15", "17"]
    assert all(item["kept_until"] for item in kept)
    said = refused(stage, "/main/upgrade", {"docker_image": POSTGRES(16)})
    assert "no way back" in said["errors"]["docker_image"]
    stage.cli("upgrade", "main", "--undo")
    assert version(stage) == "17"
    assert data.fingerprint(stage) == before
    assert data.ask(variables, "SELECT current_user") == "shop_production"
    assert stage.sql("main", "SELECT count(*) FROM pg_class WHERE relname = 'since'") == ["0"]
    assert "18" in [item["major"] for item in stage.json("volumes") if item["state"] == "kept"]
    stage.cli("upgrade", "main", "--undo")
    assert version(stage) == "15"
    assert data.fingerprint(stage) == before
    assert "nothing to go back to" in stage.cli("upgrade", "main", "--undo", code=5)


def test_what_is_not_the_same_after_the_migration_is_refused(stage: Stage) -> None:
    """A table that cannot be restored as it is ends the upgrade, with the old version serving."""
    before = data.fingerprint(stage)
    stage.sql("main", "CREATE DATABASE stubborn")
    make = (
        "CREATE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT count(*)::int FROM "
        "pg_class'; "
        "CREATE TABLE t (x int CHECK (f() > 0 OR x < 0)); INSERT INTO t VALUES (1)"
    )
    data.psql(stage, "main", make, "stubborn")
    data.psql(
        stage,
        "main",
        "CREATE OR REPLACE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 0'",
        "stubborn",
    )
    said = refused(stage, "/main/upgrade", {"docker_image": POSTGRES(18)})
    assert "stubborn.public.t" in said["detail"]
    assert version(stage) == "15"
    assert data.fingerprint(stage) == before
    stage.sql("main", "DROP DATABASE stubborn")
    assert stage.json("health", "main")["healthy"]


def test_a_setting_that_the_new_version_refuses_is_named_and_left_behind_when_it_is_skipped(
    stage: Stage,
) -> None:
    stage.cli("create", "postgres", "outdated")
    stage.sql(
        "outdated",
        "CREATE ROLE legacy; ALTER ROLE legacy SET force_parallel_mode = 'off'; "
        "ALTER ROLE legacy SET work_mem = '9MB'; CREATE TABLE t AS SELECT 1 AS x",
    )
    stage.sql("outdated", "ALTER SYSTEM SET old_snapshot_threshold = '1h'")
    plan = stage.cli("upgrade", "outdated", POSTGRES(18), "--plan")
    for name in ("force_parallel_mode of legacy", "old_snapshot_threshold of ALTER SYSTEM"):
        assert name in plan
    said = stage.cli("upgrade", "outdated", POSTGRES(18), "--yes", code=6)
    for name in ("force_parallel_mode of legacy", "old_snapshot_threshold", "--skip-setting"):
        assert name in said, said
    assert stage.sql("outdated", "SHOW server_version")[0].startswith("15")
    skips = ("--skip-setting", "FORCE_parallel_mode", "--skip-setting", "old_snapshot_threshold")
    plan = stage.cli("upgrade", "outdated", POSTGRES(18), *skips, "--plan")
    for name in ("force_parallel_mode", "old_snapshot_threshold"):
        assert name not in plan.lower().replace("--skip-setting", "")
    assert "differences" not in stage.cli("upgrade", "outdated", POSTGRES(18), *skips, "--yes")
    assert stage.sql("outdated", "SHOW server_version")[0].startswith("18")
    settings = "SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 'legacy'::regrole"
    assert stage.sql("outdated", settings) == ["{work_mem=9MB}"]
    assert stage.sql("outdated", "SELECT x FROM t") == ["1"]


def test_other_types_go_on_on_a_copy_and_come_back(stage: Stage) -> None:
    stage.cli("create", "redis", "cache", "--image", "purveyor-test/redis:7.0")
    stage.cli("link", "cache", "shop")
    data.fill_redis(stage.variables("shop"))
    before = data.redis_contents(stage.variables("shop"))
    stage.cli("upgrade", "cache", "purveyor-test/redis:8.0")
    with redis.from_url(stage.variables("shop")["REDIS_URL"]) as client:
        assert client.info("server")["redis_version"].startswith("8.")
        client.set("since", "1")
    assert "no way back" in stage.cli("upgrade", "cache", "purveyor-test/redis:7.0", code=2)
    assert "do not read each other" in stage.cli(
        "upgrade", "cache", "purveyor-test/valkey:8.1", code=2
    )
    stage.cli("upgrade", "cache", "--undo")
    assert data.redis_contents(stage.variables("shop")) == before
    docker("tag", "purveyor-test/demo:1", "purveyor-test/redis:9.9-broken")
    try:
        assert refused(stage, "/cache/upgrade", {"docker_image": "purveyor-test/redis:9.9-broken"})[
            "detail"
        ]
    finally:
        docker("rmi", "purveyor-test/redis:9.9-broken")
    assert data.redis_contents(stage.variables("shop")) == before
    assert stage.json("show", "cache")["service"]["docker_image"] == "purveyor-test/redis:7.0"


def test_new_credentials_work_and_the_old_ones_end(stage: Stage) -> None:
    old = stage.variables("shop")
    opened = redis.from_url(old["REDIS_URL"])
    opened.set("a", "1")
    assert "Deploy it" in stage.cli("rotate", "shop")
    new = stage.variables("shop")
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        assert new[name] != old[name]
    assert data.ask(new, "SELECT count(*) > 0 FROM pg_class")
    with pytest.raises(data.asyncpg.PostgresError):
        data.ask(old, "SELECT 1")
    with redis.from_url(new["REDIS_URL"]) as client:
        assert client.get("a") == b"1"
    with pytest.raises(redis.RedisError), redis.from_url(old["REDIS_URL"]) as client:
        client.get("a")
    stage.cli("rotate", "shop", "--service", "cache")
    newest = stage.variables("shop")
    assert newest["POSTGRES_PASSWORD"] == new["POSTGRES_PASSWORD"]
    assert newest["REDIS_PASSWORD"] != new["REDIS_PASSWORD"]
    assert "no environment" in stage.cli("rotate", "shop", "-e", "nowhere", code=4)
    for secret in (old["POSTGRES_PASSWORD"], new["POSTGRES_PASSWORD"], newest["REDIS_PASSWORD"]):
        assert secret not in stage.cli("--json", "events", "-n", "500")
        assert secret not in json.dumps(stage.call("GET", "/operations?limit=1000"))


def test_a_deleted_service_comes_back_with_its_data_its_port_and_its_projects(stage: Stage) -> None:
    stage.cli("create", "redis", "gone")
    stage.cli("connect", "gone", "--", "-n", "1", "SET", "a", "1")
    port = stage.json("show", "gone")["service"]["port"]
    stage.cli("delete", "gone")
    assert "no service" in stage.cli("show", "gone", code=4)
    assert "use again" in stage.cli("undelete", "gone", "--plan")
    stage.cli("undelete", "gone")
    assert stage.cli("connect", "gone", "--", "-n", "1", "GET", "a").strip() == "1"
    assert stage.json("show", "gone")["service"]["port"] == port
    stage.cli("delete", "gone")
    stage.cli("create", "redis", "gone")
    assert "another service named gone" in stage.cli("undelete", "gone", code=5)
    stage.cli("delete", "gone", "--purge", "--yes")
    stage.cli("undelete", "gone")
    assert stage.cli("connect", "gone", "--", "-n", "1", "GET", "a").strip() == "1"
    stage.cli("delete", "gone", "--purge", "--yes")
    assert "no deleted service" in stage.cli("undelete", "gone", code=4)


def test_only_purge_deletes_what_is_kept_and_it_asks_for_the_name(stage: Stage) -> None:
    stage.cli("create", "redis", "old")
    stage.cli("delete", "old")
    (volume,) = [item for item in stage.json("volumes") if item["origin"] == "old"]
    used = next(item for item in stage.json("volumes") if item["state"] == "used")
    assert "of a service that is there" in stage.cli(
        "purge", used["id"], "--confirm", used["origin"], code=5
    )
    assert "Nothing was deleted" in stage.cli("purge", volume["id"], "--confirm", "other", code=2)
    assert "DELETE WITH ALL DATA" in stage.cli("purge", volume["id"], "--confirm", "old", "--plan")
    folder = stage.state / "volumes" / volume["id"]
    assert folder.is_dir()
    stage.cli("purge", volume["id"], "--confirm", "old")
    assert not folder.exists()
    assert volume["id"] not in [item["id"] for item in stage.json("volumes")]
