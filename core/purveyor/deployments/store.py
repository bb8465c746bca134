"""Deployments in the database."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from purveyor.deployments.models import DeploymentRecord
from purveyor.kernel.db.database import Page, Tx, convert, matching
from purveyor.projects.models import BindingRecord
from purveyor.projects.store import bindings, ending
from purveyor_hooks import AppSpec, NotFound


def users(tx: Tx, service_id: int) -> list[tuple[BindingRecord, DeploymentRecord]]:
    """The deployments that run with an account of a service."""
    found = []
    over = {item.id for item in ending(tx, service_id=service_id)}
    for record in bindings(tx, service_id=service_id):
        if record.state == "bound" and record.environment_id is not None:
            user = user_of(tx, record)
            if user is not None and (record.id not in over or user.id == record.ends_after):
                found.append((record, user))
    return found


def user_of(tx: Tx, record: BindingRecord) -> DeploymentRecord | None:
    """The active deployment of a binding's environment, if it was made since the account was
    chosen: by its number, for a clock may be put back."""
    active = (
        deployments(tx, environment_id=record.environment_id, state="active")
        if record.environment_id is not None
        else []
    )
    return next((item for item in active if item.id > record.chosen_after), None)


def insert_deployment(
    tx: Tx,
    *,
    project_id: int,
    environment_id: int,
    app: AppSpec | None,
    variables: Mapping[str, str],
) -> int:
    text = None if app is None else msgspec.json.encode(app).decode()
    values = {
        "project_id": project_id,
        "environment_id": environment_id,
        "app": text,
        "variables": tx.secrets.seal(variables),
    }
    return tx.insert("deployments", **values, state="deploying", created_at=tx.now)


def take_in(tx: Tx, *, variables: Mapping[str, str], **values: Any) -> None:
    """Record a deployment whose container runs; what it was made of is not known."""
    tx.insert(
        "deployments",
        **values,
        app=None,
        variables=tx.secrets.seal(variables),
        state="active",
        created_at=tx.now,
    )


def deployment(tx: Tx, deployment_id: int) -> DeploymentRecord:
    row = tx.row("SELECT * FROM deployments WHERE id = ?", [deployment_id])
    if row is None:
        raise NotFound(f"There is no deployment {deployment_id}.")
    return convert(row, DeploymentRecord, tx.secrets, plain=["app"], sealed=["variables"])


def deployments(
    tx: Tx,
    *,
    project_id: int | None = None,
    environment_id: int | None = None,
    state: str | None = None,
) -> list[DeploymentRecord]:
    """Deployments, newest first."""
    where, given = matching(project_id=project_id, environment_id=environment_id, state=state)
    rows = tx.rows(f"SELECT * FROM deployments WHERE {where} ORDER BY id DESC", given)
    return [
        convert(row, DeploymentRecord, tx.secrets, plain=["app"], sealed=["variables"])
        for row in rows
    ]


def deployments_page(tx: Tx, project_id: int, *, limit: int, offset: int) -> Page[DeploymentRecord]:
    """A part of the deployments of a project."""
    found = tx.page(
        "*",
        "deployments WHERE project_id = ?",
        [project_id],
        order="id DESC",
        limit=limit,
        offset=offset,
    )
    return Page(
        [
            convert(row, DeploymentRecord, tx.secrets, plain=["app"], sealed=["variables"])
            for row in found.items
        ],
        found.total,
    )


def active(tx: Tx) -> set[int]:
    """The numbers of the deployments that serve, or are about to."""
    rows = tx.rows("SELECT id FROM deployments WHERE state IN ('active', 'deploying')")
    return {row["id"] for row in rows}


def images(tx: Tx) -> Iterator[tuple[int, str]]:
    """The projects, and the images that came up in them."""
    sql = (
        "SELECT DISTINCT project_id, json_extract(app, '$.image') AS image FROM deployments "
        "WHERE app IS NOT NULL AND state IN"
    )
    return ((row["project_id"], row["image"]) for row in tx.rows(f"{sql} ('active', 'retired')"))


def update_deployment(tx: Tx, deployment_id: int, **values: Any) -> None:
    tx.update("deployments", "id = ?", [deployment_id], **values)
