"""Containers that somebody else made, and that can become services."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, get, post

from purveyor_dashboard.pages import SERVICES, Pages, Req, parameters
from purveyor_hooks import PurveyorError


def handlers(pages: Pages) -> Sequence[Any]:
    async def import_page(
        session: Any, container: str, form: dict[str, str], error: PurveyorError | None
    ) -> Response[str]:
        async with pages.api(session) as client:
            found = await client.call("GET", f"{SERVICES}/available-containers")
            chosen = next((item for item in found if item["container_name"] == container), None)
            schema = (
                await client.call("GET", f"{SERVICES}/types/{chosen['service_type']}/parameters")
                if chosen
                else {}
            )
        return pages.page(
            "import.html", session, here="/import", status=error.status if error else 200,
            found=found, chosen=chosen,
            schema=schema, given=form, errors=error.errors if error else {}, error=error,
        )  # fmt: skip

    @get("/import")
    async def import_list(request: Req, container: str = "") -> Response[str]:
        return await import_page(pages.session(request), container, {}, None)

    @post("/import")
    async def import_container(request: Req) -> Response[Any]:
        session = pages.session(request)
        form = await pages.form(request, session)
        body = {
            "container_id": form.get("container", ""),
            "name": form.get("name", ""),
            "service_type": form.get("type", ""),
            "parameters": parameters(form),
            "use_found": form.get("use_found") == "yes",
        }
        try:
            async with pages.api(session) as client:
                made = await client.call("POST", f"{SERVICES}/import", json=body)
        except PurveyorError as error:
            return await import_page(session, form.get("container", ""), form, error)
        return pages.to(request, f"/services/{made['slug']}")

    return [import_list, import_container]
