"""The tokens of environments, made for types that use the API."""

from purveyor.kernel.api.tokens import VALID, _hash, _new
from purveyor.kernel.db.database import Tx
from purveyor.projects.models import EnvironmentRecord, ProjectRecord


def of_environment(tx: Tx, environment_id: int) -> str | None:
    """The environment's own token in clear, if it has a valid one."""
    where = f"environment_id = ? AND sealed IS NOT NULL AND {VALID}"
    sealed = tx.value(
        f"SELECT sealed FROM tokens WHERE {where} ORDER BY id DESC", [environment_id, tx.now]
    )
    return None if sealed is None else str(tx.vault.open(sealed))


def ensure_of_environment(tx: Tx, project: ProjectRecord, environment: EnvironmentRecord) -> None:
    """Make the environment's own token unless it has a valid one."""
    if of_environment(tx, environment.id) is not None:
        return
    token, name = _new(), f"{project.slug}/{environment.slug}"
    values = {
        "name": name,
        "scope": "project",
        "project_id": project.id,
        "environment_id": environment.id,
    }
    number = tx.insert(
        "tokens", **values, hash=_hash(token), sealed=tx.vault.seal(token), created_at=tx.now
    )
    tx.emit(
        "token.created", project=project.id, data={"id": number, "name": name, "scope": "project"}
    )
