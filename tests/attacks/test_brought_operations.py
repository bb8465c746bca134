"""What a project, a plugin and a bad moment do to the operations that plugins bring; on the fake
engine."""

import json
import logging
import signal
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from attacks.told import attack
from fake import server
from fake.asked import Asked, asked
from fake.scene import PLUGINS, Scene, do
from fake.server import LABEL, Tidy, TidyArguments
from purveyor.app import App, open_app
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.services import store as services
from purveyor_hooks import (
    Asking,
    BadInput,
    Draft,
    Failed,
    Forbidden,
    PurveyorError,
    Running,
)

pytestmark = pytest.mark.anyio
VERB = "fake.tidy"
PATH = "/api/external-services/main/operations/fake.tidy"
KEY = "s3cr3t-of-all-tidying"
PLAN = {"plan": "true"}
DRAFT = Tidy.draft


def labelled(scene: Scene) -> set[str]:
    held = scene.server("main").held.resources
    return {name for name, keys in held.items() if LABEL in keys}


async def password_of(app: App, service: str = "main") -> str:
    record = await app.context.store.read(lambda tx: services.get(tx, service))
    return str(record.parameters["password"])


async def everything(desk: Asked) -> str:
    """All that is told to people: operations, events, the audit log, faults of plugins."""
    told = await desk.app.context.store.read(lambda tx: events.after(tx, 0))
    shown = (await desk.local.get("/api/operations?limit=200")).text
    plugins = (await desk.local.get("/api/plugins")).text
    return f"{told}{shown}{plugins}{await desk.entries()}"


async def made(app: App) -> int:
    return int(await app.context.store.read(lambda tx: tx.value("SELECT max(id) FROM operations")))


# ---------------------------------------------------------------- what is sent

BODIES = {
    "no JSON": b"label=neat",
    "half of one": b'{"label": "neat"',
    "a list": b'["neat"]',
    "null": b"null",
    "a number for a text": b'{"label": 7}',
    "an object for a text": b'{"label": {"$ne": ""}}',
    "a text for a number": b'{"label": "neat", "times": "three"}',
    "a number that is too long": b'{"label": "neat", "times": %s}' % (b"9" * 5000),
    "no number": b'{"label": "neat", "times": NaN}',
    "a truth for a number": b'{"label": "neat", "times": true}',
    "null for a text": b'{"label": null}',
    "a field that is not known": b'{"label": "neat", "service": "idle"}',
    "the project of somebody else": b'{"label": "neat", "project": 2}',
    "bytes that are no text": b'{"label": "\xff\xfe"}',
    "half a character": b'{"label": "\\ud800"}',
    "deep": b'{"label": %s"x"%s}' % (b"[" * 20_000, b"]" * 20_000),
    "deep in a list": b'{"label": "neat", "among": %s%s}' % (b"[" * 20_000, b"]" * 20_000),
    "a mapping of many": json.dumps({"label": "neat"} | {f"k{i}": i for i in range(5000)}).encode(),
    "a text that is too long": b'{"label": "%s"}' % (b"x" * 2_000_000),
    "a secret that is too long": b'{"label": "neat", "key": "%s"}' % (b"x" * 100_000),
    "a list that is too long": json.dumps({"label": "neat", "among": ["x"] * 60_000}).encode(),
}


@attack(
    "plugins",
    "send an operation of a plugin arguments of other kinds, too many, too long, too deep",
    honest="odd texts that fit are taken as they are",
)
@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("plan", [False, True], ids=["run", "plan"])
async def test_what_is_no_argument_is_refused_and_begins_nothing(
    scene: Scene, what: str, plan: bool
) -> None:
    async with asked(scene) as desk:
        before = await made(desk.app)
        answer = await desk.local.post(
            PATH,
            content=BODIES[what],
            params={"plan": "true"} if plan else {},
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in (400, 413), answer.text
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert len(answer.content) < 5_000
        assert await made(desk.app) == before
        assert labelled(scene) == set()


async def test_what_is_odd_and_fits_is_done_as_it_is(scene: Scene) -> None:
    async with asked(scene) as desk:
        for label in ("\u0000", "'; DROP TABLE x", "\u202eneat", "{{ 7*7 }}", "\N{PILE OF POO}"):
            done = await desk.local.post(PATH, json={"label": label})
            assert done.status_code == 200, done.text
            held = scene.server("main").held.resources
            assert {keys[LABEL] for keys in held.values()} == {label}
        body = b'{"label": "first", "label": "last"}'
        headers = {"Content-Type": "application/json"}
        assert (await desk.local.post(PATH, content=body, headers=headers)).status_code == 200


# ---------------------------------------------------------------- whose it is


@pytest.fixture
def of_projects(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tidy` is for projects, and touches what is theirs."""

    async def draft(self: Tidy, asked: Asking[TidyArguments]) -> Draft:
        own = [binding.resource for binding in asked.bindings]
        return Draft(steps=("write",), state={"left": own}, resources=tuple(own))

    monkeypatch.setattr(Tidy, "scope", "project")
    monkeypatch.setattr(Tidy, "draft", draft)


@attack(
    "tokens and sign-in",
    "run a plugin's operation on a service that is not linked, by name, number or odd spelling",
    honest="runs it on the one that is linked, on what is its own there",
)
@pytest.mark.usefixtures("of_projects")
async def test_a_project_reaches_what_it_is_linked_to_and_its_own_of_that(scene: Scene) -> None:
    async with asked(scene) as desk:
        tokens = {
            name: await desk.by((await desk.token(name, scope="project", project=name))["token"])
            for name in ("shop", "blog", "bare")
        }
        body = {"label": "neat"}

        async def answers(client: httpx.AsyncClient) -> dict[str, int]:
            return {
                service: (
                    await client.post(
                        f"/api/external-services/{service}/operations/{VERB}", json=body
                    )
                ).status_code
                for service in ("main", "1", "idle", "tracked", "nobody", "MAIN", "01", " main")
            }

        assert {*(await answers(tokens["bare"])).values()} == {403}
        of_blog = await answers(tokens["blog"])
        assert {name for name, status in of_blog.items() if status == 200} == {"tracked"}
        assert labelled(scene) == set()
        assert {*(await answers(tokens["shop"])).values()} <= {200, 403, 404}
        assert labelled(scene) == {"shop_production", "shop_preview"}
        for query in ("?project=shop", "?plan=true&project=1"):
            assert (await tokens["blog"].post(f"{PATH}{query}", json=body)).status_code == 403


@pytest.mark.usefixtures("of_projects")
async def test_an_apps_own_token_runs_none(scene: Scene) -> None:
    async with asked(scene) as desk:
        made_for = await desk.token("app", scope="project", project="shop")
        await desk.app.context.store.write(
            lambda tx: tx.update(
                "tokens",
                "id = ?",
                [made_for["id"]],
                environment_id=tx.value("SELECT min(environment_id) FROM deployments"),
            )
        )
        client = await desk.by(made_for["token"])
        assert (await client.post(PATH, json={"label": "neat"})).status_code == 403
        assert labelled(scene) == set()


@attack(
    "tokens and sign-in",
    "run a plugin's operation while the link ends",
    honest="a project that is linked runs it",
)
async def test_a_link_that_ends_between_the_look_and_the_intent_ends_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draft without bindings may mean: of all."""
    monkeypatch.setattr(Tidy, "scope", "project")

    async def draft(self: Tidy, asking: Asking[TidyArguments]) -> Draft:
        await do(desk.app, "unlink", service="main", project="shop", now=True)
        return await DRAFT(self, asking)

    monkeypatch.setattr(Tidy, "draft", draft)
    async with asked(scene) as desk:
        client = await desk.by((await desk.token("s", scope="project", project="shop"))["token"])
        answer = await client.post(PATH, json={"label": "neat"})
        assert answer.status_code == 403, answer.text
        assert "not linked" in answer.text
        assert labelled(scene) == set()
        kind = desk.app.operation_type(VERB)
        given = msgspec.convert(
            {"service": "idle", "arguments": {"label": "x"}, "project": 1}, kind.arguments
        )
        with pytest.raises(Forbidden, match="not linked"):
            await desk.app.begin(VERB, given, "test")


# ---------------------------------------------------------------- what nobody may be told


@attack(
    "plugins",
    "tell a secret in the error of a draft or a step, in a plan, in progress, in a state",
    honest="the operation's own words are told, with the secret masked",
)
@pytest.mark.parametrize("how", ["ours", "fault", "plan", "state", "progress", "step"])
async def test_no_secret_is_told_whatever_the_plugin_says(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Of what was given, of the server's administrator, of the project's accounts."""

    def words(about: Any) -> str:
        held = [binding.password for binding in about.bindings]
        return f"{about.given.key} {about.service.parameters['password']} {' '.join(held)}"

    async def draft(self: Tidy, asking: Asking[TidyArguments]) -> Draft:
        said = words(asking)
        if how == "ours":
            raise BadInput(said, remedy=said, errors={"label": said})
        if how == "fault":
            raise RuntimeError(said)
        if how == "state":
            return Draft(steps=("write",), state={said: object()})
        if how == "plan":
            return Draft(
                steps=("note",), resources=(said,), warnings=(said,), downtime=said, state={}
            )
        return await DRAFT(self, asking)

    async def act(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        said = words(run)
        await run.save(left=[], said=said)
        await run.progress(said)
        if how == "step":
            raise Failed(said, remedy=said, errors={"label": said})
        if how == "progress":
            raise KeyError(said)

    monkeypatch.setattr(Tidy, "scope", "project")
    monkeypatch.setattr(Tidy, "draft", draft)
    monkeypatch.setattr(Tidy, "do", act)
    caplog.set_level(logging.DEBUG)
    async with asked(scene) as desk:
        token = (await desk.token("s", scope="project", project="shop"))["token"]
        client, body = await desk.by(token), {"label": "neat", "key": KEY}
        secrets = [KEY, await password_of(desk.app)]
        secrets += [password for password, _ in scene.server("main").held.accounts.values()]
        told = [(await client.post(PATH, json=body, params=query)).text for query in ({}, PLAN)]
        told += [await everything(desk), caplog.text]
        for secret in secrets:
            assert len(secret) > 10
            for text in told:
                assert secret not in text


async def test_the_schema_tells_which_are_secret_and_no_value(scene: Scene) -> None:
    async with asked(scene) as desk:
        await desk.local.post(PATH, json={"label": "neat", "key": KEY})
        for path in ("/api/schema/openapi.json", "/api/external-services/main/operations"):
            answer = await desk.local.get(path)
            assert answer.status_code == 200
            assert KEY not in answer.text
            assert await password_of(desk.app) not in answer.text


# ---------------------------------------------------------------- what a plugin does


async def test_a_state_that_grows_too_large_ends_the_operation_and_keeps_what_was(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def grow(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        await run.save(kept="as it was")
        for size in (10, 1_000, 100_000):
            await run.save(much=["x" * size])

    monkeypatch.setattr(Tidy, "do", grow)
    async with scene.open() as app:
        with pytest.raises(PurveyorError, match="larger than 65536"):
            await do(app, VERB, service="main", arguments={"label": "neat"})
        left = await app.context.store.read(operations.list_unfinished)
        assert left == []
        assert labelled(scene) == set()
        await do(app, "restart", service="main")


@pytest.mark.parametrize(
    "lie",
    [
        Draft(steps=("write",), state={"left": "not a list"}, downtime="none"),
        Draft(steps=("write",), state={"left": [["a"], {}]}),
        Draft(steps=("write",), resources=("x" * 10**6,) * 1000, warnings=("\x1b[2J\u202e",) * 999),
        Draft(steps=("note", "rest", "write"), state={"left": ["nothing of that name"]}),
    ],
    ids=["state of another kind", "items of another kind", "too much", "what is not there"],
)
async def test_a_draft_that_lies_is_told_stays_small_and_holds_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, lie: Draft
) -> None:
    async def draft(self: Tidy, asking: Asking[TidyArguments]) -> Draft:
        return lie

    monkeypatch.setattr(Tidy, "draft", draft)
    async with asked(scene) as desk:
        plan = await desk.local.post(PATH, json={"label": "neat"}, params=PLAN)
        assert plan.status_code == 200
        assert len(plan.content) < 400_000
        ended = await desk.local.post(PATH, json={"label": "neat"})
        assert ended.status_code >= 400, ended.text
        assert ended.headers["content-type"].startswith("application/problem+json")
        assert await desk.app.context.store.read(operations.list_unfinished) == []
        await do(desk.app, "restart", service="main")


async def test_an_undo_that_fails_again_and_again_holds_its_service_until_a_person_ends_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        raise Failed("it is broken")

    monkeypatch.setattr(Tidy, "do", fail)
    monkeypatch.setattr(Tidy, "undo", fail)
    async with asked(scene) as desk:
        answer = await desk.local.post(PATH, json={"label": "neat"})
        assert answer.status_code >= 400
        (left,) = await desk.app.context.store.read(operations.list_unfinished)
        assert left.state == "undoing"
        refused = await desk.local.post("/api/external-services/main/restart?plan=true")
        assert refused.status_code in (200, 409)
        ended = await desk.local.post(f"/api/operations/{left.id}/abandon")
        assert ended.json()["state"] == "abandoned", ended.text
        await do(desk.app, "restart", service="main")


@pytest.mark.parametrize("state", ["running", "undoing"])
async def test_a_plugin_that_is_removed_meanwhile_is_named_and_goes_on_when_it_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    reached = anyio.Event()

    async def stop(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        reached.set()
        await anyio.sleep_forever()

    async def fail(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        raise Failed("it is broken")

    with monkeypatch.context() as patched:
        if state == "undoing":
            patched.setattr(Tidy, "do", fail)
        patched.setattr(Tidy, "undo" if state == "undoing" else "do", stop)
        async with scene.open() as app:
            kind = app.operation_type(VERB)
            given = {"service": "main", "arguments": {"label": "neat"}}
            number = await app.begin(VERB, msgspec.convert(given, kind.arguments), "test")
            with anyio.fail_after(10):
                await reached.wait()

    async def now(app: App) -> OperationRecord:
        return await app.context.store.read(lambda tx: operations.get(tx, number))

    without = open_app(
        scene.state, make_engine=scene.engine_of, plugins=[], log_level=logging.CRITICAL
    )
    async with without as app:
        assert (await now(app)).state == state
        assert "nothing here knows 'fake.tidy'" in app.runner.waiting(number)
        assert app.runner.busy(1)
    async with scene.open() as app:
        ended = await now(app)
        assert ended.state == ("failed" if state == "undoing" else "succeeded")
        assert bool(labelled(scene)) == (state == "running")


async def test_two_plugins_of_one_type_or_two_operations_of_one_name_are_not_both_taken(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = EntryPoint(name="other", value="fake.server", group="purveyor")
    async with open_app(
        scene.state,
        make_engine=scene.engine_of,
        plugins=[*PLUGINS, other],
        log_level=logging.CRITICAL,
    ) as app:
        assert [name for name in app.operation_types if "." in name] == [VERB]
        broken = [item for item in app.context.registry.plugins if item.error]
        assert len(broken) == 1
        await do(app, VERB, service="main", arguments={"label": "neat"})

    def brings() -> list[Any]:
        return [Tidy(), Tidy()]

    monkeypatch.setattr(server, "operations", server.hookimpl(brings))
    async with scene.open() as app:
        (plugin,) = [item for item in app.context.registry.plugins if item.name == "fake"]
        assert "the operation tidy is there twice" in str(plugin.error)
        assert VERB not in app.operation_types


async def test_a_draft_that_is_asked_by_many_at_once_begins_them_one_after_the_other(
    scene: Scene,
) -> None:
    async with asked(scene) as desk:
        answers: list[int] = []

        async def ask(number: int) -> None:
            answer = await desk.local.post(PATH, json={"label": f"n{number}"})
            answers.append(answer.status_code)

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(ask, number)
        assert {*answers} <= {200, 409}
        assert 200 in answers
        labels = {keys[LABEL] for keys in scene.server("main").held.resources.values()}
        assert len(labels) == 1, "no two of them wrote at once"


# ---------------------------------------------------------------- killed

CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import anyio, msgspec
from fake.scene import Scene
from fake.server import Tidy
step, way = sys.argv[3], sys.argv[4]
async def die(self, at, run):
    if at == step and way == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    await DO(self, at, run)
    if at == step:
        os.kill(os.getpid(), signal.SIGKILL)
async def dying(self, asked):
    os.kill(os.getpid(), signal.SIGKILL)
DO = Tidy.do
if step == "draft":
    Tidy.draft = dying
Tidy.do = die
async def main():
    scene = Scene(Path(sys.argv[2]))
    async with scene.open() as app:
        kind = app.operation_type("fake.tidy")
        given = {"service": "main", "arguments": {"label": "neat", "key": "s3cr3t-of-all-tidying"}}
        await app.run("fake.tidy", msgspec.convert(given, kind.arguments), "test")
anyio.run(main)
"""


@pytest.mark.parametrize("way", ["before", "after"])
@pytest.mark.parametrize("step", ["draft", "write", "note"])
async def test_killed_with_sigkill_at_a_step_it_is_done_once_by_the_next_start(
    scene: Scene, step: str, way: str
) -> None:
    tests = Path(__file__).resolve().parent.parent
    ended = await anyio.run_process(
        [sys.executable, "-c", CHILD, str(tests), str(scene.state), step, way], check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    for path in scene.state.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    async with scene.open() as app:
        assert await app.context.store.read(operations.list_unfinished) == []
        if step == "draft":
            assert labelled(scene) == set()
            return
        assert labelled(scene) == {"shop_production", "shop_preview"}
        last = await app.context.store.read(lambda tx: operations.get(tx, made_last(tx)))
        assert (last.verb, last.state) == (VERB, "succeeded")


def made_last(tx: Any) -> int:
    return int(tx.value("SELECT max(id) FROM operations"))
