"""A third party's plugin, found by its entry point like the bundled ones, takes part in
everything."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import DEMO, Stage, eventually

pytestmark = pytest.mark.fortnightly

PLUGIN = '''
"""A plugin for tests: it notes what it is told, refuses what it is asked to, and brings a type."""

import os
from pathlib import Path

import click
from litestar import get

from purveyor_hooks import ServiceType, Variable, hookimpl
from purveyor_redis import accounts, server
from purveyor_redis import plugin as redis

NOTES = Path(os.environ["NOTES"])


def note(*words):
    with NOTES.open("a") as file:
        print(*words, file=file)


@hookimpl
def service_type():
    kind = redis.service_type()
    return ServiceType(
        name="memo", label="Memo", description="", default_image="purveyor-test/redis:8.0",
        parameters=kind.parameters, ports=kind.ports, slots=kind.slots,
    )


container = hookimpl(lambda service: server.container(service))


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
    return [Variable(name="REDIS_URL", value=f"memo://{service.host}")]


@hookimpl
async def startup(core):
    note("startup")


@hookimpl
async def shutdown():
    note("shutdown")


@hookimpl
async def before_operation(operation):
    return "it is precious" if operation.verb == "stop" and operation.arguments["service"] == "precious" else None


@hookimpl
async def on_event(event):
    note("event", event.id, event.type)
    if event.type == "service.stop.succeeded":
        raise RuntimeError("a plugin that fails")


@hookimpl
async def before_deploy(deployment):
    note("before", deployment.scope.project, *sorted(variable.name for variable in deployment.variables)[:1])
    return "not on a Friday" if deployment.scope.environment == "friday" else None


@hookimpl
async def after_deploy(deployment, result):
    note("after", deployment.scope.project, result.container if result else None)


@hookimpl
def cli_commands():
    return [click.Command("memo", callback=lambda: click.echo("a command of a plugin"))]


@get("/memo", sync_to_thread=False)
def hello() -> dict[str, str]:
    return {"from": "a plugin"}


@hookimpl
def http_routes(app):
    return [hello]
'''


ASTRAY = '''
"""A plugin for tests whose routes the server refuses."""

from litestar import head

from purveyor_hooks import hookimpl


@head("/astray")
async def astray() -> bytes:
    return b"an answer to HEAD has no body"


@hookimpl
def http_routes(app):
    return [astray]
'''


@pytest.fixture(scope="module")
def stage(
    make_stage: Callable[..., Stage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "purveyor_memo.py").write_text(PLUGIN)
    (folder / "purveyor_broken.py").write_text("raise ImportError('this plugin is broken')")
    (folder / "purveyor_astray.py").write_text(ASTRAY)
    for name in ("memo", "broken", "astray"):
        info = folder / f"purveyor_{name}-3.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: purveyor-{name}\nVersion: 3.1\n"
        )
        (info / "entry_points.txt").write_text(f"[purveyor]\n{name} = purveyor_{name}\n")
    made = make_stage()
    made.environment |= {"PYTHONPATH": str(folder), "NOTES": str(folder / "notes")}
    with made.serving():
        yield made


def notes(stage: Stage) -> list[str]:
    path = Path(stage.environment["NOTES"])
    return path.read_text().splitlines() if path.exists() else []


def test_it_is_listed_and_the_broken_one_with_its_error(stage: Stage) -> None:
    found = {item["name"]: item for item in stage.json("plugin", "list")}
    assert (found["memo"]["distribution"], found["memo"]["version"], found["memo"]["error"]) == (
        "purveyor-memo",
        "3.1",
        "",
    )
    assert "this plugin is broken" in found["broken"]["error"]
    assert "http_routes" in found["astray"]["last_fault"]
    assert found["postgres"]["error"] == ""
    assert "memo" in stage.cli("types")
    assert "startup" in notes(stage)


def test_its_command_and_its_route_are_there(stage: Stage) -> None:
    assert stage.cli("memo").strip() == "a command of a plugin"
    with stage.http() as client:
        assert client.get("/memo").json() == {"from": "a plugin"}


def test_it_may_refuse_a_verb_with_a_reason(stage: Stage) -> None:
    stage.cli("create", "redis", "precious")
    said = stage.cli("stop", "precious", code=5)
    assert "The plugin memo refused to stop: it is precious" in said
    assert stage.json("show", "precious")["service"]["status"] == "running"


def test_it_hears_of_everything_in_order_and_its_fault_is_its_own(stage: Stage) -> None:
    stage.cli("create", "redis", "plain")
    stage.cli("stop", "plain")
    stage.cli("start", "plain")
    last = json.loads(stage.cli("--json", "events", "-n", "1").splitlines()[-1])["id"]

    def heard() -> list[int]:
        return [int(line.split()[1]) for line in notes(stage) if line.startswith("event")]

    eventually(lambda: heard() and heard()[-1] >= last)
    assert heard() == list(range(heard()[0], heard()[-1] + 1))
    found = {item["name"]: item for item in stage.json("plugin", "list")}
    assert "a plugin that fails" in found["memo"]["last_fault"]
    assert "a plugin that fails" not in found["redis"]["last_fault"]


def test_deploy_hooks_come_before_and_after_and_may_refuse(stage: Stage) -> None:
    stage.cli("project", "create", "shop")
    stage.cli("link", "precious", "shop")
    sleeper = ("--", "python3", "-c", "import time; time.sleep(600)")
    done = stage.json("deploy", "shop", DEMO, *sleeper)
    assert [line for line in notes(stage) if line.startswith(("before", "after"))] == [
        "before shop REDIS_CA_CERT",
        f"after shop {done['container']}",
    ]
    said = stage.cli("deploy", "shop", DEMO, "-e", "friday", "--create", *sleeper, code=5)
    assert "not on a Friday" in said
    assert not any(".shop.friday." in name for name in stage.containers())


def test_two_services_that_set_one_variable_differently_are_both_named(stage: Stage) -> None:
    stage.cli("create", "memo", "other")
    stage.cli("link", "other", "shop")
    before = stage.containers()
    said = stage.cli("deploy", "shop", DEMO, code=5)
    assert "precious and other both set REDIS_URL" in said
    assert stage.containers() == before
    assert "both set REDIS_URL" in stage.cli("env", "shop", code=5)
    stage.cli("unlink", "other", "shop")


def test_a_type_that_marks_no_data_never_comes_up_on_a_folder_made_anew(stage: Stage) -> None:
    stage.cli("create", "memo", "unmarked")
    stage.cli("stop", "unmarked")
    folder = stage.state / "volumes" / stage.json("show", "unmarked")["service"]["volume"]
    folder.rename(folder.with_suffix(".gone"))
    assert "is gone" in stage.cli("start", "unmarked", code=5)
    assert not folder.exists()
    folder.with_suffix(".gone").rename(folder)
    stage.cli("start", "unmarked")


def test_a_service_whose_plugin_is_gone_stays_listed_with_what_to_do(
    make_stage: Callable[..., Stage], stage: Stage
) -> None:
    site = stage.environment["PYTHONPATH"]
    lone = make_stage()
    lone.environment |= {"PYTHONPATH": site, "NOTES": str(lone.state / "notes")}
    lone.cli("create", "memo", "orphan")
    del lone.environment["PYTHONPATH"]
    (found,) = lone.json("list")
    assert found["status"] == "unknown"
    assert "is not installed; the data is kept" in found["status_reason"]
    said = lone.cli("restart", "orphan", code=4)
    assert "Install its plugin again" in said
    lone.environment["PYTHONPATH"] = site
    (found,) = lone.json("list")
    assert found["status"] == "running"
