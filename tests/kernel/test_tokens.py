"""Tokens: who may do what."""

import time

import pytest

from attacks.told import attack
from support import Stage


def make(stage: Stage, *options: str) -> str:
    return stage.cli("token", "create", "t", *options).strip()


@attack(
    "tokens and sign-in",
    "ask without a token",
    "ask with one that nobody made",
    honest="anybody reads the version",
)
def test_without_a_valid_token_nothing_is_told(shops: Stage) -> None:
    for token in ("", "wrong", "pvy_" + "x" * 43):
        with shops.http(token) as client:
            answer = client.get("/api/external-services")
            assert answer.status_code == 401
            assert answer.headers["content-type"].startswith("application/problem+json")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "main" not in answer.text
            assert client.post("/api/external-services", json={}).status_code == 401
    with shops.http() as client:
        assert client.get("/api/version").json()["name"] == "purveyor"


@attack(
    "tokens and sign-in",
    "read secrets with a reader's token",
    "stop a service with it",
    "delete a service with it",
    "make a token with it",
    honest="reads services",
)
def test_a_read_token_reads_and_changes_nothing_and_sees_no_secret(shops: Stage) -> None:
    with shops.http(make(shops, "--scope", "read")) as client:
        assert client.get("/api/external-services").status_code == 200
        assert client.get("/api/external-services/main").status_code == 200
        assert (
            client.get("/api/external-services/main/projects/alpha/environment").status_code == 403
        )
        assert client.get("/api/external-services/main/client").status_code == 403
        assert client.post("/api/external-services/main/stop").status_code == 403
        assert client.delete("/api/external-services/main").status_code == 403
        assert client.post("/api/tokens", json={"name": "x"}).status_code == 403


@attack(
    "tokens and sign-in",
    "read another project's variables",
    "read another project",
    "list services",
    "read events",
    "delete its own project",
    honest="reads its own variables",
)
def test_a_project_token_reaches_its_own_project_only(shops: Stage) -> None:
    with shops.http(make(shops, "--scope", "project", "--project", "alpha")) as client:
        found = client.get("/api/external-services/main/projects/alpha/environment")
        assert found.json()["POSTGRES_DATABASE"] == "alpha_production"
        assert (
            client.get("/api/projects/alpha/environments/production/variables").status_code == 200
        )
        assert (
            client.get("/api/external-services/main/projects/beta/environment").status_code == 403
        )
        assert client.get("/api/external-services/projects/beta/environment").status_code == 403
        assert client.get("/api/projects/beta").status_code == 403
        assert client.get("/api/external-services").status_code == 403
        assert client.get("/api/events").status_code == 403
        assert client.delete("/api/projects/alpha").status_code == 403


@attack(
    "tokens and sign-in",
    "use a token that was revoked",
    "use one that is over",
    honest="uses it before",
)
def test_a_token_ends_when_it_expires_or_is_revoked(shops: Stage) -> None:
    made = shops.json("token", "create", "brief")
    with shops.http(made["token"]) as client:
        assert client.get("/api/projects").status_code == 200
        shops.cli("token", "revoke", str(made["id"]))
        assert client.get("/api/projects").status_code == 401
    with shops.local() as local:
        brief = local.post("/api/tokens", json={"name": "brief", "expires_in": 1}).json()
    time.sleep(1.1)
    with shops.http(brief["token"]) as client:
        assert client.get("/api/projects").status_code == 401


@pytest.mark.parametrize(
    "options", [["--scope", "project"], ["--project", "alpha"], ["--expires", "soon"]]
)
def test_a_token_that_makes_no_sense_is_refused(options: list[str], shops: Stage) -> None:
    shops.cli("token", "create", "t", *options, code=2)


def test_the_token_is_shown_once_and_never_listed(shops: Stage) -> None:
    token = make(shops)
    assert token not in shops.cli("--json", "token", "list")
    assert token not in shops.cli("--json", "events", "-n", "1000")


def test_the_local_socket_is_the_owner_s_alone(shops: Stage) -> None:
    assert (shops.state / "purveyor.sock").stat().st_mode & 0o777 == 0o600
    assert shops.state.stat().st_mode & 0o077 == 0


def test_the_command_line_talks_to_a_daemon_elsewhere(shops: Stage) -> None:
    shops.environment |= {"PURVEYOR_URL": shops.address, "PURVEYOR_TOKEN": make(shops)}
    try:
        assert {item["slug"] for item in shops.json("list")} >= {"main", "cache"}
        shops.environment["PURVEYOR_TOKEN"] = "wrong"
        assert "unknown, expired or revoked" in shops.cli("list", code=3)
    finally:
        del shops.environment["PURVEYOR_URL"], shops.environment["PURVEYOR_TOKEN"]
