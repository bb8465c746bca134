"""Commands on projects: link, variables, deploy."""

import json
import os
from collections.abc import Mapping
from typing import Any

import click

from purveyor.cli import envfile, output
from purveyor.cli.actions import act, command
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options, plan_option, seconds
from purveyor.projects.exposed import (
    CREATE_ENVIRONMENT,
    CREATE_PROJECT,
    DELETE_ENVIRONMENT,
    DELETE_PROJECT,
    LINK,
    PROJECTS,
    REMOVE_DATABASE,
    ROTATE,
    UNLINK,
)
from purveyor.services.commands import ending, tell_of
from purveyor.services.exposed import BASE, ROTATE_ADMINISTRATOR
from purveyor_hooks import BadInput
from purveyor_hooks.confirm import destroys, interrupts, yes_option

environment_option = click.option(
    "-e", "--environment", default="production", show_default=True, help="Which environment."
)


@click.group("project")
def project_command() -> None:
    """Projects and their environments."""


def _made(options: Options, _: Mapping[str, Any], operation: Any) -> None:
    found = run(options, lambda client: client.get(f"{PROJECTS}/{operation['project_id']}"))
    output.say(options, found, f"Created project {found['slug']} (id {found['id']}).")


project_command.add_command(command(CREATE_PROJECT, _made))


@project_command.command("list")
@click.pass_obj
def list_projects(options: Options) -> None:
    """List the projects."""

    async def work(client: Client) -> list[Any]:
        found = await client.pages(f"{PROJECTS}/")
        for item in found:
            links = await client.get(f"{BASE}/projects/{item['id']}")
            item["services"] = [link["service"]["slug"] for link in links]
        return found

    found = run(options, work)
    if options.as_json:
        output.show_json(found)
        return
    rows = [(item["id"], item["slug"], ", ".join(item["services"])) for item in found]
    output.table(
        ["id", "project", "services"],
        rows,
        "There are no projects yet. Make one: purveyor project create shop",
    )


@project_command.command("show")
@click.argument("project")
@click.pass_obj
def show(options: Options, project: str) -> None:
    """Show a project: its services, environments and deployments."""

    async def work(client: Client) -> dict[str, Any]:
        return {
            **await client.get(f"{PROJECTS}/{project}"),
            "links": await client.get(f"{BASE}/projects/{project}"),
            "endings": await client.get(f"{BASE}/projects/{project}/endings"),
            "environments": await client.get(f"{PROJECTS}/{project}/environments"),
            "deployments": (await client.get(f"{PROJECTS}/{project}/deployments", limit=10)),
        }

    found = run(options, work)
    if options.as_json:
        output.show_json(found)
        return
    output.fields(
        {
            "project": f"{found['slug']} (id {found['id']})",
            "services": ", ".join(
                f"{link['service']['slug']} ({link['service']['service_type']})"
                for link in found["links"]
            ),
            "ending": ", ".join(f"{item['service']}: {ending(item)}" for item in found["endings"]),
            "environments": ", ".join(item["slug"] for item in found["environments"]),
        }
    )
    rows = [
        (
            item["id"],
            item["environment"],
            output.status(item["status"]),
            item["image"] or "",
            _about(item),
        )
        for item in found["deployments"]
    ]
    output.table(["deploy", "environment", "state", "image", ""], rows, "Nothing is deployed yet.")


def _about(deployment: dict[str, Any]) -> str:
    """Why it is not well, else where it answers."""
    return str(deployment["status_reason"][:80] or deployment["url"])


def _added(options: Options, given: Mapping[str, Any], operation: Any) -> None:
    slug, project = operation["arguments"]["environment"], given["project"]
    text = f"{project} has the environment {slug}. Its variables: purveyor env {project} -e {slug}"
    made = {"project": operation["arguments"]["project"], "environment": slug}
    output.say(options, made, text)


project_command.add_command(command(DELETE_PROJECT))
project_command.add_command(command(CREATE_ENVIRONMENT, _added))


@project_command.command("remove-environment")
@click.argument("project")
@click.argument("environment")
@click.option("--purge", is_flag=True, help="Delete its data in all services too.")
@yes_option
@plan_option
@click.pass_obj
def remove_environment(
    options: Options, project: str, environment: str, purge: bool, yes: bool, plan: bool
) -> None:
    """Remove an environment such as a preview, its containers and accounts. Its data is kept."""
    if purge:
        what = f"This permanently deletes all data of {project}/{environment} in every service."
        destroys(what, environment, yes=yes, plan=plan, thing="the environment's name")
    else:
        interrupts(f"The app of {project}/{environment} and its accounts go.", yes=yes, plan=plan)
    call = DELETE_ENVIRONMENT.call(plan=plan, project=project, environment=environment, purge=purge)
    if act(options, f"Ending {environment}", call):
        gone = {"project": project, "removed": environment}
        output.say(options, gone, f"The environment {environment} of {project} is gone.")


@click.command("link")
@click.argument("service")
@click.argument("project")
@click.option(
    "--extra-database",
    "extras",
    metavar="NAME",
    multiple=True,
    help="One more database, such as test. Repeatable.",
)
@plan_option
@click.pass_obj
def link_command(
    options: Options, service: str, project: str, extras: tuple[str, ...], plan: bool
) -> None:
    """Link a service to a project: an account and a database of its own."""
    call = LINK.call(plan=plan, service=service, project=project, extra_databases=extras)
    if operation := act(options, f"Linking {service} to {project}", call):
        names = run(
            options, lambda client: client.get(f"{BASE}/{service}/preview-environment-names")
        )
        if options.as_json:
            output.show_json({"service": service, "project": project, "variables": names})
        else:
            click.echo(
                f"{service} is linked to {project}. The next deploy gets {', '.join(names)}."
            )
            output.outcome(operation)


@click.command("unlink")
@click.argument("service")
@click.argument("project")
@click.option(
    "--extra-database",
    "extra",
    metavar="NAME",
    help="Drop this further database alone; it takes --purge.",
)
@click.option("--purge", is_flag=True, help="Delete the project's data on the service too.")
@click.option(
    "--force",
    is_flag=True,
    help="Also while the service is down; its accounts end once it is up.",
)
@click.option(
    "--now", is_flag=True, help="End accounts that apps use at once, not with their next deploy."
)
@yes_option
@plan_option
@click.pass_obj
def unlink_command(
    options: Options,
    service: str,
    project: str,
    extra: str | None,
    purge: bool,
    force: bool,
    now: bool,
    yes: bool,
    plan: bool,
) -> None:
    """Unlink a service from a project; the data is kept and comes back with the next link.

    An app that runs keeps its account until its next deploy.
    """
    if extra is not None:
        if force or now:
            raise BadInput("One database is dropped at once, by a server that serves.")
        _remove_database(options, service, project, extra, purge=purge, yes=yes, plan=plan)
        return
    if purge:
        what = f"This permanently deletes all data of {project} on {service}."
        destroys(what, project, yes=yes, plan=plan, thing="the project's name")
    elif now:
        interrupts(f"The apps of {project} that run lose {service} at once.", yes=yes, plan=plan)
    call = UNLINK.call(
        plan=plan, service=service, project=project, purge=purge, force=force, now=now
    )
    if operation := act(options, f"Unlinking {service}", call):
        kept = "; its data is gone" if purge else "; its data is kept"
        until = operation["arguments"].get("until") or []
        told = f"{service} is unlinked from {project}{kept}."
        if until:
            command = f"purveyor unlink {service} {project} --now"
            told += (
                f"\n{', '.join(until)} has its account until its next deploy; end it now: {command}"
            )
        output.say(options, {"service": service, "unlinked": project, "until": until}, told)


def _remove_database(
    options: Options, service: str, project: str, name: str, *, purge: bool, yes: bool, plan: bool
) -> None:
    if purge:
        what = f"This permanently deletes the database {name} of {project} on {service}."
        destroys(what, project, yes=yes, plan=plan, thing="the project's name")
    call = REMOVE_DATABASE.call(
        plan=plan, service=service, project=project, database=name, purge=purge
    )
    if act(options, f"Dropping {name}", call):
        gone = {"service": service, "project": project, "removed": name}
        output.say(
            options,
            gone,
            f"The database {name} of {project} on {service} is gone, in every environment.",
        )


# ---------------------------------------------------------------- variables


def _variables(options: Options, project: str, environment: str, reach: str) -> dict[str, str]:
    path = f"{PROJECTS}/{project}/environments/{environment}/variables"
    found: dict[str, str] = run(options, lambda client: client.get(path, reach=reach))["variables"]
    return found


@click.command("env")
@click.argument("project")
@environment_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["dotenv", "json", "shell", "docker"]),
    default="dotenv",
    show_default=True,
)
@click.option(
    "--host",
    "reach",
    flag_value="host",
    default="network",
    help="For commands on this host, not in containers.",
)
@click.pass_obj
def env_command(options: Options, project: str, environment: str, form: str, reach: str) -> None:
    """Print the variables that a deploy of a project's environment gets, secrets in clear.

    The form dotenv is read alike by python-dotenv, node and a shell. For docker --env-file there is
    the form docker; it holds no value of several lines, so that *_CA_PEM is left out of it:
    *_CA_CERT names the file.
    """
    variables = _variables(options, project, environment, reach)
    if options.as_json or form == "json":
        click.echo(json.dumps(variables, indent=2))
    else:
        if form == "docker":
            variables, left = envfile.without_texts(variables)
            for name in left:
                click.echo(f"{name} is left out: it has several lines.", err=True)
        for name, value in variables.items():
            click.echo(envfile.FORMS[form](name, value))


@click.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("project")
@environment_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run_command(options: Options, project: str, environment: str, command: tuple[str, ...]) -> None:
    """Run a COMMAND on this host with a project's variables: purveyor run shop -- ./manage.py
    migrate"""
    variables = _variables(options, project, environment, "host")
    try:
        os.execvpe(command[0], list(command), {**os.environ, **variables})
    except OSError as error:
        raise BadInput(
            f"{command[0]} cannot be run: {error.strerror}.",
            errors={"command": str(error.strerror)},
        ) from None


@click.command("rotate")
@click.argument("project", required=False)
@environment_option
@click.option("--service", metavar="SERVICE", help="Only the credentials on one service.")
@click.option(
    "--grace",
    metavar="TIME",
    help="How long the old credentials keep working: 10m, 2h, 1d. Not at all by default.",
)
@click.option(
    "--administrator",
    metavar="SERVICE",
    help="Instead of a project's: those of a service's administrator.",
)
@yes_option
@plan_option
@click.pass_obj
def rotate_command(
    options: Options,
    project: str | None,
    environment: str,
    service: str | None,
    grace: str | None,
    administrator: str | None,
    yes: bool,
    plan: bool,
) -> None:
    """Give a project's environment new credentials, or a service's administrator."""
    if (project is None) == (administrator is None):
        raise BadInput(
            "No credentials to rotate were named.",
            remedy="Give a PROJECT, or --administrator SERVICE.",
        )
    if administrator is not None:
        if grace:
            raise BadInput(
                "An administrator's credentials have no grace: no app has them.",
                errors={"grace": "leave it out"},
            )
        interrupts(
            f"The container of {administrator} is recreated: the service is unavailable until it is up "
            "again.",
            yes=yes,
            plan=plan,
        )
        call = ROTATE_ADMINISTRATOR.call(plan=plan, service=administrator)
        if act(options, f"Rotating {administrator}", call):
            tell_of(
                options,
                administrator,
                "The administrator of {slug} has new credentials. No app had the old ones.",
            )
        return
    lasts = seconds(grace, "grace") if grace else None
    if not grace:
        what = (
            f"The credentials of {project}/{environment} end: the app that runs needs a deploy "
            "to connect again."
        )
        interrupts(what, yes=yes, plan=plan)
    call = ROTATE.call(
        plan=plan, project=project, environment=environment, service=service or None, grace=lasts
    )
    if act(options, f"Rotating {project}", call):
        if options.as_json:
            output.show_json({"project": project, "environment": environment})
        else:
            end = f"work for {grace} more" if grace else "are ended"
            click.echo(
                f"The old credentials of {project}/{environment} {end}. Deploy it to inject the "
                "new ones."
            )
