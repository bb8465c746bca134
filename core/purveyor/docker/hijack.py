"""A command's own line into its container: the connection that the engine hands over when an exec
starts.

aiodocker's stream cannot end the input and go on reading; httpx hands out the connection after an
upgrade.
"""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiodocker
import aiohttp
import anyio
import httpx

CHUNK = 64 * 1024
HEADER = struct.Struct(">BxxxL")
CONNECT_DEADLINE = 5.0


class Line:
    """Bytes to and from a command. Without a terminal its output comes in frames that say which
    stream they are of."""

    def __init__(self, stream: Any, tty: bool) -> None:
        self._stream = stream
        self._tty = tty
        self._came = bytearray()

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    def end(self) -> None:
        """Nothing more is written; what the command prints still comes."""
        self._stream.get_extra_info("socket").shutdown(socket.SHUT_WR)

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """1 and its output, or 2 and its errors, until it ends."""
        while data := await self._stream.read(CHUNK):
            if self._tty:
                yield 1, data
                continue
            self._came += data
            while len(self._came) >= HEADER.size:
                number, size = HEADER.unpack(self._came[: HEADER.size])
                if len(self._came) < HEADER.size + size:
                    break
                frame = bytes(self._came[HEADER.size : HEADER.size + size])
                del self._came[: HEADER.size + size]
                yield number, frame


@asynccontextmanager
async def started(docker: aiodocker.Docker, exec_id: str, tty: bool) -> AsyncIterator[Line]:
    """Start a command that was made with the engine's client. Raises what that client would."""
    path = docker.connector.path if isinstance(docker.connector, aiohttp.UnixConnector) else None
    root = "http://engine" if path else docker.docker_host.replace("tcp://", "http://", 1)
    try:
        async with httpx.AsyncClient(
            # http in any case: to read all of the host's authorities takes longer than the call
            transport=httpx.AsyncHTTPTransport(uds=path, verify=False),
            base_url=root,
            timeout=httpx.Timeout(None, connect=CONNECT_DEADLINE),
        ) as client:
            upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
            request = client.build_request(
                "POST",
                f"/exec/{exec_id}/start",
                json={"Detach": False, "Tty": tty},
                headers=upgrade,
            )
            with anyio.fail_after(CONNECT_DEADLINE):
                answer = await client.send(request, stream=True)
            try:
                if answer.status_code != httpx.codes.SWITCHING_PROTOCOLS:
                    message = (await answer.aread()).decode(errors="replace")
                    raise aiodocker.DockerError(answer.status_code, message)
                yield Line(answer.extensions["network_stream"], tty)
            finally:
                await answer.aclose()
    except httpx.TransportError as error:
        raise ConnectionError(str(error)) from error
