"""Options that hold for every command, and those that several have."""

import os
import re
from pathlib import Path
from typing import Any

import click

from purveyor.cli.program import Program
from purveyor_hooks import BadInput

UNITS = {"m": 60, "h": 3600, "d": 86400}
plan_option = click.option("--plan", is_flag=True, help="Show what it would do, change nothing.")


class Options:
    """What holds for every command."""

    def __init__(
        self, state: str | None = None, url: str | None = None, as_json: bool = False
    ) -> None:
        self.state_given = state
        self.url = url
        self.as_json = as_json
        self.program: Program | None = None

    def require_program(self) -> Program:
        assert self.program is not None, "a command line that nobody composed"
        return self.program

    @property
    def state(self) -> Path:
        from purveyor.kernel.config import state_directory

        return state_directory(self.state_given)

    @property
    def why(self) -> str:
        """Why the state directory is where it is."""
        if self.state_given:
            return "the one that --state names"
        return (
            "the one that $PURVEYOR_STATE names"
            if os.environ.get("PURVEYOR_STATE")
            else "the default place"
        )

    def run(self, work: Any) -> Any:
        """Run a command's work with the API: `CommandLine` as plugins' commands get it."""
        from purveyor.cli.client import run

        return run(self, work)


def seconds(text: str, option: str) -> int:
    """A span of time as people write it. Raises `BadInput` that names the option."""
    parts = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if not parts:
        raise BadInput(
            f"{text!r} is not a time.",
            remedy="For example 30m, 12h or 90d.",
            errors={option: "30m, 12h, 90d"},
        )
    return int(parts[1]) * UNITS[parts[2]]
