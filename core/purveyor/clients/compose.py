"""``purveyor compose``: Purveyor as a provider of docker compose.

Compose runs ``purveyor compose --project-name=NAME up --OPTION=VALUE SERVICE`` for a service that
says ``provider: {type: purveyor, options: {service: postgres}}``, reads JSON lines, and hands what
we set on to the services that depend on it, each name with the compose service's name before it.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import click

from purveyor.cli.client import Client, run
from purveyor.cli.options import Options
from purveyor.projects.exposed import (
    CREATE_ENVIRONMENT,
    CREATE_PROJECT,
    LINK,
    PROJECTS,
    UNLINK,
)
from purveyor.services.exposed import BASE as SERVICES
from purveyor.services.exposed import CREATE, START
from purveyor_hooks import BadInput, Conflict, NotFound, PurveyorError

OWN = ("service", "name", "version", "image", "environment")
PARAMETERS = [
    {
        "name": "service",
        "description": "A service type (postgres), or the name of a service that is there",
        "required": True,
    },
    {
        "name": "name",
        "description": "The service's name in Purveyor; the type's own without it",
        "required": False,
    },
    {
        "name": "version",
        "description": "The version of the default image, when it is made",
        "required": False,
    },
    {"name": "image", "description": "The Docker image, when it is made", "required": False},
    {
        "name": "environment",
        "description": "The environment of the project; production without it",
        "required": False,
    },
]


def _say(kind: str, message: str) -> None:
    click.echo(json.dumps({"type": kind, "message": message}))


@click.group("compose")
@click.option(
    "--project-name", default="", help="The compose project: it is the project in Purveyor, too."
)
@click.pass_context
def compose_command(context: click.Context, project_name: str) -> None:
    """What docker compose calls for a service with `provider: {type: purveyor}`."""
    context.meta["project"] = project_name


@compose_command.command("metadata")
def metadata() -> None:
    """What compose may ask for, as JSON."""
    up = {"parameters": PARAMETERS}
    description = "A managed database or store, with an account of its own for the project"
    click.echo(
        json.dumps({"description": description, "up": up, "down": {"parameters": PARAMETERS[:2]}})
    )


@compose_command.command("up", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def up(context: click.Context, words: tuple[str, ...]) -> None:
    """Have the service, link the project, and set its variables."""
    options = context.obj
    given, service = _parsed(words)

    async def work(client: Client) -> None:
        await _up(client, _project(context), service, given)

    _guarded(lambda: run(options, work))


@compose_command.command("down", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def down(context: click.Context, words: tuple[str, ...]) -> None:
    """Unlink the project; its data is kept, and comes back with the next `up`."""
    options: Options = context.obj
    given, service = _parsed(words)

    async def work(client: Client) -> None:
        name = _name(given, service)
        try:
            await client.ask(UNLINK.call(service=name, project=_project(context)))
            _say("info", f"unlinked from {name}; the data is kept")
        except NotFound:
            _say("debug", f"{name} was not linked")

    _guarded(lambda: run(options, work))


def _guarded(work: Any) -> None:
    """Errors are lines of the protocol, too."""
    from purveyor.cli.main import first_error

    try:
        work()
    except (PurveyorError, BaseExceptionGroup) as error:
        found = error if isinstance(error, PurveyorError) else first_error(error)
        if found is None:
            raise
        _say("error", f"{found.detail} {found.remedy}".strip())
        raise SystemExit(1) from None


def _parsed(words: tuple[str, ...]) -> tuple[dict[str, str], str]:
    """Options and the compose service's name."""
    options: dict[str, str] = {}
    names = []
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = value
        else:
            names.append(word)
    return options, names[-1] if names else ""


def _project(context: click.Context) -> str:
    """What the compose project is called here: compose takes an underscore, a name of ours is
    found without."""
    return re.sub(r"[^a-z0-9]+", "-", str(context.meta["project"]).lower()).strip("-")


def _name(given: Mapping[str, str], service: str) -> str:
    return given.get("name") or given.get("service") or service


async def _up(client: Client, project: str, service: str, given: Mapping[str, str]) -> None:
    if not project or not given.get("service"):
        field = "service" if project else "project-name"
        remedy = "In the compose file: provider: {type: purveyor, options: {service: postgres}}"
        raise BadInput(f"No {field} given.", remedy=remedy, errors={field: "needed"})
    name = _name(given, service)
    try:
        found = (await client.get(f"{SERVICES}/{name}"))["service"]
    except NotFound:
        found = await _created(client, name, given)
    if found["status"] in ("stopped", "down"):
        _say("info", f"starting {found['slug']}")
        await client.run_operation(START.call(service=found["slug"]), _told)
    try:
        await client.get(f"{PROJECTS}/{project}")
    except NotFound:
        await client.ask(CREATE_PROJECT.call(name=project))
    links = await client.get(f"{SERVICES}/projects/{project}")
    if found["slug"] not in [link["service"]["slug"] for link in links]:
        _say("info", f"linking {found['slug']} to {project}")
        await client.run_operation(LINK.call(service=found["slug"], project=project), _told)
    environment = given.get("environment") or "production"
    if environment != "production":  # the compose file names it: it is made when there is none
        call = CREATE_ENVIRONMENT.call(project=project, environment=environment)
        await client.run_operation(call, _told)
    path = f"{SERVICES}/{found['slug']}/projects/{project}/environment"
    values = await client.get(path, environment=environment)
    for variable, value in {**_short(values), **values}.items():
        _say("setenv", f"{variable}={value}")


async def _created(client: Client, name: str, given: Mapping[str, str]) -> Mapping[str, Any]:
    _say("info", f"creating {name}")
    parameters = {key: value for key, value in given.items() if key not in OWN and value}
    if given.get("image"):
        parameters["docker_image"] = given["image"]
    body: dict[str, Any] = {
        "name": name,
        "service_type": given["service"],
        "parameters": parameters,
    }
    if given.get("version"):
        body["version"] = given["version"]
    try:
        operation = await client.run_operation(CREATE.call(body), _told)
        number = operation["service_id"]
    except Conflict:  # compose brings several up at once
        number = name
    made: Mapping[str, Any] = (await client.get(f"{SERVICES}/{number}"))["service"]
    return made


def _told(event: Mapping[str, Any]) -> None:
    data = event["data"]
    if event["type"].endswith(".progress"):
        _say("info", data["text"])
    elif event["type"].endswith(".step"):
        _say("debug", f"{data['step']} {data['state']}")


def _short(values: Mapping[str, str]) -> dict[str, str]:
    """The variables without their type's name: compose puts the name of its own service before each
    (``DB_URL``)."""
    counted = Counter(name.partition("_")[0] for name in values)
    first = counted.most_common(1)[0][0] if counted else ""
    return {
        name.removeprefix(f"{first}_"): value
        for name, value in values.items()
        if first and name.startswith(f"{first}_")
    }
