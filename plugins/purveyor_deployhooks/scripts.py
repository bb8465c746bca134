"""Executables of this host: fed with what happened as JSON, watched by a deadline, heard to a
limit."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from purveyor_hooks import Core, Deployment, Event

DEADLINE = 8.0  # the core waits ten seconds for an event, and longer for a deploy
DEPLOY_DEADLINE = 25.0
LOOK = 0.02  # seconds between two looks whether a script has ended
LAST_WORDS = 0.5  # seconds in which its output is read when it has ended
LIMIT = 64 * 1024  # bytes of output that are kept
PASSED = ("PATH", "HOME", "LANG", "PURVEYOR_STATE", "PURVEYOR_URL", "DOCKER_HOST")


class Ended(NamedTuple):
    """How an executable ended; `refusal` is empty when it ended well."""

    refusal: str
    output: str


def about(deployment: Deployment) -> dict[str, Any]:
    """A deploy without the values of its variables: `purveyor env` tells those to whoever may know
    them."""
    return {
        "deployment": deployment.id,
        "project": deployment.scope.project,
        "environment": deployment.scope.environment,
        "image": deployment.app.image if deployment.app else None,
        "variables": sorted(variable.name for variable in deployment.variables),
    }


def plain(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(event)
    return found


async def list_scripts(folder: Path) -> list[Path]:
    """The files of a folder, in the order of their names; those that begin with a dot are left
    out."""

    def look() -> list[Path]:
        if not folder.is_dir():
            return []
        return sorted(
            path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
        )

    return await anyio.to_thread.run_sync(look)


async def run_all(core: Core, folder: Path, word: str, facts: Mapping[str, Any]) -> None:
    """Run what is there; what ends badly is logged, and hurts nobody."""
    for path in await list_scripts(folder):
        ended = await run(path, word, facts)
        if ended.refusal:
            core.logger.warning("hook.failed", hook=f"{word}/{path.name}", reason=ended.refusal)


async def run(path: Path, word: str, facts: Mapping[str, Any]) -> Ended:
    """Run one executable with the facts as JSON on its input. It is ended when it takes too
    long."""
    if not os.access(path, os.X_OK):
        return Ended(f"it is not executable: chmod +x {path}", "")
    environment = {name: os.environ[name] for name in PASSED if name in os.environ}
    environment["PURVEYOR_EVENT"] = word
    environment |= {
        f"PURVEYOR_{name.upper()}": str(facts[name])
        for name in ("project", "environment")
        if facts.get(name)
    }
    limit = DEPLOY_DEADLINE if word == "before-deploy" else DEADLINE
    kept = bytearray()
    try:
        process = await anyio.open_process(
            [str(path)],
            env=environment,
            cwd=path.parent,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Ended(f"it cannot be started: {error.strerror}", "")
    try:
        with anyio.move_on_after(limit):
            await _write_stdin(process, msgspec.json.encode(facts))
            async with anyio.create_task_group() as group:
                group.start_soon(_read_output, process, kept)
                code = await _ended(process)
                # what it started and left behind may hold the output open for ever
                group.cancel_scope.deadline = anyio.current_time() + LAST_WORDS
            said = kept.decode(errors="replace").strip()
            last = said.splitlines()[-1][:300] if said else f"it ended with {code}"
            return Ended(last if code else "", said)
        return Ended(f"it did not end within {limit:.0f} s", kept.decode(errors="replace"))
    finally:
        _end(process)  # before it is closed: that waits for its end
        with anyio.move_on_after(LAST_WORDS, shield=True):
            await process.aclose()


async def _ended(process: anyio.abc.Process) -> int:
    """How it ended. With older libraries `wait` waits for the end of its output as well, which
    others may hold open."""
    while process.returncode is None:  # noqa: ASYNC110 - nothing tells of it
        await anyio.sleep(LOOK)
    return process.returncode


async def _write_stdin(process: anyio.abc.Process, data: bytes) -> None:
    assert process.stdin is not None
    try:
        await process.stdin.send(data)
        await process.stdin.aclose()
    except (anyio.BrokenResourceError, ConnectionError):  # it does not read
        return


async def _read_output(process: anyio.abc.Process, kept: bytearray) -> None:
    """Read to the end; only so much is kept."""
    assert process.stdout is not None
    async for chunk in process.stdout:
        kept += chunk
        del kept[:-LIMIT]


def _end(process: anyio.abc.Process) -> None:
    """End it and what it started."""
    try:
        os.killpg(process.pid, 9)
    except (ProcessLookupError, PermissionError):
        return
