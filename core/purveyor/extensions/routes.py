"""/api/external-services/SERVICE/operations: what plugins bring to services of their types."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from purveyor.context import Core
from purveyor.exposed.routes import BEGUN, perform
from purveyor.extensions.operations.of_plugin import PluginOperation
from purveyor.extensions.schemas import OperationOffer
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Plan
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.operations.schemas import OperationView, operation_view
from purveyor.projects import store as projects
from purveyor.services import store as services
from purveyor_hooks import Actor, Arguments, Forbidden
from purveyor_hooks.declared import secret_names

Req = Request[Any, Any, Any]


def schema_of(arguments: type[Arguments]) -> dict[str, Any]:
    """The JSON Schema of an operation's arguments."""
    found = msgspec.json.schema(arguments)
    of: dict[str, Any] = found["$defs"][arguments.__name__]
    for name in secret_names(arguments):
        of["properties"][name]["x-secret"] = True
    of.pop("description", None)
    return of


@get("/{reference:str}/operations", guards=[reader])
async def offered_operations(core: Core, reference: str) -> list[OperationOffer]:
    """The operations that the plugin of a service's type brings."""
    record = await core.context.store.read(lambda tx: services.get(tx, reference))
    return [
        OperationOffer(
            name=kind.declared.name,
            type=kind.name,
            summary=kind.declared.summary,
            scope=kind.declared.scope,
            lock=kind.declared.lock,
            steps=[step.name for step in kind.declared.steps],
            arguments=schema_of(kind.declared.arguments),
        )
        for kind in core.operation_types.values()
        if isinstance(kind, PluginOperation) and kind.service_type == record.service_type
    ]


async def linked(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Admin tokens, and the token of a project that is linked to the service; not an app's, which is
    of one environment."""
    actor: Actor = connection.user
    if actor.scope == "admin":
        return
    if actor.scope == "project" and actor.environment is None:
        core: Core = connection.app.state.core
        named = connection.path_params.get("reference", "")

        def work(tx: Tx) -> bool:
            record = services.find(tx, named)
            return record is not None and any(
                link.service_id == record.id
                for link in projects.links(tx, project_id=actor.project_id)
            )

        if await core.context.store.read(work):
            return
    raise Forbidden(
        "This token may not run that operation.",
        remedy="Use a token of the scope admin, or of a project that is linked to the service.",
    )


async def _viewed(_: Req, __: Core, operation: OperationRecord) -> OperationView:
    return operation_view(operation)


def _route(kind: PluginOperation) -> HTTPRouteHandler:
    async def run(
        request: Req, core: Core, reference: str, data: Any, plan: bool = False
    ) -> Response[OperationView | Plan]:
        actor: Actor = request.user
        given = kind.arguments(service=reference, arguments=data, project=actor.project_id)
        return await perform(request, core, kind.name, given, plan=plan, answers=_viewed)

    run.__annotations__["data"] = kind.declared.arguments
    run.__name__ = f"run {kind.name}"
    guard = linked if kind.declared.scope == "project" else admin
    decorate: Callable[[Any], HTTPRouteHandler] = post(
        f"/{{reference:str}}/operations/{kind.name}",
        guards=[guard],
        status_code=200,
        responses={202: BEGUN},
        summary=kind.declared.summary,
        operation_id=f"Run{''.join(part.title() for part in kind.name.replace('.', '-').split('-'))}",
    )
    return decorate(run)


def router(operation_types: Mapping[str, OperationType]) -> Router:
    """The routes of all operations that plugins bring."""
    made = [_route(kind) for kind in operation_types.values() if isinstance(kind, PluginOperation)]
    return Router(
        "/external-services", route_handlers=[offered_operations, *made], tags=["services"]
    )
