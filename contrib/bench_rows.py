"""Rows of an installation of any size, put into its store at once: for measurements and for rules
of lists.

The first service of each type has many projects, the others share the rest. All services are
stopped, as nothing runs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from purveyor.kernel.db import Store
from purveyor.kernel.db.secrets import open_secrets
from purveyor.migrations import migrations

NOW = datetime.now(UTC)
OPERATION_TYPES = ("create", "link", "bind", "deploy", "backup", "restart", "update")
ENVIRONMENTS = ("production", "staging", "preview")


class Amounts(NamedTuple):
    """How many rows of each kind."""

    services: int
    projects: int
    operations: int
    events: int
    backups: int
    looks: int  # of each kind at each service
    crowd: int  # projects that are linked to the first service of a type


class Kind(NamedTuple):
    """A service type, and the parameters of its services but for the port."""

    name: str
    image: str
    parameters: Mapping[str, Any]


LARGE = Amounts(
    services=300,
    projects=1_000,
    operations=30_000,
    events=100_000,
    backups=10_000,
    looks=240,
    crowd=500,
)
SMALL = Amounts(
    services=12, projects=30, operations=200, events=600, backups=100, looks=10, crowd=15
)
REDIS = Kind("redis", "redis:8.0", {"password": "bench-redis-password"})
POSTGRES = Kind(
    "postgres",
    "postgres:17",
    {
        "password": "bench-password",
        "username": "postgres",
        "database": "postgres",
        "max_connections": 100,
        "ssl_mode": "disable",
    },
)


def put(
    state: Path,
    amounts: Amounts,
    kinds: Sequence[Kind] = (REDIS, POSTGRES),
    namespace: str = "purveyor",
) -> None:
    """Fill the store of a state directory that is empty, or make one. No process may have it
    open."""
    secrets = open_secrets(state)
    store = Store(state, secrets, migrations)
    store.open()
    store.close()
    made = _Rows(amounts, kinds, namespace, secrets)
    with sqlite3.connect(state / "purveyor.db", isolation_level=None) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for table, rows in made.tables():
            _insert(db, table, rows)
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def _insert(db: sqlite3.Connection, table: str, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows, None)
    if first is None:
        return
    names, marks = ", ".join(f'"{name}"' for name in first), ", ".join(f":{name}" for name in first)
    statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"
    db.execute(statement, first)
    db.executemany(statement, rows)


def _ago(minutes: float) -> str:
    return (NOW - timedelta(minutes=minutes)).isoformat()


class _Rows:
    def __init__(
        self, amounts: Amounts, kinds: Sequence[Kind], namespace: str, secrets: Any
    ) -> None:
        self._amounts = amounts
        self._kinds = kinds
        self._namespace = namespace
        self._secrets = secrets

    def tables(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        yield "volumes", self._volumes()
        yield "services", self._services()
        yield (
            "ports",
            (
                {"port": 20_000 + n, "service_id": n, "parameter": "port"}
                for n in self._numbers("services")
            ),
        )
        yield "projects", self._projects()
        yield "environments", self._environments()
        yield "links", self._links()
        yield "bindings", self._bindings()
        yield "deployments", self._deployments()
        yield "operations", self._operations()
        yield "steps", self._steps()
        yield "events", self._events()
        yield "backups", self._backups()
        yield "looks", self._looks()

    def _numbers(self, kind: str) -> range:
        return range(1, getattr(self._amounts, kind) + 1)

    def _kind(self, service: int) -> Kind:
        return self._kinds[(service - 1) % len(self._kinds)]

    def _service_of(self, project: int, index: int) -> int:
        """The service of the type of this index that a project is linked to."""
        own = range(1 + index, self._amounts.services + 1, len(self._kinds))
        return own[0 if project <= self._amounts.crowd else 1 + project % (len(own) - 1)]

    def _volumes(self) -> Iterator[dict[str, Any]]:
        for number in self._numbers("services"):
            for state in ("used", "kept"):
                name = f"{self._namespace}-service-{number}-{state}"
                yield {
                    "id": f"{state}{number:028d}", "name": name, "path": f"/volumes/{name}",
                    "service_type": self._kind(number).name, "state": state,
                    "origin": f"service-{number}", "created_at": _ago(number),
                    "kept_at": _ago(number),
                }  # fmt: skip

    def _services(self) -> Iterator[dict[str, Any]]:
        for number in self._numbers("services"):
            kind, name = self._kind(number), f"service-{number}"
            yield {
                "id": number, "name": name, "slug": name, "service_type": kind.name,
                "parameters": self._secrets.seal({**kind.parameters, "port": 20_000 + number}),
                "secrets": self._secrets.seal({}),
                "given": "[]", "image": kind.image, "volume_id": f"used{number:028d}",
                "container_name": f"{self._namespace}-{name}", "desired": "stopped",
                "state": "active",
                "created_at": _ago(number), "updated_at": _ago(number),
            }  # fmt: skip

    def _projects(self) -> Iterator[dict[str, Any]]:
        for number in self._numbers("projects"):
            yield {
                "id": number,
                "slug": f"project-{number}",
                "name": f"project-{number}",
                "created_at": _ago(number),
            }

    def _environments(self) -> Iterator[dict[str, Any]]:
        for project in self._numbers("projects"):
            for index, slug in enumerate(ENVIRONMENTS):
                number = (project - 1) * len(ENVIRONMENTS) + index + 1
                yield {
                    "id": number,
                    "project_id": project,
                    "slug": slug,
                    "created_at": _ago(project),
                }

    def _links(self) -> Iterator[dict[str, Any]]:
        for project in self._numbers("projects"):
            for index, kind in enumerate(self._kinds):
                yield {
                    "service_id": self._service_of(project, index), "project_id": project,
                    "service_type": kind.name,
                    "state": "linked", "created_at": _ago(project),
                }  # fmt: skip

    def _bindings(self) -> Iterator[dict[str, Any]]:
        password = self._secrets.seal("bench-binding-password")
        for project in self._numbers("projects"):
            for index in range(len(self._kinds)):
                for place, slug in enumerate(ENVIRONMENTS):
                    name = f"project_{project}_{slug}"
                    yield {
                        "service_id": self._service_of(project, index), "project_id": project,
                        "environment_id": (project - 1) * len(ENVIRONMENTS) + place + 1,
                        "project": f"project-{project}",
                        "environment": slug, "resource": name, "account": name,
                        "password": password,
                        "slot": project * len(ENVIRONMENTS) + place, "state": "bound",
                        "created_at": _ago(project),
                    }  # fmt: skip

    def _deployments(self) -> Iterator[dict[str, Any]]:
        for project in self._numbers("projects"):
            for _ in range(3):
                yield {
                    "project_id": project, "environment_id": (project - 1) * len(ENVIRONMENTS) + 1,
                    "app": None,
                    "state": "retired", "created_at": _ago(project), "ended_at": _ago(project),
                }  # fmt: skip

    def _operations(self) -> Iterator[dict[str, Any]]:
        for number in self._numbers("operations"):
            failed = number % 50 == 0
            yield {
                "verb": OPERATION_TYPES[number % len(OPERATION_TYPES)],
                "service_id": number % self._amounts.services + 1,
                "project_id": number % self._amounts.projects + 1, "actor": "bench",
                "arguments": json.dumps({"name": f"service-{number % self._amounts.services + 1}"}),
                "state": "failed" if failed else "succeeded",
                "error": json.dumps({"code": "failed", "detail": "It failed.",
                "remedy": "Try again."}) if failed else None,
                "created_at": _ago(self._amounts.operations - number),
                "ended_at": _ago(self._amounts.operations - number),
            }  # fmt: skip

    def _steps(self) -> Iterator[dict[str, Any]]:
        for number in self._numbers("operations"):
            for name in ("container", "start", "ready"):
                at = _ago(self._amounts.operations - number)
                yield {
                    "operation_id": number,
                    "name": name,
                    "state": "done",
                    "started_at": at,
                    "ended_at": at,
                }

    def _events(self) -> Iterator[dict[str, Any]]:
        for number in self._numbers("events"):
            operation = (number - 1) * self._amounts.operations // self._amounts.events + 1
            yield {
                "type": f"service.{OPERATION_TYPES[operation % len(OPERATION_TYPES)]}.step",
                "at": _ago(self._amounts.operations - operation),
                "operation": operation, "service": operation % self._amounts.services + 1,
                "project": operation % self._amounts.projects + 1,
                "data": '{"step":"start","state":"done"}',
            }  # fmt: skip

    def _backups(self) -> Iterator[dict[str, Any]]:
        for number in self._numbers("backups"):
            service = number % self._amounts.services + 1
            at = _ago(self._amounts.backups - number)
            yield {
                "backup_id": f"backup-{number:06d}", "service_id": service,
                "service_name": f"service-{service}",
                "service_type": self._kind(service).name, "state": "ok", "backup_type": "scheduled",
                "folder": f"service-{service}/backup-{number:06d}",
                "location": f"/backups/backup-{number:06d}",
                "size_bytes": 1_000_000, "checksum": "sha256:" + "0" * 64,
                "metadata": '{"census":{"keys":1000}}',
                "started_at": at, "completed_at": at,
                "expires_at": (NOW + timedelta(days=30)).isoformat(),
            }  # fmt: skip

    def _looks(self) -> Iterator[dict[str, Any]]:
        for number in range(self._amounts.looks):
            at = _ago((self._amounts.looks - number) / 2)
            health = json.dumps({"healthy": True, "status": "running", "stage": "write",
                "version": "8.0", "latency_ms": 1.5,
                                 "checked_at": at, "detail": None})  # fmt: skip
            usage = json.dumps({"at": at, "memory_bytes": 10_000_000 + number, "cpu_percent": 0.5})
            for service in self._numbers("services"):
                yield {"service_id": service, "kind": "health", "seen": health}
                yield {"service_id": service, "kind": "usage", "seen": usage}
