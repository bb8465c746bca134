"""/api/recovery: copies of the state, and the way back from a lost host."""

from litestar import Router, get, post

from purveyor.context import Core
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.responses import Req
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import store as operations
from purveyor.recovery.copier import StateCopies
from purveyor.recovery.models import Recovering, Result, recovering
from purveyor.recovery.schemas import (
    RecoveryView,
    ServiceBack,
    StateView,
    TakenOver,
    copy_view,
)
from purveyor.services import store as services


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


async def state_shown(_: Req, core: Core, done: None) -> StateView:
    return await _state(core)


@post("/takeover", guards=[admin], status_code=200)
async def take_over(core: Core) -> TakenOver:
    """This is the installation that goes on: every other one is refused at the places of backups
    from now on."""
    return TakenOver(term=await core.part(StateCopies).take_over())


router = Router("/recovery", route_handlers=[show, take_over], tags=["backups"])
