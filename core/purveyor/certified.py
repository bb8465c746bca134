"""What the doctor says of certificates: those that are recorded, and those that servers present at
their ports."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import anyio

from purveyor.app import App
from purveyor.checks import Check
from purveyor.kernel.db import Tx
from purveyor.services import certificates, presented
from purveyor.services import store as services
from purveyor.services.certificates import CertificateRecord
from purveyor.services.handle import handle_of
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Address, Certificate

UNRENEWED = timedelta(days=2)
AT_ONCE = 16  # connections
SEEN = timedelta(minutes=1)  # until every server has taken a new certificate up


def _certified(app: App, record: ServiceRecord) -> Certificate | None:
    """Where a service's server wants a certificate of ours."""
    known = app.context.registry.find(record.service_type) is not None
    if not known or record.imported is not None or record.state != "active":
        return None
    return handle_of(app.context, record).container().certificate


async def of_certificates(app: App) -> list[Check]:
    """Servers of Purveyor's that have no certificate of its authority, or one that ends soon."""

    def look(tx: Tx) -> list[tuple[ServiceRecord, datetime | None]]:
        held = [(item, certificates.find(tx, item.id)) for item in services.list_all(tx)]
        return [(item, found.expires_at if found else None) for item, found in held]

    checks = []
    for record, until in await app.context.store.read(look):
        if _certified(app, record) is None:
            continue
        remedy = f"purveyor restart {record.slug}"
        if until is None:
            detail = (
                "Its server was started by an older Purveyor and has no certificate of this "
                f"one's authority: {remedy}"
            )
            checks.append(Check(subject=record.name, name="certificate", ok=True, detail=detail))
        elif until - app.now() < certificates.RENEWED - UNRENEWED:
            detail = f"Its certificate ends on {until:%Y-%m-%d} and was not renewed."
            checks.append(
                Check(
                    subject=record.name, name="certificate", ok=False, detail=detail, remedy=remedy
                )
            )
    return checks


async def of_ports(
    app: App, only: Sequence[ServiceRecord] | None = None, *, now: datetime | None = None
) -> list[Check]:
    """Whether servers that run present what is recorded for them, all asked at once; a short
    sentence when all do."""
    records = await app.context.store.read(services.list_all) if only is None else only
    asked = [
        (record, wanted)
        for record in records
        if record.authorities
        and record.desired == "running"
        and (wanted := _certified(app, record)) is not None
        and wanted.port
    ]
    if not asked:
        return []
    names = [record.container_name for record, _ in asked]
    found = await app.context.engine.containers.named(names)
    running = {item.name: item for item in found if item.state == "running"}
    limit, said = anyio.CapacityLimiter(AT_ONCE), dict.fromkeys(names, "")

    async def ask(record: ServiceRecord, wanted: Certificate) -> None:
        network = app.context.engine.namespace
        at = running[record.container_name].networks.get(network, "")
        async with limit:
            said[record.container_name] = await _trouble(app, record, wanted, at, now or app.now())

    async with anyio.create_task_group() as group:
        for record, wanted in asked:
            if record.container_name in running:  # what does not run is told elsewhere
                group.start_soon(ask, record, wanted)
    wrong = [
        Check(
            subject=record.name,
            name="presented certificate",
            ok=False,
            detail=said[record.container_name],
            remedy=f"Have it present its own: purveyor restart {record.slug}",
        )
        for record, _ in asked
        if said[record.container_name]
    ]
    number = sum(name in running for name in names)
    detail = f"{number} of {number} servers that speak TLS present what is recorded"
    whole = Check(subject="certificates", name="presented", ok=True, detail=detail)
    return wrong or ([whole] if number else [])


async def _trouble(
    app: App, record: ServiceRecord, wanted: Certificate, at: str, now: datetime
) -> str:
    """What is wrong with what a server presents; "" when nothing is. One that has just been renewed
    is asked again."""
    view = handle_of(app.context, record).from_host(app.context, at).view
    address = Address(host=view.host_of(wanted.port), port=view.port(wanted.port))
    wrong = ""
    for _ in range(2):
        held, authorities = await app.context.store.read(
            lambda tx: (certificates.find(tx, record.id), certificates.bundle(tx))
        )
        try:
            shown = await presented.look(address, wanted, authorities)
        except (OSError, EOFError) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            return f"Its server does not speak TLS at its port {wanted.port} ({why})."
        wrong = _compared(shown, held, now)
        if not wrong:
            break
    return wrong


def _compared(shown: presented.Presented, held: CertificateRecord | None, now: datetime) -> str:
    what = f"sha256 {shown.sha256[:16]}, signed by {shown.issuer}"
    if shown.expires_at <= now:
        ended = f"{shown.expires_at:%Y-%m-%d}"
        return (
            f"Its server presents a certificate that ended on {ended}, whoever verifies is refused "
            f"({what})."
        )
    if held is None or shown.certificate != held.certificate:
        if held is not None and shown.vouched and now - held.created_at < SEEN:
            return ""
        return f"Its server presents another certificate than the one that is recorded ({what})."
    if not shown.vouched:
        return f"Its server presents a certificate that no authority of ours signed ({what})."
    return ""
