"""The main job: services created, linked, deployed to, and everything that is said about them is
true."""

import json

import httpx
import pytest

from support import DEMO, Stage, docker, eventually, hanging

pytestmark = pytest.mark.daily


@pytest.mark.every_engine
def test_an_app_reads_and_writes_both_of_its_services(shops: Stage) -> None:
    deployed = shops.json("deploy", "alpha", DEMO, "--port", "8000", "--health-path", "/healthz")
    assert deployed["state"] == "active"
    first = httpx.get(deployed["url"]).json()
    second = httpx.get(deployed["url"]).json()
    assert (first["rows"], second["rows"]) == (1, 2)
    assert (first["hits"], second["hits"]) == (1, 2)
    assert first["database"] == "alpha_production"


@pytest.mark.every_engine
def test_a_failed_deploy_leaves_the_old_one_serving(shops: Stage) -> None:
    shops.cli("deploy", "beta", DEMO, "--port", "8000", "--health-path", "/healthz")
    before = [
        item
        for item in shops.json("project", "show", "beta")["deployments"]
        if item["state"] == "active"
    ]
    said = shops.cli(
        "deploy",
        "beta",
        DEMO,
        "--port",
        "8000",
        "--",
        "python3",
        "-c",
        "raise SystemExit('no luck')",
        code=6,
    )
    assert "no luck" in said
    found = shops.json("project", "show", "beta")["deployments"]
    assert found[0]["state"] == "failed"
    assert [item for item in found if item["state"] == "active"] == before
    assert httpx.get(before[0]["url"]).status_code == 200
    assert not [name for name in shops.containers() if name.endswith(f".{found[0]['id']}")]


@pytest.mark.every_engine
def test_the_new_deployment_takes_the_name_on_the_network_and_the_old_one_goes(
    shops: Stage,
) -> None:
    deploy = ("deploy", "beta", DEMO, "--port", "8000", "--health-path", "/healthz")
    shops.cli(*deploy, "--set", "RELEASE=one")
    latest = shops.json(*deploy, "--set", "RELEASE=two")
    mine = [name for name in shops.containers() if ".beta.production." in name]
    assert mine == [latest["container"]]
    assert httpx.get(latest["url"]).json()["release"] == "two"
    ask = (
        "import urllib.request as u; "
        "print(u.urlopen('http://beta-production:8000/').read().decode())"
    )
    network = (
        "run",
        "--rm",
        "--network",
        f"{shops.namespace}.beta.production",
        DEMO,
        "python3",
        "-c",
        ask,
    )
    assert json.loads(docker(*network))["release"] == "two"


def test_an_app_that_listens_on_nothing_and_one_on_the_wrong_port_are_told_apart(
    shops: Stage,
) -> None:
    sleeper = ("python3", "-c", "import time; time.sleep(600)")
    assert (
        shops.json("deploy", "alpha", DEMO, "-e", "worker", "--create", "--", *sleeper)["state"]
        == "active"
    )
    said = shops.cli(
        "deploy",
        "alpha",
        DEMO,
        "-e",
        "web",
        "--create",
        "--port",
        "9999",
        "--timeout",
        "3",
        "--",
        *sleeper,
        code=6,
    )
    assert "nothing listens on port 9999" in said


@pytest.mark.every_engine
def test_deploying_without_an_image_runs_the_hooks_only(shops: Stage) -> None:
    done = shops.json("deploy", "alpha", "-e", "elsewhere", "--create")
    assert (done["state"], done["container"]) == ("active", "")


@pytest.mark.every_engine
def test_an_environment_of_its_own_has_data_of_its_own(shops: Stage) -> None:
    production, preview = shops.variables("alpha"), shops.variables("alpha", "preview-7")
    assert preview["POSTGRES_DATABASE"] == "alpha_preview_7"
    assert preview["REDIS_PORT"] != production["REDIS_PORT"]
    shops.cli("project", "remove-environment", "alpha", "preview-7")
    assert (
        shops.variables("alpha", "preview-7")["POSTGRES_PASSWORD"] != preview["POSTGRES_PASSWORD"]
    )


@pytest.mark.every_engine
def test_ports_are_bound_to_loopback_only(shops: Stage) -> None:
    for name in shops.containers():
        bindings = json.loads(
            docker("inspect", name, "--format", "{{json .HostConfig.PortBindings}}")
        )
        assert all(
            item["HostIp"] == "127.0.0.1" for port in (bindings or {}).values() for item in port
        )


@pytest.mark.every_engine
def test_no_password_is_in_a_container_s_configuration_or_process_list(shops: Stage) -> None:
    for service in ("main", "cache"):
        client = shops.local().get(f"/api/external-services/{service}/client").json()
        environment = client["client"]["environment"]
        password = environment["PGPASSWORD" if service == "main" else "REDISCLI_AUTH"]
        assert password not in docker("inspect", client["container"])
        assert password not in docker("top", client["container"])
        assert password not in shops.cli("logs", service)


@pytest.mark.every_engine
def test_no_secret_is_in_the_journal_the_log_or_the_database(shops: Stage) -> None:
    secrets = {
        value for name, value in shops.variables("alpha").items() if name.endswith("PASSWORD")
    }
    journal = shops.cli("--json", "events", "-n", "1000")
    files = [
        shops.state / name
        for name in ("purveyor.db", "purveyor.db-wal", "daemon.log")
        if (shops.state / name).exists()
    ]
    held = b"".join(path.read_bytes() for path in files)
    for secret in secrets:
        assert secret not in journal
        assert secret.encode() not in held


@pytest.mark.every_engine
def test_health_tells_the_truth(shops: Stage) -> None:
    found = shops.json("health", "main")
    assert found["healthy"]
    assert found["stage"] == "write"
    assert found["version"].startswith("17.")
    assert found["latency_ms"] > 0
    with hanging(f"{shops.namespace}-cache"):
        said = json.loads(shops.run("--json", "health", "cache").stdout)
        assert not said["healthy"]
        assert said["detail"]
    assert eventually(lambda: shops.run("health", "cache").returncode == 0)


def test_the_doctor_names_the_one_step_that_fails(shops: Stage) -> None:
    checks = shops.json("doctor", "alpha")
    path = [item["name"] for item in checks if item["subject"] == "main"]
    assert path == ["container", "resolve", "tcp", "login", "query", "write"]
    assert all(item["ok"] for item in checks)
    admin = ("connect", "main", "--", "-c")
    shops.cli(*admin, "ALTER ROLE alpha_production_1 NOLOGIN")
    try:
        checks = json.loads(shops.run("--json", "doctor", "alpha").stdout)
        failed = [item for item in checks if not item["ok"]]
        assert [(item["subject"], item["name"]) for item in failed] == [("main", "login")]
        assert "not permitted to log in" in failed[0]["detail"]
        assert failed[0]["remedy"]
    finally:
        shops.cli(*admin, "ALTER ROLE alpha_production_1 LOGIN")


def test_a_plan_is_what_is_then_done(shops: Stage) -> None:
    before = shops.world()
    plan = shops.json("create", "redis", "planned", "--plan")
    assert shops.world() == before
    shops.cli("create", "redis", "planned")
    service = shops.json("show", "planned")["service"]
    assert [item["name"] for item in plan["containers"]] == [service["container_name"]]
    assert [item["port"] for item in plan["ports"]] == [service["port"]]
    operation = next(
        item for item in shops.json("operations") if item["service_id"] == service["id"]
    )
    done = [step["name"] for step in shops.json("operations", str(operation["id"]))["steps"]]
    assert plan["steps"] == done

    plan = shops.json("delete", "planned", "--plan")
    assert "keep" in plan["volumes"][0]["action"]
    plan = shops.json("delete", "planned", "--purge", "--plan")
    assert "DELETE" in plan["volumes"][0]["action"]
    shops.cli("project", "create", "gamma")
    plan = shops.json("link", "planned", "gamma", "--plan")
    assert plan["resources"] == ["gamma_production"]
    assert "REDIS_URL" in plan["variables"]
    assert shops.json("project", "show", "gamma")["links"] == []
    plan = shops.json("deploy", "alpha", DEMO, "--port", "8000", "--plan")
    assert "DATABASE_URL" in plan["variables"]
    assert {item["action"] for item in plan["containers"]} == {"create", "retire"}
    assert (
        shops.json("update", "planned", "-p", "port=64000", "--plan")["ports"][0]["port"] == 64000
    )
    for verb in ("start", "stop", "restart"):
        assert shops.json(verb, "planned", "--plan")["verb"] == verb
    assert shops.json("show", "planned")["service"]["status"] == "running"
