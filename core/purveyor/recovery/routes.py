"""/api/recovery: copies of the state, and the way back from a lost host."""

from typing import Any

from litestar import Request, Response, Router, get, post

from purveyor.context import Core
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.responses import answer, changed
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan
from purveyor.kernel.operations import store as operations
from purveyor.recovery.copier import StateCopies
from purveyor.recovery.models import Recovering, Result, recovering
from purveyor.recovery.operations.finish import FinishRecoveryArguments
from purveyor.recovery.operations.recover import RecoverArguments
from purveyor.recovery.schemas import (
    RecoverServiceRequest,
    RecoveryView,
    ServiceBack,
    StateView,
    TakenOver,
    copy_view,
)
from purveyor.services import routes as service_routes
from purveyor.services import store as services

Req = Request[Any, Any, Any]


@get("/", guards=[reader])
async def show(core: Core) -> StateView:
    """How far the copies are, and the recovery that waits for its end, if there is one."""
    return await _state(core)


async def _state(core: Core) -> StateView:
    recovery = await core.context.store.read(_view)
    return StateView(
        recovery=recovery,
        copies=[copy_view(item) for _, item in sorted(core.part(StateCopies).statuses.items())],
    )


def _view(tx: Tx) -> RecoveryView | None:
    now = recovering(tx)
    if now is None:
        return None
    return RecoveryView(
        since=now.since,
        place=now.place,
        host=now.host,
        state_of=now.state_of,
        at=now.at,
        services=[item for number in now.choices if (item := _service(tx, now, number))],
        notes=now.notes,
    )


def _service(tx: Tx, now: Recovering, number: int) -> ServiceBack | None:
    record = services.find(tx, number)
    if record is None:
        return None
    result = now.results.get(number, Result())
    outcome = operations.outcome(tx, result.operation) if result.operation else None
    back = record.state == "active"
    state = "back" if back else ("waiting" if number in now.pending else "missing")
    return ServiceBack(
        service=record.name,
        service_id=number,
        state=state,
        operation=result.operation,
        error="" if back else (record.refusal or result.error),
        differences=list(outcome.losses) if outcome else [],
    )


@post("/finish", guards=[admin], status_code=200)
async def finish(request: Req, core: Core, plan: bool = False) -> Response[StateView | Plan]:
    """A person has looked: apps, webhooks, schedules and expiry go on."""
    given = FinishRecoveryArguments()
    made: Response[Any] = await changed(
        request, core, "finish-recovery", given, plan=plan, status=200
    )
    return made if plan else Response(await _state(core))


@post("/takeover", guards=[admin], status_code=200)
async def take_over(core: Core) -> TakenOver:
    """This is the installation that goes on: every other one is refused at the places of backups
    from now on."""
    return TakenOver(term=await core.part(StateCopies).take_over())


@post("/services/{reference:str}", guards=[admin])
async def recover_service(
    request: Req, core: Core, reference: str, data: RecoverServiceRequest, plan: bool = False
) -> Response[Any]:
    """Bring one service back that a recovery could not."""
    given = RecoverArguments(
        service=reference,
        backup=data.backup,
        empty=data.empty,
        accept_unsigned=data.accept_unsigned,
    )
    return await answer(
        request,
        core,
        "recover",
        given,
        plan=plan,
        status=200,
        then=service_routes.service_answer(core),
    )


router = Router(
    "/recovery", route_handlers=[show, finish, take_over, recover_service], tags=["backups"]
)
