"""Purveyor's own command line on a scene of the fake engine, what a person types and what is said:
in this process, or in one of its own, ``program.py STATE WORD…``."""

import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
import click.testing
from litestar import Litestar

from fake.scene import PLUGINS, Scene
from purveyor.app import App, built, open_app
from purveyor.asgi import create_api
from purveyor.cli import main as command_line
from purveyor.cli.program import Program
from purveyor.docker import Engine, Labels
from purveyor.program import PROGRAM

_made: list[Litestar] = []


def api_of(app: App, plugins: Sequence[Any]) -> Litestar:
    """The API over a core: made once for the same plugins, for that takes longer than most
    commands."""
    if plugins is not PLUGINS:
        return create_api(app)
    if not _made:
        _made.append(create_api(app))
    _made[0].state.core = app
    return _made[0]


class FakeProgram(Program):
    """The program, with the engine of a scene for the real one."""

    scene: Scene

    def _how(self, **how: Any) -> dict[str, Any]:
        fake = {"make_engine": self.scene.engine_of, "plugins": self.scene.plugins}
        return {**how, **fake, "log_level": logging.CRITICAL}

    def built(self, state: Path) -> AbstractAsyncContextManager[App]:
        return built(state, **self._how())

    def core(self, state: Path) -> AbstractAsyncContextManager[App]:
        return open_app(state, **self._how())

    @asynccontextmanager
    async def core_and_api(self, *given: Any, **how: Any) -> AsyncIterator[tuple[App, Litestar]]:
        async with open_app(*given, **self._how(**how)) as app:
            yield app, api_of(app, self.scene.plugins)

    def engine(self, namespace: str, labels: Labels) -> Engine:
        return self.scene.engine_of(namespace, labels)


def command_line_of(scene: Scene) -> click.Group:
    program = FakeProgram(*PROGRAM)
    program.scene = scene
    return command_line.make(program)


class Said(NamedTuple):
    """How a command ended: `out` is what a program reads, `err` what is for people alone."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


def say(scene: Scene, *words: str, stdin: str = "") -> Said:
    """Run one command line, without a terminal. Raises what would be a stack trace."""
    cli = command_line_of(scene)

    class Whole:
        """The command line with what stands around it."""

        name = "purveyor"

        def main(self, args: list[str], prog_name: str) -> None:
            command_line.main(cli, args)

    words = ("--state", str(scene.state), *words)
    done = click.testing.CliRunner().invoke(Whole(), words, input=stdin)  # type: ignore[arg-type]
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


def told(scene: Scene, *words: str, stdin: str = "") -> str:
    """What a command says that ends well."""
    said = say(scene, *words, stdin=stdin)
    assert said.code == 0, said.all
    return said.all


if __name__ == "__main__":
    state = Path(sys.argv[1])
    command_line.main(command_line_of(Scene(state)), ["--state", str(state), *sys.argv[2:]])
