"""What is seen of apps."""

from collections.abc import Sequence
from datetime import UTC, datetime

from purveyor.deployments.models import DeploymentRecord
from purveyor.docker.labels import DEPLOYMENT, id_in
from purveyor.services.health import CLOSED, Observer, Status
from purveyor.services.incidents import Subject
from purveyor_hooks import EngineUnavailable


async def statuses(observer: Observer, records: Sequence[DeploymentRecord]) -> dict[int, Status]:
    """What the apps of deployments are, by one look at the engine: active, or why an active one
    does not run; for any other deployment what is recorded."""
    now = datetime.now(UTC)
    found = {
        record.id: Status(status=record.state, reason=record.error, checked_at=now)
        for record in records
    }
    watched = [record for record in records if record.state == "active" and record.app is not None]
    if not watched:
        return found
    try:
        listed = await observer.listed("deployment", [record.id for record in watched])
    except EngineUnavailable as error:
        return found | {
            record.id: Status(status="unknown", reason=error.detail, checked_at=now)
            for record in watched
        }
    states = {id_in(item.labels, DEPLOYMENT): item.state for item in listed}
    for record in watched:
        state = states.get(record.id, "missing")
        reason = observer.trouble(Subject("app", record.id))
        if state != "running" or reason:
            word = "down" if state in CLOSED else "unhealthy" if state == "running" else state
            said = reason or (
                "Its container is gone." if state == "missing" else f"Its container is {state}."
            )
            found[record.id] = Status(status=word, reason=said, checked_at=now)
    return found
