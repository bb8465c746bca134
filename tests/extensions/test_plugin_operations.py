"""Operations that a plugin brings: decided once, resumed where they were, told when they cannot be
gone on with; asked for by the API and the command line as the core's own are."""

import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import click.testing
import msgspec
import pytest

from fake import server
from fake.asked import asked
from fake.scene import Scene, do
from fake.server import LABEL, Tidy, TidyArguments
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.extensions.operations import of_plugin
from purveyor.kernel.api.server import listen_local, serving
from purveyor.kernel.events import store as events
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.program import cli
from purveyor_hooks import (
    Asking,
    BadInput,
    Conflict,
    Draft,
    Failed,
    PurveyorError,
    Running,
    Step,
    Vetoed,
)

pytestmark = pytest.mark.anyio
VERB = "fake.tidy"
KEY = "s3cr3t-of-all-tidying"
PATH = "/api/external-services/main/operations/fake.tidy"
DO = Tidy.do


def resources(scene: Scene, service: str = "main") -> dict[str, dict[str, str]]:
    return scene.server(service).held.resources


async def begin(app: App, **given: Any) -> int:
    wanted = {"service": "main", "arguments": {"label": "neat", **given}}
    return await app.begin(
        VERB, msgspec.convert(wanted, app.operation_type(VERB).arguments), "test"
    )


async def record(app: App, number: int) -> OperationRecord:
    return await app.context.store.read(lambda tx: operations.get(tx, number))


async def further(app: App) -> None:
    """A second and a third resource on the service main."""
    await do(app, "link", service="main", project="shop", extra_databases=["one", "two"])


async def left_after_the_first(scene: Scene, monkeypatch: pytest.MonkeyPatch, **given: Any) -> int:
    """An operation whose process ended after the first resource was written."""
    reached = anyio.Event()

    async def stop(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        first, *left = run.state["left"]
        found = scene.server("main")
        found.held.resources[first][LABEL] = run.given.label
        found.save()
        await run.save(left=left)
        reached.set()
        await anyio.sleep_forever()

    with monkeypatch.context() as patched:
        patched.setattr(Tidy, "do", stop)
        async with scene.open() as app:
            await further(app)
            number = await begin(app, **given)
            with anyio.fail_after(10):
                await reached.wait()
    return number


async def test_it_goes_on_at_the_place_where_its_process_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await left_after_the_first(scene, monkeypatch)
    before = resources(scene)
    assert len([keys for keys in before.values() if LABEL in keys]) == 1 < len(before)
    first = next(name for name, keys in before.items() if LABEL in keys)
    found = scene.server("main")
    found.held.resources[first][LABEL] = "done before"
    found.save()
    async with scene.open() as app:
        assert (await record(app, number)).state == "succeeded"
        after = {name: keys[LABEL] for name, keys in resources(scene).items()}
        assert after.pop(first) == "done before"  # it is not done again
        assert {*after.values()} == {"neat"}
        kinds = [item.type for item in await app.context.store.read(lambda tx: events.after(tx, 0))]
        assert "service.fake.tidy.succeeded" in kinds


async def test_what_it_knows_is_sealed_while_it_runs_and_forgotten_when_it_has_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await left_after_the_first(scene, monkeypatch, key=KEY)
    async with scene.open(resume=False) as app:
        found = await record(app, number)
        assert found.private is not None
        assert found.private["secret"] == {"key": KEY}
        assert found.arguments["arguments"] == {
            "label": "neat",
            "among": [],
            "pause": "none",
            "times": None,
        }
    for path in scene.state.glob("purveyor.db*"):
        assert KEY.encode() not in path.read_bytes()
    async with scene.open() as app:
        found = await record(app, number)
        assert (found.state, found.private) == ("succeeded", None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda: setattr(Tidy, "steps", (Step(name="write"),)), "does not know the step 'note'"),
        (lambda: setattr(Tidy, "arguments", Other), "does not take what fake.tidy was given"),
    ],
    ids=["step", "argument"],
)
async def test_a_version_that_cannot_go_on_says_so_and_holds_the_target(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None], told: str
) -> None:
    number = await left_after_the_first(scene, monkeypatch)
    with monkeypatch.context() as patched:
        for name in ("steps", "arguments"):
            patched.setattr(Tidy, name, getattr(Tidy, name))
        change()
        async with scene.open() as app:
            assert (await record(app, number)).state == "running"
            assert told in app.runner.waiting(number)
            with pytest.raises(Conflict, match=r"fake\.tidy"):
                await do(app, "stop", service="main")
            done = [keys for keys in resources(scene).values() if LABEL in keys]
            assert len(done) == 1  # nothing was left out, and nothing taken back
    async with scene.open() as app:
        assert (await record(app, number)).state == "succeeded"


class Other(server.Arguments, frozen=True, kw_only=True):
    """What another version takes."""

    label: int


async def test_a_later_version_with_more_steps_does_those_that_were_decided(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await left_after_the_first(scene, monkeypatch)
    done: list[str] = []

    async def noting(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        done.append(step)
        await DO(self, step, run)

    monkeypatch.setattr(Tidy, "do", noting)
    monkeypatch.setattr(Tidy, "steps", (Step(name="new"), *Tidy.steps))
    async with scene.open() as app:
        assert (await record(app, number)).state == "succeeded"
    assert done == ["write", "note"]


async def test_without_its_plugin_it_is_told_holds_its_target_and_is_never_left_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await left_after_the_first(scene, monkeypatch)
    with monkeypatch.context() as patched:
        patched.delattr(server, "operations")
        async with scene.open() as app:
            assert VERB not in app.operation_types
            assert (await record(app, number)).state == "running"
            assert "install the plugin that brings it" in app.runner.waiting(number)
            with pytest.raises(Conflict, match=r"fake\.tidy"):
                await do(app, "stop", service="main")
    async with scene.open() as app:
        assert (await record(app, number)).state == "succeeded"


async def test_it_fails_in_its_own_words_without_a_secret_and_is_taken_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        if step == "note":
            await run.progress(f"with {run.given.key} at hand")
            if run.given.times:
                raise RuntimeError(f"broken by {run.given.key}")
            raise Failed(f"{run.given.key} is refused", remedy=f"not {run.given.key}")
        await DO(self, step, run)

    monkeypatch.setattr(Tidy, "do", fail)
    async with scene.open() as app:
        for times in (None, 1):
            number = await begin(app, key=KEY, times=times)
            handle = app.runner.handle(number)
            assert handle is not None
            with pytest.raises(Failed, match=r"\*\*\*"):
                await handle.wait()
            assert (await record(app, number)).state == "failed"
            assert not any(LABEL in keys for keys in resources(scene).values())
        told = await app.context.store.read(lambda tx: events.after(tx, 0))
        assert any("with *** at hand" in str(event.data) for event in told)
        assert KEY not in str(told)
        faults = {plugin.name: plugin.faults for plugin in app.context.registry.plugins}
        assert faults["fake"] == 1  # the second alone is the plugin's


async def test_a_step_without_a_sign_of_progress_is_ended_and_one_with_signs_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(self: Tidy, step: str, run: Running[TidyArguments]) -> None:
        if step == "write":
            for number in range(8):
                await anyio.sleep(0.1)
                await run.progress(f"{number}")
        else:
            await anyio.sleep_forever()

    monkeypatch.setattr(Tidy, "do", slow)
    steps = tuple(msgspec.structs.replace(step, deadline=0.5) for step in Tidy.steps)
    monkeypatch.setattr(Tidy, "steps", steps)
    async with scene.open() as app:
        with pytest.raises(PurveyorError, match=r"'note' of fake\.tidy made no"):
            await do(app, VERB, service="main", arguments={"label": "neat"})


async def test_a_service_that_changes_after_the_draft_has_it_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks: list[int] = []
    draft = Tidy.draft

    async def changing(self: Tidy, asked: Asking[TidyArguments]) -> Draft:
        asks.append(asked.service.parameters["size"])
        if len(asks) == 1:
            async with scene_app() as app:
                await do(app, "update", service="main", parameters={"size": 5})
        return await draft(self, asked)

    monkeypatch.setattr(Tidy, "draft", changing)
    async with scene.open() as app:

        @asynccontextmanager
        async def scene_app() -> Any:
            yield app

        await do(app, VERB, service="main", arguments={"label": "neat"})
    assert asks == [1, 5]


async def hang(self: Tidy, asked: Asking[TidyArguments]) -> Draft:
    await anyio.sleep_forever()
    raise AssertionError


def answering(given: Any) -> Callable[..., Awaitable[Any]]:
    async def draft(self: Tidy, asked: Asking[TidyArguments]) -> Any:
        return given

    return draft


@pytest.mark.parametrize(
    ("draft", "told"),
    [
        (hang, "did not draft fake.tidy within"),
        (answering(None), "NoneType, not Draft"),
        (answering(Draft(steps=())), "has no steps"),
        (answering(Draft(steps=("write", "write"))), "one of them twice"),
        (answering(Draft(steps=("rm -rf",))), "'rm -rf', which is not declared"),
        (answering(Draft(steps=("write",), state={"x": "x" * 70_000})), "larger than 65536"),
        (answering(Draft(steps=("write",), state={"x": object()})), "cannot be stored"),
    ],
)
async def test_a_draft_that_cannot_be_used_begins_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, draft: Any, told: str
) -> None:
    monkeypatch.setattr(Tidy, "draft", draft)
    monkeypatch.setattr(of_plugin, "DRAFT_DEADLINE", 0.1)
    async with scene.open() as app:
        last = await app.context.store.read(lambda tx: tx.value("SELECT max(id) FROM operations"))
        with pytest.raises(PurveyorError, match=told):
            await begin(app)
        now = await app.context.store.read(lambda tx: tx.value("SELECT max(id) FROM operations"))
        assert now == last


async def test_the_steps_are_done_in_their_declared_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Tidy, "draft", answering(Draft(steps=("note", "write"), state={"left": []}))
    )
    async with scene.open() as app:
        number = await do(app, VERB, service="main", arguments={"label": "neat"})
        assert (await record(app, number)).step_names == ["write", "note"]


async def test_a_stopped_service_and_one_of_another_type_are_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene.open() as app:
        with pytest.raises(Conflict, match="is stopped"):
            await do(app, VERB, service="asleep", arguments={"label": "neat"})
        monkeypatch.setattr(type(app.operation_types[VERB]), "service_type", "other")
        with pytest.raises(BadInput, match=r"is of the type fake: fake.tidy is for other"):
            await do(app, VERB, service="main", arguments={"label": "neat"})


async def test_what_was_begun_can_be_cancelled_and_is_taken_back(scene: Scene) -> None:
    async with asked(scene) as desk:
        number = await begin(desk.app, pause="long")
        with anyio.fail_after(10):
            while (await record(desk.app, number)).state == "running":
                steps = await desk.app.context.store.read(lambda tx: operations.steps(tx, number))
                if [step.name for step in steps] == ["write", "note", "rest"]:
                    break
                await anyio.sleep(0.02)
        answer = await desk.local.post(f"/api/operations/{number}/cancel")
        assert answer.json()["state"] == "failed", answer.text
        assert not any(LABEL in keys for keys in resources(scene).values())


# ---------------------------------------------------------------- as people ask for it


async def test_the_api_plans_and_runs_it_and_says_who_did(scene: Scene) -> None:
    async with asked(scene) as desk:
        client = await desk.by((await desk.token("admin"))["token"])
        offered = (await client.get("/api/external-services/main/operations")).json()
        assert [(item["name"], item["type"], item["scope"]) for item in offered] == [
            ("tidy", VERB, "admin")
        ]
        shown = offered[0]["arguments"]["properties"]
        assert shown["key"]["x-secret"]
        assert shown["label"]["description"] == "What to write."
        body = {"label": "neat", "key": KEY}
        plan = (await client.post(f"{PATH}?plan=true", json=body)).json()
        assert plan["steps"] == ["write", "note"]
        assert plan["resources"] == ["shop_preview", "shop_production"]
        assert not any(LABEL in keys for keys in resources(scene).values())
        done = await client.post(PATH, json=body)
        assert done.status_code == 200, done.text
        assert KEY not in done.text
        assert (done.json()["verb"], done.json()["actor"]) == (VERB, "token:admin")
        listed = (await client.get("/api/operations?service=main&limit=1")).json()
        assert listed[0]["verb"] == VERB
        assert KEY not in json.dumps(listed)
        entry = (await desk.entries())[-1]
        assert entry.action == "POST /api/external-services/{reference}/operations/fake.tidy"
        assert entry.actor == "token:admin"
        assert entry.target == "main"
        assert entry.operation_id == done.json()["id"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "label"),
        ({"label": ""}, "label"),
        ({"label": "neat", "more": 1}, "more"),
        ({"label": 7}, "label"),
        ({"label": "neat", "among": "all"}, "among"),
        ({"label": "neat", "pause": "forever"}, "pause"),
        ([], "object"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_and_change_nothing(
    scene: Scene, body: Any, told: str
) -> None:
    async with asked(scene) as desk:
        answer = await desk.local.post(PATH, json=body)
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert told in answer.text
        large = {"label": "neat", "among": ["x" * 1000] * 100}
        assert "larger than 64 KiB" in (await desk.local.post(PATH, json=large)).text
        assert not any(LABEL in keys for keys in resources(scene).values())


async def test_only_administrators_run_it_unless_the_plugin_says_otherwise(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def of_shop(self: Tidy, asked: Asking[TidyArguments]) -> Draft:
        owned = [binding.resource for binding in asked.bindings]
        return Draft(steps=("write",), state={"left": owned}, resources=tuple(owned))

    async def tokens(desk: Any) -> dict[str, str]:
        return {
            "read": (await desk.token("r", scope="read"))["token"],
            "shop": (await desk.token("s", scope="project", project="shop"))["token"],
            "blog": (await desk.token("b", scope="project", project="blog"))["token"],
        }

    body = {"label": "neat"}
    async with asked(scene) as desk:
        for token in (await tokens(desk)).values():
            assert (await (await desk.by(token)).post(PATH, json=body)).status_code == 403
    monkeypatch.setattr(Tidy, "scope", "project")
    monkeypatch.setattr(Tidy, "draft", of_shop)
    scene.put("main", "shop_production")
    async with asked(scene) as desk:
        held = scene.server("main")
        held.held.resources["blog_other"] = {}
        held.save()
        given = {name: await desk.by(token) for name, token in (await tokens(desk)).items()}
        assert (await given["read"].post(PATH, json=body)).status_code == 403
        assert (await given["blog"].post(PATH, json=body)).status_code == 403
        done = await given["shop"].post(PATH, json=body)
        assert done.status_code == 200, done.text
        assert done.json()["project_id"] is not None
        written = {name for name, keys in resources(scene).items() if LABEL in keys}
        assert written == {"shop_production", "shop_preview"}


async def test_the_schema_of_the_api_has_it_with_its_arguments(scene: Scene) -> None:
    async with asked(scene) as desk:
        found = (await desk.local.get("/api/schema/openapi.json")).json()
        route = found["paths"]["/api/external-services/{reference}/operations/fake.tidy"]["post"]
        assert route["summary"] == Tidy.summary
        of = route["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[
            2
        ]
        shape = found["components"]["schemas"][of]
        assert {"label", "key", "among", "pause", "times"} <= shape["properties"].keys()
        assert shape["required"] == ["label"]


async def test_the_command_line_runs_it(scene: Scene) -> None:
    async def command(*words: str) -> click.testing.Result:
        invoke = partial(
            click.testing.CliRunner().invoke, cli, ["--state", str(scene.state), *words]
        )
        return await anyio.to_thread.run_sync(invoke)

    async with scene.open() as app:
        socket = scene.state / "purveyor.sock"
        async with serving(create_api(app), local=[listen_local(socket)]):
            listed = await command("service", "operations", "main")
            assert "label, [key], [among], [pause], [times]" in listed.stdout
            planned = await command("service", "run", "main", "tidy", "-a", "label=neat", "--plan")
            assert "write → note" in planned.stdout
            wanted = ("-a", "label=neat", "-a", "times=3", "-a", "among=shop_production")
            done = await command("--json", "service", "run", "main", VERB, *wanted)
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout)["arguments"]["arguments"]["times"] == 3
            assert {name for name, keys in resources(scene).items() if LABEL in keys} == {
                "shop_production"
            }
            for words, told in (
                (("main", "sweep"), "has no operation 'sweep'"),
                (("main", "tidy", "-a", "size=1"), "There is no argument 'size'"),
                (("main", "tidy", "-a", "label=a", "-a", "times=many"), "times is integer"),
                (("nobody", "tidy"), "nobody"),
            ):
                refused = await command("service", "run", *words)
                assert refused.exit_code != 0
                assert told in str(refused.exception) + refused.output


async def test_the_catalogue_of_events_has_those_that_it_publishes(scene: Scene) -> None:
    async with asked(scene) as desk:
        await desk.local.post(PATH, json={"label": "neat"})
        catalogue = (await desk.local.get("/api/events/catalogue")).json()
        journal = await desk.local.get("/api/events", headers={"Accept": "application/json"})
    known = {entry["type"]: entry for entry in catalogue}
    published = {event["type"] for event in journal.json() if ".fake." in event["type"]}
    assert {"service.fake.tidy.started", "service.fake.tidy.succeeded"} <= published <= known.keys()
    assert known["service.fake.tidy.step"]["payload"] == "Stepped"


async def test_a_plugin_may_refuse_it_and_sees_no_secret(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    async def refuse(operation: Any) -> str:
        seen.append(operation)
        return "not today"

    monkeypatch.setattr(server, "before_operation", server.hookimpl(refuse), raising=False)
    async with scene.open() as app:
        with pytest.raises(Vetoed, match="not today"):
            await begin(app, key=KEY)
    assert seen[0].verb == VERB
    assert seen[0].arguments["arguments"]["label"] == "neat"
    assert KEY not in str(seen)
