"""Backups: what is restored is what was there, or it is said; nothing that is not whole looks
whole."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import data
from support import Stage, eventually

TYPES = ("postgres", "redis", "mongodb", "s3")
# the other types' whole way is shown by tests of their own, with more data
TWO_TYPES = [
    "postgres",
    "redis",
    *(pytest.param(kind, marks=pytest.mark.nightly) for kind in TYPES[2:]),
]
ON_EVERY_ENGINE = dict.fromkeys(("postgres", "redis"), pytest.mark.every_engine)


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """One service of each type, linked to one project and filled."""
    with make_stage().serving() as made:
        made.furnish({kind: kind for kind in TYPES}, ["shop"])
        variables = made.variables("shop")
        data.fill_postgres(made, "postgres")
        data.fill_redis(variables)
        data.fill_mongodb(variables)
        data.fill_s3(variables)
        yield made


CONTENTS: dict[str, Callable[[Stage, str], Any]] = {
    "postgres": lambda stage, service: data.fingerprint(stage, service),
    "redis": lambda stage, service: data.redis_contents(stage.variables("shop")),
    "mongodb": lambda stage, service: data.mongodb_contents(stage.variables("shop")),
    "s3": lambda stage, service: data.s3_contents(stage.variables("shop")),
}
DAMAGE: dict[str, Callable[[Stage], Any]] = {
    "postgres": lambda stage: data.psql(
        stage, "postgres", "DROP SCHEMA app CASCADE; CREATE TABLE later (x int)"
    ),
    "redis": lambda stage: stage.cli("connect", "redis", "--", "-p", "7001", "FLUSHALL"),
    "mongodb": lambda stage: drop_people(stage.variables("shop")),
    "s3": lambda stage: empty_bucket(stage.variables("shop")),
}


def drop_people(variables: dict[str, str]) -> None:
    with data.pymongo.MongoClient(variables["MONGODB_URL"]) as client:
        client[variables["MONGODB_DATABASE"]].people.drop()


def empty_bucket(variables: dict[str, str]) -> None:
    client = data.s3(variables)
    for item in client.list_objects_v2(Bucket=variables["S3_BUCKET"]).get("Contents", []):
        client.delete_object(Bucket=variables["S3_BUCKET"], Key=item["Key"])


def run(stage: Stage, service: str, **body: Any) -> Any:
    return stage.call("POST", f"/backups/external-services/{service}/run", json=body)


def refused(stage: Stage, method: str, path: str, **options: Any) -> Any:
    with stage.local() as client:
        answer = client.request(method, f"/api/backups{path}", **options)
    assert not answer.is_success, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=ON_EVERY_ENGINE.get(kind, pytest.mark.nightly)) for kind in TYPES],
)
def test_in_place_everything_is_as_it_was_and_accounts_still_work(kind: str, stage: Stage) -> None:
    before = CONTENTS[kind](stage, kind)
    made = run(stage, kind)
    assert made["state"] == "ok", made
    assert made["checksum"].startswith("sha256:")
    DAMAGE[kind](stage)
    assert CONTENTS[kind](stage, kind) != before if kind != "postgres" else True
    port = stage.json("show", kind)["service"]["port"]
    stage.call("POST", f"/backups/{made['id']}/restore", json={"service_id": kind})
    assert CONTENTS[kind](stage, kind) == before
    assert stage.json("show", kind)["service"]["port"] == port
    kept = [
        item for item in stage.json("volumes") if item["origin"] == kind and item["state"] == "kept"
    ]
    assert len(kept) == 1
    assert kept[0]["kept_until"]
    safety = next(
        item
        for item in stage.call("GET", f"/backups?service={kind}")
        if item["backup_type"] == "safety"
    )
    assert safety["state"] in ("ok", "suspect")


@pytest.mark.parametrize("kind", TWO_TYPES)
def test_into_a_new_service_and_linking_brings_each_project_back_to_its_own(
    kind: str, stage: Stage
) -> None:
    before = CONTENTS[kind](stage, kind)
    made = run(stage, kind)
    stage.call("POST", f"/backups/{made['id']}/restore", json={"new_name": f"{kind}-again"})
    stage.cli("unlink", kind, "shop")
    stage.cli("link", f"{kind}-again", "shop")
    after = CONTENTS[kind](stage, f"{kind}-again")
    stage.cli("unlink", f"{kind}-again", "shop")
    stage.cli("link", kind, "shop")
    stage.cli("delete", f"{kind}-again", "--purge", "--yes")
    assert after == before


@pytest.mark.fortnightly
@pytest.mark.parametrize("kind", TWO_TYPES)
def test_a_proof_restores_and_counts_and_leaves_nothing(kind: str, stage: Stage) -> None:
    made = run(stage, kind)
    containers, volumes = stage.containers(), stage.volumes()
    proven = stage.call("POST", f"/backups/{made['id']}/verify")
    assert proven["proven_at"]
    assert proven["proven_seconds"] > 0
    assert (stage.containers(), stage.volumes()) == (containers, volumes)
    assert "verified" in stage.cli("backup", "list", kind)


@pytest.mark.parametrize("kind", TWO_TYPES)
def test_a_clone_holds_the_same(kind: str, stage: Stage) -> None:
    stage.cli("clone", kind, f"{kind}-copy")
    made, copied = run(stage, kind), run(stage, f"{kind}-copy")
    assert copied["metadata"]["counts"] == made["metadata"]["counts"]
    assert (
        stage.json("show", f"{kind}-copy")["service"]["port"]
        != stage.json("show", kind)["service"]["port"]
    )
    stage.cli("delete", f"{kind}-copy", "--purge", "--yes")


# ---------------------------------------------------------------- what is not to be trusted


@pytest.fixture(scope="module")
def lone(stage: Stage) -> Iterator[str]:
    stage.cli("create", "postgres", "small")
    yield "small"
    stage.cli("delete", "small", "--purge", "--yes")


@pytest.fixture
def small(lone: str, stage: Stage) -> Iterator[str]:
    """A PostgreSQL of its own, for backups that go wrong: each test finds 5000 rows, and no backup
    of before."""
    stage.sql(lone, "DROP TABLE IF EXISTS t")
    stage.sql(lone, "CREATE TABLE t AS SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g")
    yield lone
    for item in stage.call("GET", f"/backups?service={lone}"):
        stage.call("DELETE", f"/backups/{item['id']}")


def folder(made: dict[str, Any]) -> Path:
    return Path(made["location"])


@pytest.mark.fortnightly
@pytest.mark.parametrize("file", ["data.zst", "data.sums", "manifest.json"])
@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "encrypted"])
def test_a_byte_that_was_altered_is_found_before_anything_is_restored(
    file: str, encrypt: bool, small: str, stage: Stage
) -> None:
    made = run(stage, small, encrypt=encrypt)
    path = folder(made) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    world = stage.world()
    said = refused(stage, "POST", f"/{made['id']}/restore", json={"new_name": "spoilt"})
    assert any(
        word in said["detail"] for word in ("altered", "damaged", "checksum", "cannot be read")
    ), said
    assert stage.world() == world
    said = refused(stage, "POST", f"/{made['id']}/verify")
    assert stage.call("GET", f"/backups/{made['id']}")["state"] == "suspect"


@pytest.mark.fortnightly
def test_data_that_was_cut_off_is_refused(small: str, stage: Stage) -> None:
    made = run(stage, small)
    path = folder(made) / "data.zst"
    path.write_bytes(path.read_bytes()[:-100])
    refused(stage, "POST", f"/{made['id']}/restore", json={"new_name": "spoilt"})
    path.unlink()
    assert (
        "gone"
        in refused(stage, "POST", f"/{made['id']}/restore", json={"new_name": "spoilt"})["detail"]
    )


def test_an_empty_backup_and_a_shrunken_one_are_suspect(small: str, stage: Stage) -> None:
    assert run(stage, small)["state"] == "ok"
    stage.cli("connect", "small", "--", "-c", "DELETE FROM t WHERE g > 100")
    shrunken = run(stage, small)
    assert (shrunken["state"], "less than a tenth" in shrunken["error_message"]) == (
        "suspect",
        True,
    )
    stage.cli("connect", "small", "--", "-c", "DROP TABLE t")
    empty = run(stage, small)
    assert (empty["state"], "less than a tenth" in empty["error_message"]) == ("suspect", True)


def test_a_backup_that_lacks_a_database_is_suspect(small: str, stage: Stage) -> None:
    stage.cli("connect", "small", "--", "-c", "CREATE DATABASE extra")
    assert run(stage, small)["state"] == "ok"
    stage.cli("connect", "small", "--", "-c", "DROP DATABASE extra")
    lacking = run(stage, small)
    assert (lacking["state"], "extra" in lacking["error_message"]) == ("suspect", True)


@pytest.mark.fortnightly
def test_an_encrypted_backup_needs_its_key(small: str, stage: Stage) -> None:
    made = run(stage, small, encrypt=True)
    assert made["encryption"] == "age"
    stored = (folder(made) / "data.zst").read_bytes()
    assert b"xxxxxxxxxx" not in stored
    assert not stored.startswith(b"\x28\xb5\x2f\xfd")
    key = stage.state / "backup.key"
    assert key.stat().st_mode & 0o077 == 0
    away = key.rename(key.with_suffix(".away"))
    said = refused(stage, "POST", f"/{made['id']}/restore", json={"new_name": "locked"})
    assert "Without that key nobody can open" in said["remedy"]
    shutil.copy(stage.state / "key", key)
    refused(stage, "POST", f"/{made['id']}/restore", json={"new_name": "locked"})
    away.rename(key)
    assert stage.call("POST", f"/backups/{made['id']}/verify")["proven_at"]


def test_a_backup_does_not_fit_another_type(small: str, stage: Stage) -> None:
    made = run(stage, "redis")
    world = stage.world()
    said = refused(stage, "POST", f"/{made['id']}/restore", json={"service_id": small})
    assert "of the type redis" in said["errors"]["service_id"]
    assert stage.world() == world


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"new_name": "a", "service_id": "small"},
        {"new_name": "postgres"},
        {"service_id": "nobody"},
    ],
)
def test_a_restore_must_say_where_to(body: dict[str, str], small: str, stage: Stage) -> None:
    made = run(stage, small)
    world = stage.world()
    assert refused(stage, "POST", f"/{made['id']}/restore", json=body)["status"] in (400, 404, 409)
    assert stage.world() == world


@pytest.mark.fortnightly
def test_a_stopped_service_says_that_it_is_stopped(small: str, stage: Stage) -> None:
    made = run(stage, small)
    stage.cli("stop", small)
    assert "stopped" in refused(stage, "POST", f"/external-services/{small}/run", json={})["detail"]
    stage.call("POST", f"/backups/{made['id']}/restore", json={"service_id": small})
    assert stage.json("show", small)["service"]["status"] == "running"
    assert stage.cli("connect", small, "--", "-Atc", "SELECT count(*) FROM t").strip() == "5000"


@pytest.mark.fortnightly
def test_a_disk_that_is_full_fails_the_backup_and_leaves_nothing(
    make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=True)
    try:
        with make_stage(f'backups = "{disk}"').serving() as lone:
            lone.cli("create", "postgres", "main")
            lone.cli(
                "connect",
                "main",
                "--",
                "-c",
                "CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 100000) g",
            )
            said = refused(lone, "POST", "/external-services/main/run", json={})
            assert "No space left" in said["detail"]
            (failed,) = lone.call("GET", "/backups")
            assert failed["state"] == "failed"
            copies = disk / "state"  # those of the state, which are small
            assert [
                path for path in disk.rglob("*") if path.is_file() and copies not in path.parents
            ] == []
            assert (
                refused(lone, "POST", f"/{failed['id']}/restore", json={"new_name": "x"})["status"]
                == 409
            )
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---------------------------------------------------------------- buckets, schedules, lost hosts


@pytest.fixture(scope="module")
def bucket(stage: Stage) -> dict[str, str]:
    """The body of an S3 source: a project's own bucket on our own S3."""
    stage.cli("project", "create", "offsite")
    stage.cli("link", "s3", "offsite")
    found = stage.variables("offsite")
    return {
        "name": "offsite", "bucket_name": found["S3_BUCKET"], "bucket_path": "backups/here",
        "endpoint": found["S3_ENDPOINT"],
        "access_key_id": found["S3_ACCESS_KEY"], "secret_key": found["S3_SECRET_KEY"],
        "region": "us-east-1",
        "force_path_style": True, "accept_own": True,
    }  # type: ignore[dict-item]  # fmt: skip


@pytest.mark.fortnightly
def test_after_the_host_is_lost_a_fresh_installation_restores_from_the_bucket(
    stage: Stage, bucket: dict[str, str], make_stage: Callable[..., Stage]
) -> None:
    source = stage.call("POST", "/backups/s3-sources", json=bucket)
    assert source["secret_key"] == "***"
    made = run(stage, "postgres", s3_source_id=source["id"])
    assert made["location"].startswith("s3://")
    assert stage.call("POST", f"/backups/{made['id']}/verify")["proven_at"]
    before = data.fingerprint(stage, "postgres")
    key = (stage.state / "backup.key").read_bytes()  # all that has to be kept elsewhere
    with make_stage().serving() as fresh:
        fresh.call("POST", "/backups/s3-sources", json=bucket)
        listed = fresh.call("GET", "/backups/s3-sources/offsite/backups")
        assert [item["signed"] for item in listed if item["backup_id"] == made["backup_id"]] == [
            False
        ]
        fresh.cli("backup", "adopt", "--from", "offsite")
        assert fresh.call("GET", "/backups") == []
        (fresh.state / "backup.key").write_bytes(key)
        listed = fresh.call("GET", "/backups/s3-sources/offsite/backups")
        assert [item["signed"] for item in listed if item["backup_id"] == made["backup_id"]] == [
            True
        ]
        fresh.cli("backup", "adopt", "--from", "offsite")
        fresh.cli("backup", "restore", made["backup_id"], "--new", "saved")
        assert data.fingerprint(fresh, "saved") == before
    with stage.local() as client:
        assert client.delete("/api/backups/s3-sources/offsite").status_code == 409
    stage.call("DELETE", f"/backups/{made['id']}")
    assert stage.call("GET", "/backups/s3-sources/offsite/backups") == []
    stage.call("DELETE", "/backups/s3-sources/offsite")


@pytest.mark.fortnightly
@pytest.mark.parametrize("change", [
    {"secret_key": "wrong"}, {"bucket_name": "nobody-s-bucket"}, {"endpoint": "http://127.0.0.1:9"},
    {"endpoint": "ftp://x"},
    {"bucket_name": ""}, {"name": "7"},
])  # fmt: skip
def test_a_bucket_that_cannot_be_used_is_not_taken(
    change: dict[str, str], stage: Stage, bucket: dict[str, str]
) -> None:
    said = refused(stage, "POST", "/s3-sources", json={**bucket, "name": "other", **change})
    assert said["status"] == 400
    assert said["errors"]
    assert bucket["secret_key"] not in json.dumps(said)
    assert [item["name"] for item in stage.call("GET", "/backups/s3-sources")] in ([], ["offsite"])


@pytest.mark.fortnightly
def test_a_bucket_that_goes_away_fails_the_backup(
    stage: Stage, bucket: dict[str, str], make_stage: Callable[..., Stage]
) -> None:
    stage.call("POST", "/backups/s3-sources", json={**bucket, "name": "shaky"})
    stage.cli("stop", "s3")
    said = refused(stage, "POST", "/external-services/redis/run", json={"s3_source_id": "shaky"})
    assert "bucket" in said["detail"]
    stage.cli("start", "s3")
    failed = stage.call("GET", "/backups?service=redis")[0]
    assert failed["state"] == "failed"
    assert stage.call("GET", "/backups/s3-sources/shaky/backups") == []


def make_due(stage: Stage) -> None:
    """Its time passed while no daemon ran."""
    with sqlite3.connect(stage.state / "purveyor.db") as db:
        db.execute("UPDATE schedules SET next_run = '2020' || substr(next_run, 5)")


@pytest.mark.fortnightly
def test_schedules_make_backups_prove_them_and_keep_only_so_many(
    make_stage: Callable[..., Stage],
) -> None:
    lone = make_stage()
    with lone.serving():
        lone.cli("create", "redis", "cache")
        lone.cli("connect", "cache", "--", "-n", "1", "SET", "a", "1")
        body = {
            "name": "nightly",
            "schedule_expression": "0 3 * * *",
            "retention_count": 1,
            "verify": True,
            "retention_period": 3,
        }
        made = lone.call("POST", "/backups/schedules", json=body)
        assert made["next_run"]
    make_due(lone)
    with lone.serving():
        eventually(lambda: [item for item in lone.call("GET", "/backups") if item["proven_at"]])
        (first,) = lone.call("GET", "/backups")
        assert (first["backup_type"], bool(first["expires_at"])) == ("scheduled", True)
    make_due(lone)
    with lone.serving():
        eventually(
            lambda: [
                item["id"] for item in lone.call("GET", "/backups") if item["id"] > first["id"]
            ]
        )
        eventually(lambda: first["id"] not in [item["id"] for item in lone.call("GET", "/backups")])
        assert "nightly is disabled" in lone.cli("backup", "schedule", "disable", "nightly")
        assert lone.json("backup", "schedule", "list")[0]["enabled"] is False
        lone.cli("backup", "schedule", "delete", "nightly")
        assert lone.call("GET", "/backups")


@pytest.mark.parametrize(("change", "field"), [
    ({"schedule_expression": "every night"}, "schedule_expression"),
    ({"schedule_expression": "61 * * * *"}, "schedule_expression"),
    ({"schedule_expression": "* * * * * *"}, "schedule_expression"),
    ({"retention_period": 0}, "retention_period"),
    ({"retention_count": -1}, "retention_count"), ({"name": " "}, "name"),
    ({"service_ids": ["nobody"]}, ""),
    ({"s3_source_id": 99}, ""),
])  # fmt: skip
def test_a_schedule_that_is_none_is_refused(
    change: dict[str, Any], field: str, stage: Stage
) -> None:
    body = {"name": "s", "schedule_expression": "0 3 * * *", **change}
    said = refused(stage, "POST", "/schedules", json=body)
    assert not field or field in said["errors"]
    assert stage.call("GET", "/backups/schedules") == []


@pytest.mark.fortnightly
def test_the_command_line_does_what_the_api_does(small: str, stage: Stage) -> None:
    assert "write" in stage.cli("backup", "run", small, "--plan")
    said = stage.cli("backup", "run", small, "--keep-days", "3")
    assert "ok" in said
    number = stage.json("backup", "list", small)[0]["id"]
    assert "verified" in stage.cli("backup", "verify", str(number))
    assert "rows: 5000" in stage.cli("backup", "show", str(number))
    assert "counted and compared" in stage.cli(
        "backup", "restore", str(number), "--in-place", small
    )
    stage.cli("backup", "delete", str(number), "--yes")
    assert "no backup" in stage.cli("backup", "show", str(number), code=4)
