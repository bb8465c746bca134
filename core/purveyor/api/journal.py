"""/api/operations and /api/events: what is being done and what happened."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from purveyor import catalogue
from purveyor.api import views
from purveyor.api.answers import page
from purveyor.api.auth import reader, still_valid
from purveyor.api.services import Limit, Offset
from purveyor.app import App
from purveyor.store import Tx, events, operations, projects, services
from purveyor_hooks import BadInput, Event
from purveyor_hooks.streams import paced

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
        return [views.operation_view(record) for record in found]

    return page(await core.house.store.read(work), limit, offset)


@get("/operations/{number:int}", guards=[reader])
async def show_operation(core: App, number: int) -> views.OperationView:
    def work(tx: Tx) -> views.OperationView:
        return views.operation_view(operations.get(tx, number), operations.steps(tx, number))

    return await core.house.store.read(work)


@get("/events", guards=[reader])
async def follow_events(
    request: Request[Any, Any, Any],
    core: App,
    after: Annotated[int | None, Parameter(ge=0)] = None,
    kind: Annotated[str | None, Parameter(query="type")] = None,
    service: str | None = None,
    limit: Limit = 50,
) -> Response[Any]:
    """The event line: a stream (SSE) from `after` or Last-Event-ID, or from now on; as JSON, the last ones.

    `type` keeps the events whose type begins with it, `service` those of one service. A stream ends when its token does.
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
        if not (last_seen.isascii() and last_seen.isdecimal() and len(last_seen) < 19):
            raise BadInput("Last-Event-ID is not a number.", errors={"Last-Event-ID": "the id of the last event seen"})
        after = int(last_seen)
    position = after if after is not None else await core.bus.last()

    async def messages() -> AsyncIterator[ServerSentEventMessage]:
        yield ServerSentEventMessage(comment="following", data=None)
        async for event in paced(core.bus.follow, position, KEEP_ALIVE):
            if not await still_valid(request):
                return
            if event is None:
                yield ServerSentEventMessage(comment="alive", data=None)
            elif wanted(event):
                yield ServerSentEventMessage(data=msgspec.json.encode(event).decode(), id=str(event.id), event=event.type)

    return ServerSentEvent(messages())


@get("/events/catalogue", guards=[reader])
async def event_catalogue(core: App) -> list[catalogue.Entry]:
    """Every type of event, when it is published, and what it carries."""
    return catalogue.build(list(core.verbs.values()))


router = Router("/", route_handlers=[list_operations, show_operation, event_catalogue, follow_events], tags=["journal"])
