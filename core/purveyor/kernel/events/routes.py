"""/api/events: the journal of events, followed or read, and their catalogue."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from purveyor.kernel.api.auth import reader, still_valid
from purveyor.kernel.api.responses import Limit
from purveyor.kernel.core import Core
from purveyor.kernel.events import catalog
from purveyor.kernel.events import store as events
from purveyor_hooks import BadInput, Gone
from purveyor_hooks.streams import paced

Req = Request[Any, Any, Any]
KEEP_ALIVE = 15.0


@get("/events", guards=[reader])
async def follow_events(
    request: Req,
    core: Core,
    after: Annotated[int | None, Parameter(ge=0, le=2**62)] = None,
    kind: Annotated[str | None, Parameter(query="type")] = None,
    service: str | None = None,
    operation: int | None = None,
    limit: Limit = 50,
) -> Response[Any]:
    """The event line: a stream (SSE) from `after` or Last-Event-ID, or from now on; as JSON, the
    last ones.

    410 when what follows that number is not kept any more; 0 is the beginning of what is kept. A
    stream ends when its token does.

    `type` keeps the events whose type begins with it, `service` and `operation` those of one.
    """
    service_id = (
        await core.context.store.read(lambda tx: core.subjects["service"].find(tx, service))
        if service
        else None
    )
    chosen = events.Wanted(kind=kind or "", service=service_id, operation=operation)

    last_seen = request.headers.get("last-event-id")
    if last_seen is not None:
        if not (last_seen.isascii() and last_seen.isdecimal() and len(last_seen) < 19):
            raise BadInput(
                "Last-Event-ID is not a number.",
                errors={"Last-Event-ID": "the id of the last event seen"},
            )
        after = int(last_seen)
    if after:
        await _require_kept(core, after)

    if request.headers.get("accept", "") == "application/json":
        return Response(
            await core.context.store.read(
                lambda tx: (
                    events.latest(tx, limit, chosen)
                    if after is None
                    else events.after(tx, after, limit, chosen)
                )
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
                yield ServerSentEventMessage(
                    data=msgspec.json.encode(event).decode(), id=str(event.id), event=event.type
                )

    return ServerSentEvent(messages())


async def _require_kept(core: Core, after: int) -> None:
    """Raise `Gone` when events that come after this one have been forgotten: nobody may miss them
    without being told."""
    first = await core.context.store.read(events.first)
    if after < first - 1:
        raise Gone(
            f"The events that follow number {after} are not kept any more; the first that is kept "
            f"is number {first}.",
            remedy=(
                f"Look at how things are now, then go on with after={first - 1}, or after=0 "
                "for all that is kept."
            ),
        )


@get("/events/catalogue", guards=[reader])
async def event_catalogue(core: Core) -> list[catalog.Entry]:
    """Every type of event, when it is published, and what it carries."""
    return catalog.build(list(core.operation_types.values()), core.events)


router = Router(
    "/",
    route_handlers=[event_catalogue, follow_events],
    tags=["journal"],
)
