"""The dashboard's addresses."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, Router
from litestar.static_files import create_static_files_router

from purveyor_dashboard import activity, backups, entry, imports, kept, projects, server, services, working
from purveyor_dashboard.pages import Pages, Req, SignedOut
from purveyor_dashboard.render import HERE
from purveyor_hooks import Application, PurveyorError

STATIC = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}


def routers(app: Application) -> Sequence[Any]:
    pages = Pages(app)

    def problem(request: Req, error: Exception) -> Response[Any]:
        return pages.problem(request, error)

    parts = (services, working, backups, projects, imports, kept, server)
    handlers = [*entry.handlers(pages, app), *activity.handlers(pages, app)]
    handlers += [handler for part in parts for handler in part.handlers(pages)]
    site = Router(
        "/", route_handlers=handlers, exception_handlers={PurveyorError: problem, SignedOut: problem}, include_in_schema=False
    )
    files = create_static_files_router("/static", [HERE / "static"], include_in_schema=False)
    return [site, files]
