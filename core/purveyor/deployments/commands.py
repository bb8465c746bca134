"""purveyor deploy."""

import click

from purveyor.cli import output
from purveyor.cli.actions import act, pairs
from purveyor.cli.client import run
from purveyor.cli.options import Options, plan_option
from purveyor.deployments.exposed import DEPLOY
from purveyor.projects.commands import environment_option
from purveyor.projects.exposed import PROJECTS


@click.command("deploy")
@click.argument("project")
@click.argument("image", required=False)
@environment_option
@click.option("--create", is_flag=True, help="Create the environment if it does not exist.")
@click.option(
    "--port", type=int, help="The port that the app listens on; it is published on 127.0.0.1."
)
@click.option("--health-path", metavar="PATH", help="Ask this path until it answers below 500.")
@click.option(
    "--timeout",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds that the app may take to come up.",
)
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A further variable.")
@click.option(
    "--memory",
    type=int,
    metavar="MB",
    help="Memory that the app has at most, within the setting app-memory.",
)
@click.option(
    "--pids",
    type=int,
    help="Processes and threads that the app has at most, within the setting app-pids.",
)
@click.option(
    "--cap-add",
    "cap_add",
    multiple=True,
    metavar="NAME",
    help="A capability of Linux that the app gets: admins only.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@plan_option
@click.pass_obj
def deploy_command(
    options: Options,
    project: str,
    image: str | None,
    environment: str,
    create: bool,
    port: int | None,
    health_path: str | None,
    timeout: float,
    given: tuple[str, ...],
    memory: int | None,
    pids: int | None,
    cap_add: tuple[str, ...],
    command: tuple[str, ...],
    plan: bool,
) -> None:
    """Deploy an IMAGE with the project's variables; the old one is removed when the new one answers.

    Without an IMAGE the hooks run and another tool brings the app up.
    """
    call = DEPLOY.call(
        plan=plan,
        project=project,
        environment=environment,
        create=create,
        timeout=timeout,
        variables=pairs(given, "--set"),
        image=image,
        command=list(command),
        port=port,
        health_path=health_path,
        memory=memory,
        pids=pids,
        cap_add=list(cap_add),
    )
    if operation := act(options, f"Deploying {project}", call):
        number = operation["arguments"]["deployment"]
        found = run(
            options, lambda client: client.get(f"{PROJECTS}/{project}/deployments/{number}")
        )
        if options.as_json:
            output.show_json(found)
        else:
            where = f" at {found['url']}" if found["url"] else ""
            click.echo(
                f"Deployment {number} of {project} is {output.status(found['state'])}{where}"
            )
