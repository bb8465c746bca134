"""The entry point: options that hold for every command, and commands that are loaded when they are
called."""

import importlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from purveyor import __version__
from purveyor.cli.options import Options
from purveyor.cli.program import Program
from purveyor.cli.terminal import safe_output


class LazyGroup(click.Group):
    """Loads a command's module when it is called; plugins' commands when no own one has the
    name."""

    own: Mapping[str, str] = {}

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self.own, *(name for name in _added() if name not in self.own)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in self.own:
            module = importlib.import_module(self.own[name])
            return _answering(getattr(module, f"{name}_command"))
        found = _added().get(name)
        return _answering(found) if found else None


def _answering(command: click.Command) -> click.Command:
    """The command, and all of its own, with the option --json: it may be said before and after.
    Those that hand their arguments on to another program leave it to that."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _answering(inner)
        if not command.invoke_without_command:
            return command
    if not command.context_settings.get("ignore_unknown_options") and not any(
        "--json" in item.opts for item in command.params
    ):
        option = click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_as_json,
            help="Answer with JSON.",
        )
        command.params.append(option)
    return command


def _as_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.obj.as_json = True


def _added() -> dict[str, click.Command]:
    """The commands that plugins bring."""
    import logging

    from purveyor.providers.registry import load_installed

    found = load_installed(logging.ERROR).gather("cli_commands")
    return {str(command.name): command for command in found}


def make(program: Program) -> LazyGroup:
    """The command line of a program."""

    @click.group(
        "purveyor",
        cls=LazyGroup,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    @click.version_option(__version__, prog_name="purveyor")
    @click.option("--state", metavar="DIR", help="The state directory.  [env: PURVEYOR_STATE]")
    @click.option(
        "--url",
        envvar="PURVEYOR_URL",
        help="A daemon elsewhere: https://host.  [env: PURVEYOR_URL]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
    @click.pass_context
    def cli(context: click.Context, state: str | None, url: str | None, as_json: bool) -> None:
        """Managed services for your own Docker host.

        Talks to the daemon when one runs (purveyor serve), and does the work itself when none does.
        """
        given = context.obj if isinstance(context.obj, Options) else Options()
        given.state_given, given.url, given.as_json = state, url, as_json
        given.program = program
        context.obj = given

    assert isinstance(cli, LazyGroup)
    cli.own = program.commands
    return cli


class LeftAlone(Exception):
    """Ctrl-C: what the command was waiting for goes on, and `text` says how to follow it; it is
    empty for nothing."""

    exit_code = 130

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def main(cli: click.Group, arguments: list[str] | None = None) -> None:
    """Run a command line; errors become two lines, or one problem document with --json, and an
    exit code, never a trace."""
    with safe_output():
        _main(cli, arguments)


def _main(cli: click.Group, arguments: list[str] | None) -> None:
    from purveyor_hooks.errors import BadInput, PurveyorError

    options = Options()
    try:
        ended = cli.main(args=arguments, standalone_mode=False, obj=options)
        sys.exit(ended if isinstance(ended, int) else 0)
    except LeftAlone as left:
        if left.text:
            click.echo(f"\n{left.text}", err=True)
        sys.exit(left.exit_code)
    except PurveyorError as error:
        found: Any = error
    except BaseExceptionGroup as group:
        found = first_error(group)
        if found is None:
            raise
    except click.UsageError as error:
        if not (options.as_json or "--json" in (sys.argv[1:] if arguments is None else arguments)):
            error.show()
            sys.exit(error.exit_code)
        options.as_json = True
        found = BadInput(
            error.format_message(),
            remedy=f"See: {error.ctx.command_path if error.ctx else 'purveyor'} --help",
        )
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Aborted!", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        # what is still held back has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"Error: {error.strerror or error}: {error.filename or 'the output'}", err=True)
        sys.exit(1)
    _tell(found, options.as_json)
    sys.exit(found.exit_code)


def first_error(group: BaseExceptionGroup[BaseException]) -> Any:
    """Our error inside what task groups raise."""
    from purveyor_hooks.errors import PurveyorError

    for error in group.exceptions:
        found = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, PurveyorError):
            return found
    return None


def _tell(error: Any, as_json: bool) -> None:
    if as_json:
        problem = {
            "type": f"urn:purveyor:error:{error.code}", "title": error.title,
            "status": error.status, "detail": error.detail,
            "remedy": error.remedy, "errors": error.errors,
        }  # fmt: skip
        click.echo(json.dumps(problem, indent=2, ensure_ascii=False))
        return
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {error.detail}", err=True)
    for field, why in error.errors.items():
        if why not in error.detail:
            click.echo(f"  {field}: {why}", err=True)
    if error.remedy:
        click.echo(f"  {error.remedy}", err=True)
