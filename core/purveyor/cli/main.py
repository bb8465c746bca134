"""The entry point: options that hold for every command, and commands that are loaded when they are called."""

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from purveyor import __version__

SERVICES = "purveyor.cli.commands.services"
PROJECTS = "purveyor.cli.commands.projects"
JOURNAL = "purveyor.cli.commands.journal"
INSTALLATION = "purveyor.cli.commands.installation"
DATA = "purveyor.cli.commands.data"
DECLARE = "purveyor.cli.commands.declare"

COMMANDS = {
    "serve": "purveyor.cli.commands.serve",
    "types": SERVICES,
    "create": SERVICES,
    "list": SERVICES,
    "show": SERVICES,
    "start": SERVICES,
    "stop": SERVICES,
    "restart": SERVICES,
    "update": SERVICES,
    "delete": SERVICES,
    "health": SERVICES,
    "logs": SERVICES,
    "volumes": SERVICES,
    "upgrade": DATA,
    "import": DATA,
    "clone": DATA,
    "undelete": DATA,
    "purge": DATA,
    "volume": DATA,
    "rotate": DATA,
    "backup": "purveyor.cli.commands.backups",
    "connect": "purveyor.cli.commands.connect",
    "project": PROJECTS,
    "link": PROJECTS,
    "unlink": PROJECTS,
    "env": PROJECTS,
    "run": PROJECTS,
    "deploy": PROJECTS,
    "compose": "purveyor.cli.commands.compose",
    "plan": DECLARE,
    "apply": DECLARE,
    "export": DECLARE,
    "events": JOURNAL,
    "operations": JOURNAL,
    "token": INSTALLATION,
    "plugin": "purveyor.cli.commands.plugins",
    "doctor": INSTALLATION,
    "completion": INSTALLATION,
}


class LazyGroup(click.Group):
    """Loads a command's module when it is called; plugins' commands when no own one has the name."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*COMMANDS, *(name for name in _added() if name not in COMMANDS)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            module = importlib.import_module(COMMANDS[name])
            command: click.Command = getattr(module, f"{name}_command")
            return command
        return _added().get(name)


def _added() -> dict[str, click.Command]:
    """The commands that plugins bring."""
    import logging

    from purveyor.log import make_logger
    from purveyor.registry import Registry

    registry = Registry(make_logger(logging.ERROR))
    registry.load()
    return {str(command.name): command for command in registry.gather("cli_commands")}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="purveyor")
@click.option("--state", metavar="DIR", help="The state directory.  [env: PURVEYOR_STATE]")
@click.option("--url", envvar="PURVEYOR_URL", help="A daemon elsewhere: https://host.  [env: PURVEYOR_URL]")
@click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
@click.pass_context
def cli(context: click.Context, state: str | None, url: str | None, as_json: bool) -> None:
    """Managed services for your own Docker host.

    Talks to the daemon when one runs (purveyor serve), and does the work itself when none does.
    """
    context.obj = Options(state, url, as_json)


class LeftAlone(Exception):
    """Ctrl-C: what the command was waiting for goes on, and `text` says how to follow it; it is empty for nothing."""

    exit_code = 130

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Options:
    """What holds for every command."""

    def __init__(self, state: str | None, url: str | None, as_json: bool) -> None:
        self._state = state
        self.url = url
        self.as_json = as_json

    @property
    def state(self) -> Path:
        from purveyor.settings import state_directory

        return state_directory(self._state)

    @property
    def why(self) -> str:
        """Why the state directory is where it is."""
        import os

        if self._state:
            return "the one that --state names"
        return "the one that $PURVEYOR_STATE names" if os.environ.get("PURVEYOR_STATE") else "the default place"

    def run(self, work: Any) -> Any:
        """Run a command's work with the API: `CommandLine` as plugins' commands get it."""
        from purveyor.cli.client import run

        return run(self, work)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors become two lines and an exit code, never a trace."""
    from purveyor_hooks.errors import PurveyorError

    try:
        return cli.main(args=arguments, standalone_mode=True)
    except LeftAlone as left:
        if left.text:
            click.echo(f"\n{left.text}", err=True)
        sys.exit(left.exit_code)
    except PurveyorError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except BaseExceptionGroup as group:
        found = first_error(group)
        if found is None:
            raise
        _tell(found)
        sys.exit(found.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def first_error(group: BaseExceptionGroup[BaseException]) -> Any:
    """Our error inside what task groups raise."""
    from purveyor_hooks.errors import PurveyorError

    for error in group.exceptions:
        found = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, PurveyorError):
            return found
    return None


def _tell(error: Any) -> None:
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {error.detail}", err=True)
    for field, why in error.errors.items():
        if why not in error.detail:
            click.echo(f"  {field}: {why}", err=True)
    if error.remedy:
        click.echo(f"  {error.remedy}", err=True)


if __name__ == "__main__":
    main()
