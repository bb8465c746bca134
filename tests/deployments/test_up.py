"""When an app counts as up: its image's own check, its port and its path all have to say so."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from purveyor_deploy import _is_up
from purveyor_hooks import Address, AppSpec

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def nobody() -> Address:
    """Where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Address(host="127.0.0.1", port=probe.getsockname()[1])


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[Address]:
    """A server that writes its answer in pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])


async def up(address: Address | None, health: str, path: str | None = None) -> bool:
    app = AppSpec(image="x:1", port=8000 if address else None, health_path=path)
    return (await _is_up(app, address, health, 60.0))[0]


async def test_an_images_own_check_does_not_stand_for_the_port() -> None:
    assert not await up(nobody(), "healthy")
    assert not await up(nobody(), "healthy", "/healthz")
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as address:
        assert await up(address, "healthy", "/healthz")
        assert not await up(address, "starting", "/healthz")


async def test_without_a_port_its_own_check_decides() -> None:
    assert await up(None, "healthy")
    assert not await up(None, "starting")
    assert await up(None, "")


@pytest.mark.parametrize(
    ("pieces", "good"),
    [
        ((b"HTTP/1.1 ", b"204 No Content\r\n\r\n"), True),
        ((b"HTTP/1.1 5", b"03 Busy\r\n\r\n"), False),
        ((b"HTTP/1.1 ",), False),
        ((b"hello\n",), False),
    ],
)
async def test_an_answer_that_comes_in_pieces_counts_as_one(
    pieces: Sequence[bytes], good: bool
) -> None:
    async with answering(*pieces) as address:
        assert await up(address, "", "/healthz") is good
