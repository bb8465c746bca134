"""How a page is made: from what the API answers to whoever is signed in."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from litestar import MediaType, Request, Response
from litestar.response import Redirect
from markupsafe import Markup

from purveyor_dashboard import render
from purveyor_dashboard.sessions import FIELD, KEY, ROOT, Session, check_form, session_of
from purveyor_hooks import (
    ApiClient,
    Application,
    BadInput,
    Event,
    Forbidden,
    PurveyorError,
    Unauthorized,
)

if TYPE_CHECKING:
    from jinja2 import Environment

Req = Request[Any, Any, Any]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SIGN_IN = "/sign-in"
OIDC, OIDC_RETURN = "/sign-in/oidc", "/sign-in/oidc/return"
ENDS = ("token.", "session.", "user.")  # events after which somebody may be signed in no more
AGREED = "agreed"  # the field of a form that somebody has sent again after seeing what it costs
LONGEST_PATH = 2000
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
BROUGHT = ("operations", "Operations")  # of services whose plugin brings some


class SignedOut(Exception):
    """Nobody is signed in."""


class Pages:
    """Makes pages, and asks the API in the name of whoever looks at them."""

    def __init__(self, app: Application) -> None:
        self._app = app

    @cached_property
    def _templates(self) -> "Environment":
        return render.environment()

    async def enter(self, request: Req) -> None:
        """Find who asks, before anything else is looked at. Raises `SignedOut`."""
        session = await session_of(self._app, request)
        if session is None:
            raise SignedOut
        request.state.session = session

    def session(self, request: Req) -> Session:
        """Who asks, once they have entered."""
        found: Session = request.state.session
        return found

    def to(self, request: Req, path: str) -> Redirect:
        """Send somebody to another page of theirs."""
        return Redirect(f"{self.session(request).base}{path}")

    @asynccontextmanager
    async def api(self, session: Session) -> AsyncIterator[ApiClient]:
        async with self._app.api(session.credential) as client:
            yield client

    async def holds(self, session: Session, event: Event | None) -> bool:
        """Whether a session holds still: asked when nothing happens for a while, and when something
        happens to one or to a token."""
        if event is None or event.type.startswith(ENDS):
            return await self._app.sessions.find(session.credential, used=False) is not None
        return True

    async def form(self, request: Req, session: Session) -> dict[str, str]:
        """What a form holds, checked to be ours. Raises `Forbidden`."""
        given = {str(name): str(value) for name, value in (await request.form()).items()}
        check_form(request, session, given)
        if not session.admin:
            raise Forbidden(
                "This token is read-only.",
                remedy="Sign in with one of the scope admin.",
            )
        return given

    @asynccontextmanager
    async def change(self, request: Req) -> AsyncIterator[tuple[dict[str, str], ApiClient]]:
        """What a form holds, and the API in the name of who sent it. Raises what `session` and
        `form` raise."""
        session = self.session(request)
        form = await self.form(request, session)
        async with self.api(session) as client:
            yield form, client

    def page(
        self, template: str, session: Session | None, status: int = 200, **context: Any
    ) -> Response[str]:
        csrf = (
            Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, session.csrf)
            if session
            else ""
        )
        here = context.pop("here", "")
        base = session.base if session else ""
        values = {
            "session": session,
            "csrf": csrf,
            "base": base,
            "here": here,
            "error": None,
            **context,
        }
        text = self._templates.get_template(template).render(**values)
        return Response(text, status_code=status, media_type=MediaType.HTML, headers=HEADERS)

    def sign_in(
        self, wanted: str, status: int = 200, error: PurveyorError | None = None
    ) -> Response[str]:
        """The page to sign in at, and to go on from to the page that was wanted. It has no key in
        its address, and its form is to say where it comes from: a browser hides that where no
        referrer is sent at all."""
        sessions = self._app.sessions
        # at the address that people come back to
        begin = f"{sessions.public}{OIDC}?{urlencode({'next': wanted})}"
        provider = sessions.provider
        answer = self.page(
            "sign_in.html", None, status, error=error, wanted=wanted, provider=provider, begin=begin
        )
        answer.headers["Referrer-Policy"] = "same-origin"
        return answer

    async def tab(
        self, request: Req, slug: str, tab: str, template: str, status: int = 200, **context: Any
    ) -> Response[str]:
        """One page of a service's."""
        session = self.session(request)
        async with self.api(session) as client:
            details = await client.call("GET", f"{SERVICES}/{slug}")
            offers = await client.call("GET", f"{SERVICES}/{slug}/operations")
        tabs = [*TABS[:-1], BROUGHT, TABS[-1]] if offers else TABS
        return self.page(
            template, session, status, here="/services", service=details["service"],
            notes=details["notes"],
            schema=details["parameter_schema"] or {"properties": {}},
            current=details["current_parameters"], tabs=tabs, tab=tab, offers=offers,
            **context,
        )  # fmt: skip

    def confirm(
        self,
        request: Req,
        form: Mapping[str, str],
        heading: str,
        back: str,
        *,
        plan: Any = None,
        text: str = "",
    ) -> Response[str]:
        """A page that asks before something is interrupted: what that costs, and whom. Without
        JavaScript, too."""
        fields = {name: value for name, value in form.items() if name not in (FIELD, AGREED)}
        action = (
            f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        )
        return self.page(
            "confirm.html",
            self.session(request),
            heading=heading,
            back=back,
            plan=plan,
            text=text,
            fields=fields,
            action=action,
        )

    async def interrupt(
        self,
        request: Req,
        form: Mapping[str, str],
        client: ApiClient,
        method: str,
        path: str,
        back: str,
        **options: Any,
    ) -> Response[Any]:
        """Start a verb that interrupts service or credentials, once somebody who has seen its plan
        has agreed."""
        if form.get(AGREED) == "yes":
            return await self.begin(request, client, method, path, back, **options)
        params = {**options.pop("params", {}), "plan": "true"}
        plan = await client.call(method, path, params=params, **options)
        words = str(plan["verb"]).replace("-", " ").capitalize()
        return self.confirm(request, form, f"{words} {plan['subject']}", back, plan=plan)

    def problem(self, request: Req, error: Exception) -> Response[Any]:
        """An error as a page; nobody signed in is sent to sign in."""
        if isinstance(error, (SignedOut, Unauthorized)):
            if request.headers.get("hx-request"):
                return Response(
                    "", status_code=401, headers={**HEADERS, "HX-Redirect": sign_in_at(request)}
                )
            return Redirect(sign_in_at(request))
        assert isinstance(error, PurveyorError)
        title = "Something went wrong" if error.status != 404 else "Not there"
        back = plain(request) if request.method == "GET" else "/services"
        session = request.state.get("session")  # none where it could not be looked up
        return self.page(
            "problem.html", session, status=error.status, title=title, error=error, back=back
        )

    async def begin(
        self, request: Req, client: ApiClient, method: str, path: str, back: str, **options: Any
    ) -> Redirect:
        """Start a verb and show how it goes."""
        begun = await client.call(method, path, headers={"Prefer": "respond-async"}, **options)
        return self.to(request, f"/operations/{begun['operation_id']}?back={quote(back, safe='')}")


def local(path: str) -> str:
    """A path of the dashboard's own, whatever was given: what a browser takes for another host is
    none, nor what is no path."""
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if own and len(path) < LONGEST_PATH else "/services"


def sign_in_at(request: Req) -> str:
    """Where to sign in for what was asked. A form cannot be sent again; the page that it stood on
    is not known."""
    wanted = plain(request) if request.method == "GET" else "/"
    return (
        f"{SIGN_IN}?{urlencode({'next': wanted})}"
        if wanted not in ("/", "/dashboard/stream")
        else SIGN_IN
    )


def plain(request: Req) -> str:
    """The address that was asked, without the key of a session."""
    path = request.url.path
    if KEY in request.path_params:
        path = path.removeprefix(f"{ROOT}/{request.path_params[KEY]}") or "/"
    return f"{path}?{request.url.query}" if request.url.query else path


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
        others = [
            (name, value) for name, value in request.query_params.multi_items() if name != "offset"
        ]
        return f"{request.url.path}?{urlencode([*others, ('offset', place)])}"

    before = address(max(offset - SHOWN, 0)) if offset else ""
    return Part(found[:SHOWN], before, address(offset + SHOWN) if len(found) > SHOWN else "")


class Choice(NamedTuple):
    """What a form lets one choose from: all of it, or the first ones, when the rest has to be
    typed."""

    items: list[Any]
    whole: bool


async def choice(client: ApiClient, path: str, **params: Any) -> Choice:
    found = await client.call("GET", path, params={**params, "limit": SHOWN + 1})
    return Choice(found[:SHOWN], len(found) <= SHOWN)


def parameters(form: Mapping[str, str]) -> dict[str, str]:
    """The fields of a form that are parameters and hold something."""
    return {
        name[2:]: value for name, value in form.items() if name.startswith("p.") and value != ""
    }


def typed(form: Mapping[str, str], name: str) -> None:
    """What deletes has to be named. Raises `BadInput` unless it was typed."""
    if form.get("confirm") != name:
        raise BadInput("Nothing was deleted: that is not its name.", remedy=f"Type it: {name}")
