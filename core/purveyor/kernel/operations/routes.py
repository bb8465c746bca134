"""/api/operations: what was done and what is under way."""

from typing import Annotated, Any

from litestar import Request, Response, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.api.responses import Limit, Offset, page
from purveyor.kernel.core import Core
from purveyor.kernel.db import Page, Tx
from purveyor.kernel.operations import by_hand
from purveyor.kernel.operations import schemas as operation_schemas
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.plan import Plan
from purveyor_hooks import PurveyorError

Req = Request[Any, Any, Any]


@get("/operations", guards=[reader])
async def list_operations(
    core: Core,
    service: str | None = None,
    project: str | None = None,
    operation_state: Annotated[str | None, Parameter(query="state")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response[list[operation_schemas.OperationView]]:
    def work(tx: Tx) -> Page[operation_schemas.OperationView]:
        found = operations.list_page(
            tx,
            service_id=core.subjects["service"].find(tx, service) if service else None,
            project_id=core.subjects["project"].find(tx, project) if project else None,
            state=operation_state,
            limit=limit,
            offset=offset,
        )
        shown = [
            operation_schemas.operation_view(record, waits=core.runner.waiting(record.id))
            for record in found.items
        ]
        return Page(shown, found.total)

    return page(*await core.context.store.read(work))


@get("/operations/{number:int}", guards=[reader])
async def show_operation(core: Core, number: int) -> operation_schemas.OperationView:
    def work(tx: Tx) -> operation_schemas.OperationView:
        return operation_schemas.operation_view(
            operations.get(tx, number), operations.steps(tx, number), core.runner.waiting(number)
        )

    return await core.context.store.read(work)


SOON = ResponseSpec(
    operation_schemas.OperationView, False, "With Prefer: respond-async: it is being taken back."
)


@post("/operations/{number:int}/cancel", guards=[admin], status_code=200, responses={202: SOON})
async def cancel_operation(
    request: Req, core: Core, number: int, plan: bool = False
) -> Response[operation_schemas.OperationView | Plan]:
    """Stop an operation where it is and take back what it began. One that has no way back any more
    → 409 with the reason.

    Answers when all is taken back, or has to wait; with `Prefer: respond-async` 202 as soon as that
    has begun.
    """
    note(request, planned=plan, operation=number)
    if plan:
        return Response(await by_hand.plan_to_cancel(core.runner, number))
    handle = await by_hand.cancel(core.runner, number, request.user.name)
    soon = "respond-async" in request.headers.get("prefer", "")
    if not soon:
        try:
            await handle.wait()
        except PurveyorError as error:
            core.context.logger.info("operation.cancelled", operation=number, error=error.detail)
    return Response(await show_operation.fn(core, number), status_code=202 if soon else 200)


@post("/operations/{number:int}/abandon", guards=[admin], status_code=200)
async def abandon_operation(
    request: Req, core: Core, number: int, plan: bool = False
) -> Response[operation_schemas.OperationView | Plan]:
    """Leave an operation that cannot be ended as it is, and free its target. The plan says what may
    stay behind."""
    note(request, planned=plan, operation=number)
    if plan:
        return Response(await by_hand.plan_to_abandon(core.runner, number))
    await by_hand.abandon(core.runner, number, request.user)
    return Response(await show_operation.fn(core, number))


router = Router(
    "/",
    route_handlers=[list_operations, show_operation, cancel_operation, abandon_operation],
    tags=["journal"],
)
