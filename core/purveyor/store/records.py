"""What the tables hold, as values."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from purveyor_hooks import AppSpec, Binding, Finding, Image, Scope, Service


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A row."""


class Credentials(Record, frozen=True):
    """What opens a data set: its service's parameters and secrets at the time when it was put away."""

    parameters: dict[str, Any]
    secrets: dict[str, str]


class VolumeRecord(Record, frozen=True):
    id: str
    name: str
    path: str
    service_type: str
    major: str
    identity: str
    state: Literal["new", "used", "kept", "purged"]
    origin: str
    created_at: datetime
    kept_at: datetime | None
    kept_until: datetime | None = None
    facts: dict[str, Any] | None = None
    credentials: Credentials | None = None


class Imported(Record, frozen=True):
    """What is known of a container that somebody else made.

    `address` is where it was last reached from this host and `started_at` the start of it that was seen to; `ports` are
    where the server listens by the type's usual port. `joined` means that we put it on our network.
    """

    container: str
    address: str
    ports: dict[int, int]
    identity: str = ""
    started_at: datetime | None = None
    joined: bool = False


class ServiceRecord(Record, frozen=True):
    id: int
    name: str
    slug: str
    service_type: str
    parameters: dict[str, Any]
    secrets: dict[str, str]
    given: list[str]
    image: str
    image_id: str
    image_environment: dict[str, str]
    volume_id: str | None
    container_name: str
    desired: Literal["running", "stopped"]
    state: Literal["creating", "active", "deleting", "deleted"]
    refusal: str
    created_at: datetime
    updated_at: datetime
    major: str
    purpose: str = ""
    imported: Imported | None = None

    def view(self) -> Service:
        """The service as plugins see it."""
        return Service(
            id=self.id,
            name=self.name,
            slug=self.slug,
            service_type=self.service_type,
            parameters=self.parameters,
            secrets=self.secrets,
            image=Image(reference=self.image, id=self.image_id, environment=self.image_environment),
            host=self.container_name,
            major=self.major,
            desired=self.desired,
            ports=self.imported.ports if self.imported else {},
            imported=self.imported is not None,
        )


class ProjectRecord(Record, frozen=True):
    id: int
    slug: str
    name: str
    created_at: datetime


class EnvironmentRecord(Record, frozen=True):
    id: int
    project_id: int
    slug: str
    created_at: datetime


class LinkRecord(Record, frozen=True):
    id: int
    service_id: int
    project_id: int
    service_type: str
    state: Literal["linking", "linked", "unlinking"]
    created_at: datetime


class BindingRecord(Record, frozen=True):
    id: int
    service_id: int
    project_id: int | None
    environment_id: int | None
    project: str
    environment: str
    resource: str
    account: str
    password: str
    slot: int | None
    state: Literal["intended", "bound", "unbound"]
    created_at: datetime
    origin: int = 0
    ends_after: int = 0

    def view(self) -> Binding:
        """The binding as plugins see it."""
        return Binding(
            id=self.id,
            scope=Scope(project=self.project, environment=self.environment),
            resource=self.resource,
            account=self.account,
            password=self.password,
            slot=self.slot,
            origin=self.origin,
        )


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


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an operation that moved data found: `differences` between what was there and what came, `findings` about single
    things, `left_out` what exists and is not carried."""

    differences: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    left_out: tuple[Finding, ...] = ()

    @property
    def losses(self) -> list[str]:
        """All that is not as it was, in words; notices are none."""
        told = [str(item) for item in (*self.findings, *self.left_out) if not item.notice]
        return [*self.differences, *told]


class OperationRecord(Record, frozen=True):
    id: int
    verb: str
    service_id: int | None
    project_id: int | None
    actor: str
    arguments: dict[str, Any]
    private: dict[str, Any] | None
    state: Literal["running", "undoing", "succeeded", "failed", "abandoned"]
    error: dict[str, Any] | None
    created_at: datetime
    ended_at: datetime | None
    locks: list[tuple[str, int]] | None = None
    outcome: Outcome | None = None


class StepRecord(Record, frozen=True):
    operation_id: int
    name: str
    state: Literal["started", "done", "failed", "undone"]
    started_at: datetime
    ended_at: datetime | None


class TokenRecord(Record, frozen=True):
    id: int
    name: str
    scope: Literal["admin", "read", "project"]
    project_id: int | None
    environment_id: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class SourceRecord(Record, frozen=True):
    """A bucket that backups go to."""

    id: int
    name: str
    bucket_name: str
    bucket_path: str
    access_key_id: str
    secret_key: str
    region: str
    endpoint: str
    force_path_style: bool
    created_at: datetime


class LastResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a schedule's last run: how many backups were made, failed, and were not even tried."""

    made: int = 0
    suspect: int = 0
    failed: int = 0
    skipped: int = 0


class ScheduleRecord(Record, frozen=True):
    """When backups are made by themselves. Without `service_ids` every service that can be backed up is meant.

    The cron line is read in `timezone` (IANA); `jitter` are seconds by which a run may come later, so that many installations
    do not meet at one bucket.
    """

    id: int
    name: str
    backup_type: str
    retention_period: int
    retention_count: int
    schedule_expression: str
    enabled: bool
    description: str
    tags: list[str]
    s3_source_id: int | None
    service_ids: list[int]
    verify: bool
    next_run: datetime | None
    last_run: datetime | None
    created_at: datetime
    timezone: str = "UTC"
    jitter: int = 0
    last_result: LastResult | None = None


class ArchiveRecord(Record, frozen=True):
    """A service whose every change is written down: `until` is the last moment that can be restored."""

    id: int
    service_id: int
    s3_source_id: int | None
    encryption: str
    keep_days: int
    volume_id: str | None
    folder: str
    state: Literal["starting", "following", "waiting", "broken"]
    reason: str
    until: datetime | None
    queue_bytes: int
    base_at: datetime | None
    created_at: datetime


class BackupRecord(Record, frozen=True):
    id: int
    backup_id: str
    service_id: int | None
    service_name: str
    service_type: str
    state: Literal["running", "ok", "suspect", "failed"]
    backup_type: str
    s3_source_id: int | None
    schedule_id: int | None
    folder: str
    location: str
    size_bytes: int
    plain_bytes: int
    checksum: str
    encryption: str
    error_message: str
    metadata: dict[str, Any]
    proven_at: datetime | None
    proven_seconds: float | None
    started_at: datetime
    completed_at: datetime | None
    expires_at: datetime | None

    @property
    def skipped(self) -> bool:
        """It was due, and not even begun: stored as failed, for the table of the first version knows no other word."""
        return bool(self.metadata.get("skipped"))
