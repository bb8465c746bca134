"""Who is signed in, and ending that."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, get, post

from purveyor_dashboard.pages import AGREED, Pages, Req, part
from purveyor_dashboard.sessions import check_form

SESSIONS = "/api/sessions"


def handlers(pages: Pages) -> Sequence[Any]:
    async def form_of(request: Req) -> dict[str, str]:
        """A form that whoever is signed in may send, also one who may change nothing else."""
        form = {str(name): str(value) for name, value in (await request.form()).items()}
        check_form(request, pages.session(request), form)
        return form

    @get("/sessions")
    async def sessions(request: Req) -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            found = await part(client, request, SESSIONS)
        return pages.page(
            "sessions.html", session, here="/sessions", sessions=found.items, part=found
        )

    @post("/sessions/end-others")
    async def end_others(request: Req) -> Response[Any]:
        form = await form_of(request)
        if form.get(AGREED) != "yes":
            text = "Whoever they are has to sign in again."
            return pages.confirm(
                request, form, "End all sessions but this one", "/sessions", text=text
            )
        async with pages.api(pages.session(request)) as client:
            await client.call("DELETE", SESSIONS)
        return pages.to(request, "/sessions")

    @post("/sessions/{number:int}/end")
    async def end(request: Req, number: int) -> Response[Any]:
        await form_of(request)
        async with pages.api(pages.session(request)) as client:
            await client.call("DELETE", f"{SESSIONS}/{number}")
        return pages.to(request, "/sessions")

    return [sessions, end_others, end]
