"""A command in a container: attached to somebody's terminal, or fed and read as it goes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from purveyor.docker.protocols import Engine, Session
from purveyor_hooks import Command, Failed

LAST_WORDS = 2000  # bytes


class DockerSession(Session):
    """`Session` over the line that the engine hands over."""

    def __init__(self, job: Any, line: Any) -> None:
        self._job = job
        self._line = line

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        async for number, data in self._line.frames():
            yield number, data

    async def write(self, data: bytes) -> None:
        await self._line.write(data)

    async def end_input(self) -> None:
        self._line.end()

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
