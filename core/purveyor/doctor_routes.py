"""/api/doctor: every part of the path from an app to its data."""

from litestar import Response, Router, get

from purveyor import doctor
from purveyor.app import App
from purveyor.kernel.api.auth import reader


@get("/doctor", guards=[reader])
async def run_doctor(
    core: App, project: str | None = None, environment: str = "production", quick: bool = False
) -> Response[list[doctor.Check]]:
    """Every part of the path from an app to its data. `quick` leaves out what reads the whole
    store."""
    return Response(await doctor.examine(core, project, environment, quick=quick))


router = Router("/", route_handlers=[run_doctor], tags=["installation"])
