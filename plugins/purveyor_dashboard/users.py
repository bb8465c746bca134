"""Who works here by name: made, disabled and removed by administrators; their tokens are made for
them and shown once."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from litestar import Response, get, post

from purveyor_dashboard.pages import AGREED, Pages, Req, part
from purveyor_hooks import BadInput, PurveyorError

USERS, TOKENS = "/api/users", "/api/tokens"
ENDS = {
    "disable": "Every token and session of theirs ends now. They can be enabled again, with new tokens.",
    "remove": "Every token and session of theirs ends now. Nobody will ever be called so again.",
}  # fmt: skip


def handlers(pages: Pages) -> Sequence[Any]:
    async def users_page(
        request: Req,
        form: dict[str, str] | None = None,
        error: PurveyorError | None = None,
        made: dict[str, Any] | None = None,
    ) -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            found = await part(client, request, USERS)
        return pages.page(
            "users.html", session, error.status if error else 200, here="/server", users=found.items,
            part=found, given=form or {}, errors=error.errors if error else {}, error=error,
            made=made,
        )  # fmt: skip

    @get("/users")
    async def users(request: Req) -> Response[str]:
        return await users_page(request)

    @post("/users", status_code=200)
    async def create(request: Req) -> Response[Any]:
        form = await pages.form(request, pages.session(request))
        try:
            async with pages.api(pages.session(request)) as client:
                await client.call("POST", USERS, json={"name": form.get("name", "")})
        except PurveyorError as error:
            return await users_page(request, form, error)
        return pages.to(request, "/users")

    @post("/users/{name:str}/token", status_code=200)
    async def create_token(request: Req, name: str) -> Response[str]:
        form = await pages.form(request, pages.session(request))
        body = {"name": form.get("token", ""), "scope": form.get("scope", "read"), "user": name}
        try:
            async with pages.api(pages.session(request)) as client:
                made = await client.call("POST", TOKENS, json=body)
        except PurveyorError as error:
            return await users_page(request, error=error)
        return await users_page(request, made=made)

    @post("/users/{name:str}/do/{word:str}")
    async def change(request: Req, name: str, word: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            if word not in ("enable", *ENDS):
                raise BadInput(f"Unknown action: {word}.")
            if word in ENDS and form.get(AGREED) != "yes":
                heading = f"{word.capitalize()} {name}"
                return pages.confirm(request, form, heading, "/users", text=ENDS[word])
            path = f"{USERS}/{quote(name, safe='')}"
            if word == "remove":
                await client.call("DELETE", path)
            else:
                await client.call("POST", f"{path}/{word}")
        return pages.to(request, "/users")

    return [users, create, create_token, change]
