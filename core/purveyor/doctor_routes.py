"""/api/doctor: every part of the path from an app to its data."""

from typing import Any

from litestar import Request, Response, Router, get

from purveyor import doctor
from purveyor.app import App
from purveyor.kernel.api.auth import reader
from purveyor_hooks import Forbidden


@get("/doctor", guards=[reader])
async def run_doctor(
    request: Request[Any, Any, Any],
    core: App,
    project: str | None = None,
    environment: str = "production",
    quick: bool = False,
) -> Response[list[doctor.Check]]:
    """Every part of the path from an app to its data. `quick` leaves out what reads the whole store
    and what starts a container, as the look from a project's network does: that takes an admin
    token."""
    if project is not None and not quick and request.user.scope != "admin":
        raise Forbidden(
            "Looking from a project's network starts containers there, and this token may only "
            "read.",
            remedy="Use a token of the scope admin, or ask with quick=true.",
        )
    return Response(await doctor.examine(core, project, environment, quick=quick))


router = Router("/", route_handlers=[run_doctor], tags=["installation"])
