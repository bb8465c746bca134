"""Options that hold for every command, and those that several have."""

import os
from pathlib import Path
from typing import Any

import click

plan_option = click.option("--plan", is_flag=True, help="Show what it would do, change nothing.")


class Options:
    """What holds for every command."""

    def __init__(self, state: str | None = None, url: str | None = None, as_json: bool = False) -> None:
        self.state_given = state
        self.url = url
        self.as_json = as_json

    @property
    def state(self) -> Path:
        from purveyor.kernel.config import state_directory

        return state_directory(self.state_given)

    @property
    def why(self) -> str:
        """Why the state directory is where it is."""
        if self.state_given:
            return "the one that --state names"
        return "the one that $PURVEYOR_STATE names" if os.environ.get("PURVEYOR_STATE") else "the default place"

    def run(self, work: Any) -> Any:
        """Run a command's work with the API: `CommandLine` as plugins' commands get it."""
        from purveyor.kernel.cli.client import run

        return run(self, work)
