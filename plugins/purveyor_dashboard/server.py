"""The installation itself: what the doctor finds, plugins, who may come in, where backups can
go."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, get, post

from purveyor_dashboard.backups import SOURCES
from purveyor_dashboard.pages import AGREED, PROJECTS, Pages, Part, Req, choice, part
from purveyor_hooks import BadInput, PurveyorError

TOKENS = "/api/tokens"
SOURCE_FIELDS = (
    "name",
    "bucket_name",
    "bucket_path",
    "region",
    "endpoint",
    "access_key_id",
    "secret_key",
)
DAY = 86400
LONGEST = 9  # digits


def handlers(pages: Pages) -> Sequence[Any]:
    async def server_page(
        request: Req,
        form: dict[str, str] | None = None,
        error: PurveyorError | None = None,
        token: str = "",
    ) -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            checks = await client.call("GET", "/api/doctor", params={"quick": True})
            plugins = await client.call("GET", "/api/plugins")
            places = await client.call("GET", SOURCES)
            version = await client.call("GET", "/api/version")
            tokens = (
                await part(client, request, TOKENS, people=True)
                if session.admin
                else Part([], "", "")
            )
            projects = await choice(client, PROJECTS)
        return pages.page(
            "server.html", session, error.status if error else 200, here="/server", checks=checks,
            plugins=plugins, places=places,
            version=version, tokens=tokens.items, part=tokens,
            projects=projects, given=form or {}, errors=error.errors if error else {}, error=error,
            token=token,
        )  # fmt: skip

    @get("/server")
    async def server(request: Req) -> Response[str]:
        return await server_page(request)

    @post("/server/tokens", status_code=200)
    async def create_token(request: Req) -> Response[str]:
        session = pages.session(request)
        form = await pages.form(request, session)
        body: dict[str, Any] = {"name": form.get("name", ""), "scope": form.get("scope", "admin")}
        try:
            if form.get("project"):
                body["project"] = form["project"]
            if days := form.get("days", ""):
                if not days.isdecimal() or len(days) > LONGEST:
                    raise BadInput(
                        "expires_in is out of range.",
                        errors={"expires_in": "a whole number of days, or nothing"},
                    )
                body["expires_in"] = int(days) * DAY
            async with pages.api(session) as client:
                made = await client.call("POST", TOKENS, json=body)
        except PurveyorError as error:
            return await server_page(request, form, error)
        return await server_page(request, token=made["token"])

    @post("/server/tokens/{number:int}/revoke")
    async def revoke_token(request: Req, number: int) -> Response[Any]:
        async with pages.change(request) as (form, client):
            if form.get(AGREED) != "yes":
                text = "Whoever uses it is refused from now on."
                return pages.confirm(request, form, f"Revoke token {number}", "/server", text=text)
            await client.call("DELETE", f"{TOKENS}/{number}")
        return pages.to(request, "/server")

    @post("/server/places")
    async def create_place(request: Req) -> Response[Any]:
        session = pages.session(request)
        form = await pages.form(request, session)
        body: dict[str, Any] = {name: form[name] for name in SOURCE_FIELDS if form.get(name)}
        body = {**dict.fromkeys(("name", "bucket_name", "access_key_id", "secret_key"), ""), **body}
        try:
            async with pages.api(session) as client:
                chosen = {
                    "force_path_style": form.get("path_style") == "yes",
                    "accept_own": form.get("own") == "yes",
                }
                await client.call("POST", SOURCES, json={**body, **chosen})
        except PurveyorError as error:
            return await server_page(request, {**form, "secret_key": ""}, error)
        return pages.to(request, "/server")

    @post("/server/places/{number:int}/forget")
    async def forget_place(request: Req, number: int) -> Response[Any]:
        async with pages.change(request) as (_, client):
            await client.call("DELETE", f"{SOURCES}/{number}")
        return pages.to(request, "/server")

    return [server, create_token, revoke_token, create_place, forget_place]
