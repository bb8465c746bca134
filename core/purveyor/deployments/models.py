"""Deployments as the database has them."""

from datetime import datetime
from typing import Literal

from purveyor.kernel.db.models import Record
from purveyor_hooks import AppSpec


class DeploymentRecord(Record, frozen=True):
    id: int
    project_id: int
    environment_id: int
    app: AppSpec | None
    variables: dict[str, str] | None
    state: Literal["deploying", "active", "retired", "failed"]
    container: str
    url: str
    error: str
    created_at: datetime
    ended_at: datetime | None
    image_id: str = ""
