"""/api/operations and /api/events: what is being done and what happened."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import msgspec
from litestar import Request, Response, Router, get, post
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from purveyor import catalogue
from purveyor.api import views
from purveyor.api.answers import page
from purveyor.api.auth import admin, reader
from purveyor.api.services import Limit, Offset
from purveyor.app import App
from purveyor.store import Tx, events, operations, projects, services
from purveyor_hooks import BadInput, Event, PurveyorError

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
    def work(tx: Tx) -> list[views.OperationView]:
        found = operations.listed(
            tx,
            service_id=services.get(tx, service).id if service else None,
            project_id=projects.get(tx, project).id if project else None,
            state=operation_state,
        )
        return [views.operation_view(record, waits=core.runner.waiting(record.id)) for record in found]

    return page(await core.house.store.read(work), limit, offset)


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
    limit: Limit = 50,
) -> Response[Any]:
    """The event line: a stream (SSE) from `after` or Last-Event-ID, or from now on; as JSON, the last ones.

    `type` keeps the events whose type begins with it, `service` those of one service.
    """
    service_id = (await core.house.store.read(lambda tx: services.get(tx, service))).id if service else None

    def wanted(event: Event) -> bool:
        return (kind is None or event.type.startswith(kind)) and service_id in (None, event.service)

    if request.headers.get("accept", "") == "application/json":
        found = await core.house.store.read(
            lambda tx: events.latest(tx, limit) if after is None else events.after(tx, after, limit)
        )
        return Response([event for event in found if wanted(event)])

    last_seen = request.headers.get("last-event-id")
    if last_seen is not None:
        if not last_seen.isdigit():
            raise BadInput("Last-Event-ID is not a number.", errors={"Last-Event-ID": "the id of the last event seen"})
        after = int(last_seen)
    position = after if after is not None else await core.bus.last()

    async def messages() -> AsyncIterator[ServerSentEventMessage]:
        nonlocal position
        line = core.bus.follow(position)
        yield ServerSentEventMessage(comment="following", data=None)
        while True:
            with anyio.move_on_after(KEEP_ALIVE) as scope:
                event = await anext(line)
                position = event.id
                if wanted(event):
                    text = msgspec.json.encode(event).decode()
                    yield ServerSentEventMessage(data=text, id=str(event.id), event=event.type)
            if scope.cancelled_caught:  # nothing happened for a while
                line = core.bus.follow(position)
                yield ServerSentEventMessage(comment="alive", data=None)

    return ServerSentEvent(messages())


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
