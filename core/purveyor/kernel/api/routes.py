"""/api/version: what answers here."""

from litestar import Router, get

from purveyor import __version__
from purveyor.kernel.api.schemas import Version
from purveyor_hooks import CONTRACT_VERSION


@get("/version")
async def version() -> Version:
    return Version(name="purveyor", version=__version__, contract=CONTRACT_VERSION)


router = Router("/", route_handlers=[version], tags=["installation"])
