"""Projects: what they use, what their environments get, their deployments."""

import shlex
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from litestar import Response, get, post

from purveyor_dashboard.pages import PROJECTS, SERVICES, Choice, Pages, Req, choice, part, typed
from purveyor_hooks import BadInput, PurveyorError


def handlers(pages: Pages) -> Sequence[Any]:
    @get("/projects")
    async def projects(request: Req) -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            q = request.query_params.get("q", "")
            found = await part(client, request, PROJECTS, q=q)
        asked = bool(q or found.before or found.after)
        return pages.page(
            "projects.html",
            session,
            here="/projects",
            projects=found.items,
            part=found,
            q=q,
            asked=asked,
        )

    @post("/projects")
    async def create_project(request: Req) -> Response[Any]:
        async with pages.change(request) as (form, client):
            made = await client.call("POST", PROJECTS, json={"name": form.get("name", "")})
        return pages.to(request, f"/projects/{made['slug']}")

    async def project_page(
        request: Req, project: str, environment: str, *, reveal: bool
    ) -> Response[str]:
        session = pages.session(request)
        async with pages.api(session) as client:
            found = await client.call("GET", f"{PROJECTS}/{project}")
            links = await client.call("GET", f"{SERVICES}/projects/{project}")
            services = await choice(client, f"{SERVICES}/", sort="name")
            environments = [
                item["slug"]
                for item in await client.call("GET", f"{PROJECTS}/{project}/environments")
            ]
            deployments = await client.call(
                "GET", f"{PROJECTS}/{project}/deployments", params={"limit": 30}
            )
            if reveal:
                path = f"{PROJECTS}/{project}/environments/{environment}/reveal"
                variables = (await client.call("POST", path))["variables"]
            else:
                path = f"{PROJECTS}/{project}/environments/{environment}/masked"
                variables = (await client.call("GET", path))["variables"]
        latest = next(
            (
                item["image"]
                for item in deployments
                if item["environment"] == environment and item["image"]
            ),
            "",
        )
        taken = {link["service"]["service_type"] for link in links}
        fitting = [
            item
            for item in services.items
            if item["service_type"] not in taken and item["status"] == "running"
        ]
        free = Choice(fitting, services.whole)
        return pages.page(
            "project.html", session, here="/projects", project=found, links=links, free=free,
            environment=environment,
            environments=sorted({*environments, "production", environment}), variables=variables,
            revealed=reveal,
            deployments=deployments, latest=latest,
        )  # fmt: skip

    @get("/projects/{project:str}")
    async def project(request: Req, project: str, environment: str = "production") -> Response[str]:
        return await project_page(request, project, environment, reveal=False)

    @get("/projects/{project:str}/deployments/{number:int}")
    async def deployment(request: Req, project: str, number: int) -> Response[str]:
        session = pages.session(request)
        path = f"{PROJECTS}/{project}/deployments/{number}"
        async with pages.api(session) as client:
            found = await client.call("GET", path)
            try:
                log = b"".join([chunk async for chunk in client.stream(f"{path}/log")]).decode(
                    errors="replace"
                )
            except PurveyorError as error:
                log = f"{error.detail} {error.remedy}".strip()
        return pages.page(
            "deployment.html", session, here="/projects", project=project, deployment=found, log=log
        )

    @post("/projects/{project:str}/reveal", status_code=200)
    async def reveal(request: Req, project: str) -> Response[str]:
        form = await pages.form(request, pages.session(request))
        return await project_page(
            request, project, form.get("environment", "production"), reveal=True
        )

    # ---------------------------------------------------------------- what is done to one

    @post("/projects/{project:str}/link")
    async def link(request: Req, project: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            path = f"{SERVICES}/{quote(form.get('service', ''), safe='')}/projects"
            return await pages.begin(
                request, client, "POST", path, f"/projects/{project}", json={"project_id": project}
            )

    @post("/projects/{project:str}/rotate")
    async def rotate(request: Req, project: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            path = f"{PROJECTS}/{project}/environments/{quote(form.get('environment', 'production'), safe='')}/rotate"
            return await pages.interrupt(
                request, form, client, "POST", path, f"/projects/{project}"
            )

    @post("/projects/{project:str}/deploy")
    async def deploy(request: Req, project: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            path = f"{PROJECTS}/{project}/deployments"
            return await pages.begin(
                request, client, "POST", path, f"/projects/{project}", json=_app(form)
            )

    @post("/projects/{project:str}/environments")
    async def create_environment(request: Req, project: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            path = f"{PROJECTS}/{project}/environments"
            made = await client.call("POST", path, json={"name": form.get("name", "")})
        return pages.to(request, f"/projects/{project}?{urlencode({'environment': made['slug']})}")

    @post("/projects/{project:str}/environments/delete")
    async def delete_environment(request: Req, project: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            name = form.get("environment", "")
            typed(form, name)
            path = f"{PROJECTS}/{project}/environments/{quote(name, safe='')}"
            return await pages.begin(request, client, "DELETE", path, f"/projects/{project}")

    @post("/projects/{project:str}/delete")
    async def delete(request: Req, project: str) -> Response[Any]:
        async with pages.change(request) as (form, client):
            typed(form, project)
            await client.call("DELETE", f"{PROJECTS}/{project}")
        return pages.to(request, "/projects")

    return [
        projects, create_project, project, deployment, reveal, link, rotate, deploy,
        create_environment, delete_environment,
        delete,
    ]  # fmt: skip


def _app(form: dict[str, str]) -> dict[str, Any]:
    """What to deploy: an image; a command and a port when the image's own will not do."""
    port = form.get("port", "")
    if port and not (port.isdecimal() and len(port) <= 5):
        raise BadInput("Invalid port.", errors={"port": "a whole number, or nothing"})
    try:
        command = shlex.split(form.get("command", ""))
    except ValueError as error:
        raise BadInput("The command cannot be read.", errors={"command": str(error)}) from None
    if not form.get("image", "").strip():
        raise BadInput(
            "There is nothing to deploy.",
            remedy="Give an image.",
            errors={"image": "must not be empty"},
        )
    given = {
        "environment": form.get("environment", "production"),
        "image": form["image"].strip(),
        "command": command,
    }
    return {
        **given,
        **({"port": int(port)} if port else {}),
        **({"health_path": form["health"]} if form.get("health") else {}),
    }
