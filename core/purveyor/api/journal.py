"""/api/operations and /api/events: what is being done and what happened."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from purveyor import catalogue
from purveyor.api import views
from purveyor.api.answers import page
from purveyor.api.auth import admin, reader, still_valid
from purveyor.api.services import Limit, Offset
from purveyor.app import App
from purveyor.store import Page, Tx, events, operations, projects, services
from purveyor_hooks import BadInput, Gone, PurveyorError
from purveyor_hooks.streams import paced

Req = Request[Any, Any, Any]

KEEP_ALIVE = 15.0


@get("/operations", guards=[reader])
async def list_operations(
    core: App,
    service: str | None = None,
    project: str | None = None,
    operation_state: Annotated[str | None, Parameter(query="state")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response[list[views.OperationView]]:
    def work(tx: Tx) -> Page[views.OperationView]:
        found = operations.listed(
            tx,
            service_id=services.get(tx, service).id if service else None,
            project_id=projects.get(tx, project).id if project else None,
            state=operation_state,
            limit=limit,
            offset=offset,
        )
        shown = [views.operation_view(record, waits=core.runner.waiting(record.id)) for record in found.items]
        return Page(shown, found.total)

    return page(*await core.house.store.read(work))


@get("/operations/{number:int}", guards=[reader])
async def show_operation(core: App, number: int) -> views.OperationView:
    def work(tx: Tx) -> views.OperationView:
        return views.operation_view(operations.get(tx, number), operations.steps(tx, number), core.runner.waiting(number))

    return await core.house.store.read(work)


@post("/operations/{number:int}/cancel", guards=[admin], status_code=200)
async def cancel_operation(request: Req, core: App, number: int, plan: bool = False) -> Response[Any]:
    """Stop an operation where it is and take back what it began. One that has no way back any more → 409 with the reason.

    Answers when all is taken back, or has to wait; with `Prefer: respond-async` 202 as soon as that has begun.
    """
    if plan:
        return Response(await core.runner.plan_to_cancel(number))
    handle = await core.runner.cancel(number, request.user.name)
    soon = "respond-async" in request.headers.get("prefer", "")
    if not soon:
        try:
            await handle.wait()
        except PurveyorError as error:
            core.house.logger.info("operation.cancelled", operation=number, error=error.detail)
    return Response(await show_operation.fn(core, number), status_code=202 if soon else 200)


@post("/operations/{number:int}/abandon", guards=[admin], status_code=200)
async def abandon_operation(request: Req, core: App, number: int, plan: bool = False) -> Response[Any]:
    """Leave an operation that cannot be ended as it is, and free its target. The plan says what may stay behind."""
    if plan:
        return Response(await core.runner.plan_to_abandon(number))
    await core.runner.abandon(number, request.user.name)
    return Response(await show_operation.fn(core, number))


@get("/events", guards=[reader])
async def follow_events(
    request: Req,
    core: App,
    after: Annotated[int | None, Parameter(ge=0)] = None,
    kind: Annotated[str | None, Parameter(query="type")] = None,
    service: str | None = None,
    operation: int | None = None,
    limit: Limit = 50,
) -> Response[Any]:
    """The event line: a stream (SSE) from `after` or Last-Event-ID, or from now on; as JSON, the last ones.

    410 when what follows that number is not kept any more; 0 is the beginning of what is kept. A stream ends when its token does.

    `type` keeps the events whose type begins with it, `service` and `operation` those of one.
    """
    service_id = (await core.house.store.read(lambda tx: services.get(tx, service))).id if service else None
    chosen = events.Wanted(kind=kind or "", service=service_id, operation=operation)

    last_seen = request.headers.get("last-event-id")
    if last_seen is not None:
        if not (last_seen.isascii() and last_seen.isdecimal() and len(last_seen) < 19):
            raise BadInput("Last-Event-ID is not a number.", errors={"Last-Event-ID": "the id of the last event seen"})
        after = int(last_seen)
    if after:
        await _require_kept(core, after)

    if request.headers.get("accept", "") == "application/json":
        return Response(
            await core.house.store.read(
                lambda tx: events.latest(tx, limit, chosen) if after is None else events.after(tx, after, limit, chosen)
            )
        )

    position = after if after is not None else await core.bus.last()

    async def messages() -> AsyncIterator[ServerSentEventMessage]:
        yield ServerSentEventMessage(comment="following", data=None)
        async for event in paced(core.bus.follow, position, KEEP_ALIVE):
            if not await still_valid(request):
                return
            if event is None:
                yield ServerSentEventMessage(comment="alive", data=None)
            elif chosen.holds(event):
                yield ServerSentEventMessage(data=msgspec.json.encode(event).decode(), id=str(event.id), event=event.type)

    return ServerSentEvent(messages())


async def _require_kept(core: App, after: int) -> None:
    """Raise `Gone` when events that come after this one have been forgotten: nobody may miss them without being told."""
    first = await core.house.store.read(events.first)
    if after < first - 1:
        raise Gone(
            f"The events that follow number {after} are not kept any more; the first that is kept is number {first}.",
            remedy=f"Look at how things are now, then go on with after={first - 1}, or after=0 for all that is kept.",
        )


@get("/events/catalogue", guards=[reader])
async def event_catalogue(core: App) -> list[catalogue.Entry]:
    """Every type of event, when it is published, and what it carries."""
    return catalogue.build(list(core.verbs.values()))


router = Router(
    "/",
    route_handlers=[
        list_operations,
        show_operation,
        cancel_operation,
        abandon_operation,
        event_catalogue,
        follow_events,
    ],
    tags=["journal"],
)
