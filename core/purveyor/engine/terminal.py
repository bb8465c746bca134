"""A command in a container, attached to somebody's terminal."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from purveyor.engine.client import Engine
from purveyor_hooks import Command, Failed

LAST_WORDS = 2000  # bytes


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
    async with Session.open(engine, container, command.argv, command.environment, tty=False) as session:
        yield Piped(session, command.argv[0])
