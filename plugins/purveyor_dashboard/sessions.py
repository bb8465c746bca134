"""Who is signed in: the API token, sealed in a cookie that scripts cannot read, with a secret against forged forms."""

import hmac
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import anyio
from litestar import Request
from litestar.datastructures import Cookie

from purveyor_hooks import Core, Forbidden

COOKIE = "purveyor"
HOURS = 12
FIELD = "csrf"
HEADER = "X-CSRF"
SLOWEST = 8.0
FORGET = 900.0

Req = Request[Any, Any, Any]


class Session(NamedTuple):
    """One sign-in. `admin` may change things; the others only look."""

    token: str
    csrf: str
    admin: bool
    until: float


class Sessions:
    """Seals sessions into cookies and opens them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._failed: dict[str, tuple[int, float]] = {}

    def cookie(self, token: str, admin: bool, secure: bool) -> Cookie:
        until = time.time() + HOURS * 3600
        content = json.dumps({"token": token, "csrf": secrets.token_urlsafe(24), "admin": admin, "until": until})
        return _cookie(self._core.seal(content), HOURS * 3600, secure)

    def of(self, request: Req) -> Session | None:
        """The session of a request, None when nobody is signed in."""
        try:
            found = json.loads(self._core.unseal(request.cookies[COOKIE]))
            session = Session(found["token"], found["csrf"], found["admin"], found["until"])
        except Exception:  # no cookie, or one that is not ours or not whole
            return None
        return session if session.until > time.time() else None

    async def slow_down(self, address: str) -> None:
        """Whoever failed before waits, longer each time."""
        count, at = self._failed.get(address, (0, 0.0))
        if count and time.time() - at < FORGET:
            await anyio.sleep(min(0.25 * 2 ** min(count, 10), SLOWEST))

    def failed(self, address: str) -> None:
        now = time.time()
        self._failed = {key: value for key, value in self._failed.items() if now - value[1] < FORGET}
        self._failed[address] = (self._failed.get(address, (0, 0.0))[0] + 1, now)

    def succeeded(self, address: str) -> None:
        self._failed.pop(address, None)


def ended(secure: bool) -> Cookie:
    return _cookie("", 0, secure)


def _cookie(value: str, seconds: int, secure: bool) -> Cookie:
    return Cookie(key=COOKIE, value=value, max_age=seconds, path="/", httponly=True, samesite="strict", secure=secure)


def check_form(request: Req, session: Session, form: Mapping[str, Any]) -> None:
    """Raise `Forbidden` unless a form was made by a page of ours for this very session."""
    given = str(form.get(FIELD) or request.headers.get(HEADER, ""))
    origin = request.headers.get("origin")
    foreign = origin not in (None, "null") and origin.partition("://")[2] != request.headers.get("host")
    if foreign or not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise Forbidden(
            "This form was not made by this dashboard, or is too old.", remedy="Go back, load the page anew, try again."
        )
