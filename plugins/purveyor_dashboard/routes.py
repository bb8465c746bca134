"""The dashboard's addresses."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, Router
from litestar.static_files import create_static_files_router

from purveyor_dashboard import (
    activity,
    audit,
    backups,
    brought,
    entry,
    imports,
    kept,
    projects,
    server,
    services,
    signed_in,
    users,
    working,
)
from purveyor_dashboard.pages import Pages, Req, SignedOut
from purveyor_dashboard.render import HERE
from purveyor_dashboard.sessions import KEY, ROOT
from purveyor_hooks import Application, PurveyorError


def routers(app: Application) -> Sequence[Any]:
    pages = Pages(app)

    async def enter(request: Req) -> None:
        await pages.enter(request)

    def problem(request: Req, error: Exception) -> Response[Any]:
        return pages.problem(request, error)

    parts = (services, working, backups, projects, imports, kept, audit, server, signed_in, users)
    handlers = [*entry.handlers(pages, app), *activity.handlers(pages, app)]
    handlers += brought.handlers(pages, app)
    handlers += [handler for part in parts for handler in part.handlers(pages)]
    site = Router(
        f"{ROOT}/{{{KEY}:str}}",
        route_handlers=handlers,
        before_request=enter,
        exception_handlers={PurveyorError: problem, SignedOut: problem},
        include_in_schema=False,
    )
    read = sorted(
        {path for handler in handlers if "GET" in handler.http_methods for path in handler.paths}
        - {"/"}
    )
    outside = Router("/", route_handlers=entry.plain(pages, app, read), include_in_schema=False)
    files = create_static_files_router("/static", [HERE / "static"], include_in_schema=False)
    return [outside, site, files]
