"""What an app sends to the listener that is for containers, byte for byte: no other spelling of an
address, no header and no second request of a connection is let in where the first one is not."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from attacks.test_web import WEB
from attacks.told import attack
from fake.scene import PLUGINS, Scene
from purveyor.app import open_app
from purveyor.asgi import create_api
from purveyor.kernel.api import tokens
from purveyor.kernel.api.server import listen_tcp, serving

pytestmark = pytest.mark.anyio

SPELT = (
    "//api/projects", "/api//projects", "/./api/projects", "/api/./projects",
    "/api/kv/../projects", "/api/kv/status/../../projects", "/api/kv/%2e%2e/projects",
    "/api/kv/..%2fprojects", "/api/kv/..;/projects", "/api/kv/status;/../projects",
    "/api%2fprojects", "/%61pi/projects", "/api/projects%00", "/api/projects/", "/api/projects?kv",
    "/api/projects#/api/kv/status", "/API/projects", "/api\\projects", "/api/kv\\..\\projects",
    "http://localhost/api/projects", "http://127.0.0.1:8400/api/projects", "/api/kv/status/projects",
)  # fmt: skip
CLAIMED = (
    "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "X-Client-IP: 127.0.0.1",
    "Forwarded: for=127.0.0.1;host=localhost;proto=https", "X-Forwarded-Host: localhost",
    "X-Original-URL: /api/kv/status", "X-Rewrite-URL: /api/kv/status",
    "X-Forwarded-Prefix: /api/kv", "X-HTTP-Method-Override: GET", "Host: localhost",
    "Host: purveyor", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
    "\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
)  # fmt: skip
METHODS = ("HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "POST", "TRACE", "PROPFIND", "GET")


@asynccontextmanager
async def listening(scene: Scene) -> AsyncIterator[tuple[int, str]]:
    """The port of a listener for containers, and an administrator's token."""
    made = open_app(
        scene.state,
        make_engine=scene.engine_of,
        plugins=[*PLUGINS, *WEB],
        log_level=logging.CRITICAL,
    )
    async with made as app:
        _, token = await app.house.store.write(
            lambda tx: tokens.create(
                tx, name="ada", scope="admin", project_id=None, expires_at=None
            )
        )
        door = listen_tcp("127.0.0.1", 0)
        async with serving(create_api(app), local=[], public=[]) as servers:
            await servers.open(door, at_door=True)
            yield door.getsockname()[1], token


async def said(port: int, text: str) -> list[str]:
    """All answers to what is sent on one connection."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(text.encode())
        got = b""
        with anyio.move_on_after(5):
            while chunk := await _more(stream):
                got += chunk
        return [f"HTTP/1.1 {part}" for part in got.decode().split("HTTP/1.1 ")[1:]]


async def _more(stream: anyio.abc.SocketStream) -> bytes:
    try:
        return await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return b""


def request(method: str, path: str, token: str, *more: str, last: bool = True) -> str:
    lines = [f"{method} {path} HTTP/1.1", f"Authorization: Bearer {token}", *more]
    if not any(line.startswith("Host:") for line in more):
        lines.append("Host: purveyor-api:8400")
    if last and not any(line.startswith("Connection:") for line in more):
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""])


def refused(answer: str) -> bool:
    """It is an error, and tells nothing of what is there: a project is called shop."""
    return answer.startswith("HTTP/1.1 4") and "shop" not in answer


@attack(
    "the web",
    "spell an address of the API otherwise from a container",
    "say that one comes from the host",
    "say another address in a header",
    "ask to speak another protocol",
    "ask by another method",
    "send a second request behind one that is let in",
    honest="an app uses KV, on one connection",
)
async def test_nothing_that_a_container_sends_opens_more_than_what_is_for_apps(
    scene: Scene,
) -> None:
    async with listening(scene) as (port, token):
        for path in SPELT:
            answers = await said(port, request("GET", path, token))
            assert answers, path
            assert all(refused(answer) for answer in answers), (path, answers)
        for claim in CLAIMED:
            closing = () if claim.startswith("Connection:") else ("Connection: close",)
            text = request("GET", "/api/projects", token, claim, *closing)
            behind = request("GET", "/api/projects", token)  # ends one that was not closed
            answers = await said(port, text + ("" if closing else behind))
            assert answers, claim
            assert all(refused(answer) for answer in answers), (claim, answers)
        for method in METHODS:
            answers = await said(port, request(method, "/api/projects", token))
            assert answers, method
            assert all(refused(answer) for answer in answers), (method, answers)
        status = request("GET", "/api/kv/status", token, last=False)
        answers = await said(port, status + request("GET", "/api/projects", token))
        assert [answer[9:12] for answer in answers] == ["200", "403"]
        answers = await said(port, status + request("GET", "/api/kv/status", token))
        assert [answer[9:12] for answer in answers] == ["200", "200"]
