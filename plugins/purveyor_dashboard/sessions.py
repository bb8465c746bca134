"""Who is signed in: a session has two halves, and only both together open it.

One is a cookie that scripts cannot read. Cookies know no ports: whatever else answers on this host
gets it. The other half, the key, is a part of every address of the dashboard, where no browser
sends it anywhere else; a page without JavaScript has it in its links like any other. Scripts keep
it for the next visit in the storage of this very origin, port included.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, NamedTuple

from litestar import Request
from litestar.datastructures import Cookie

from purveyor_hooks import Application, Forbidden, OpenSession

# the second is taken from nobody but this host over TLS
COOKIE, COOKIE_TLS = "purveyor", "__Host-purveyor"
AWAY = "-oidc"  # at the end of either, while somebody signs in elsewhere
HOURS = 12
FIELD = "csrf"
HEADER = "X-CSRF"
ROOT = "/~"  # what is below it needs a session: ROOT/KEY/…
KEY = "key"
LONGEST = 200  # characters of a half

Req = Request[Any, Any, Any]


class Session(NamedTuple):
    """One sign-in. `admin` may change things; the others only look. `base` is what all addresses of
    its pages begin with."""

    id: int
    credential: str
    csrf: str
    admin: bool
    base: str


def of_open(found: OpenSession) -> Session:
    csrf = hmac.new(found.credential.encode(), b"forms", hashlib.sha256).hexdigest()
    key = found.credential.partition(".")[2]
    return Session(
        id=found.id, credential=found.credential, csrf=csrf, admin=found.admin, base=f"{ROOT}/{key}"
    )


async def session_of(app: Application, request: Req) -> Session | None:
    """The session of a request, None when nobody is signed in. What a page asks for by itself does
    not keep a session alive."""
    cookie = request.cookies.get(_name(request), "")
    key = str(request.path_params.get(KEY, ""))
    if not cookie or not key or len(cookie) > LONGEST or len(key) > LONGEST:
        return None
    by_itself = "hx-request" in request.headers or "text/event-stream" in request.headers.get(
        "accept", ""
    )
    found = await app.sessions.find(f"{cookie}.{key}", used=not by_itself)
    return of_open(found) if found else None


def session_cookie(request: Req, session: Session) -> Cookie:
    """The cookie of a session that begins."""
    return _cookie(request, session.credential.partition(".")[0], HOURS * 3600)


def ended(request: Req) -> Cookie:
    """The cookie of one that has ended."""
    return _cookie(request, "", 0)


def gone(request: Req, secret: str) -> Cookie:
    """The cookie of somebody who signs in elsewhere, "" once they are back. It comes along from
    there, unlike the session's."""
    return Cookie(
        key=f"{_name(request)}{AWAY}", value=secret, max_age=600 if secret else 0, path="/",
        httponly=True, samesite="lax",
        secure=_secure(request),
    )  # fmt: skip


def secret_of(request: Req) -> str:
    return request.cookies.get(f"{_name(request)}{AWAY}", "")[:LONGEST]


def _secure(request: Req) -> bool:
    return request.url.scheme == "https"  # the core knows: what requests say of it, anybody can say


def _name(request: Req) -> str:
    return COOKIE_TLS if _secure(request) else COOKIE


def _cookie(request: Req, value: str, seconds: int) -> Cookie:
    return Cookie(
        key=_name(request),
        value=value,
        max_age=seconds,
        path="/",
        httponly=True,
        samesite="strict",
        secure=_secure(request),
    )


def is_foreign(request: Req, *, strict: bool = False) -> bool:
    """Whether a form comes from a page of somebody else. `strict`: one that hides where it comes
    from is foreign, too."""
    origin = request.headers.get("origin")
    if origin is None:  # no browser: they say it with every form
        return False
    if origin == "null":
        return strict
    return origin.partition("://")[2] != request.headers.get("host")


def check_form(request: Req, session: Session, form: Mapping[str, Any]) -> None:
    """Raise `Forbidden` unless a form was made by a page of ours for this very session."""
    given = str(form.get(FIELD) or request.headers.get(HEADER, ""))
    if is_foreign(request) or not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise Forbidden(
            "This form was not made by this dashboard, or is too old.",
            remedy="Go back, load the page anew, try again.",
        )
