"""Signing in and out, and the way from a plain address to the same page of one's own session."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, get, post
from litestar.response import Redirect

from purveyor_dashboard.pages import OIDC, OIDC_RETURN, SIGN_IN, Pages, Req, local, sign_in_at
from purveyor_dashboard.sessions import (
    check_form,
    ended,
    gone,
    is_foreign,
    of_open,
    secret_of,
    session_cookie,
)
from purveyor_hooks import Application, Forbidden, PurveyorError


def plain(pages: Pages, app: Application, paths: Sequence[str]) -> Sequence[Any]:
    """What is reached without a session. `paths` are those of pages: somebody may have noted them
    without the key."""

    @get(["/", *paths])
    async def bookmark(request: Req) -> Redirect:
        return Redirect(sign_in_at(request))

    @get(SIGN_IN)
    async def sign_in_page(request: Req) -> Response[Any]:
        return pages.sign_in(local(request.query_params.get("next", "")))

    @post(SIGN_IN)
    async def sign_in(request: Req) -> Response[Any]:
        peer = request.client.host if request.client else ""
        form = await request.form()
        wanted = local(str(form.get("next", "")))
        try:
            if is_foreign(request, strict=True):  # it would sign somebody in as somebody else
                await app.sessions.refuse_foreign(peer)
                raise Forbidden("This form was not made by this dashboard.", remedy="Sign in here.")
            agent = request.headers.get("user-agent", "")
            session = of_open(
                await app.sessions.open(str(form.get("token", "")).strip(), peer, agent)
            )
        except PurveyorError as error:
            status = 403 if error.status == 401 else error.status
            return pages.sign_in(wanted, status=status, error=error)
        answer = Redirect(f"{session.base}{wanted}")
        answer.set_cookie(session_cookie(request, session))
        return answer

    @get(OIDC)
    async def leave(request: Req) -> Response[Any]:
        wanted = local(request.query_params.get("next", ""))
        try:
            departure = await app.sessions.leave(OIDC_RETURN, wanted)
        except PurveyorError as error:
            return pages.sign_in(wanted, status=error.status, error=error)
        answer = Redirect(departure.address)
        answer.set_cookie(gone(request, departure.secret))
        return answer

    @get(OIDC_RETURN)
    async def arrive(request: Req) -> Response[Any]:
        peer = request.client.host if request.client else ""
        given = {
            name: value
            for name, value in request.query_params.multi_items()
            if isinstance(value, str)
        }
        try:
            arrival = await app.sessions.arrive(
                secret_of(request), given, peer, request.headers.get("user-agent", "")
            )
        except PurveyorError as error:
            answer = pages.sign_in(
                local(""), status=403 if error.status == 401 else error.status, error=error
            )
        else:
            session = of_open(arrival.session)
            # a page and no redirect: the session's cookie is not sent on from another site, and
            # this begins a way of our own
            answer = pages.page("arrived.html", None, onward=f"{session.base}{arrival.wanted}")
            answer.set_cookie(session_cookie(request, session))
        answer.set_cookie(gone(request, ""))
        return answer

    return [bookmark, sign_in_page, sign_in, leave, arrive]


def handlers(pages: Pages, app: Application) -> Sequence[Any]:
    @get("/")
    async def root(request: Req) -> Redirect:
        return pages.to(request, "/services")

    @post("/sign-out")
    async def sign_out(request: Req) -> Response[Any]:
        session = pages.session(request)
        check_form(
            request,
            session,
            {str(key): str(value) for key, value in (await request.form()).items()},
        )
        await app.sessions.end(session.credential)
        answer = Redirect(SIGN_IN)
        answer.set_cookie(ended(request))
        return answer

    return [root, sign_out]
