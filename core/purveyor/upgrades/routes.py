"""Upgrades and their undoing, over the API."""

from typing import Any

from litestar import Request, Response, Router, post

from purveyor.context import Core
from purveyor.kernel.api.auth import admin
from purveyor.kernel.api.responses import answer
from purveyor.services.routes import service_answer
from purveyor.upgrades.operations.undo import UndoUpgradeArguments
from purveyor.upgrades.operations.upgrade import UpgradeArguments
from purveyor.upgrades.schemas import UpgradeRequest

Req = Request[Any, Any, Any]


@post("/{reference:str}/upgrade", guards=[admin])
async def upgrade_service(
    request: Req, core: Core, reference: str, data: UpgradeRequest, plan: bool = False
) -> Response[Any]:
    given = UpgradeArguments(
        service=reference,
        docker_image=data.docker_image,
        parameters=data.parameters,
        rehearse=data.rehearse,
        keep_going=data.keep_going,
        skip_settings=tuple(data.skip_settings),
    )
    return await answer(
        request, core, "upgrade", given, plan=plan, status=200, then=service_answer(core)
    )


@post("/{reference:str}/undo-upgrade", guards=[admin])
async def undo_upgrade(
    request: Req, core: Core, reference: str, plan: bool = False
) -> Response[Any]:
    given = UndoUpgradeArguments(service=reference)
    return await answer(
        request, core, "undo-upgrade", given, plan=plan, status=200, then=service_answer(core)
    )


router = Router(
    "/external-services",
    route_handlers=[upgrade_service, undo_upgrade],
    tags=["services"],
)
