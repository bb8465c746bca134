"""The program: what the command line is made of, by import paths that are resolved when needed, so
that a command loads no other and no web framework."""

from typing import Any

from purveyor.cli import main as command_line
from purveyor.cli.program import Program

SERVICES = "purveyor.services.commands"
PROJECTS = "purveyor.projects.commands"

ACCESS = "purveyor.access.commands"
INSTALLATION = "purveyor.cli.installation"

DECLARE = "purveyor.clients.commands"
COMMANDS = {
    "serve": "purveyor.cli.serve",
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
    "upgrade": "purveyor.upgrades.commands",
    "import": SERVICES,
    "service": "purveyor.extensions.commands",
    "clone": SERVICES,
    "undelete": SERVICES,
    "purge": SERVICES,
    "volume": SERVICES,
    "rotate": PROJECTS,
    "backup": "purveyor.backups.commands",
    "recover": "purveyor.recovery.commands",
    "takeover": "purveyor.recovery.commands",
    "connect": "purveyor.services.connect",
    "project": PROJECTS,
    "link": PROJECTS,
    "unlink": PROJECTS,
    "env": PROJECTS,
    "run": PROJECTS,
    "deploy": "purveyor.deployments.commands",
    "compose": "purveyor.clients.compose",
    "plan": DECLARE,
    "apply": DECLARE,
    "export": DECLARE,
    "events": "purveyor.cli.events",
    "operations": "purveyor.cli.operations",
    "token": ACCESS,
    "user": ACCESS,
    "ca": "purveyor.services.authority_commands",
    "audit": "purveyor.audit.commands",
    "plugin": "purveyor.distributions.commands",
    "doctor": INSTALLATION,
    "completion": INSTALLATION,
}
PROGRAM = Program(
    commands=COMMANDS,
    build="purveyor.app:built",
    open_core="purveyor.app:open_app",
    open_api="purveyor.asgi:open_api",
    make_engine="purveyor.app:docker_engine",
    operation_types="purveyor.app:OPERATION_TYPES",
    operation_types_of="purveyor.extensions.operations.of_plugin:types_of",
    events="purveyor.app:EVENTS",
)
cli = command_line.make(PROGRAM)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line."""
    command_line.main(cli, arguments)
