"""The tokens of environments, made for types that use the API."""

from datetime import datetime

from purveyor.kernel.api.tokens import VALID, _hash, _new
from purveyor.kernel.db.database import Tx
from purveyor.projects.models import EnvironmentRecord, ProjectRecord


def of_environment(tx: Tx, environment_id: int) -> str | None:
    """The environment's own token in clear, if it has a valid one."""
    number = number_of_environment(tx, environment_id)
    sealed = tx.value("SELECT sealed FROM tokens WHERE id = ?", [number])
    return None if sealed is None else str(tx.secrets.open(sealed))


def number_of_environment(tx: Tx, environment_id: int) -> int | None:
    """The id of the environment's own token, if it has a valid one."""
    where = f"environment_id = ? AND sealed IS NOT NULL AND {VALID}"
    found = tx.value(f"SELECT max(id) FROM tokens WHERE {where}", [environment_id, tx.now])
    return None if found is None else int(found)


def ensure_of_environment(tx: Tx, project: ProjectRecord, environment: EnvironmentRecord) -> None:
    """Make the environment's own token unless it has a valid one."""
    if of_environment(tx, environment.id) is None:
        _make(tx, project, environment)


def replace_of_environment(
    tx: Tx, project: ProjectRecord, environment: EnvironmentRecord, until: datetime | None
) -> None:
    """Make the environment's own token anew. Those of before end, now or, the latest of them,
    `until` then."""
    where = f"environment_id = ? AND sealed IS NOT NULL AND {VALID}"
    before = tx.rows(
        f"SELECT id FROM tokens WHERE {where} ORDER BY id DESC", [environment.id, tx.now]
    )
    for place, row in enumerate(before):
        if until is not None and place == 0:
            tx.update("tokens", "id = ?", [row["id"]], expires_at=until)
        else:
            tx.update("tokens", "id = ?", [row["id"]], revoked_at=tx.now)
            tx.emit("token.revoked", project=project.id, data={"id": row["id"]})
    _make(tx, project, environment)


def end_former(tx: Tx, environment_id: int, until: datetime) -> None:
    """End the tokens that were to work until then, or less long."""
    where = f"environment_id = ? AND sealed IS NOT NULL AND expires_at <= ? AND {VALID}"
    for row in list(
        tx.rows(f"SELECT id, project_id FROM tokens WHERE {where}", [environment_id, until, tx.now])
    ):
        tx.update("tokens", "id = ?", [row["id"]], revoked_at=tx.now)
        tx.emit("token.revoked", project=row["project_id"], data={"id": row["id"]})


def _make(tx: Tx, project: ProjectRecord, environment: EnvironmentRecord) -> None:
    token, name = _new(), f"{project.slug}/{environment.slug}"
    values = {
        "name": name,
        "scope": "project",
        "project_id": project.id,
        "environment_id": environment.id,
    }
    number = tx.insert(
        "tokens", **values, hash=_hash(token), sealed=tx.secrets.seal(token), created_at=tx.now
    )
    tx.emit(
        "token.created", project=project.id, data={"id": number, "name": name, "scope": "project"}
    )
