"""The dashboard as its visitors reach it: signed in, and below the key of their session."""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import httpx

PAGES = (
    "/",
    "/services",
    "/services/main",
    "/projects/shop",
    "/server",
    "/sessions",
    "/activity",
    "/dashboard/stream",
)  # of each kind one


if TYPE_CHECKING:  # what needs no browser runs where none is installed
    from playwright.sync_api import BrowserContext, Page

_BASES: "WeakKeyDictionary[BrowserContext, str]" = WeakKeyDictionary()


def base_of(location: str) -> str:
    """The beginning of all addresses of a session, from one of them."""
    return location[: location.index("/", location.index("/~/") + 3)]


def enter(client: httpx.Client, token: str) -> httpx.Response:
    """Sign in; from then on the client's paths are those of the session."""
    answer = client.post("/sign-in", data={"token": token})
    client.base_url = client.base_url.join(base_of(answer.headers["location"]))
    return answer


def enter_page(page: "Page", token: str) -> None:
    """Sign in with a browser; `visit` knows the session from then on."""
    page.goto("/")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/services")
    _BASES[page.context] = base_of(page.url)


def same(context: "BrowserContext", as_in: "BrowserContext") -> None:
    """A context that was made with the storage of another is signed in as that one is."""
    _BASES[context] = _BASES[as_in]


def visit(page: "Page", path: str) -> None:
    page.goto(f"{_BASES[page.context]}{path}")


def signed_out(answer: httpx.Response) -> bool:
    return answer.status_code in (302, 307) and answer.headers["location"].startswith("/sign-in")
