"""What is wrong with a plugin is listed with it, all at once, before anything of it is called."""

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
import pytest

import purveyor_hooks as ph
from purveyor.kernel.logs import make_logger
from purveyor.kernel.plugins.registry import Plugin
from purveyor.kernel.plugins.validation import specifications
from purveyor.providers.registry import ProviderRegistry
from purveyor.providers.validation import TOGETHER
from purveyor_hooks import Parameter, Port, ServiceType, hookimpl, specs
from purveyor_hooks.elsewhere import ELSEWHERE, implemented_by, misplaced

pytestmark = pytest.mark.anyio
LOGGER = make_logger(logging.CRITICAL)
PORT = Parameter(name="port", help="", kind="integer", generated="port", base=7000)
KIND = ServiceType(
    name="thing",
    label="Thing",
    description="",
    default_image="thing:1",
    parameters=(PORT,),
    ports=(Port(container=7000),),
)


def plugin(kind: ServiceType = KIND, **further: Any) -> Plugin:
    """One that is right but for what is given; None takes something out."""
    module = ModuleType("plugin")

    def service_type() -> ServiceType:
        return kind

    def container(service: Any) -> Any: ...

    async def ready(service: Any, access: Any) -> Any: ...

    given = {"service_type": service_type, "container": container, "ready": ready} | further
    for name, member in given.items():
        if member is not None:
            setattr(module, name, hookimpl(member) if callable(member) else member)
    registry = ProviderRegistry(LOGGER)
    found = Plugin(name="thing")
    registry.register(module, found)
    assert bool(registry.find("thing")) == (not found.error and "service_type" in found.hooks)
    return found


def test_what_is_right_is_taken() -> None:
    assert plugin().error == ""
    assert plugin(PURVEYOR_CONTRACT=ph.CONTRACT_VERSION).error == ""
    assert plugin(PURVEYOR_CONTRACT=(0, ph.CONTRACT_VERSION + 1)).error == ""


def plain(service: Any, access: Any) -> Any: ...


async def waiting(service: Any) -> Any: ...


async def bind(service: Any, access: Any, binding: Any) -> None: ...


async def misled(service: Any, nonsense: Any) -> Any: ...


@pytest.mark.parametrize(
    ("further", "told"),
    [
        ({"PURVEYOR_CONTRACT": 7}, "version 7 of the contract"),
        ({"PURVEYOR_CONTRACT": (7, 9)}, "versions 7 to 9 of the contract"),
        ({"PURVEYOR_CONTRACT": "new"}, "has to be a number"),
        ({"ready": plain}, "ready has to be `async def`"),
        ({"container": waiting}, "container has to be `def`"),
        ({"container": None}, "it implements service_type and not container"),
        ({"bind": bind}, "it implements bind and not environment, purge, unbind"),
        ({"service_type": None, "bind": bind}, "nobody would call that"),
        ({"reddy": plain}, "hooks that the contract does not have: reddy"),
        ({"identity": misled}, "nonsense"),
    ],
)
def test_hooks_that_do_not_fit_are_told(further: dict[str, Any], told: str) -> None:
    assert told in plugin(**further).error


def parameter(**given: Any) -> ServiceType:
    one: dict[str, Any] = {"name": "size", "help": ""} | given
    return msgspec.structs.replace(KIND, parameters=(PORT, Parameter(**one)))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (msgspec.structs.replace(KIND, name="A Thing"), "lower-case letters"),
        (msgspec.structs.replace(KIND, default_image=""), "no default_image"),
        (msgspec.structs.replace(KIND, parameters=(PORT, PORT)), "port is there twice"),
        (msgspec.structs.replace(KIND, parameters=()), "a parameter port that is not there"),
        (msgspec.structs.replace(KIND, ports=(Port(container=0),)), "the port 0 is none"),
        (
            msgspec.structs.replace(parameter(), ports=(Port(container=7000, parameter="size"),)),
            "which is no integer",
        ),
        (msgspec.structs.replace(KIND, naming=ph.Naming(limit=0)), "naming allows no name"),
        (msgspec.structs.replace(KIND, slots=(9, 1)), "slots is no range"),
        (parameter(name="Size"), "named by lower-case letters"),
        (parameter(kind="number"), "is of the kind 'number'"),
        (parameter(generated="dice"), "is generated as 'dice'"),
        (parameter(generated="port"), "is a port, and so has to be an integer"),
        (parameter(generated="password", length=0), "with a `length`"),
        (parameter(pattern="("), "no regular expression"),
        (parameter(pattern="[a-z]+", default="A1"), "is not of the form"),
        (parameter(choices=("a", "b"), default="c"), "is none of a, b"),
        (parameter(kind="integer", default="7"), "is no integer"),
        (parameter(kind="integer", default=True), "is no integer"),
        (parameter(kind="integer", minimum=5, default=1), "is below 5"),
        (parameter(kind="integer", maximum=5, former=9), "has the former 9, which is above 5"),
    ],
)
def test_a_service_type_that_does_not_fit_is_told(kind: ServiceType, told: str) -> None:
    assert told in plugin(kind).error


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = plugin(parameter(pattern="(", kind="string"), ready=plain, bind=bind).error
    assert found.count(";") == 2
    assert "async def" in found
    assert "it implements bind" in found
    assert "regular expression" in found


async def census(service: Any, access: Any, binding: Any) -> Any: ...


async def restore(service: Any, access: Any, source: Any, options: Any) -> Any: ...


async def backup(service: Any, access: Any, sink: Any) -> Any: ...


def test_what_is_deprecated_is_listed_and_does() -> None:
    found = plugin(census=census, backup=backup, restore=restore)
    assert found.error == ""
    (told,) = found.deprecations
    assert "argument binding of the hook census" in told


ELSEWHERE_TEXT = """
async def ready(access):
    return access
def container(service):
    return service
async def identity(service, nonsense): ...
def bind(service): ...
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "a_room.py").write_text(ELSEWHERE_TEXT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "a_room", raising=False)
    return "a_room"


async def test_a_hook_that_is_elsewhere_is_imported_when_it_is_called(room: str) -> None:
    ready, container = implemented_by(f"{room}:ready"), implemented_by(f"{room}:container")
    found = plugin(ready=ready, container=container)
    assert found.error == ""
    assert room not in sys.modules
    assert container("a service") == "a service"
    assert room in sys.modules
    assert await ready("a service", "its access") == "its access"
    assert await ready(service="a service", access="its access") == "its access"


def test_what_is_elsewhere_and_does_not_fit_is_found(room: str) -> None:
    module = ModuleType("plugin")
    for hook in ("ready", "container", "identity", "bind", "purge"):
        setattr(module, hook, implemented_by(f"{room}:{hook}"))
    module.unbind = implemented_by(f"{room}:bind")  # type: ignore[attr-defined]
    module.census = implemented_by("no_such_room:census")  # type: ignore[attr-defined]
    found = "\n".join(misplaced(module))
    assert "a_room:identity takes nonsense, which the hook identity has not." in found
    assert "a_room:bind has to be `async def`." in found
    assert "purge is implemented by a_room:purge, which is not there" in found
    assert "unbind is implemented by a_room:bind, which is named like another hook." in found
    assert "census is implemented by no_such_room:census, which is not there" in found
    assert found.count("\n") == 4


@pytest.mark.parametrize("name", ["blob", "kv", "mongodb", "postgres", "redis", "s3"])
def test_our_own_hooks_that_are_elsewhere_have_the_types_of_the_contract(name: str) -> None:
    registry = ProviderRegistry(LOGGER)
    registry.load()
    (found,) = [item for item in registry.plugins if item.name == name]
    assert (found.error, found.deprecations) == ("", [])
    module = registry.module(name)
    assert misplaced(module) == []
    for hook in dir(module):
        if place := getattr(getattr(module, hook), ELSEWHERE, ""):
            function = getattr(sys.modules[place.partition(":")[0]], hook)
            wanted = get_type_hints(getattr(specs, hook), vars(ph))
            for argument, kind in get_type_hints(function).items():
                if argument in wanted and argument != "return":
                    assert kind == wanted[argument], (place, argument)


def test_the_table_of_what_goes_together_names_hooks() -> None:
    known = specifications().keys()
    assert TOGETHER.keys() <= known
    assert set().union(*TOGETHER.values()) <= known
    assert known >= specs.EVERYONES


class Given(ph.Arguments, frozen=True, kw_only=True):
    """Arguments of every kind that there is."""

    text: str
    number: Annotated[int, msgspec.Meta(ge=1, description="How many.")] = 1
    share: float | None = None
    sure: bool = False
    mode: Literal["quick", "whole"] = "quick"
    names: tuple[str, ...] = ()
    key: Annotated[str | None, ph.SECRET] = None


class Sound(ph.ServiceOperation[Given]):
    """One that is right."""

    name = "tidy"
    summary = "Tidy up."
    arguments = Given
    steps = (ph.Step(name="one", undo=True), ph.Step(name="two"))

    async def draft(self, asked: ph.Asking[Given]) -> ph.Draft:
        return ph.Draft(steps=("one",))

    async def do(self, step: str, run: ph.Running[Given]) -> None: ...

    async def undo(self, step: str, run: ph.Running[Given]) -> None: ...


def field(name: str, kind: Any) -> type[ph.Arguments]:
    return msgspec.defstruct("Odd", [(name, kind)], bases=(ph.Arguments,), frozen=True)  # type: ignore[return-value]


def but(**changes: Any) -> Any:
    return type("Odd", (Sound,), changes)()


def with_operations(*given: Any) -> str:
    return plugin(operations=lambda: list(given)).error


def test_operations_that_are_right_are_taken() -> None:
    assert with_operations(Sound(), but(name="other", scope="project", lock="backup")) == ""


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (object(), "operations answers object, not ServiceOperation"),
        (but(name="Optimize All"), "'Optimize All' has to be of lower-case letters"),
        (but(name="x/../../stop"), "has to be of lower-case letters"),
        (but(name="a.b"), "has to be of lower-case letters"),
        (but(name="tidy\n"), "has to be of lower-case letters"),
        (but(name=""), "has to be of lower-case letters"),
        (but(name=7), "has to be of lower-case letters"),
        (but(name="x" * 41), "has to be of lower-case letters"),
        (but(summary=""), "has no summary"),
        (but(summary="two\nlines"), "has no summary"),
        (but(summary="\x1b[31mred"), "has no summary"),
        (but(lock="none"), "takes the lock 'none'"),
        (but(scope="everybody"), "has the scope 'everybody'"),
        (but(do=plain), "has a do that has to be `async def`"),
        (but(steps=()), "has no steps"),
        (but(steps=("one",)), "has no steps"),
        (but(steps=None), "has no steps"),
        (but(steps=(ph.Step(name="a b"),)), "has the step 'a b'"),
        (but(steps=(ph.Step(name="a"), ph.Step(name="a"))), "has the step a twice"),
        (but(steps=(ph.Step(name="a", deadline=0),)), "without a deadline"),
        (but(steps=(ph.Step(name="a", deadline=float("nan")),)), "without a deadline"),
        (but(undo=ph.ServiceOperation.undo), "has steps with an undo, and no undo"),
        (but(arguments=dict), "no subclass of Arguments"),
        (but(arguments=field("Größe", int)), "has the argument 'Größe'"),
        (but(arguments=field("x", dict[str, str])), "no text, number, boolean"),
        (but(arguments=field("x", Any)), "no text, number, boolean"),
        (but(arguments=field("x", int | str)), "no text, number, boolean"),
        (but(arguments=field("x", bytes)), "no text, number, boolean"),
        (but(arguments=field("x", Literal[1, 2])), "no text, number, boolean"),
        (
            but(arguments=field("x", tuple[Annotated[str, ph.SECRET], ...])),
            "no text, number, boolean",
        ),
        (but(arguments=field("x", "Unknown")), "of which no schema can be made"),
    ],
)
def test_an_operation_that_does_not_fit_is_told(operation: Any, told: str) -> None:
    assert told in with_operations(operation)


def test_two_operations_of_one_name_are_told() -> None:
    assert "tidy is there twice" in with_operations(Sound(), Sound())
    assert "is not iterable" in plugin(operations=lambda: 7).error
