"""How operations are answered: done, planned, or under way."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from purveyor.kernel.api.notes import about, note
from purveyor.kernel.core import Core
from purveyor.kernel.operations import Plan
from purveyor.kernel.operations.models import OperationRecord

Req = Request[Any, Any, Any]
T = TypeVar("T")


async def answer(
    request: Req,
    app: Core,
    verb: str,
    given: msgspec.Struct,
    *,
    plan: bool,
    status: int,
    then: Callable[[OperationRecord], Awaitable[Any]],
) -> Response[Any]:
    """Run an operation for a request: its plan when that is asked for, 202 at once when the client
    prefers, else its result."""
    note(request, target=about(given), planned=plan)
    if plan:
        return Response(await app.plan(verb, given), status_code=200)
    if "respond-async" in request.headers.get("prefer", ""):
        after = await app.bus.last()
        operation_id = await app.begin(verb, given, request.user)
        note(request, operation=operation_id)
        headers = {
            "Location": f"/api/operations/{operation_id}",
            "Preference-Applied": "respond-async",
        }
        return Response(
            {"operation_id": operation_id, "after": after}, status_code=202, headers=headers
        )
    operation = await app.run(verb, given, request.user)
    note(request, operation=operation.id)
    return Response(await then(operation), status_code=status)


async def changed(
    request: Req,
    app: Core,
    verb: str,
    given: msgspec.Struct,
    *,
    plan: bool,
    status: int,
    target: str = "",
) -> Response[Any]:
    """`answer` for an operation without steps: its plan, or what it has made."""
    note(request, target=target or about(given), planned=plan)
    if plan:
        return Response(await app.plan(verb, given), status_code=200)
    done = await app.change(verb, given, request.user)
    note(request, operation=done.operation_id)
    return Response(done.made.answer, status_code=status)


async def nothing(_: OperationRecord) -> None:
    """The answer of an operation that has none."""


def page(items: Sequence[T], total: int) -> Response[list[T]]:
    """A part of a list, its whole length in ``X-Total-Count``."""
    return Response(list(items), headers={"X-Total-Count": str(total)})


# what else a route of theirs answers, for its description
PLANNED = {
    200: ResponseSpec(
        Plan, description="With plan=true: what it would do.", generate_examples=False
    )
}
Limit = Annotated[int, Parameter(ge=1, le=1000)]
Offset = Annotated[int, Parameter(ge=0)]
