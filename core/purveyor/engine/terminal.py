"""A command in a container: attached to somebody's terminal, or fed and read as it goes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from purveyor.engine.protocols import Engine, Session
from purveyor_hooks import Command, Failed

LAST_WORDS = 2000  # bytes


class DockerSession(Session):
    """`Session` over the stream that aiodocker opens."""

    def __init__(self, job: Any, stream: Any) -> None:
        self._job = job
        self._stream = stream

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        while (message := await self._stream.read_out()) is not None:
            yield message.stream, message.data

    async def write(self, data: bytes) -> None:
        await self._stream.write_in(data)

    async def end_input(self) -> None:
        transport = self._stream._resp.connection.transport
        if transport.can_write_eof():
            transport.write_eof()

    async def resize(self, lines: int, columns: int) -> None:
        await self._job.resize(h=lines, w=columns)

    async def exit_code(self) -> int:
        return int((await self._job.inspect())["ExitCode"] or 0)


class Piped:
    """A command that is fed and read as it goes: `Process` of the contract."""

    def __init__(self, session: Session, what: str) -> None:
        self._session = session
        self._what = what
        self._said = bytearray()

    async def write(self, data: bytes) -> None:
        await self._session.write(data)

    async def end_input(self) -> None:
        await self._session.end_input()

    async def output(self) -> AsyncIterator[bytes]:
        async for number, data in self._session.output():
            if number == 2:
                self._said += data
                del self._said[:-LAST_WORDS]
            else:
                yield data

    async def finish(self) -> None:
        async for _ in self.output():
            pass
        if code := await self._session.exit_code():
            said = self._said.decode(errors="replace").strip() or "it printed nothing"
            raise Failed(f"{self._what} ended with {code}: {said}")


@asynccontextmanager
async def piped(engine: Engine, container: str, command: Command) -> AsyncIterator[Piped]:
    """Run a command in a running container with its input and output in hand."""
    async with engine.containers.session(container, command.argv, command.environment) as session:
        yield Piped(session, command.argv[0])
