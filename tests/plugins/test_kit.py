"""The conformance kit itself: a type that keeps its promises passes, and each check finds out the
type that breaks what it is about. On the fake engine."""

import secrets as random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import anyio
import msgspec
import pytest

from fake import server
from fake.bench import LISTENS, OPEN, FakeBench, Plugin, environment
from fake.engine import Container
from fake.server import Server, Tidy
from purveyor.projects import endings
from purveyor_hooks import (
    Binding,
    Contents,
    Failed,
    Health,
    Recognition,
    Running,
    Service,
    Source,
    Variable,
)
from purveyor_hooks.conformance import CHECKS, Bench, Conformance, Unclaimed, checks, run_all
from purveyor_hooks.elsewhere import implemented_by

BY_NAME = {check.name: check for check in CHECKS}


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """The seconds that are waited for become fewer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "GRACE", 2)
        patch.setattr(endings, "PAUSE", 0.1)
        yield


class TestOfTheFakeType(Conformance):
    """It keeps all of them."""

    service_type = "fake"

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Iterator[FakeBench]:
        with FakeBench(Plugin()) as made:
            yield made


# ---------------------------------------------------------------- types that break a promise


def _forgetful(hook: Any) -> Any:
    """A hook of a server that has lost a thing by then."""

    async def ready(service: Service, access: Any) -> Health:
        if held := _held(service, access):
            held.held.resources.get("alpha_production", {}).pop("thing1", None)
            held.save()
        found: Health = await hook(service, access)
        return found

    return ready


def _held(service: Service, access: Any) -> Server | None:
    found = access.engine.find(service.host)
    return Server.of(access.engine, found.name) if found else None


def _container(service: Service) -> Any:
    spec = server.container(service)
    return msgspec.structs.replace(
        spec, environment={**spec.environment, "RANDOM": random.token_hex()}
    )


async def _without_version(service: Service, access: Any) -> Health:
    return Health(healthy=True, stage="write")


async def _sick(service: Service, access: Any) -> Health:
    return Health(healthy=False, stage="login", detail="it is not well")


def _variables(**given: str) -> Callable[[Service, Binding], list[Variable]]:
    """What apps are told, some of it otherwise: the value of another one, with {} of the service."""

    def told(service: Service, binding: Binding) -> list[Variable]:
        known = {item.name: item for item in environment(service, binding)}
        for name, value in given.items():
            known[name] = Variable(name=name, value=value.format_map(service.parameters))
        return list(known.values())

    return told


async def _nothing(service: Service, access: Any, binding: Binding) -> None:
    """Says that it is done."""


async def _unbound_alone(service: Service, access: Any, binding: Binding) -> None:
    await server.unbind(service, access, binding)


async def _purges_nothing(service: Service, access: Any, binding: Binding, extra: str) -> None:
    """Says that it is done."""


async def _both_work(
    service: Service, access: Any, binding: Binding, previous: str, until: datetime | None
) -> None:
    await server.rotate(service, access, binding, previous, datetime.max)


async def _one_works(
    service: Service, access: Any, binding: Binding, previous: str, until: datetime | None
) -> None:
    await server.rotate(service, access, binding, previous, None)


async def _never_retires(service: Service, access: Any, binding: Binding) -> None:
    """Says that it is done."""


async def _shuts_apps_out(service: Service, access: Any, previous: Service) -> None:
    await server.rotate_administrator(service, access, previous)
    held = _held(service, access)
    assert held is not None
    held.held.accounts.clear()
    held.save()


async def _miscounts(service: Service, access: Any, sink: Any) -> Any:
    census = await server.backup(service, access, sink)
    return msgspec.structs.replace(census, counts={"keys": {"alpha_production": 10**6}})


async def _twists(service: Service, access: Any, source: Source, options: Any) -> Any:
    found = await server.restore(service, access, source, options)
    held = _held(service, access)
    assert held is not None
    held.held.resources["alpha_production"]["thing1"] = "another"
    held.save()
    return found


async def _tells_nothing(source: Source, into: Contents) -> None:
    """Says that there is nothing."""


async def _tells_names(source: Source, into: Contents) -> None:
    held = msgspec.json.decode(b"".join([chunk async for chunk in source]), type=server.Held)
    for name, keys in held.resources.items():
        for key in keys:
            await into.put("keys", name, key, b"")


async def _tells_anything(source: Source, into: Contents) -> None:
    await into.put("keys", "alpha_production", random.token_hex(4), b"")


async def _opens_up(service: Service, access: Any, sink: Any) -> Any:
    held = _held(service, access)
    assert held is not None
    held.held.resources[OPEN] = {}
    held.save()
    return await server.backup(service, access, sink)


def _knows_nobody(container: Any) -> Recognition | None:
    return None


async def _marks_nothing(service: Service, access: Any, create: bool) -> str:
    return ""


async def _believes_anything(service: Service, access: Any) -> Health:
    return Health(healthy=True, stage="write", version="1")


class Forgets(Tidy):
    """Does not go on with what was begun."""

    async def do(self, step: str, run: Running[Any]) -> None:
        if step == "write":
            if run.state.get("begun"):
                raise Failed("it was begun already")
            await run.save(begun=True)
            await anyio.sleep(0.2)
        await super().do(step, run)


async def _tells_the_password(service: Service, access: Any) -> Health:
    log = access.engine.state / "daemon.log"
    log.write_text(f"logging in with {service.parameters['password']}")
    return await server.ready(service, access)


async def _fails(service: Service, access: Any) -> Health:
    raise KeyError("a bug of the type")


async def _leaves_a_helper(service: Service, access: Any, binding: Binding) -> None:
    await server.purge(service, access, binding)
    _run_beside(access.engine, f"{service.host}-helper")


def _run_beside(engine: Any, name: str, **labels: str) -> None:
    container = Container(
        id=name, name=name, image="fake:1", image_id="sha256:fake:1", labels=labels, environment={},
        command=[], entrypoint=[], mounts={}, ports={24999: 7000}, networks={}, state="running",
    )  # fmt: skip
    if not engine.find(name):
        engine.world.containers.append(container)
        engine.save()


async def _listens_everywhere(service: Service, access: Any, binding: Binding) -> None:
    await server.bind(service, access, binding)
    _run_beside(access.engine, f"{service.host}-open", **{LISTENS: "0.0.0.0"})


def _unlinked(*projects: str) -> Callable[[FakeBench], None]:
    def change(bench: FakeBench) -> None:
        for project in projects:
            bench.unlink(project, force="true")
        if projects == BOTH:
            bench.call("DELETE", "/external-services/main", purge="true")

    return change


BOTH = ("alpha", "beta")


def _let_in(**keys: str) -> Callable[[FakeBench], None]:
    def change(bench: FakeBench) -> None:
        """Somebody opens the server to all."""
        found = Server.of(bench.world, bench.service()["container_name"])
        found.held.resources[OPEN] = keys
        bench.in_daemon(found.save)

    return change


def _looked_at(bench: FakeBench) -> None:
    bench.call("GET", "/external-services/main/health")


class Broken(NamedTuple):
    """A type that breaks a promise: what it does otherwise, and what the check says of it."""

    check: str
    says: str
    replaced: Mapping[str, Any] = MappingProxyType({})
    before: tuple[Callable[[FakeBench], None], ...] = ()


BROKEN = (
    Broken("it_is_created", "health tells no version of the server", {"ready": _without_version}, (_unlinked(*BOTH),)),
    Broken("it_is_created", "it is not well", {"ready": _sick}, (_unlinked(*BOTH),)),
    Broken("ports_are_on_loopback", "-open is published on 0.0.0.0:24999", {"bind": _listens_everywhere},
        (_unlinked("alpha"),)),
    Broken("projects_are_linked", "what alpha wrote is not what it reads",
        {"environment": _variables(FAKE_RESOURCE="alpha_production")}, (_let_in(), _unlinked("beta"))),
    Broken("apps_reach_it_by_name", "no variable names", {"environment": _variables(FAKE_HOST="localhost")}),
    Broken("the_administrator_is_not_given_away", "the variable FAKE_ADMIN holds a secret parameter",
        {"environment": _variables(FAKE_ADMIN="{password}")}),
    Broken("accounts_differ", "the same password", {"environment": _variables(FAKE_PASSWORD="x" * 12)}),
    Broken("accounts_differ", "the same resource: all", {"environment": _variables(FAKE_RESOURCE="all")}),
    Broken("projects_are_kept_apart", "beta's credentials read alpha's alpha_production", {}, (_let_in(),)),
    Broken("projects_are_kept_apart", "beta's credentials overwrite alpha's data", {}, (_let_in(read="no"),)),
    Broken("projects_are_kept_apart", "beta reads with its own credentials what alpha wrote",
        {"environment": _variables(FAKE_RESOURCE="alpha_production")}, (_let_in(),)),
    Broken("it_stops_and_starts", "1 of 20 things", {"ready": _forgetful(server.ready)}),
    Broken("data_outlives_the_container", "1 of 20 things", {"ready": _forgetful(server.ready)}),
    Broken("health_is_a_real_round_trip", "health says yes", {"ready": _believes_anything}),
    Broken("unlinking_keeps_the_data", "the old credentials still read", {"unbind": _nothing}),
    Broken("unlinking_keeps_the_data", "missing or altered", {"unbind": server.purge}),
    Broken("purging_drops_one_projects_data", "what was purged is still there", {"purge": _unbound_alone}),
    Broken("a_further_one_is_dropped_alone", "what was dropped is still there",
        {"purge_extra": _purges_nothing}),
    Broken("credentials_are_rotated", "the old password still works", {"rotate": _both_work}),
    Broken("former_credentials_have_their_time", "ended before their time", {"rotate": _one_works}),
    Broken("former_credentials_have_their_time", "the old credentials end by themselves",
        {"retire": _never_retires}),
    Broken("the_administrator_is_rotated", "PermissionError", {"rotate_administrator": _shuts_apps_out}),
    Broken("a_backup_is_restored", "what came is not what the backup counted", {"backup": _miscounts}),
    Broken("a_backup_is_restored", "1 of 20 things", {"restore": _twists}),
    Broken("a_backup_is_proven", "it is not called verified", {"restore": _twists}),
    Broken("contents_are_told", "nothing is told of a backup that holds 20 things",
        {"contents": _tells_nothing}),
    Broken("contents_are_told", "two backups of the same data tell something else: keys of alpha_production",
        {"contents": _tells_anything}),
    Broken("contents_are_told", "a value that was changed is told as it was before", {"contents": _tells_names}),
    Broken("it_is_cloned", "what came is not what was counted", {"backup": _miscounts}),
    Broken("a_backup_is_restored_in_place", "1 of 20 things", {"restore": _twists}),
    Broken("it_is_upgraded", "1 of 20 things", {"ready": _forgetful(server.ready)}),
    Broken("a_hostile_project_gains_nothing", "after a backup: it reads whatever it likes",
        {"backup": _opens_up}),
    Broken("a_container_is_adopted", "it is not recognised", {"recognise": _knows_nobody}),
    Broken("a_container_is_adopted", "with wrong credentials as well",
        {"adopt": _believes_anything, "ready": _believes_anything, "identity": _marks_nothing}),
    Broken("its_operations_are_resumed", "the operation tidy is there twice",
        {"operations": lambda: [Tidy(), Tidy()]}),
    Broken("its_operations_are_resumed", " s, and failed: it was begun already",
        {"operations": lambda: [Forgets()]}),
    Broken("it_is_deleted_and_comes_back", "1 of 20 things", {"ready": _forgetful(server.ready)}),
    Broken("nothing_is_left", "-helper", {"purge": _leaves_a_helper}),
    Broken("secrets_are_kept", "the daemon's log holds a password", {"ready": _tells_the_password},
        (_looked_at,)),
    Broken("no_hook_failed", "faults, the last: ready: KeyError", {"ready": _fails},
        (_looked_at,)),
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared() -> Iterator[FakeBench]:
    """A bench that is as far as the first two projects, to be brought back to there."""
    with FakeBench(Plugin()) as bench:
        names = ("it_is_created", "ports_are_on_loopback", "projects_are_linked")
        for _, outcome in run_all(bench, names):
            assert not isinstance(outcome, Unclaimed)
            assert outcome.kept, outcome.text()
        bench.keep()
        yield bench


@pytest.mark.parametrize("broken", BROKEN, ids=lambda item: f"{item.check}-{item.says}")
def test_a_type_that_breaks_a_promise_is_found_out(prepared: FakeBench, broken: Broken) -> None:
    prepared.rewind(**broken.replaced)
    for work in broken.before:
        work(prepared)
    outcome = BY_NAME[broken.check].look(prepared)
    assert broken.says in outcome.seen
    assert f"promised: {outcome.promise}\nseen:     {outcome.seen}" in outcome.text()


def test_every_check_that_an_engine_is_needed_for_finds_out_somebody() -> None:
    pure = {"an_app_can_use_it", "pure_hooks_are_pure", "what_is_elsewhere_is_there"}
    assert {broken.check for broken in BROKEN} == BY_NAME.keys() - pure


# ---------------------------------------------------------------- what needs no daemon


def seen(check: str, plugin: Any) -> str:
    bench = FakeBench(plugin)
    found = BY_NAME[check].look(bench).seen
    bench.engine.close()
    return found


def test_a_container_that_is_another_at_each_call_is_found_out() -> None:
    plugin = Plugin()
    assert not seen("pure_hooks_are_pure", plugin)
    plugin.replaced["container"] = _container
    assert "two different containers" in seen("pure_hooks_are_pure", plugin)


def test_hooks_elsewhere_that_are_not_there_or_take_something_else_are_named() -> None:
    plugin: Any = Plugin()
    assert not seen("what_is_elsewhere_is_there", plugin)
    plugin.ready = implemented_by("fake.nowhere:ready")
    plugin.bind = implemented_by("fake.server:unbind")
    plugin.census = implemented_by("test_kit:census")
    said = seen("what_is_elsewhere_is_there", plugin)
    assert "ready is implemented by fake.nowhere:ready, which is not there" in said
    assert "bind is implemented by fake.server:unbind, which is named like another hook" in said
    assert "test_kit:census takes mood, which the hook census has not" in said
    assert "test_kit:census has to be `async def`" in said


def census(mood: str) -> None:
    """No hook of that kind."""


class Bare:
    """A type that promises next to nothing."""

    service_type = staticmethod(server.service_type)
    container = staticmethod(server.container)


def test_what_a_type_does_not_claim_is_not_asked_of_it_but_how_it_is_used() -> None:
    bench = FakeBench(Bare())
    assert "there is no hook `exercise`" in BY_NAME["an_app_can_use_it"].look(bench).seen
    with pytest.raises(Unclaimed, match=r"no hook backup, restore, census, exercise$"):
        BY_NAME["a_backup_is_restored"].look(bench)
    ((check, outcome),) = run_all(bench, ["it_is_cloned"])
    assert check.name == "it_is_cloned"
    assert isinstance(outcome, Unclaimed)
    with pytest.raises(pytest.skip.Exception, match="does not claim this"):
        Conformance().test_promise(BY_NAME["it_is_cloned"], bench)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)promised: .*seen: .*look at:  exercise"):
        Conformance().test_promise(BY_NAME["an_app_can_use_it"], bench)
    bench.engine.close()


def test_a_type_that_no_plugin_brings_is_named() -> None:
    with pytest.raises(LookupError, match="No installed plugin brings the service type 'nosuch'"):
        Bench("nosuch")
