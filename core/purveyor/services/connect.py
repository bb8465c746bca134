"""``purveyor connect``: the service's own client, in its container, on this terminal."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import click

from purveyor.cli.client import Client, run
from purveyor.cli.options import Options
from purveyor.services.exposed import BASE
from purveyor_hooks import BadInput, Command, Failed

if TYPE_CHECKING:
    from purveyor.docker import Engine

CHUNK = 64 * 1024


@click.command("connect", context_settings={"ignore_unknown_options": True})
@click.argument("service")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def connect_command(options: Options, service: str, arguments: tuple[str, ...]) -> None:
    """Open psql, redis-cli or the like as the service's administrator.

    Where the service's image has no such client, a Python prompt with a connected one opens on this
    host. Further ARGUMENTS go to the client: purveyor connect main -- -c 'select 1'
    """
    if options.url:  # it would open this host's container of that name, and run what is sent
        raise BadInput(
            "A client is opened on the machine itself.",
            remedy="Without --url, on that host: ssh HOST purveyor connect "
            f"{service}. An app's way in: purveyor run PROJECT -- COMMAND",
        )
    found = run(options, lambda client: _client(client, service))
    client = found["client"]
    environment = client.get("environment", {})
    argv, python = client.get("argv"), client.get("python")
    if python and not (argv and anyio.run(_has, options, found["container"], argv[0])):
        command = [sys.executable, "-q", "-i", "-c", python, *arguments]
        raise SystemExit(subprocess.run(command, env={**os.environ, **environment}).returncode)
    words = [*argv, *arguments]
    raise SystemExit(anyio.run(_attach, options, found["container"], words, environment))


async def _client(client: Client, service: str) -> Any:
    return await client.get(f"{BASE}/{service}/client")


def _engine(options: Options) -> "Engine":
    """The engine, for commands in containers that were found by name."""
    from purveyor.docker import Labels

    return options.require_program().engine("", Labels(""))


async def _has(options: Options, container: str, program: str) -> bool:
    """Whether the image has a program."""
    engine = _engine(options)
    try:
        ended = await engine.containers.execute(
            container, Command(argv=("sh", "-c", f"command -v {program}"))
        )
        return ended.exit_code == 0
    except Failed:  # it has no shell either
        return False
    finally:
        await engine.close()


async def _attach(
    options: Options, container: str, argv: list[str], environment: dict[str, str]
) -> int:
    engine = _engine(options)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        async with engine.containers.session(
            container, argv, environment, tty=interactive
        ) as session:
            with _raw_terminal(interactive):
                async with anyio.create_task_group() as group:
                    group.start_soon(_send, session)
                    if interactive:
                        group.start_soon(_resize, session)
                    async for number, data in session.output():
                        target = sys.stderr if number == 2 else sys.stdout
                        target.buffer.write(data)
                        target.buffer.flush()
                    group.cancel_scope.cancel()
            return await session.exit_code()
    finally:
        await engine.close()


async def _send(session: Any) -> None:
    """Standard input, as it comes; its end is told."""
    descriptor = sys.stdin.fileno()
    while True:
        if sys.stdin.isatty():
            await anyio.wait_readable(descriptor)
            data = os.read(descriptor, CHUNK)
        else:
            data = await anyio.to_thread.run_sync(
                os.read, descriptor, CHUNK, abandon_on_cancel=True
            )
        if not data:
            await session.end_input()
            return
        await session.write(data)


async def _resize(session: Any) -> None:
    with anyio.open_signal_receiver(signal.SIGWINCH) as signals:
        size = shutil.get_terminal_size()
        await session.resize(size.lines, size.columns)
        async for _ in signals:
            size = shutil.get_terminal_size()
            await session.resize(size.lines, size.columns)


@contextmanager
def _raw_terminal(interactive: bool) -> Iterator[None]:
    """Every key goes to the client in the container, not to this terminal's line editor."""
    if not interactive:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
