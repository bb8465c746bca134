"""A host burns, with all that is on it. From a bucket and a sheet of paper everything comes back,
as its page says it does."""

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

import data
from support import DEMO, Stage, docker, eventually, free_port

PAGE = Path(__file__).resolve().parents[2] / "docs/disaster-recovery.md"
TYPES = ("postgres", "redis", "mongodb", "s3", "kv", "blob")


class Burnt(NamedTuple):
    """What is left when the host is gone, and what its apps had."""

    offsite: Stage
    bucket: dict[str, Any]
    sheet: list[str]
    settings: str
    namespace: str
    variables: dict[str, dict[str, str]]
    contents: dict[str, Any]
    token: str
    revoked: str
    former: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def offsite(make_stage: Callable[..., Stage]) -> Iterator[tuple[Stage, dict[str, Any]]]:
    """A bucket on another machine."""
    with make_stage().serving() as stage:
        stage.furnish({"s3": "s3"}, ["prod"])
        found = stage.variables("prod")
        yield (
            stage,
            {
                "name": "offsite",
                "bucket_name": found["S3_BUCKET"],
                "bucket_path": "prod",
                "endpoint": found["S3_ENDPOINT"],
                "access_key_id": found["S3_ACCESS_KEY"],
                "secret_key": found["S3_SECRET_KEY"],
                "region": "us-east-1",
                "force_path_style": True,
            },
        )


def contents(variables: dict[str, str]) -> dict[str, Any]:
    """What the app of the project shop finds with its variables."""
    api = {"Authorization": f"Bearer {variables['KV_REST_API_TOKEN']}"}
    with httpx.Client(timeout=30) as client:
        kept = client.post(
            variables["KV_REST_API_URL"], headers=api, json=["GET", "greeting"]
        ).json()
    return {
        "postgres": data.ask(variables, "SELECT string_agg(t::text, ',' ORDER BY x) FROM t"),
        "redis": data.redis_contents(variables),
        "mongodb": data.mongodb_contents(variables),
        "s3": data.s3_contents(variables),
        "kv": kept,
    }


def fill(stage: Stage, variables: dict[str, str]) -> None:
    data.ask(variables, "CREATE TABLE t AS SELECT x FROM generate_series(1, 100) x")
    data.fill_redis(variables)
    data.fill_mongodb(variables)
    data.fill_s3(variables)
    stage.cli("kv", "set", "greeting", "hello", "-p", "shop")


def destroy(stage: Stage) -> None:
    """Fire: no stop, no farewell."""
    stage.clean()
    shutil.rmtree(stage.state)


@pytest.fixture(scope="module")
def burnt(offsite: tuple[Stage, dict[str, Any]], make_stage: Callable[..., Stage]) -> Burnt:
    elsewhere, bucket = offsite
    settings = f'listen = "127.0.0.1:{free_port()}"'
    stage = make_stage(settings)
    with stage.serving():
        stage.furnish(dict(zip(TYPES, TYPES, strict=True)), ["shop"])
        for project in ("blog", "crm"):
            stage.call("POST", "/projects", json={"name": project})
            stage.call("POST", "/external-services/postgres/projects", json={"project_id": project})
        for name in ("ledger", "books"):
            made = (
                {"name": name, "service_type": "postgres"} if name == "ledger" else {"name": name}
            )
            stage.call("POST", "/external-services" if name == "ledger" else "/projects", json=made)
        stage.call("POST", "/external-services/ledger/projects", json={"project_id": "books"})
        stage.cli("deploy", "shop", DEMO, "--port", "8000", "--health-path", "/healthz")
        source = stage.call("POST", "/backups/s3-sources", json=bucket)
        mine = stage.variables("shop")
        fill(stage, mine)
        for project in ("blog", "crm"):
            data.ask(stage.variables(project), f"CREATE TABLE t AS SELECT '{project}' AS x")
        # inside their grace when the host burns: in a dump, and in a base copy
        former = {project: stage.variables(project) for project in ("blog", "books")}
        for project, variables in former.items():
            stage.cli("rotate", project, "--grace", "2h")
            assert data.ask(variables, "SELECT 1") == 1
        token = stage.call("POST", "/tokens", json={"name": "ci", "scope": "admin"})["token"]
        revoked = stage.call("POST", "/tokens", json={"name": "old", "scope": "admin"})
        stage.call("POST", "/backups/schedules", json={
            "name": "nightly", "schedule_expression": "0 3 * * *", "s3_source_id": source["id"],
            "retention_period": 30,
        })  # fmt: skip
        stage.call("POST", "/webhooks", json={"name": "ops", "url": "https://hooks.example.com/x"})
        for service in TYPES:
            made = stage.call(
                "POST",
                f"/backups/external-services/{service}/run",
                json={"s3_source_id": source["id"]},
            )
            assert made["state"] == "ok", made
        data.ask(stage.variables("books"), "CREATE TABLE t AS SELECT 'in the base copy' AS x")
        stage.call(
            "POST", "/backups/archives", json={"service_id": "ledger", "s3_source_id": source["id"]}
        )
        data.ask(stage.variables("books"), "INSERT INTO t VALUES ('written since')")
        written = datetime.now(UTC).isoformat()
        eventually(lambda: (stage.call("GET", "/backups/archives")[0]["until"] or "") > written)
        # after the backups: what was purged is purged again, what was linked is empty, what was
        # rotated is as it is now
        stage.call("DELETE", f"/tokens/{revoked['id']}")
        stage.cli("unlink", "postgres", "crm", "--purge", "--yes")
        stage.call("POST", "/projects", json={"name": "late"})
        stage.call("POST", "/external-services/postgres/projects", json={"project_id": "late"})
        stage.cli("rotate", "shop")
        projects = {
            project: stage.variables(project) for project in ("shop", "blog", "books", "late")
        }
        sheet = stage.json("backup", "key", "print")["lines"]
        found = contents(projects["shop"])
        eventually(
            lambda: all(item["current"] for item in stage.call("GET", "/recovery/")["copies"])
        )
    destroy(stage)
    return Burnt(
        elsewhere,
        bucket,
        sheet,
        settings,
        stage.namespace,
        projects,
        found,
        token,
        revoked["token"],
        former,
    )


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def commands() -> list[list[str]]:
    """The commands of the page, as they are printed."""
    page = PAGE.read_text().partition("## After the host is lost\n")[2]
    block = re.search(r"```sh\n(.*?)```", page, re.DOTALL)
    assert block
    return [shlex.split(line)[1:] for line in block[1].splitlines()]


def on_a_new_machine(burnt: Burnt, make_stage: Callable[..., Stage]) -> Stage:
    """Nothing but what the images of this test are called is known there."""
    stage = make_stage()
    shutil.rmtree(stage.state)
    # it comes back under its own name, and is to be cleaned up by it
    stage.namespace = burnt.namespace
    stage.environment["AWS_SECRET_ACCESS_KEY"] = burnt.bucket["secret_key"]
    return stage


def said(words: list[str], burnt: Burnt, sheet: Path) -> list[str]:
    """A command of the page with this machine's names."""
    names = {
        "s3://offsite/prod": f"s3://{burnt.bucket['bucket_name']}/prod",
        "https://s3.example.com": burnt.bucket["endpoint"],
        "KEY": burnt.bucket["access_key_id"],
        "sheet.txt": str(sheet),
    }
    return [names.get(word, word) for word in words]


def test_the_page_brings_everything_back(
    burnt: Burnt, make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.txt"
    sheet.write_text("\n".join(burnt.sheet))
    stage = on_a_new_machine(burnt, make_stage)
    plan, recover, serve, status, finish = (said(words, burnt, sheet) for words in commands())
    assert (serve, status) == (["serve"], ["recover", "status"])

    told = stage.cli(*plan)
    assert all(service in told for service in TYPES)
    assert "late_production was made after the backup, and comes back empty" in told
    assert "crm_production was purged after the backup, and is purged again" in told
    assert not stage.state.exists()
    assert not docker("ps", "-aq", "--filter", f"name=^/{burnt.namespace}-")

    told = stage.cli(*recover, "--yes")
    assert "missing" not in told
    with stage.serving():
        given_out, now = burnt.variables["shop"], stage.variables("shop")
        # a Redis is reached at its container's address on this host, which is another one now
        expected = {
            name: value.replace(given_out["REDIS_HOST"], now["REDIS_HOST"])
            for name, value in given_out.items()
        }
        assert contents(expected) == burnt.contents
        assert data.ask(burnt.variables["blog"], "SELECT x FROM t") == "blog"
        assert (
            data.ask(burnt.variables["books"], "SELECT string_agg(x, ', ') FROM t")
            == "in the base copy, written since"
        )
        assert (
            data.ask(
                burnt.variables["late"],
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
            )
            == 0
        )
        for former in burnt.former.values():
            with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
                data.ask(former, "SELECT 1")
        assert (
            stage.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'crm%'") == []
        )
        # the file is this host's
        types = ("POSTGRES", "REDIS", "MONGODB")
        here = {f"{name}_CA_CERT": str(stage.state / "ca.crt") for name in types}
        assert now == expected | here
        assert (stage.state / "ca.crt").read_text() == burnt.variables["shop"]["POSTGRES_CA_PEM"]
        with stage.http(burnt.token) as client:
            assert client.get("/api/projects/").status_code == 200
        with stage.http(burnt.revoked) as client:
            assert client.get("/api/projects/").status_code == 401
        (schedule,) = stage.call("GET", "/backups/schedules")
        assert (schedule["name"], schedule["enabled"]) == ("nightly", True)
        assert [item["name"] for item in stage.call("GET", "/webhooks")] == ["ops"]

        said_now = stage.json(*status)
        assert {item["state"] for item in said_now["recovery"]["services"]} == {"back"}
        with stage.local() as client:
            refused = client.post("/api/projects/shop/deployments", json={"image": "x:1"})
            assert refused.status_code == 409
            assert "recover finish" in refused.json()["remedy"]
        (url,) = (
            row[0] for row in stage.rows("SELECT url FROM deployments WHERE state = 'active'")
        )
        assert not answers(url)
        stage.cli(*finish)
        eventually(lambda: "former" not in stage.cli("show", "postgres"))
        for project, former in burnt.former.items():
            assert data.ask(burnt.variables[project], "SELECT 1") == 1
            with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
                data.ask(former, "SELECT 1")
        # the app that was deployed, with the variables that it had
        eventually(lambda: answers(url))
        assert stage.json(*status)["recovery"] is None
        made = stage.call(
            "POST", "/backups/external-services/postgres/run", json={"s3_source_id": 1}
        )
        assert made["state"] == "ok", made
    stage.clean()


def test_a_database_alone_comes_back_from_the_bucket_that_is_named(
    offsite: tuple[Stage, dict[str, Any]], make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    """Of the host's own copies none is left, and the key is on paper."""
    _, bucket = offsite
    place = f"s3://{bucket['bucket_name']}/alone"
    made = make_stage()
    made.environment["AWS_SECRET_ACCESS_KEY"] = bucket["secret_key"]
    with made.serving() as stage:
        stage.furnish({"cache": "redis"}, ["shop"])
        stage.call("POST", "/backups/s3-sources", json={**bucket, "bucket_path": "alone"})
        variables = stage.variables("shop")
        (tmp_path / "sheet").write_text("\n".join(stage.json("backup", "key", "print")["lines"]))
        eventually(
            lambda: (
                [item["current"] for item in stage.call("GET", "/recovery/")["copies"]] == [True]
            )
        )
        containers = stage.containers()
    for name in ("copies", "backups"):
        shutil.rmtree(made.state / name, ignore_errors=True)
    for lost in made.state.glob("purveyor.db*"):
        lost.unlink()
    (made.state / "backup.key").unlink()
    command = [
        "recover", "database", place, "--endpoint", bucket["endpoint"],
        "--access-key", bucket["access_key_id"], "--key", str(tmp_path / "sheet"),
    ]  # fmt: skip
    told = made.cli(*command, "--plan")
    assert "cache" in told
    assert "s3://" in told
    assert not (made.state / "purveyor.db").exists()
    made.cli(*command)
    with made.serving() as stage:
        assert stage.containers() == containers
        assert stage.variables("shop") == variables
        assert stage.run("doctor").returncode == 0
