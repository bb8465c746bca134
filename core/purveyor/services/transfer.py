"""The data of one running service into another."""

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.abc

from purveyor.context import Context
from purveyor.kernel.watchdog import Heartbeat, run_with_stall_timeout
from purveyor.services.handle import handle_of
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Finding, Image, Inventory, PurveyorError, RestoreOptions

Tell = Callable[[int], Awaitable[None]]


class Pipe:
    """`Sink` into a stream in memory, heard by the pulse."""

    def __init__(self, stream: anyio.abc.ObjectSendStream[bytes], pulse: Heartbeat) -> None:
        self._stream = stream
        self._pulse = pulse

    async def write(self, chunk: bytes) -> None:
        await self._stream.send(chunk)
        self._pulse.beat(len(chunk))


class _Received:
    """`Source` from a stream in memory, heard by the pulse."""

    def __init__(self, chunks: AsyncIterator[bytes], pulse: Heartbeat) -> None:
        self._chunks = chunks
        self._pulse = pulse

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self._pulse.beat(len(chunk))
            yield chunk


async def pipe(
    context: Context, old: ServiceRecord, new: ServiceRecord, tell: Tell, options: RestoreOptions
) -> tuple[Inventory, tuple[Finding, ...]]:
    """Everything from one running service into another, empty one: the count of what went over, and
    what is not as it was."""

    async def pour(pulse: Heartbeat) -> tuple[Inventory, tuple[Finding, ...]]:
        sending, receiving = anyio.create_memory_object_stream[bytes](8)
        census: list[Inventory] = []
        findings: list[Finding] = []
        from_, into = handle_of(context, old, pulse), handle_of(context, new, pulse)
        tools = into.access if new.major != old.major else None

        async def give() -> None:
            async with sending:
                census.append(await from_.backup(Pipe(sending, pulse), tools))

        async def take() -> None:
            async with receiving:
                source = _Received(aiter(receiving), pulse)
                findings.extend(await into.restore(source, options))

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(give)
                group.start_soon(take)
        except* Exception as group_error:
            raise first_of(group_error) from None
        return census[0], tuple(findings)

    what = f"Carrying the data of {old.name} over"
    return await run_with_stall_timeout(pour, context.settings.stall_timeout, what, tell)


async def upgrade_check(
    context: Context, record: ServiceRecord, image: Image
) -> tuple[Finding, ...]:
    """What another image's version will refuse. A server that cannot be asked is no reason against
    a plan."""
    try:
        return await handle_of(context, record).upgrade_check(image)
    except PurveyorError as error:
        return (
            Finding(
                where="",
                what="",
                why=f"it could not be asked what will be refused: {error.detail}",
                notice=True,
            ),
        )


def first_of(error: BaseException) -> BaseException:
    """The first error in a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
