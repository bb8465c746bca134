"""How a page is made: from what the API answers to whoever is signed in."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from litestar import MediaType, Request, Response
from litestar.response import Redirect
from markupsafe import Markup

from purveyor_dashboard import render
from purveyor_dashboard.sessions import FIELD, Session, Sessions, check_form
from purveyor_hooks import ApiClient, Application, BadInput, Event, Forbidden, PurveyorError, Unauthorized

if TYPE_CHECKING:
    from jinja2 import Environment

Req = Request[Any, Any, Any]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SIGN_IN = "/sign-in"
AGREED = "agreed"  # the field of a form that somebody has sent again after seeing what it costs
SHOWN = 50  # of a list on one page
SERVICES, PROJECTS, BACKUPS = "/api/external-services", "/api/projects", "/api/backups"
TABS = (
    ("", "Overview"),
    ("links", "Projects"),
    ("data", "Data"),
    ("backups", "Backups"),
    ("logs", "Logs"),
    ("events", "Events"),
    ("settings", "Settings"),
)


class SignedOut(Exception):
    """Nobody is signed in."""


class Pages:
    """Makes pages, and asks the API in the name of whoever looks at them."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self.sessions = Sessions(app.core)

    @cached_property
    def _templates(self) -> "Environment":
        return render.environment()

    def session(self, request: Req) -> Session:
        """Raises `SignedOut`."""
        found = self.sessions.of(request)
        if found is None:
            raise SignedOut
        return found

    @asynccontextmanager
    async def api(self, session: Session) -> AsyncIterator[ApiClient]:
        async with self._app.api(session.token) as client:
            yield client

    async def holds(self, session: Session, event: Event | None) -> bool:
        """Whether a session holds still: asked when nothing happens for a while, and when something happens to a token."""
        if session.until <= time.time():
            return False
        if event is None or event.type.startswith("token."):
            try:
                async with self.api(session) as client:
                    await client.call("GET", f"{SERVICES}/", params={"limit": 1})
            except Unauthorized:
                return False
        return True

    async def form(self, request: Req, session: Session) -> dict[str, str]:
        """What a form holds, checked to be ours. Raises `Forbidden`."""
        given = {str(name): str(value) for name, value in (await request.form()).items()}
        check_form(request, session, given)
        if not session.admin:
            raise Forbidden("Your token may look, and change nothing.", remedy="Sign in with one of the scope admin.")
        return given

    @asynccontextmanager
    async def change(self, request: Req) -> AsyncIterator[tuple[dict[str, str], ApiClient]]:
        """What a form holds, and the API in the name of who sent it. Raises what `session` and `form` raise."""
        session = self.session(request)
        form = await self.form(request, session)
        async with self.api(session) as client:
            yield form, client

    def page(self, template: str, session: Session | None, status: int = 200, **context: Any) -> Response[str]:
        csrf = Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, session.csrf) if session else ""
        here = context.pop("here", "")
        values = {"session": session, "csrf": csrf, "here": here, "error": None, **context}
        text = self._templates.get_template(template).render(**values)
        return Response(text, status_code=status, media_type=MediaType.HTML, headers=HEADERS)

    async def tab(self, request: Req, slug: str, tab: str, template: str, status: int = 200, **context: Any) -> Response[str]:
        """One page of a service's."""
        session = self.session(request)
        async with self.api(session) as client:
            details = await client.call("GET", f"{SERVICES}/{slug}")
        return self.page(
            template, session, status, here="/services", service=details["service"], notes=details["notes"],
            schema=details["parameter_schema"] or {"properties": {}}, current=details["current_parameters"], tabs=TABS, tab=tab,
            **context,
        )  # fmt: skip

    def confirm(
        self, request: Req, form: Mapping[str, str], heading: str, back: str, *, plan: Any = None, text: str = ""
    ) -> Response[str]:
        """A page that asks before something is interrupted: what that costs, and whom. Without JavaScript, too."""
        fields = {name: value for name, value in form.items() if name not in (FIELD, AGREED)}
        action = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        return self.page(
            "confirm.html", self.session(request), heading=heading, back=back, plan=plan, text=text, fields=fields, action=action
        )

    async def interrupt(
        self, request: Req, form: Mapping[str, str], client: ApiClient, method: str, path: str, back: str, **options: Any
    ) -> Response[Any]:
        """Start a verb that interrupts service or credentials, once somebody who has seen its plan has agreed."""
        if form.get(AGREED) == "yes":
            return await begin(client, method, path, back, **options)
        params = {**options.pop("params", {}), "plan": "true"}
        plan = await client.call(method, path, params=params, **options)
        words = str(plan["verb"]).replace("-", " ").capitalize()
        return self.confirm(request, form, f"{words} {plan['subject']}", back, plan=plan)

    def problem(self, request: Req, error: Exception) -> Response[Any]:
        """An error as a page; nobody signed in is sent to sign in."""
        if isinstance(error, (SignedOut, Unauthorized)):
            if request.headers.get("hx-request"):
                return Response("", status_code=401, headers={**HEADERS, "HX-Redirect": SIGN_IN})
            return Redirect(SIGN_IN)
        assert isinstance(error, PurveyorError)
        title = "That did not work" if error.status != 404 else "Not there"
        return self.page(
            "problem.html", self.sessions.of(request), status=error.status, title=title, error=error, back=back_of(request)
        )


def back_of(request: Req) -> str:
    """The page that a request came from, when it is one of ours."""
    referer = request.headers.get("referer", "")
    host = request.headers.get("host", "")
    path = referer.partition("://")[2]
    return path.removeprefix(host) or "/services" if host and path.startswith(host) else "/services"


class Part(NamedTuple):
    """A part of a list, and the addresses of the parts before and after it, "" without one."""

    items: list[Any]
    before: str
    after: str


async def part(client: ApiClient, request: Req, path: str, **params: Any) -> Part:
    """The part of a list that the request's `offset` says."""
    given = request.query_params.get("offset", "")
    offset = int(given) if given.isdecimal() and len(given) < 10 else 0
    found = await client.call("GET", path, params={**params, "limit": SHOWN + 1, "offset": offset})

    def address(place: int) -> str:
        others = [(name, value) for name, value in request.query_params.multi_items() if name != "offset"]
        return f"{request.url.path}?{urlencode([*others, ('offset', place)])}"

    before = address(max(offset - SHOWN, 0)) if offset else ""
    return Part(found[:SHOWN], before, address(offset + SHOWN) if len(found) > SHOWN else "")


class Choice(NamedTuple):
    """What a form lets one choose from: all of it, or the first ones, when the rest has to be typed."""

    items: list[Any]
    whole: bool


async def choice(client: ApiClient, path: str, **params: Any) -> Choice:
    found = await client.call("GET", path, params={**params, "limit": SHOWN + 1})
    return Choice(found[:SHOWN], len(found) <= SHOWN)


async def begin(client: ApiClient, method: str, path: str, back: str, **options: Any) -> Redirect:
    """Start a verb and show how it goes."""
    begun = await client.call(method, path, headers={"Prefer": "respond-async"}, **options)
    return Redirect(f"/operations/{begun['operation_id']}?back={quote(back, safe='')}")


def parameters(form: Mapping[str, str]) -> dict[str, str]:
    """The fields of a form that are parameters and hold something."""
    return {name[2:]: value for name, value in form.items() if name.startswith("p.") and value != ""}


def typed(form: Mapping[str, str], name: str) -> None:
    """What deletes has to be named. Raises `BadInput` unless it was typed."""
    if form.get("confirm") != name:
        raise BadInput("Nothing was deleted: that is not its name.", remedy=f"Type it: {name}")
