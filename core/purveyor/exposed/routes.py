"""The routes of operations, made of how those are exposed: each is planned, done, or begun."""

from collections.abc import Iterable, Mapping
from inspect import Parameter as Named
from inspect import Signature
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
from litestar import Response, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from purveyor.exposed import PLACE, Exposed, resolve
from purveyor.kernel.api.notes import about, note
from purveyor.kernel.api.responses import Req
from purveyor.kernel.core import Core
from purveyor.kernel.operations import ImmediateOperation, OperationType, Plan

Kind: TypeAlias = OperationType | ImmediateOperation
PLANNED = ResponseSpec(Plan, False, "With plan=true: what it would do.")


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that goes on by itself; its events come after the number `after`."""

    operation_id: int
    after: int


BEGUN = ResponseSpec(Begun, False, "With Prefer: respond-async; its address is in Location.")


async def perform(
    request: Req,
    core: Core,
    name: str,
    given: msgspec.Struct,
    *,
    plan: bool,
    status: int = 200,
    answers: Any = None,
    target: str = "",
) -> Response[Any]:
    """Answer a request with the plan of an operation when that is asked for, with 202 at once when
    the client prefers, else with what it has done."""
    note(request, target=target or about(given), planned=plan)
    if plan:
        return Response(await core.plan(name, given), status_code=200)
    done: Any
    if name not in core.operation_types:
        changed = await core.change(name, given, request.user)
        done, number = changed.made.answer, changed.operation_id
    elif "respond-async" in request.headers.get("prefer", ""):
        after = await core.bus.last()
        number = await core.begin(name, given, request.user)
        note(request, operation=number)
        headers = {
            "Location": f"/api/operations/{number}",
            "Preference-Applied": "respond-async",
        }
        begun = Begun(operation_id=number, after=after)
        return Response(begun, status_code=202, headers=headers)
    else:
        done = await core.run(name, given, request.user)
        number = done.id
    note(request, operation=number)
    if answers is None:
        return Response(None, status_code=status)
    found = done if isinstance(answers, type) else await answers(request, core, done)
    return found if isinstance(found, Response) else Response(found, status_code=status)


def router(exposed: Iterable[Exposed], kinds: Mapping[str, Kind]) -> Router:
    """The routes of all that is exposed, below "/api"."""
    made = [_route(item, kinds[item.operation]) for item in exposed if item.route]
    return Router("/", route_handlers=made)


def _route(exposed: Exposed, kind: Kind) -> HTTPRouteHandler:
    body = resolve(exposed.body) if exposed.body else None
    prepare = resolve(exposed.prepare) if exposed.prepare else None
    answers = resolve(exposed.answers) if exposed.answers else None
    places, at_once = exposed.places, isinstance(kind, ImmediateOperation)
    hints = get_type_hints(kind.arguments, include_extras=True)

    async def run(
        request: Req, core: Core, plan: bool, data: Any = None, **given: Any
    ) -> Response[Any]:
        named = {places.get(name, name): value for name, value in given.items()}
        if body is not None:
            fields = msgspec.structs.asdict(body() if data is None else data)
            named |= {exposed.renamed.get(name, name): item for name, item in fields.items()}
        if prepare is not None:
            named = prepare(request, named, plan)
        arguments = kind.arguments(**{name: _as(hints[name], named[name]) for name in named})
        return await perform(
            request,
            core,
            kind.name,
            arguments,
            plan=plan,
            status=exposed.status,
            answers=answers,
            target="/".join(str(given[name]) for name in places) if at_once else "",
        )

    # what it takes, by name: a default is that of the operation's argument
    numbers = {name for name, argument in places.items() if hints[argument] is int}
    taken: dict[str, Any] = {"request": Req, "core": Core}
    taken |= {name: int if name in numbers else str for name in places}
    taken |= {name: _plain(hints[name]) for name in exposed.query}
    taken |= {"data": body | None if exposed.optional else body} if body else {}
    taken["plan"] = bool
    fields = {item.name: item.default for item in msgspec.structs.fields(kind.arguments)}
    defaults = {name: fields[name] for name in exposed.query} | {"plan": False}
    defaults |= {"data": None} if exposed.optional else {}
    run.__signature__ = Signature(  # type: ignore[attr-defined]
        [Named(name, Named.KEYWORD_ONLY, default=defaults.get(name, Named.empty)) for name in taken]
    )
    # what it answers: with what was done, its plan, or that it has begun
    answered = _answered(answers)
    shown = answered | Plan if exposed.status == 200 else answered
    described = {} if exposed.status == 200 else {200: PLANNED}
    described |= {} if at_once else {202: BEGUN}
    described |= {} if answers else {204: ResponseSpec(None, description="It is done.")}
    run.__annotations__ = {**taken, "return": Response[shown]}  # type: ignore[valid-type]
    run.__name__ = run.__qualname__ = exposed.route
    run.__doc__ = exposed.about or None
    return HTTPRouteHandler(
        PLACE.sub(
            lambda found: f"{{{found[1]}:{'int' if found[1] in numbers else 'str'}}}",
            exposed.path.removeprefix("/api"),
        ),
        http_method=exposed.method,  # type: ignore[arg-type]
        guards=[resolve(exposed.guard)],
        status_code=exposed.status,
        tags=[exposed.tag],
        opt={"reveals": exposed.reveals} if exposed.reveals else {},
        responses=described,
    )(run)


def _plain(hint: Any) -> Any:
    """A type of an argument, as Litestar knows bounds."""
    if get_origin(hint) is not Annotated:
        return hint
    kind, *marks = get_args(hint)
    bounds = [mark for mark in marks if isinstance(mark, msgspec.Meta)]
    return Annotated[kind, Parameter(ge=bounds[0].ge, le=bounds[0].le)] if bounds else kind


def _as(hint: Any, value: Any) -> Any:
    """A value of a body as the operation takes it: a reference may be a number."""
    if hint is str and isinstance(value, int):
        return str(value)
    return tuple(value) if get_origin(hint) is tuple and isinstance(value, list) else value


def _answered(answers: Any) -> Any:
    """The type of what an operation is answered with."""
    if answers is None or isinstance(answers, type):
        return answers
    found = get_type_hints(answers)["return"]
    return get_args(found)[0] if get_origin(found) is Response else found
