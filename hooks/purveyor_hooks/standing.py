"""For plugins whose API stands on one service of their type: is it there, enable it, change it,
disable it."""

import json
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from purveyor_hooks.confirm import interrupts, yes_option
from purveyor_hooks.errors import NotFound, PurveyorError
from purveyor_hooks.markers import FOR_APPS
from purveyor_hooks.protocols import CommandLine, Core
from purveyor_hooks.types import Actor, Service, Value

# whatever else its plugin's router says: a change of what all apps stand on
EACH = {"audit": "each"}


class Change(Value, frozen=True, forbid_unknown_fields=True):
    """Another image, or other parameters of the service that an API stands on."""

    docker_image: str | None = None
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        return self.parameters | (
            {"docker_image": self.docker_image} if self.docker_image is not None else {}
        )


class Standing(Value, frozen=True):
    """Whether an API has a service to stand on: `enabled` when it is there and wanted, `healthy` by
    a round trip."""

    enabled: bool
    healthy: bool
    version: str = ""
    docker_image: str = ""


async def find(core: Core, service_type: str) -> Service | None:
    """The service that an API of this type stands on: the oldest one."""
    found = await core.services(service_type)
    return found[0] if found else None


async def status(core: Core, service_type: str) -> Standing:
    """How it stands, now."""
    service = await find(core, service_type)
    if service is None:
        return Standing(enabled=False, healthy=False)
    enabled = service.desired == "running"
    healthy, version = False, service.major
    if enabled:
        try:
            seen = await core.health(service.id)
            healthy, version = seen.healthy, seen.version
        except PurveyorError:  # the engine is away: nothing is healthy then
            healthy = False
    return Standing(
        enabled=enabled, healthy=healthy, version=version, docker_image=service.image.reference
    )


async def enable(
    core: Core, service_type: str, given: Mapping[str, Any], actor: Actor | str
) -> Standing:
    """Create the service, named like its type, or start it; `given` are parameters, used when it is
    created."""
    service = await find(core, service_type)
    if service is None:
        wanted = {"name": service_type, "service_type": service_type, "parameters": dict(given)}
        await core.run("create", wanted, actor)
    elif service.desired != "running":
        await core.run("start", {"service": str(service.id)}, actor)
    return await status(core, service_type)


async def update(
    core: Core, service_type: str, given: Mapping[str, Any], actor: Actor | str
) -> Standing:
    """Change the service's parameters. Raises `NotFound` when there is none."""
    service = await _must(core, service_type)
    await core.run("update", {"service": str(service.id), "parameters": dict(given)}, actor)
    return await status(core, service_type)


async def disable(core: Core, service_type: str, actor: Actor | str) -> Standing:
    """Stop the service. Its data and links stay, and enabling it again brings everything back."""
    service = await _must(core, service_type)
    if service.desired == "running":
        await core.run("stop", {"service": str(service.id)}, actor)
    return await status(core, service_type)


async def _must(core: Core, service_type: str) -> Service:
    service = await find(core, service_type)
    if service is None:
        raise NotFound(
            f"{service_type} is not enabled.", remedy=f"Enable it: POST /api/{service_type}/enable"
        )
    return service


def routes(core: Core, service_type: str) -> list[Any]:
    """The Litestar handlers of an API's ``/status``, ``/enable``, ``/update`` and ``/disable``; the
    last three are for administrators, and not reached by apps."""
    from litestar import Request, delete, get, patch, post

    @get("/status")
    async def show() -> Standing:
        return await status(core, service_type)

    @post("/enable", status_code=200, opt={**EACH, FOR_APPS: False})
    async def switch_on(request: Request[Any, Any, Any], data: Change | None = None) -> Standing:
        request.user.require("admin")
        return await enable(core, service_type, (data or Change()).given(), request.user)

    @patch("/update", opt={**EACH, FOR_APPS: False})
    async def change(request: Request[Any, Any, Any], data: Change) -> Standing:
        request.user.require("admin")
        return await update(core, service_type, data.given(), request.user)

    @delete("/disable", status_code=200, opt={**EACH, FOR_APPS: False})
    async def switch_off(request: Request[Any, Any, Any]) -> Standing:
        request.user.require("admin")
        return await disable(core, service_type, request.user)

    return [show, switch_on, change, switch_off]


def add_commands(group: click.Group, service_type: str, label: str) -> None:
    """Add ``status``, ``enable`` and ``disable`` to a plugin's group of commands."""
    base = f"/api/{service_type}"

    def tell(line: CommandLine, found: Mapping[str, Any]) -> None:
        if line.as_json:
            click.echo(json.dumps(found))
        elif not found["enabled"]:
            click.echo(f"{label} is not enabled. Enable it: purveyor {service_type} enable")
        else:
            health = "healthy" if found["healthy"] else "not healthy"
            click.echo(
                f"{label} is enabled and {health}: {found['docker_image']}, version "
                f"{found['version'] or 'unknown'}."
            )

    @group.command("status", help=f"Say whether {label} is enabled and healthy.")
    @click.pass_obj
    def status_command(line: CommandLine) -> None:
        tell(line, line.run(lambda api: api.call("GET", f"{base}/status")))

    @group.command("enable", help=f"Enable {label}: provision its service, or start it again.")
    @click.option("--image", metavar="IMAGE", help="Another image than the default.")
    @click.pass_obj
    def enable_command(line: CommandLine, image: str | None) -> None:
        body = {"docker_image": image} if image else {}
        tell(line, line.run(lambda api: api.call("POST", f"{base}/enable", json=body)))

    @group.command("disable", help=f"Stop {label}. Its data and links stay.")
    @yes_option
    @click.pass_obj
    def disable_command(line: CommandLine, yes: bool) -> None:
        interrupts(f"No app reaches {label} until it is enabled again.", yes=yes)
        found = line.run(lambda api: api.call("DELETE", f"{base}/disable"))
        click.echo(json.dumps(found) if line.as_json else f"{label} is disabled. Its data is kept.")
