"""purveyor upgrade."""

import click

from purveyor.cli import output
from purveyor.cli.actions import act, pairs
from purveyor.cli.options import Options, plan_option
from purveyor.services.commands import tell_of
from purveyor.upgrades.exposed import UNDO_UPGRADE, UPGRADE
from purveyor_hooks import BadInput
from purveyor_hooks.confirm import destroys, interrupts, yes_option


@click.command("upgrade")
@click.argument("service")
@click.argument("image", required=False)
@click.option(
    "-p",
    "--parameter",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A choice that only new data takes.",
)
@click.option("--rehearse", is_flag=True, help="Dry-run the upgrade on a copy.")
@click.option(
    "--undo", is_flag=True, help="Roll back to the image and data before the last upgrade."
)
@click.option(
    "--keep-going", is_flag=True, help="Continue although some data was not carried over."
)
@click.option(
    "--skip-setting",
    "skipped",
    multiple=True,
    metavar="NAME",
    help="A server setting to leave behind.",
)
@yes_option
@plan_option
@click.pass_obj
def upgrade_command(
    options: Options,
    service: str,
    image: str | None,
    given: tuple[str, ...],
    rehearse: bool,
    undo: bool,
    keep_going: bool,
    skipped: tuple[str, ...],
    yes: bool,
    plan: bool,
) -> None:
    """Upgrade a service to another IMAGE, or its data to another form. Rolls back on failure."""
    if undo == bool(image or given) or (undo and rehearse):
        raise BadInput("It is not clear what to do.", remedy="Give an IMAGE, or --undo.")
    if undo:
        what = (
            f"{service} goes back to the data of before the upgrade: what was written since is "
            "not in it, and is kept aside."
        )
        destroys(what, service, yes=yes, plan=plan)
        if act(
            options, f"Going back with {service}", UNDO_UPGRADE.call(plan=plan, service=service)
        ):
            tell_of(options, service, "{slug} is back on {docker_image}, with the data of before.")
        return
    interrupts(
        f"{service} is unavailable while its data is carried over.", yes=yes, plan=plan or rehearse
    )
    call = UPGRADE.call(
        plan=plan,
        service=service,
        docker_image=image or "",
        parameters=pairs(given, "-p"),
        rehearse=rehearse,
        keep_going=keep_going,
        skip_settings=skipped,
    )
    title = f"{'Rehearsing the upgrade of' if rehearse else 'Upgrading'} {service}"
    if operation := act(options, title, call):
        whole = options.as_json or output.outcome(operation)
        if rehearse:
            word = (
                "It works"
                if whole
                else "It works, with the differences above, which would stop the upgrade"
            )
            click.echo(
                f"{word}: see how long each step took with: purveyor operations {operation['id']}",
                err=options.as_json,
            )
        else:
            tell_of(
                options,
                service,
                "{slug} runs {docker_image}. The data of before is kept: purveyor volumes",
            )
