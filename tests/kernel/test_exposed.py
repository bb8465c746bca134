"""Each operation is declared once for whoever comes to it: route, command and description are made
of that."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from fake.scene import Scene
from purveyor.asgi import EXPOSED, create_api
from purveyor.cli import actions
from purveyor.exposed import PLACE, Exposed
from purveyor.kernel.operations import ImmediateOperation
from purveyor.program import COMMANDS, cli

CORE = Path(__file__).resolve().parents[2] / "core/purveyor"
# nobody starts these: a controller does, or another operation
BY_ITSELF = {"end-access", "repair", "repair-app"}
TWICE = {
    "restore": "of a backup, and of a service's archive to a moment",
    "adopt-backups": "from a bucket, and from the folder of this host",
}
# routes that change something and start no operation, or are not made of a declaration, and why
BY_HAND = {
    "POST /api/external-services/{reference}/reveal": "reads, and writes down who looked",
    "POST /api/projects/{project}/environments/{environment}/reveal": "the same",
    "POST /api/audit/backup-key-printed": "writes down what a command has shown already",
    "POST /api/plugins/installed": "writes down what a command has installed already",
    "DELETE /api/plugins/installed/{distribution}": "writes down what a command has removed already",
    "DELETE /api/sessions": "signs people out",
    "DELETE /api/sessions/{number}": "the same",
    "POST /api/operations/{number}/cancel": "is about an operation, and none itself",
    "POST /api/operations/{number}/abandon": "the same",
    "POST /api/recovery/takeover": "talks to the places of backups: a transaction is the least of it",
    "POST /api/backups/schedules/{reference}/{word}": "one path of two operations",
    "POST /api/external-services/{reference}/operations/fake.tidy": "a plugin declares it",
}
# where commands and clients say a method by themselves: what is no operation of the core
METHODS_BY_HAND = {
    "backups/commands.py": 1,  # the key was printed
    "access/commands.py": 1,  # a session is ended
    "distributions/commands.py": 2,  # what was installed, or removed
    "extensions/commands.py": 2,  # operations that plugins declare, and their plans
    "recovery/commands.py": 1,  # takeover
    "cli/operations.py": 3,  # of an operation that is there
}


def plain(path: str) -> str:
    """A path as the API's description has it."""
    return PLACE.sub(r"{\1}", path)


def mutating(api: Litestar) -> dict[str, bool]:
    """What changes something, and whether its route is made of a declaration."""
    return {
        f"{method} {route.path_format}": handler.fn.__module__ == "purveyor.exposed.routes"
        for route in api.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/api/")
        for method, (handler, _) in route.route_handler_map.items()
        if method not in ("GET", "HEAD", "OPTIONS")
    }


@pytest.mark.anyio
async def test_each_operation_is_declared_once(scene: Scene) -> None:
    async with scene.open() as app:
        kinds = {*app.operation_types, *app.immediate}
    declared = Counter(item.operation for item in EXPOSED)
    assert declared.keys() | BY_ITSELF == kinds - {"fake.tidy"}
    assert {name for name, number in declared.items() if number > 1} == TWICE.keys()
    assert set(declared.values()) <= {1, 2}


@pytest.mark.anyio
async def test_each_call_that_changes_something_is_made_of_a_declaration(scene: Scene) -> None:
    async with scene.open() as app:
        found = mutating(create_api(app))
        at_once = app.immediate
        assert all(isinstance(kind, ImmediateOperation) for kind in at_once.values())
    assert {call for call, made in found.items() if not made} == BY_HAND.keys()
    of_routes = {f"{item.method} {plain(item.path)}" for item in EXPOSED if item.route}
    assert {call for call, made in found.items() if made} == of_routes
    # what has no steps has nothing to look at while it is done, and the other way round
    for item in EXPOSED:
        if item.command is not None:
            assert (item.command.title == "") == (item.operation in at_once), item.operation


@pytest.mark.anyio
async def test_no_call_has_two_paths_which_would_be_described_in_another_order_each_time(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        routes = [item for item in create_api(app).routes if isinstance(item, HTTPRoute)]
    several = {
        handler.handler_name
        for route in routes
        if route.path.startswith("/api/") and not route.path.startswith("/api/schema")
        for handler, _ in route.route_handler_map.values()
        if len(handler.paths) > 1
    }
    assert several == set()


def test_the_commands_that_are_declared_are_there_and_made_of_it() -> None:
    root = click.Context(cli, info_name="purveyor")
    found: dict[str, list[click.Command]] = {}
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        groups = [command]
        while groups:
            one = groups.pop()
            found.setdefault(str(one.name), []).append(one)
            groups += one.commands.values() if isinstance(one, click.Group) else []
    for item in EXPOSED:
        if item.command is None:
            continue
        made = [
            command
            for command in found[item.command.name]
            if command.help == item.command.help
            and getattr(command.callback, "__module__", "") == actions.__name__
        ]
        assert len(made) == 1, item.command.name
        words = [*item.places.values(), *item.command.words]
        assert [
            param.name for param in made[0].params if isinstance(param, click.Argument)
        ] == words


def test_no_command_and_no_client_writes_a_path_of_an_operation_once_more() -> None:
    methods = {"POST", "PUT", "DELETE", "PATCH"}
    files = [*CORE.glob("*/*commands.py"), *CORE.glob("clients/*.py"), *CORE.glob("cli/*.py")]
    assert len(files) > 20
    found = {}
    for path in files:
        said = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and node.value in methods
        ]
        if said:
            found[str(path.relative_to(CORE))] = len(said)
    assert found == METHODS_BY_HAND


def test_a_command_that_reads_a_declaration_loads_no_web_framework_and_no_operation() -> None:
    modules = [f"purveyor.{path.parent.name}.exposed" for path in sorted(CORE.glob("*/exposed.py"))]
    assert len(modules) > 5
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.split())
    assert not loaded & {"litestar", "msgspec", "click", "httpx", "purveyor.kernel"}
    assert not {name for name in loaded if re.search(r"\.(operations|routes|store)\b", name)}


def test_a_call_puts_each_argument_where_the_declaration_says() -> None:
    one = Exposed(
        "op",
        "POST /api/things/{reference:thing}/parts/{number}",
        "op",
        "things",
        query=("deep", "only"),
        body="any:Body",
        renamed={"project_id": "project"},
    )
    call = one.call({"plan": "a field"}, thing="a/b c", number=7, deep=False, only=None, project=3)
    assert call == ("POST", "/api/things/a%2Fb%20c/parts/7", {"deep": False}, call.json)
    assert call.json == {"plan": "a field", "project_id": 3}
    assert one.call(thing="t", number=1, plan=True).params == {"plan": True}
    bare = one._replace(body="", query=())
    assert bare.call(thing="t", number=1).given == {"params": {}}
    with pytest.raises(AssertionError, match="does not take"):
        bare.call(thing="t", number=1, deep=True)
