"""A command in a container, attached to somebody's terminal."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from purveyor.engine.client import Engine


class Session:
    """An attached command: what it prints, what it is sent, how it ends."""

    def __init__(self, job: Any, stream: Any) -> None:
        self._job = job
        self._stream = stream

    @classmethod
    @asynccontextmanager
    async def open(
        cls, engine: Engine, container: str, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool
    ) -> AsyncIterator["Session"]:
        """Start a command in a running container."""
        with engine.errors(f"run {argv[0]} in {container}"):
            found = engine.docker.containers.container(container)
            job = await found.exec(list(argv), stdin=True, tty=tty, environment=dict(environment))
            async with job.start(detach=False) as stream:
                yield cls(job, stream)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """What it prints: 1 and its output, or 2 and its errors, until it ends."""
        while (message := await self._stream.read_out()) is not None:
            yield message.stream, message.data

    async def write(self, data: bytes) -> None:
        await self._stream.write_in(data)

    async def end_input(self) -> None:
        """Tell the command that nothing more comes, and go on reading what it prints."""
        transport = self._stream._resp.connection.transport
        if transport.can_write_eof():
            transport.write_eof()

    async def resize(self, lines: int, columns: int) -> None:
        await self._job.resize(h=lines, w=columns)

    async def exit_code(self) -> int:
        return int((await self._job.inspect())["ExitCode"] or 0)
