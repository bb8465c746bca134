"""Who did or saw what: the audit log, to be read."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, get

from purveyor_dashboard.pages import Pages, Req, part
from purveyor_hooks import BadInput, PurveyorError

AUDIT = "/api/audit"
LOOKED_AT = 300  # entries whose chain is checked for a page
FILTERS = ("user", "target", "since", "until")


def handlers(pages: Pages) -> Sequence[Any]:
    @get("/audit")
    async def audit(request: Req) -> Response[str]:
        session = pages.session(request)
        given = {name: request.query_params.get(name, "").strip() for name in FILTERS}
        chosen = {name: value for name, value in given.items() if value}
        error: PurveyorError | None = None
        async with pages.api(session) as client:
            try:
                entries = await part(client, request, AUDIT, **chosen)
            except BadInput as refused:  # what was typed is no time
                error, entries = refused, await part(client, request, AUDIT)
            verdict = await client.call("GET", f"{AUDIT}/verify", params={"newest": LOOKED_AT})
        status = error.status if error else 200
        return pages.page(
            "audit.html", session, status, here="/audit", entries=entries.items, part=entries,
            given=given, verdict=verdict,
            error=error,
        )  # fmt: skip

    return [audit]
