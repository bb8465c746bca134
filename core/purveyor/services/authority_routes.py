"""/api/authorities: who vouches for services' servers, and its replacement by another."""

import hashlib
import ssl
from datetime import datetime

import msgspec
from litestar import Router, get

from purveyor.context import Core
from purveyor.kernel.api.auth import reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.api.responses import Req
from purveyor.kernel.db import Tx
from purveyor.services import certificates
from purveyor.services.certificates import AuthorityRecord
from purveyor.services.unaware import Unaware, unaware


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


async def authority_made(request: Req, core: Core, number: int) -> AuthorityView:
    """Answers with an authority that is new: its certificate is where apps look for it."""
    note(request, target=f"authority {number}")
    await certificates.publish(core.context)
    return await authority_shown(request, core, number)


async def authority_shown(request: Req, core: Core, number: int) -> AuthorityView:
    note(request, target=f"authority {number}")
    return next(item for item in await _views(core) if item.id == number)


router = Router("/authorities", route_handlers=[list_authorities], tags=["installation"])
