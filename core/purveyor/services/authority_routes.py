"""/api/authorities: who vouches for services' servers, and its replacement by another."""

import hashlib
import ssl
from datetime import datetime
from typing import Any, Protocol

import msgspec
from litestar import Request, Router, get, post

from purveyor.kernel.actors import told
from purveyor.kernel.api.auditing import note
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.db import Tx
from purveyor.kernel.parts import Core
from purveyor.services import certificates
from purveyor.services.certificates import AuthorityRecord
from purveyor.services.renewals import Renewals

Req = Request[Any, Any, Any]


class Renewing(Core, Protocol):
    """A core that renews certificates."""

    renewals: Renewals


class AuthorityView(msgspec.Struct, frozen=True, kw_only=True):
    """An authority: `current` signs, `next` will, `old` does no more. `services` show a certificate
    of it; the apps of `unaware` were deployed before it was there, and cannot verify what it signs
    until they are deployed again."""

    id: int
    state: str
    sha256: str
    certificate: str
    created_at: datetime
    expires_at: datetime
    services: list[str]
    unaware: list[str]


def _view(tx: Tx, record: AuthorityRecord) -> AuthorityView:
    return AuthorityView(
        id=record.id,
        state=record.state,
        sha256=hashlib.sha256(ssl.PEM_cert_to_DER_cert(record.certificate)).hexdigest(),
        certificate=record.certificate,
        created_at=record.created_at,
        expires_at=record.expires_at,
        services=certificates.shown_by(tx, record.id),
        unaware=certificates.unaware(tx, record),
    )


@get("/", guards=[reader])
async def list_authorities(core: Core) -> list[AuthorityView]:
    return await core.house.store.read(
        lambda tx: [_view(tx, record) for record in certificates.authorities(tx)]
    )


@post("/rotate", guards=[admin])
async def rotate(request: Req, core: Core) -> AuthorityView:
    """Have another authority beside the one that signs, for apps to know before it does."""

    def work(tx: Tx) -> AuthorityView:
        record = certificates.rotate(tx)
        tx.emit("authority.added", data={"id": record.id, **told(request.user)})
        return _view(tx, record)

    made = await core.house.store.write(work)
    note(request, target=f"authority {made.id}")
    await certificates.publish(core.house)
    return made


@post("/finish", guards=[admin], status_code=200)
async def finish(request: Req, core: Renewing) -> AuthorityView:
    """Have the other one sign from now on, and servers show certificates of it, while they run."""

    def work(tx: Tx) -> AuthorityView:
        record = certificates.finish(tx)
        tx.emit("authority.signs", data={"id": record.id, **told(request.user)})
        return next(
            _view(tx, item) for item in certificates.authorities(tx) if item.id == record.id
        )

    signs = await core.house.store.write(work)
    note(request, target=f"authority {signs.id}")
    core.renewals.wake()
    return signs


router = Router(
    "/authorities", route_handlers=[list_authorities, rotate, finish], tags=["installation"]
)
