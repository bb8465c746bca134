"""Pages of services."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.response import ServerSentEvent, ServerSentEventMessage, Stream

from purveyor_dashboard.activity import events_of
from purveyor_dashboard.pages import (
    HEADERS,
    PROJECTS,
    SERVICES,
    Choice,
    Pages,
    Req,
    choice,
    parameters,
    part,
)
from purveyor_dashboard.sessions import Session
from purveyor_hooks import PurveyorError
from purveyor_hooks.streams import attachment

SORTS = (
    ("name", "Name"),
    ("status", "Status"),
    ("service_type", "Type"),
    ("memory_bytes", "Memory"),
    ("cpu_percent", "CPU"),
)
TAIL = 400


def handlers(pages: Pages) -> Sequence[Any]:
    @get("/services")
    async def listed(request: Req) -> Response[str]:
        session = pages.session(request)
        query = request.query_params
        q, kind, sort = query.get("q", ""), query.get("type", ""), query.get("sort", "name")
        async with pages.api(session) as client:
            field = sort if sort in dict(SORTS) else "name"
            shown = await part(client, request, f"{SERVICES}/", q=q, service_type=kind, sort=field)
            kinds = await client.call("GET", f"{SERVICES}/types")
        url = f"/services?{request.url.query}" if request.url.query else "/services"
        asked = bool(shown.items or request.url.query)
        return pages.page(
            "services.html", session, here="/services", services=shown.items, part=shown,
            asked=asked, kinds=kinds, q=q,
            type=kind, sort=field, sorts=SORTS, url=url,
        )  # fmt: skip

    async def create_page(
        session: Session, kind: str, form: dict[str, str], error: PurveyorError | None
    ) -> Response[str]:
        async with pages.api(session) as client:
            if not kind:
                types = await client.call("GET", f"{SERVICES}/providers/metadata")
                return pages.page("types.html", session, here="/services", types=types)
            schema = await client.call("GET", f"{SERVICES}/types/{kind}/parameters")
        return pages.page(
            "create.html", session, here="/services", status=error.status if error else 200,
            type=kind, schema=schema, given=form,
            errors=error.errors if error else {}, error=error,
        )  # fmt: skip

    @get("/services/new")
    async def new(request: Req) -> Response[str]:
        return await create_page(
            pages.session(request), request.query_params.get("type", ""), {}, None
        )

    @post("/services/new")
    async def create(request: Req) -> Response[Any]:
        async with pages.change(request) as (form, client):
            schema = await client.call("GET", f"{SERVICES}/types/{form.get('type', '')}/parameters")
            # what was left as it stood there is the type's own default, and stays that
            properties = schema["properties"]
            given = {
                name: value
                for name, value in parameters(form).items()
                if value != str(properties.get(name, {}).get("default"))
            }
            body = {
                "name": form.get("name", ""),
                "service_type": form.get("type", ""),
                "parameters": given,
            }
            try:
                return await pages.begin(request, client, "POST", f"{SERVICES}/", "", json=body)
            except PurveyorError as error:
                return await create_page(pages.session(request), form.get("type", ""), form, error)

    # ---------------------------------------------------------------- one service

    async def overview(request: Req, slug: str, secrets: dict[str, str]) -> Response[str]:
        async with pages.api(pages.session(request)) as client:
            history = await client.call("GET", f"{SERVICES}/{slug}/history")
        return await pages.tab(request, slug, "", "overview.html", history=history, secrets=secrets)

    @get("/services/{slug:str}")
    async def show(request: Req, slug: str) -> Response[str]:
        return await overview(request, slug, {})

    @post("/services/{slug:str}/reveal", status_code=200)
    async def reveal(request: Req, slug: str) -> Response[str]:
        async with pages.change(request) as (_, client):
            secrets = await client.call("POST", f"{SERVICES}/{slug}/reveal")
        return await overview(request, slug, secrets)

    @get("/services/{slug:str}/links")
    async def links(request: Req, slug: str) -> Response[str]:
        async with pages.api(pages.session(request)) as client:
            found = await part(client, request, f"{SERVICES}/{slug}/projects")
            preview = await client.call("GET", f"{SERVICES}/{slug}/preview-environment-masked")
            projects = await choice(client, PROJECTS)
        taken = {link["project"]["slug"] for link in found.items}
        free = Choice(
            [item for item in projects.items if item["slug"] not in taken], projects.whole
        )
        return await pages.tab(
            request,
            slug,
            "links",
            "links.html",
            links=found.items,
            part=found,
            preview=preview,
            free=free,
        )

    @get("/services/{slug:str}/data")
    async def data(request: Req, slug: str) -> Response[str]:
        query = request.query_params
        path, cursor, order = (
            query.getall("path", []),
            query.get("cursor", ""),
            query.get("order", ""),
        )
        listing, problem = None, None
        try:
            async with pages.api(pages.session(request)) as client:
                params = {"path": path, "cursor": cursor, "order": order}
                listing = await client.call("GET", f"{SERVICES}/{slug}/browse", params=params)
        except PurveyorError as error:
            problem = error
        return await pages.tab(
            request,
            slug,
            "data",
            "data.html",
            path=path,
            listing=listing,
            problem=problem,
            order=order,
            cursor=cursor,
        )

    @get("/services/{slug:str}/data/download")
    async def take(request: Req, slug: str) -> Stream:
        session = pages.session(request)
        path = request.query_params.getall("path", [])

        async def chunks() -> AsyncIterator[bytes]:
            async with pages.api(session) as client:
                async for chunk in client.stream(
                    f"{SERVICES}/{slug}/download?{urlencode([('path', part) for part in path])}"
                ):
                    yield chunk

        source = chunks()
        # what is refused is refused here, with a page that says why
        first = await anext(source, b"")

        async def whole() -> AsyncIterator[bytes]:
            yield first
            async for chunk in source:
                yield chunk

        headers = {**HEADERS, "Content-Disposition": attachment(path[-1] if path else "")}
        return Stream(whole(), media_type="application/octet-stream", headers=headers)

    @get("/services/{slug:str}/logs")
    async def logs(request: Req, slug: str) -> Response[str]:
        try:
            async with pages.api(pages.session(request)) as client:
                chunks = [
                    chunk async for chunk in client.stream(f"{SERVICES}/{slug}/logs", tail=TAIL)
                ]
            text = b"".join(chunks).decode(errors="replace")
        except PurveyorError as error:
            text = f"{error.detail} {error.remedy}".strip()
        return await pages.tab(request, slug, "logs", "logs.html", log=text, tail=TAIL)

    @get("/services/{slug:str}/logs/stream")
    async def follow(request: Req, slug: str) -> ServerSentEvent:
        """The last lines, and each new one as it comes. A browser asks again when it ends, and
        begins anew."""
        session = pages.session(request)

        async def told() -> AsyncIterator[ServerSentEventMessage]:
            try:
                async with (
                    pages.api(session) as client,
                    aclosing(
                        client.stream(f"{SERVICES}/{slug}/logs", tail=TAIL, follow="true")
                    ) as chunks,
                ):
                    async for chunk in chunks:
                        yield ServerSentEventMessage(
                            data=json.dumps(chunk.decode(errors="replace"))
                        )
            except PurveyorError as error:
                yield ServerSentEventMessage(
                    data=json.dumps(f"{error.detail} {error.remedy}".strip())
                )

        return ServerSentEvent(told())

    @get("/services/{slug:str}/events")
    async def events(request: Req, slug: str) -> Response[str]:
        async with pages.api(pages.session(request)) as client:
            found = await events_of(client, service=slug, limit=100)
        return await pages.tab(
            request,
            slug,
            "events",
            "events.html",
            events=found,
            events_url=f"/services/{slug}/events",
        )

    async def settings_page(
        request: Req, slug: str, form: dict[str, str], error: PurveyorError | None, image: str = ""
    ) -> Response[str]:
        plan, plan_error = None, None
        if image:
            try:
                async with pages.api(pages.session(request)) as client:
                    path = f"{SERVICES}/{slug}/upgrade"
                    plan = await client.call(
                        "POST", path, params={"plan": "true"}, json={"docker_image": image}
                    )
            except PurveyorError as raised:
                plan_error = raised
        return await pages.tab(
            request, slug, "settings", "settings.html", error.status if error else 200, given=form,
            errors=error.errors if error else {}, error=error, image=image, plan=plan,
            plan_error=plan_error,
        )  # fmt: skip

    @get("/services/{slug:str}/settings")
    async def settings(request: Req, slug: str, image: str = "") -> Response[str]:
        return await settings_page(request, slug, {}, None, image)

    @post("/services/{slug:str}/settings")
    async def change(request: Req, slug: str) -> Response[Any]:
        session = pages.session(request)
        form = await pages.form(request, session)
        try:
            async with pages.api(session) as client:
                current = (await client.call("GET", f"{SERVICES}/{slug}"))["current_parameters"]
                changed = {
                    name: value
                    for name, value in parameters(form).items()
                    if value != current.get(name)
                }
                if not changed:
                    return pages.to(request, f"/services/{slug}/settings")
                back, body = f"/services/{slug}/settings", {"parameters": changed}
                return await pages.interrupt(
                    request, form, client, "PUT", f"{SERVICES}/{slug}", back, json=body
                )
        except PurveyorError as error:
            return await settings_page(request, slug, form, error)

    return [
        listed,
        new,
        create,
        show,
        reveal,
        links,
        data,
        take,
        logs,
        follow,
        events,
        settings,
        change,
    ]
