"""What an app sends to the listener that is for containers, byte for byte: no other spelling of an
address, no header and no second request of a connection is let in where the first one is not."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
import uvicorn.config

from attacks.test_web import WEB
from attacks.told import attack
from fake.scene import PLUGINS, Scene
from purveyor.app import open_app
from purveyor.asgi import create_api
from purveyor.kernel.api import tokens
from purveyor.kernel.api.server import Servers, listen_tcp, serving

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
async def both(scene: Scene) -> AsyncIterator[tuple[Servers, int, int, str]]:
    """The servers, the ports of the listener for containers and of the host's, and an
    administrator's token."""
    made = open_app(
        scene.state,
        make_engine=scene.engine_of,
        plugins=[*PLUGINS, *WEB],
        log_level=logging.CRITICAL,
    )
    async with made as app:
        _, token = await app.context.store.write(
            lambda tx: tokens.create(
                tx, name="ada", scope="admin", project_id=None, expires_at=None
            )
        )
        door, public = listen_tcp("127.0.0.1", 0), listen_tcp("127.0.0.1", 0)
        async with serving(create_api(app), local=[], public=[public]) as servers:
            await servers.open(door, at_gateway=True)
            yield servers, door.getsockname()[1], public.getsockname()[1], token


@asynccontextmanager
async def listening(scene: Scene) -> AsyncIterator[tuple[int, str]]:
    """The port of a listener for containers, and an administrator's token."""
    async with both(scene) as (_, port, _, token):
        yield port, token


async def said(port: int, text: str, *, by: str = "127.0.0.1") -> list[str]:
    """All answers to what is sent on one connection; `by` is an address of this host."""
    async with await anyio.connect_tcp("127.0.0.1", port, local_host=by) as stream:
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


# ---------------------------------------------------------------- where a request ends

HIDDEN = "GET /api/projects HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
FRAMED = (
    "Content-Length: 7\r\nContent-Length: 300", "Content-Length: 7, 300", "Content-Length: +7",
    "Content-Length: -7", "Content-Length: 0x7", "Content-Length: 7 7", "Content-Length:",
    "Content-Length: 18446744073709551623",
    "Transfer-Encoding: chunked\r\nContent-Length: 300", "Transfer-Encoding: xchunked",
    "Content-Length: 300\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding : chunked", "Content-Length : 7", "X: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding:\x0bchunked", "\x00Transfer-Encoding: chunked", "X: a\rContent-Length: 7",
    "X: a\nContent-Length: 7",
)  # fmt: skip


@attack(
    "the web",
    "have a request end elsewhere for a proxy than for the daemon",
    "hide a request in the body of one that is let in",
    honest="an app sends a body with its length, or in pieces, and the next request behind it",
)
@pytest.mark.parametrize("header", FRAMED)
async def test_nobody_is_in_doubt_where_a_request_ends(header: str, scene: Scene) -> None:
    async with listening(scene) as (port, token):
        head = request("POST", "/api/kv/rest", token, last=False).removesuffix("\r\n")
        body = '["PING"]'
        for inside in (f"7\r\n{body[:7]}\r\n0\r\n\r\n", "0\r\n\r\n", ""):
            hidden = HIDDEN.format(token=token)
            answers = await said(port, f"{head}{header}\r\n\r\n{inside}{hidden}")
            assert len(answers) == 1, answers
            assert refused(answers[0]), answers


async def test_a_body_with_its_length_or_in_pieces_is_read_and_so_is_what_comes_behind(
    scene: Scene,
) -> None:
    async with listening(scene) as (port, token):
        head = request("POST", "/api/kv/rest", token, last=False).removesuffix("\r\n")
        behind = request("GET", "/api/kv/status", token)
        for text in ("Content-Length: 8\r\n\r\n[\"PING\"]",
                     "Transfer-Encoding: chunked\r\n\r\n3\r\n[\"P\r\n5;x=y\r\nING\"]\r\n0\r\n\r\n"):  # fmt: skip
            first, second = await said(port, f"{head}{text}{behind}")
            assert "No project given" in first, "an administrator has to say whose: it was read"
            assert second.startswith("HTTP/1.1 200 ")


# ---------------------------------------------------------------- connections


class Upgraded(asyncio.Protocol):
    """What uvicorn hands a connection to that asks for a WebSocket, where a package for that is
    installed: beside a plugin, for one."""

    made = 0

    def __init__(self, **given: object) -> None:
        type(self).made += 1


@attack(
    "the web",
    "take all connections of the daemon from four apps",
    "take all of one's neighbours from the environments of one project",
    "have a connection counted for ever by asking for a WebSocket",
    honest="another project's app is answered, and so is the administrator",
)
async def test_apps_that_hold_all_the_connections_that_they_get_shut_nobody_else_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(uvicorn.config.WS_PROTOCOLS, "auto", f"{__name__}:{Upgraded.__name__}")
    text = (scene.state / "settings.toml").read_text()
    (scene.state / "settings.toml").write_text(f"connections = 16\n{text}")
    async with both(scene) as (servers, port, public, token), AsyncExitStack() as stack:
        status = request("GET", "/api/kv/status", token)
        asking = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
        for _ in range(8):  # twice as many as one peer has
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(request("GET", "/api/kv/status", token, asking).encode())
                with anyio.move_on_after(5):
                    assert b" 200 " in await _more(stream)
            assert not Upgraded.made
        assert (await said(port, status))[0].startswith("HTTP/1.1 200 ")
        servers.door_guard.together({"127.0.1.0/26": 1, "127.0.1.64/26": 1, "127.0.2.0/26": 2})

        async def hold(address: str) -> None:
            await stack.enter_async_context(
                await anyio.connect_tcp("127.0.0.1", port, local_host=address)
            )

        for number in range(4):  # a quarter of sixteen, from two environments
            await hold(f"127.0.1.{1 + 64 * (number % 2)}")
        for address, answer in (("127.0.1.2", "503"), ("127.0.1.65", "503"), ("127.0.2.1", "200")):
            assert [item[9:12] for item in await said(port, status, by=address)] == [answer]
        for number in range(12):
            await hold(f"127.0.{2 + number // 4}.1")
        assert [item[9:12] for item in await said(port, status, by="127.0.9.1")] == ["503"]
        answers = await said(public, request("GET", "/api/projects", token))
        assert [item[9:12] for item in answers] == ["200"]
