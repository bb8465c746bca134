"""``purveyor serve``: the daemon."""

import gc
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import click

from purveyor.cli.options import Options
from purveyor.cli.program import Program

# seconds that it tries to be the only one: whoever looks whether there is one is in the way for
# less
MOMENT = 2.0
PATIENCE = 60.0  # seconds that it waits for a command that runs the core itself
M_ARENA_MAX = -8  # of malloc.h
TRIMMED = 60.0  # seconds between two times that memory goes back
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


@click.command("serve")
@click.option(
    "--listen", metavar="HOST:PORT", help="Where to listen, instead of what the settings say."
)
@click.option("--log-level", type=click.Choice(list(LEVELS)), default="info", show_default=True)
@click.pass_obj
def serve_command(options: Options, listen: str | None, log_level: str) -> None:
    """Run the daemon: API, reconciliation, events."""
    from purveyor.kernel.config import address_of

    if listen is not None:
        try:
            address_of(listen)
        except ValueError:
            raise click.BadParameter("must be HOST:PORT", param_hint="--listen") from None
    work = partial(serve, options.require_program())
    anyio.run(work, options.state, listen, LEVELS[log_level], backend_options={"use_uvloop": True})


@contextmanager
def _without(package: str) -> Iterator[None]:
    """What is imported in this block takes an optional package for one that is not installed."""
    if package in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules[package] = None
    try:
        yield
    finally:
        del modules[package]


def _one_heap() -> Callable[[], object]:
    """Have all threads allocate from one heap: with one for each, as glibc does it, what a thread
    has freed serves no other, and a daemon grows for hours. The answer gives what is free in it back
    to the kernel."""
    import ctypes

    found = ctypes.CDLL(None)
    tune, trim = getattr(found, "mallopt", None), getattr(found, "malloc_trim", None)
    if tune is None or trim is None:  # other C libraries have none
        return lambda: None
    tune(M_ARENA_MAX, 1)
    return partial(trim, 0)


async def _give_back(trim: Callable[[], object]) -> None:
    """By itself the heap keeps 30 MB of what a backup has freed. To have large blocks apart from it,
    which go back at once, makes Blob slower by a quarter."""
    while True:
        await anyio.sleep(TRIMMED)
        await anyio.to_thread.run_sync(trim)


async def serve(program: Program, state: Path, listen: str | None, level: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    trim = _one_heap()  # before the first thread
    # for pictures in a terminal, which a daemon never draws: 4 MB of 90
    with _without("rich"), _without("pygments"):
        import httpx  # noqa: F401
        import structlog  # noqa: F401

    import msgspec

    from purveyor.cli.client import SOCKET, listens
    from purveyor.docker import gateway_listener
    from purveyor.kernel.api.address import note_port
    from purveyor.kernel.api.server import listen_local, listen_tcp, serving
    from purveyor.kernel.db.faults import translate_faults
    from purveyor.kernel.db.lock import DAEMON, StateLock
    from purveyor_hooks import StateUnavailable

    if listens(state / SOCKET):  # another daemon: to wait for that is to wait for ever
        with StateLock(state):
            pass
    # a thread that builds a long list hands the interpreter on after 1 ms, not 5: each answer
    # meanwhile waits for some turns
    sys.setswitchinterval(0.001)
    with translate_faults(state):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        daemon = StateLock(state, DAEMON)
        await daemon.wait(MOMENT)
        stack.enter_context(daemon)
        app, api = await stack.enter_async_context(
            program.core_and_api(state, log_level=level, serve=True, patience=PATIENCE)
        )
        settings = (
            msgspec.structs.replace(app.context.settings, listen=listen)
            if listen
            else app.context.settings
        )
        host, port = settings.address
        public = listen_tcp(host, port)
        bound = public.getsockname()
        with suppress(StateUnavailable):  # it is noted at a later start
            await app.context.store.write(lambda tx: note_port(tx, bound[1]))
        async with (
            serving(api, local=[listen_local(state / SOCKET)], public=[public]) as servers,
            anyio.create_task_group() as group,
        ):
            if not settings.api_url:
                keep = app.context.supervisor.keep
                group.start_soon(
                    keep,
                    "the door for containers",
                    lambda: gateway_listener.keep(app, app.context.engine, servers, host, bound[1]),
                )
            group.start_soon(_give_back, trim)
            gc.collect()
            # what is there now stays: looking through all of it again and again holds up every
            # answer for 60 ms
            gc.freeze()
            app.context.logger.info(
                "serving", address=f"http://{bound[0]}:{bound[1]}", state=str(state)
            )
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    break
            app.context.logger.info("stopping")
            app.runner.interrupt()
            app.bus.close()
            group.cancel_scope.cancel()
        (state / SOCKET).unlink(missing_ok=True)
