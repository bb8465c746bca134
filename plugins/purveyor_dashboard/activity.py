"""What was done and what happens: operations, events, and the stream that tells an open page to
look again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from litestar import Response, get, post
from litestar.response import ServerSentEvent, ServerSentEventMessage

from purveyor_dashboard.pages import AGREED, SERVICES, Pages, Req, local, part
from purveyor_hooks import Application, BadInput, NotFound
from purveyor_hooks.streams import paced

EVENTS = 60
KEEP_ALIVE = 20.0


def handlers(pages: Pages, app: Application) -> Sequence[Any]:
    @get("/dashboard/stream")
    async def stream(request: Req) -> ServerSentEvent:
        """That something happened, not what: the parts of the page ask for themselves."""
        session = pages.session(request)
        async with pages.api(session) as client:
            # the token may have ended
            await client.call("GET", f"{SERVICES}/", params={"limit": 1})

        async def told() -> AsyncIterator[ServerSentEventMessage]:
            position = await app.core.last_event()
            yield ServerSentEventMessage(comment="following", data=None)
            async for event in paced(app.core.events, position, KEEP_ALIVE):
                if not await pages.holds(session, event):
                    return
                yield (
                    ServerSentEventMessage(data=event.type)
                    if event
                    else ServerSentEventMessage(comment="alive", data=None)
                )

        return ServerSentEvent(told())

    @get("/activity")
    async def activity(request: Req) -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            operations = await part(client, request, "/api/operations")
            events = await events_of(client)
        url = f"/activity?{request.url.query}" if request.url.query else "/activity"
        return pages.page(
            "activity.html", session, here="/activity", operations=operations.items,
            part=operations, url=url, events=events,
            events_url="/activity",
        )  # fmt: skip

    @get("/operations/{number:int}")
    async def operation(request: Req, number: int, back: str = "") -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            found = await client.call("GET", f"/api/operations/{number}")
            events = await events_of(client, operation=number)
            where = local(back) if back else ""
            if not where and found["service_id"]:
                with suppress(NotFound):  # it is deleted
                    service = (await client.call("GET", f"{SERVICES}/{found['service_id']}"))[
                        "service"
                    ]
                    where = f"/services/{service['slug']}"
        mine = [item for item in events if item["type"].endswith(".progress")]
        progress = mine[0]["data"]["text"] if mine and found["state"] == "running" else ""
        return pages.page(
            "operation.html",
            session,
            here="/activity",
            operation=found,
            progress=progress,
            back=where,
        )

    @post("/operations/{number:int}/{word:str}")
    async def end(request: Req, number: int, word: str) -> Response[Any]:
        """Stop one and take back what it began; or leave one that cannot be ended as it is."""
        async with pages.change(request) as (form, client):
            path, back = f"/api/operations/{number}/{word}", f"/operations/{number}"
            if word not in ("cancel", "abandon"):
                raise BadInput(f"Unknown action: {word}.")
            if form.get(AGREED) != "yes":
                plan = await client.call("POST", path, params={"plan": "true"})
                return pages.confirm(
                    request, form, f"{word.capitalize()} operation {number}", back, plan=plan
                )
            await client.call("POST", path, headers={"Prefer": "respond-async"})
        return pages.to(request, back)

    return [stream, activity, operation, end]


async def events_of(client: Any, **params: Any) -> list[Any]:
    """The last events, newest first."""
    headers = {"Accept": "application/json"}
    found: list[Any] = await client.call(
        "GET", "/api/events", params={"limit": EVENTS, **params}, headers=headers
    )
    return found[::-1]
