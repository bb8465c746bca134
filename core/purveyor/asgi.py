"""The Litestar application: the routes of all features and of the plugins."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio.abc
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.routes import HTTPRoute

from purveyor import __version__, doctor_routes
from purveyor.access import exposed as access_exposed
from purveyor.access import routes as access_routes
from purveyor.access.sign_ins import SignIns
from purveyor.app import App, PluginCore, open_app
from purveyor.archiving import exposed as archiving_exposed
from purveyor.archiving import routes as archiving_routes
from purveyor.audit import routes as audit_routes
from purveyor.audit.answers import on_answer
from purveyor.backups import exposed as backup_exposed
from purveyor.backups import routes as backup_routes
from purveyor.deployments import exposed as deployment_exposed
from purveyor.deployments import routes as deployment_routes
from purveyor.distributions import routes as distribution_routes
from purveyor.exposed import exposed_by
from purveyor.exposed import routes as exposed_routes
from purveyor.extensions import routes as extension_routes
from purveyor.internal_client import InwardClient, inward
from purveyor.kernel.api import problems
from purveyor.kernel.api import routes as api_routes
from purveyor.kernel.api.auth import Authentication, still_valid
from purveyor.kernel.api.headers import Published, add_security_headers
from purveyor.kernel.api.peers import for_apps_only
from purveyor.kernel.events import routes as event_routes
from purveyor.kernel.operations import routes as operation_routes
from purveyor.projects import exposed as project_exposed
from purveyor.projects import routes as project_routes
from purveyor.recovery import exposed as recovery_exposed
from purveyor.recovery import routes as recovery_routes
from purveyor.services import authority_routes
from purveyor.services import exposed as service_exposed
from purveyor.services import routes as service_routes
from purveyor.upgrades import exposed as upgrade_exposed
from purveyor_hooks import PurveyorError

BODY_LIMIT = 1024 * 1024
EXPOSED = [
    item
    for module in (
        access_exposed,
        archiving_exposed,
        backup_exposed,
        deployment_exposed,
        project_exposed,
        recovery_exposed,
        service_exposed,
        upgrade_exposed,
    )
    for item in exposed_by(module)
]


class PluginApplication(NamedTuple):
    """`Application` as plugins get it."""

    core: PluginCore
    authentication: DefineMiddleware
    litestar: Litestar
    workers: anyio.abc.TaskGroup
    sessions: SignIns

    async def still_valid(self, request: Any) -> bool:
        return await still_valid(request)

    def api(self, token: str) -> AbstractAsyncContextManager[InwardClient]:
        return inward(self.litestar, token, self.workers)


def create_api(app: App) -> Litestar:
    """The API over a running core, plugins' routes included."""

    async def core(state: State) -> App:
        found: App = state.core
        return found

    open_paths = ["^/api/version$", "^/api/schema"]
    api = Router(
        "/api",
        route_handlers=[
            exposed_routes.router(EXPOSED, {**app.operation_types, **app.immediate}),
            service_routes.router,
            extension_routes.router(app.operation_types),
            project_routes.service_router,
            project_routes.router,
            deployment_routes.router,
            operation_routes.router,
            event_routes.router,
            api_routes.router,
            access_routes.router,
            distribution_routes.router,
            doctor_routes.router,
            access_routes.user_router,
            authority_routes.router,
            audit_routes.router,
            service_routes.volume_router,
            backup_routes.router,
            archiving_routes.router,
            recovery_routes.router,
        ],
        middleware=[DefineMiddleware(Authentication, exclude=open_paths)],
        dependencies={"core": Provide(core)},
        request_max_body_size=BODY_LIMIT,
    )
    published = Published(app.context.settings.dashboard_url)
    made = Litestar(
        [api],
        middleware=[for_apps_only, published.middleware],
        before_send=[add_security_headers, published.strict, on_answer],
        state=State({"core": app}),
        exception_handlers={
            PurveyorError: problems.on_purveyor_error,
            HTTPException: problems.on_http_error,
            RecursionError: problems.on_deep_body,
            ValueError: problems.on_deep_body,
            Exception: problems.on_fault,
        },
        openapi_config=OpenAPIConfig(
            title="Purveyor",
            version=__version__,
            description="Managed services for your own Docker host.",
            path="/api/schema",
            render_plugins=[],
            components=Components(
                security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}
            ),
            security=[{"token": []}],
        ),
        logging_config=None,
        debug=False,
    )
    _add_plugins(made, app)
    _describe(made)
    return made


def _describe(api: Litestar) -> None:
    """Every call of the API is described with what it may be refused with."""
    for route in api.routes:
        if isinstance(route, HTTPRoute) and route.path.startswith("/api/"):
            for handler, _ in route.route_handler_map.values():
                handler.responses = {**problems.REFUSALS, **(handler.responses or {})}


def _add_plugins(api: Litestar, app: App) -> None:
    """Each plugin's routes by themselves: what is wrong with one's is its own."""
    registry = app.context.registry
    assert app.workers is not None
    for plugin, call in registry.callers("http_routes"):
        given = PluginApplication(
            PluginCore(app, plugin),
            DefineMiddleware(Authentication),
            api,
            app.workers,
            app.sign_ins,
        )
        try:
            for route in call(app=given) or ():
                api.register(route)
        except Exception as error:
            registry.note_fault(plugin, "http_routes", error)


@asynccontextmanager
async def open_api(state: Path, **how: Any) -> AsyncIterator[tuple[App, Litestar]]:
    """The core of a state directory, running, and its API; `how` as `open_app` takes it."""
    async with open_app(state, **how) as app:
        yield app, create_api(app)
