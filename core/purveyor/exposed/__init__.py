"""How people come to an operation, declared once: its route, its description and its command are
made of it.

Only the standard library is imported here: a command loads it, and neither the web framework nor
what an operation does. What those have is named as "module:name", and resolved when it is needed.
"""

import importlib
import re
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple
from urllib.parse import quote

# in a path: what the API's description calls it, and the argument that it is where that is another
PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Command(NamedTuple):
    """A command that runs its operation and no more: its words are the arguments in the path and
    those of `words`, shown by the names of `metavars`; `flags` are further arguments, with their
    help. All texts are formatted with them.

    `title` stands beside what is done; one without is done at once. `interrupts` has to be agreed
    to, for `destroys` the argument `typed` has to be typed. `says` is what it tells in the end;
    `tells` is that for programs, instead of what the API answered.
    """

    name: str
    help: str
    title: str = ""
    words: tuple[str, ...] = ()
    metavars: Mapping[str, str] = {}
    flags: Mapping[str, str] = {}
    interrupts: str = ""
    destroys: str = ""
    typed: str = ""
    thing: str = "its name"
    says: str = ""
    tells: Mapping[str, str] = {}


class Call(NamedTuple):
    """One call of the API."""

    method: str
    path: str
    params: dict[str, Any]
    json: dict[str, Any] | None

    @property
    def given(self) -> dict[str, Any]:
        """What else than method and path a request is made with."""
        body = {} if self.json is None else {"json": self.json}
        return {"params": self.params, **body}


class Exposed(NamedTuple):
    """An operation as people come to it: `at` a method and a path. `route` is what the API's
    description calls it, and empty for one whose route is written by hand; `about` is said of it
    there.

    The arguments of the operation come from the path, from `query`, and from the fields of `body`,
    a Struct, which may be left out when it is `optional`. `renamed` are the fields of it that the
    operation calls otherwise. `prepare` finds out the rest: (request, arguments, plan) →
    arguments. `answers` makes the answer of what was done: (request, core, the operation, or what
    one without steps has made) → anything; a class instead is the answer's type, when it is
    answered as it was made; without, nothing is answered. `reveals` is what secret the answer
    tells, for the audit log.
    """

    operation: str
    at: str
    route: str
    tag: str
    about: str = ""
    query: tuple[str, ...] = ()
    body: str = ""
    optional: bool = False
    renamed: Mapping[str, str] = {}
    prepare: str = ""
    guard: str = "purveyor.kernel.api.auth:admin"
    status: int = 200
    answers: str = ""
    reveals: str = ""
    command: Command | None = None

    @property
    def method(self) -> str:
        return self.at.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.at.partition(" ")[2]

    @property
    def places(self) -> dict[str, str]:
        """What the path names, and the arguments that those are."""
        return {name: argument or name for name, argument in PLACE.findall(self.path)}

    def call(
        self, given: Mapping[str, Any] = MappingProxyType({}), /, *, plan: bool = False, **more: Any
    ) -> Call:
        """The call that runs it with arguments, or asks for its plan. What is None is left out of
        the query."""
        arguments = {**given, **more}
        places = self.places
        path = PLACE.sub(lambda found: quote(str(arguments[places[found[1]]]), safe=""), self.path)
        rest = {name: value for name, value in arguments.items() if name not in places.values()}
        params = {name: rest.pop(name) for name in self.query if name in rest}
        params = {name: value for name, value in params.items() if value is not None}
        called = {argument: name for name, argument in self.renamed.items()}
        body = {called.get(name, name): value for name, value in rest.items()}
        assert self.body or not body, f"{self.operation} does not take {sorted(body)}"
        return Call(
            self.method,
            path,
            {**params, **({"plan": True} if plan else {})},
            body if self.body else None,
        )


def exposed_by(module: ModuleType) -> list[Exposed]:
    """All that a module declares."""
    return [item for item in vars(module).values() if isinstance(item, Exposed)]


def resolve(where: str) -> Any:
    """What stands at "module:name"."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)
