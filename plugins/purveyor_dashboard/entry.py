"""Signing in and out."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, get, post
from litestar.response import Redirect

from purveyor_dashboard.pages import SERVICES, SIGN_IN, Pages, Req
from purveyor_dashboard.sessions import check_form, ended
from purveyor_hooks import Application, BadInput, Forbidden, PurveyorError


def handlers(pages: Pages, app: Application) -> Sequence[Any]:
    def secure(request: Req) -> bool:
        return request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"

    @get("/")
    async def root() -> Redirect:
        return Redirect("/services")

    @get(SIGN_IN)
    async def sign_in_page(request: Req) -> Response[Any]:
        return Redirect("/services") if pages.sessions.of(request) else pages.page("sign_in.html", None)

    @post(SIGN_IN)
    async def sign_in(request: Req) -> Response[Any]:
        address = request.client.host if request.client else ""
        await pages.sessions.slow_down(address)
        token = str((await request.form()).get("token", "")).strip()
        try:
            async with app.api(token) as client:
                await client.call("GET", f"{SERVICES}/", params={"limit": 1})
                try:
                    await client.call("GET", "/api/tokens", params={"limit": 1})
                    admin = True
                except Forbidden:
                    admin = False
        except (PurveyorError, ValueError) as error:
            pages.sessions.failed(address)
            shown = error if isinstance(error, PurveyorError) else BadInput("This is no token.")
            return pages.page("sign_in.html", None, status=403, error=shown)
        pages.sessions.succeeded(address)
        answer = Redirect("/services")
        answer.set_cookie(pages.sessions.cookie(token, admin, secure(request)))
        return answer

    @post("/sign-out")
    async def sign_out(request: Req) -> Response[Any]:
        session = pages.session(request)
        check_form(request, session, {str(key): str(value) for key, value in (await request.form()).items()})
        answer = Redirect(SIGN_IN)
        answer.set_cookie(ended(secure(request)))
        return answer

    return [root, sign_in_page, sign_in, sign_out]
