"""/api/webhooks: where events go."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from litestar import Request, Response, Router, delete, get, post
from litestar.params import Parameter

from purveyor_deployhooks.outbox import Outbox, WebhookRequest
from purveyor_hooks import Application, Conflict

Req = Request[Any, Any, Any]
MOST = 2**53


def routers(app: Application, outbox: Callable[[], Outbox | None]) -> Sequence[Router]:
    """The routes, over an outbox that is there once the core has started."""

    def box(request: Req) -> Outbox:
        request.user.require("admin")
        found = outbox()
        if found is None:
            raise Conflict("Webhooks are not ready yet.", remedy="Try again in a moment.")
        return found

    @get("/")
    async def list_webhooks(request: Req) -> list[dict[str, Any]]:
        return await box(request).every()

    @post("/", opt={"reveals": "webhook secret"})
    async def add_webhook(request: Req, data: WebhookRequest) -> dict[str, Any]:
        """The answer holds the secret, this once."""
        return await box(request).add(data)

    @get("/{reference:str}")
    async def show_webhook(request: Req, reference: str) -> dict[str, Any]:
        return await box(request).get(reference)

    @delete("/{reference:str}")
    async def delete_webhook(request: Req, reference: str) -> None:
        await box(request).delete(reference)

    @get("/{reference:str}/deliveries")
    async def list_deliveries(
        request: Req,
        reference: str,
        delivery_state: Annotated[str | None, Parameter(query="state")] = None,
        limit: Annotated[int, Parameter(ge=1, le=1000)] = 100,
        offset: Annotated[int, Parameter(ge=0, le=MOST)] = 0,
    ) -> Response[list[dict[str, Any]]]:
        found, total = await box(request).deliveries(reference, delivery_state, limit, offset)
        return Response(found, headers={"X-Total-Count": str(total)})

    @post("/{reference:str}/resend", status_code=200)
    async def resend(
        request: Req,
        reference: str,
        delivery: Annotated[int | None, Parameter(ge=0, le=MOST)] = None,
    ) -> dict[str, int]:
        """One delivery again, or all that are dead."""
        return {"resent": await box(request).resend(reference, delivery)}

    handlers = [list_webhooks, add_webhook, show_webhook, delete_webhook, list_deliveries, resend]
    return [
        Router(
            "/api/webhooks",
            route_handlers=handlers,
            middleware=[app.authentication],
            tags=["webhooks"],
        )
    ]
