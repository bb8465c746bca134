"""A plugin that serves apps through the API: environments' tokens, the door on their network,
routes, commands."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from support import DEMO, Stage, docker, eventually

PLUGIN = '''
"""A plugin for tests: a Redis behind an API of its own, which says whose binding a request reaches."""

import click
from litestar import Request, Router, get

from purveyor_hooks import FOR_APPS, ServiceType, Variable, hookimpl
from purveyor_redis import accounts, server
from purveyor_redis import plugin as redis

container = hookimpl(lambda service: server.container(service))


@hookimpl
def service_type():
    kind = redis.service_type()
    return ServiceType(
        name="echo", label="Echo", description="", default_image="purveyor-test/redis:8.0",
        parameters=[item for item in kind.parameters if item.name != "channels"],
        ports=kind.ports, slots=kind.slots, uses_api=True,
    )


@hookimpl
async def ready(service, access):
    return await server.ready(service, access)


@hookimpl
async def bind(service, access, binding):
    await accounts.bind(service, access, binding)


@hookimpl
async def unbind(service, access, binding):
    await accounts.unbind(service, access, binding)


@hookimpl
async def purge(service, access, binding):
    await accounts.purge(service, access, binding)


@hookimpl
def environment(service, binding):
    api = binding.api
    return [
        Variable(name="ECHO_URL", value=api.url),
        Variable(name="ECHO_TOKEN", value=api.token, secret=True),
        Variable(name="ECHO_PROJECT", value=str(api.project_id)),
    ]


@hookimpl
def cli_commands():
    @click.command("echo")
    @click.argument("project")
    @click.pass_obj
    def echo(obj, project):
        found = obj.run(lambda api: api.call("GET", "/api/echo", params={"project": project}))
        click.echo(found["resource"])

    return [echo]


@hookimpl
def http_routes(app):
    @get("/")
    async def echo(request: Request, project: str | None = None, environment: str | None = None) -> dict[str, str]:
        found = await app.core.bound("echo", request.user, project, environment)
        return {"resource": found.binding.resource, "address": f"{found.service.host}:{found.service.port(6379)}"}

    return [Router("/api/echo", route_handlers=[echo], middleware=[app.authentication], opt={FOR_APPS: True})]
'''
FETCH = (
    "import os, urllib.request as u; print(u.urlopen(u.Request(os.environ['ECHO_URL'] + '/api/echo', \
headers={'Authorization': 'Bearer ' + os.environ['ECHO_TOKEN']})).read().decode())"
)


@pytest.fixture(scope="module")
def stage(
    make_stage: Callable[..., Stage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "purveyor_echo.py").write_text(PLUGIN)
    info = folder / "purveyor_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: purveyor-echo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[purveyor]\necho = purveyor_echo\n")
    made = make_stage()
    made.environment |= {"PYTHONPATH": str(folder)}
    with made.serving():
        made.furnish({"echo": "echo"}, ["alpha", "beta"])
        eventually(lambda: made.rows("SELECT value FROM meta WHERE key = 'api-gateway'"))
        yield made


def ask(stage: Stage, token: str, path: str = "/api/echo", **parameters: str) -> httpx.Response:
    with stage.http(token) as client:
        return client.get(path, params=parameters)


def token_of(stage: Stage, project: str, environment: str = "production") -> str:
    return stage.variables(project, environment)["ECHO_TOKEN"]


@pytest.mark.every_engine
def test_an_app_on_the_network_reaches_the_api_as_its_own_environment(stage: Stage) -> None:
    values = stage.variables("alpha", host=False)
    given = [part for name, value in values.items() for part in ("-e", f"{name}={value}")]
    said = docker("run", "--rm", "--network", stage.namespace, *given, DEMO, "python3", "-c", FETCH)
    assert json.loads(said)["resource"] == "alpha_production"


def test_each_environment_s_token_reaches_its_own_binding_and_no_other(stage: Stage) -> None:
    production, preview = token_of(stage, "alpha"), token_of(stage, "alpha", "preview-7")
    assert production != preview
    assert ask(stage, production).json()["resource"] == "alpha_production"
    assert ask(stage, preview).json()["resource"] == "alpha_preview_7"
    assert ask(stage, preview, environment="production").status_code == 403
    assert ask(stage, production, project="beta").status_code == 403


@pytest.mark.parametrize("path", [
    "/api/projects/alpha/environments/production/variables",
    "/api/external-services/projects/alpha/environment",
    "/api/projects/alpha/deployments",
    "/api/external-services",
    "/api/tokens",
])  # fmt: skip
def test_an_app_s_token_reads_nothing_else_of_the_api(path: str, stage: Stage) -> None:
    assert ask(stage, token_of(stage, "alpha"), path).status_code == 403


def test_an_app_s_token_deploys_nothing(stage: Stage) -> None:
    with stage.http(token_of(stage, "alpha")) as client:
        assert (
            client.post("/api/projects/alpha/deployments", json={"image": DEMO}).status_code == 403
        )


def test_other_callers_say_whom_they_mean(stage: Stage) -> None:
    admin = stage.cli("token", "create", "admin").strip()
    assert ask(stage, "").status_code == 401
    missing = ask(stage, admin)
    assert (missing.status_code, list(missing.json()["errors"])) == (400, ["project_id"])
    assert ask(stage, admin, project="beta").json()["resource"] == "beta_production"
    stage.cli("project", "create", "lonely")
    assert ask(stage, admin, project="lonely").status_code == 404
    project = stage.cli(
        "token", "create", "of-beta", "--scope", "project", "--project", "beta"
    ).strip()
    assert ask(stage, project).json()["resource"] == "beta_production"
    assert ask(stage, project, environment="fresh").status_code == 404
    stage.add_environment("beta", "fresh")
    assert ask(stage, project, environment="fresh").json()["resource"] == "beta_fresh"
    reader = stage.cli("token", "create", "reader", "--scope", "read").strip()
    assert ask(stage, reader, project="beta").status_code == 403


def test_a_plugin_s_command_reaches_its_routes(stage: Stage) -> None:
    assert stage.cli("echo", "alpha").strip() == "alpha_production"


def test_what_was_remembered_ends_with_what_it_was_about(stage: Stage) -> None:
    token = token_of(stage, "beta")
    assert ask(stage, token).status_code == 200
    stage.cli("stop", "echo")
    assert ask(stage, token).status_code == 409
    stage.cli("start", "echo")
    assert ask(stage, token).status_code == 200
    (number,) = [
        item["id"] for item in stage.json("token", "list") if item["name"] == "beta/production"
    ]
    stage.cli("token", "revoke", str(number))
    assert ask(stage, token).status_code == 401
    renewed = token_of(stage, "beta")
    assert renewed != token
    assert ask(stage, renewed).status_code == 200


def test_unlinking_ends_the_token_and_linking_again_makes_another(stage: Stage) -> None:
    token = token_of(stage, "alpha")
    stage.cli("unlink", "echo", "alpha")
    assert ask(stage, token).status_code == 401
    stage.cli("link", "echo", "alpha")
    again = token_of(stage, "alpha")
    assert again != token
    assert ask(stage, again).status_code == 200


def test_a_token_s_text_is_in_no_list_event_or_row(stage: Stage) -> None:
    token = token_of(stage, "alpha")
    assert token not in stage.cli("--json", "token", "list")
    assert token not in stage.cli("--json", "events", "-n", "500")
    assert not [row for row in stage.rows("SELECT * FROM tokens") if token in map(str, row)]
    masked: dict[str, Any] = stage.call("GET", "/external-services/echo/preview-environment-masked")
    assert masked["ECHO_TOKEN"] == "***"


@pytest.mark.fortnightly
def test_the_address_can_be_another(make_stage: Callable[..., Stage], stage: Stage) -> None:
    lone = make_stage('api-url = "https://purveyor.example.com/"')
    lone.environment |= {"PYTHONPATH": stage.environment["PYTHONPATH"]}
    lone.cli("create", "echo", "echo")
    lone.cli("project", "create", "shop")
    lone.cli("link", "echo", "shop")
    assert lone.variables("shop", host=False)["ECHO_URL"] == "https://purveyor.example.com"


@pytest.mark.fortnightly
def test_while_nobody_knows_the_address_it_is_said_and_nothing_is_injected(
    make_stage: Callable[..., Stage], stage: Stage
) -> None:
    lone = make_stage()
    lone.environment |= {"PYTHONPATH": stage.environment["PYTHONPATH"]}
    lone.cli("create", "echo", "echo")
    lone.cli("project", "create", "shop")
    lone.cli("link", "echo", "shop")
    assert "api-url" in lone.cli("env", "shop", code=5)
