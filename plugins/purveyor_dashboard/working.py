"""What is done to a service."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, post

from purveyor_dashboard.pages import SERVICES, Pages, Req, typed
from purveyor_hooks import BadInput

SIMPLE = ("start", "stop", "restart", "rotate", "undo-upgrade")


def handlers(pages: Pages) -> Sequence[Any]:
    @post("/services/{slug:str}/do/{word:str}")
    async def simple(request: Req, slug: str, word: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            back, path = f"/services/{slug}", f"{SERVICES}/{slug}/{word}"
            if word not in SIMPLE:
                raise BadInput(f"Unknown action: {word}.")
            if word == "undo-upgrade":  # what was written since is not there afterwards
                typed(form, slug)
            if word in ("start", "undo-upgrade"):
                return await pages.begin(request, client, "POST", path, back)
            return await pages.interrupt(request, form, client, "POST", path, back)

    @post("/services/{slug:str}/link")
    async def link(request: Req, slug: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            body = {"project_id": form.get("project", "")}
            return await pages.begin(
                request,
                client,
                "POST",
                f"{SERVICES}/{slug}/projects",
                f"/services/{slug}/links",
                json=body,
            )

    @post("/services/{slug:str}/unlink/{project:str}")
    async def unlink(request: Req, slug: str, project: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            back = (
                f"/projects/{project}"
                if request.query_params.get("back") == "project"
                else f"/services/{slug}/links"
            )
            return await pages.interrupt(
                request, form, client, "DELETE", f"{SERVICES}/{slug}/projects/{project}", back
            )

    @post("/services/{slug:str}/upgrade")
    async def upgrade(request: Req, slug: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            body = {
                "docker_image": form.get("image", ""),
                "rehearse": form.get("rehearse") == "yes",
            }
            return await pages.begin(
                request,
                client,
                "POST",
                f"{SERVICES}/{slug}/upgrade",
                f"/services/{slug}",
                json=body,
            )

    @post("/services/{slug:str}/clone")
    async def clone(request: Req, slug: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            return await pages.begin(
                request,
                client,
                "POST",
                f"{SERVICES}/{slug}/clone",
                "/services",
                json={"name": form.get("name", "")},
            )

    @post("/services/{slug:str}/delete")
    async def delete(request: Req, slug: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            typed(form, slug)
            params = {"purge": "true"} if form.get("purge") == "yes" else {}
            return await pages.begin(
                request, client, "DELETE", f"{SERVICES}/{slug}", "/services", params=params
            )

    return [simple, link, unlink, upgrade, clone, delete]
