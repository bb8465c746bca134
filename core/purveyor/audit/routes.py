"""/api/audit: who did or saw what, and whether that is as it was written."""

from datetime import UTC, datetime
from typing import Annotated

from litestar import Response, Router, get, post
from litestar.params import Parameter

from purveyor.audit import store as audit
from purveyor.audit.models import AuditRecord, Verdict, Wanted
from purveyor.kernel.api.auth import admin
from purveyor.kernel.api.responses import Limit, Offset, page
from purveyor.kernel.core import Core
from purveyor_hooks import BadInput


@get("/", guards=[admin])
async def list_entries(
    core: Core,
    user: str | None = None,
    target: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response[list[AuditRecord]]:
    """A part of the audit log, newest first: what one `user` did (or `local`, or `token:NAME`),
    what had one `target`, what was from `since` on and before `until`: times of ISO 8601, in UTC
    unless they say another zone."""
    wanted = Wanted(
        actor=user, target=target, since=_moment("since", since), until=_moment("until", until)
    )
    return page(
        *await core.context.store.read(
            lambda tx: audit.page(tx, wanted, limit=limit, offset=offset)
        )
    )


def _moment(field: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        why = "for example 2026-11-27 or 2026-11-27T13:00"
        raise BadInput(
            f"{text!r} is not a time.", remedy=f"Say it in ISO 8601, {why}.", errors={field: why}
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


@get("/verify", guards=[admin])
async def verify_entries(
    core: Core, newest: Annotated[int | None, Parameter(ge=1)] = None
) -> Verdict:
    """Whether all entries are there, and as they were written; or the newest so many."""
    return await core.context.store.examine(lambda tx: audit.verify(tx, newest))


@post("/backup-key-printed", guards=[admin], opt={"reveals": "backup key"})
async def note_printed_key() -> None:
    """Write down that the key of the backups is shown: it is in a file, and whoever prints it needs
    no API for that."""


router = Router(
    "/audit", route_handlers=[list_entries, verify_entries, note_printed_key], tags=["journal"]
)
