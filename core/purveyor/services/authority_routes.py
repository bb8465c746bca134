"""/api/authorities: who vouches for services' servers, and its replacement by another."""

import hashlib
import ssl
from datetime import datetime

import msgspec
from litestar import Response, Router, get, post

from purveyor.context import Core
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.api.responses import PLANNED, Req, changed
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Plan
from purveyor.services import certificates
from purveyor.services.certificates import AuthorityRecord
from purveyor.services.operations.authorities import (
    FinishAuthorityArguments,
    RotateAuthorityArguments,
)
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


@post("/rotate", guards=[admin], responses=PLANNED)
async def rotate(request: Req, core: Core, plan: bool = False) -> Response[AuthorityView]:
    """Have another authority beside the one that signs, for apps to know before it does."""
    given = RotateAuthorityArguments()
    made = await changed(request, core, "rotate-authority", given, plan=plan, status=201)
    if plan:
        return made
    note(request, target=f"authority {made.content}")
    await certificates.publish(core.context)
    return Response(await _shown(core, made.content), status_code=201)


@post("/finish", guards=[admin], status_code=200)
async def finish(
    request: Req, core: Core, anyway: bool = False, plan: bool = False
) -> Response[AuthorityView | Plan]:
    """Have the other one sign from now on, and servers show certificates of it, while they run.

    Refused while an app does not know it, or while variables that were given out before may be in
    use elsewhere, but for `anyway`.
    """
    given = FinishAuthorityArguments(anyway=anyway)
    made = await changed(request, core, "finish-authority", given, plan=plan, status=200)
    if plan:
        return made
    note(request, target=f"authority {made.content}")
    return Response(await _shown(core, made.content))


router = Router(
    "/authorities", route_handlers=[list_authorities, rotate, finish], tags=["installation"]
)
