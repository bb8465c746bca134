"""Data without a service: what was kept when one was deleted, upgraded or restored. It comes back,
or goes for good."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from litestar import Response, get, post

from purveyor_dashboard.pages import SERVICES, Pages, Req, part


def handlers(pages: Pages) -> Sequence[Any]:
    @get("/kept")
    async def kept(request: Req) -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            volumes = await part(client, request, "/api/volumes", state="kept")
        return pages.page("kept.html", session, here="/kept", volumes=volumes.items, part=volumes)

    @post("/kept/undelete")
    async def undelete(request: Req) -> Response[Any]:
        async with pages.change(request) as (form, client):
            path = f"{SERVICES}/{quote(form.get('service', ''), safe='')}/undelete"
            return await pages.begin(request, client, "POST", path, "/services")

    @post("/kept/{volume:str}/purge")
    async def purge(request: Req, volume: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            body = {"confirm": form.get("confirm", "")}
            return await pages.begin(
                request, client, "POST", f"/api/volumes/{volume}/purge", "/kept", json=body
            )

    return [kept, undelete, purge]
