"""/api/authorities: who vouches for services' servers, and its replacement by another."""

import hashlib
import ssl
from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, Router, get, post

from purveyor.context import Core
from purveyor.kernel.actors import told
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.db import Tx
from purveyor.services import certificates
from purveyor.services.certificates import AuthorityRecord
from purveyor.services.renewals import Renewals
from purveyor.services.unaware import Unaware, objection, unaware
from purveyor_hooks import Conflict

Req = Request[Any, Any, Any]


class AuthorityView(msgspec.Struct, frozen=True, kw_only=True):
    """An authority: `current` signs, `next` will, `old` does no more. `services` show a certificate
    of it; the apps of `unaware` have a file without it, and cannot verify what it signs until they
    are deployed again; environments of `elsewhere` have no app that Purveyor deployed, and their
    variables were given out before it was there."""

    id: int
    state: str
    sha256: str
    certificate: str
    created_at: datetime
    expires_at: datetime
    services: list[str]
    unaware: list[str]
    elsewhere: list[str]


async def _views(core: Core) -> list[AuthorityView]:
    def look(tx: Tx) -> tuple[list[AuthorityRecord], dict[int, list[str]]]:
        found = certificates.authorities(tx)
        return found, {item.id: certificates.shown_by(tx, item.id) for item in found}

    records, shown = await core.context.store.read(look)
    lacking = await unaware(core.context, records)
    return [_view(item, shown[item.id], lacking[item.id]) for item in records]


async def _shown(core: Core, authority_id: int) -> AuthorityView:
    return next(item for item in await _views(core) if item.id == authority_id)


def _view(record: AuthorityRecord, services: list[str], lacking: Unaware) -> AuthorityView:
    return AuthorityView(
        id=record.id,
        state=record.state,
        sha256=hashlib.sha256(ssl.PEM_cert_to_DER_cert(record.certificate)).hexdigest(),
        certificate=record.certificate,
        created_at=record.created_at,
        expires_at=record.expires_at,
        services=services,
        unaware=lacking.apps,
        elsewhere=lacking.elsewhere,
    )


@get("/", guards=[reader])
async def list_authorities(core: Core) -> list[AuthorityView]:
    return await _views(core)


@post("/rotate", guards=[admin])
async def rotate(request: Req, core: Core) -> AuthorityView:
    """Have another authority beside the one that signs, for apps to know before it does."""

    def work(tx: Tx) -> int:
        record = certificates.rotate(tx)
        tx.emit("authority.added", data={"id": record.id, **told(request.user)})
        return record.id

    made = await core.context.store.write(work)
    note(request, target=f"authority {made}")
    await certificates.publish(core.context)
    return await _shown(core, made)


@post("/finish", guards=[admin], status_code=200)
async def finish(request: Req, core: Core, anyway: bool = False) -> AuthorityView:
    """Have the other one sign from now on, and servers show certificates of it, while they run.

    Refused while an app does not know it, or while variables that were given out before may be in
    use elsewhere, but for `anyway`.
    """
    waiting = next((item for item in await _views(core) if item.state == "next"), None)
    if (
        waiting is not None
        and not anyway
        and (why := objection(waiting.unaware, waiting.elsewhere))
    ):
        raise Conflict(
            why,
            remedy="Deploy them again and give the file anew; or go on all the same: purveyor ca finish --yes",
        )

    def work(tx: Tx) -> int:
        record = certificates.finish(tx)
        tx.emit("authority.signs", data={"id": record.id, **told(request.user)})
        return record.id

    signs = await core.context.store.write(work)
    note(request, target=f"authority {signs}")
    core.part(Renewals).wake()
    return await _shown(core, signs)


router = Router(
    "/authorities", route_handlers=[list_authorities, rotate, finish], tags=["installation"]
)
