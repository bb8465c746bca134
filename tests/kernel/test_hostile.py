"""What strangers send: connections that cost us something, and input that no form would let
through. Never a 500."""

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake.scene import Scene
from purveyor.app import App
from purveyor.archiving import store as archives
from purveyor.asgi import create_api
from purveyor.backups import store as backups
from purveyor.kernel.api import guard as guard_module
from purveyor.kernel.api.guard import Guard
from purveyor.kernel.api.server import listen_local, listen_tcp, serving
from purveyor.kernel.logs import make_logger
from purveyor_hooks.streams import attachment

LONG = "9" * 5000
REFERENCES = [
    "²",
    "٣",
    LONG,
    "-1",
    "1.0",
    "0x1",
    "%00",
    "a%2Fb",
    "..%2F..",
    "%F0%9F%92%A9",
    "%ED%A0%80",
    "🦆" * 300,
    "9" * 19,
]
PLACES = [
    "/api/external-services/{}", "/api/external-services/{}/health",
    "/api/external-services/{}/preview-environment-names",
    "/api/external-services/{}/browse", "/api/external-services/projects/{}", "/api/projects/{}",
    "/api/projects/{}/environments",
    "/api/projects/{}/deployments", "/api/projects/shop/environments/{}/variables",
    "/api/backups/{}",
    "/api/backups/s3-sources/{}", "/api/backups/schedules/{}", "/api/operations/{}",
    "/api/events?after={}",
    "/api/events?limit={}", "/api/operations?limit={}",
    "/api/operations?service={}", "/api/operations?project={}",
    "/api/external-services/types/{}/parameters",
]  # fmt: skip
ACCEPT = {"Accept": "application/json"}


@asynccontextmanager
async def http(scene: Scene) -> AsyncIterator[tuple[App, httpx.AsyncClient]]:
    path = scene.state / "hostile.sock"
    async with scene.open() as app, serving(create_api(app), local=[listen_local(path)]):
        transport = httpx.AsyncHTTPTransport(uds=str(path), verify=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://purveyor", timeout=60, headers=ACCEPT
        ) as client:
            yield app, client


@pytest.mark.anyio
async def test_no_reference_is_a_fault_of_ours(scene: Scene) -> None:
    async with http(scene) as (_, client):
        for place in PLACES:
            for reference in REFERENCES:
                answer = await client.get(place.format(reference))
                assert answer.status_code < 500, (place, reference[:40], answer.text)
                if answer.status_code >= 400:
                    assert answer.headers["content-type"].startswith("application/problem+json"), (
                        place,
                        reference[:40],
                    )


NOTED = (
    b'{"distribution": "%s", "version": "1", "source": "", "sha256": "'
    + b"0" * 64
    + b'", "size_bytes": %s, "record_sha256": ""}'
)
BODIES: list[tuple[str, str, bytes]] = [
    ("POST", "/api/projects/", b"[" * 200_000),
    ("POST", "/api/projects/", b'{"name":' * 100_000),
    ("POST", "/api/projects/", b'{"name": ' + LONG.encode() + b"}"),
    ("POST", "/api/projects/", b'{"name": "\\ud800"}'),
    ("POST", "/api/projects/", b'{"name": "a\\u0000b"}'),
    ("POST", "/api/projects/", b"\xff\xfe"),
    ("POST", "/api/projects/", b""),
    ("POST", "/api/projects/", b"null"),
    ("POST", "/api/projects/", b"1e999"),
    ("POST", "/api/external-services/",
    b'{"name": "x", "service_type": "fake", "parameters": {"docker_image": ""}}'),
    ("POST", "/api/external-services/",
    b'{"name": "x", "service_type": "fake", "parameters": {"port": ' + LONG.encode() + b"}}"),
    ("POST", "/api/external-services/",
    b'{"name": "x", "service_type": "fake", "parameters": {"port": 1e400}}'),
    ("POST", "/api/external-services/",
    b'{"name": "x", "service_type": "fake", "parameters": {"port": "' + LONG.encode() + b'"}}'),
    ("POST", "/api/external-services/main/upgrade", b'{"docker_image": ""}'),
    ("POST", "/api/external-services/main/upgrade", b'{"docker_image": "a b"}'),
    ("POST", "/api/external-services/main/upgrade", '{"docker_image": "²"}'.encode()),
    ("POST", "/api/external-services/main/clone", b'{"name": "copy", "docker_image": ""}'),
    ("PUT", "/api/external-services/main", b'{"docker_image": ""}'),
    ("POST", "/api/external-services/main/projects", b'{"project_id": ' + LONG.encode() + b"}"),
    ("POST", "/api/external-services/main/projects", b'{"project_id": 99999999999999999999}'),
    ("POST", "/api/projects/shop/deployments", b'{"image": ""}'),
    ("POST", "/api/projects/shop/deployments", b'{"environment": "\\ud800"}'),
    ("POST", "/api/projects/shop/deployments", b'{"image": "app:1", "command": ["a\\u0000b"]}'),
    ("POST", "/api/tokens", b'{"name": "\\ud800"}'),
    ("POST", "/api/tokens", b'{"name": "a\\u001b[2Jb"}'),
    ("POST", "/api/tokens", b'{"name": "x", "expires_in": ' + LONG.encode() + b"}"),
    ("POST", "/api/plugins/installed", NOTED % (b"", b"0")),
    ("POST", "/api/plugins/installed", NOTED % (b"x", b"9223372036854775808")),
]  # fmt: skip


@pytest.mark.anyio
async def test_no_body_is_a_fault_of_ours(scene: Scene) -> None:
    async with http(scene) as (_, client):
        for method, path, body in BODIES:
            answer = await client.request(
                method, path, content=body, headers={"Content-Type": "application/json"}
            )
            assert 400 <= answer.status_code < 500, (
                path,
                body[:80],
                answer.status_code,
                answer.text,
            )
            assert answer.json()["detail"]
        many = {f"p{number}": 1 for number in range(20_000)}
        answer = await client.post(
            "/api/external-services/",
            json={"name": "x", "service_type": "fake", "parameters": many},
        )
        assert (answer.status_code, len(answer.content) < 20_000) == (400, True)


@pytest.mark.anyio
async def test_no_service_has_a_name_under_which_nobody_can_reach_it(scene: Scene) -> None:
    async with http(scene) as (app, client):
        paths = [route.path for route in create_api(app).routes]
        addresses = [
            path.split("/")[3] for path in paths if path.startswith("/api/external-services/")
        ]
        for name in {*addresses, "new"} - {"", "{reference:str}"}:
            answer = await client.post(
                "/api/external-services/", json={"name": name.title(), "service_type": "fake"}
            )
            assert (answer.status_code, answer.json()["errors"]) == (
                400,
                {"name": f"{name!r} is a word of the API"},
            )
        answer = await client.post("/api/external-services/main/clone", json={"name": "types"})
        assert answer.status_code == 400
        answer = await client.post(
            "/api/external-services/", json={"name": "type", "service_type": "fake"}
        )
        assert (await client.get("/api/external-services/type")).json()["service"][
            "id"
        ] == answer.json()["id"]


@pytest.mark.anyio
async def test_a_bucket_that_an_archive_uses_is_in_use(scene: Scene) -> None:
    async with http(scene) as (app, client):
        facts: dict[str, Any] = {
            "name": "offsite", "bucket_name": "b", "bucket_path": "", "access_key_id": "a",
            "secret_key": "s", "region": "r",
            "endpoint": "http://127.0.0.1:1", "force_path_style": True,
        }  # fmt: skip
        number = await app.context.store.write(lambda tx: backups.insert_source(tx, **facts))
        (archive,) = await app.context.store.read(archives.list_all)
        await app.context.store.write(
            lambda tx: archives.update(tx, archive.service_id, s3_source_id=number)
        )
        answer = await client.delete("/api/backups/s3-sources/offsite")
        assert (answer.status_code, "archives" in answer.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("path", "plain"),
    [("a/日本.txt", "__.txt"), ("ü.txt", "_.txt"), ('a"b.txt', "a_b.txt"),
    ("a\r\nSet-Cookie: x", "a__Set-Cookie__x"),
     ("", "file"), ("..", "file"), ("\ud800", "_")],
)  # fmt: skip
def test_what_is_saved_is_named_whatever_letters_it_has(path: str, plain: str) -> None:
    header = attachment(path)
    header.encode("latin-1")
    assert header.startswith(f'attachment; filename="{plain}"; ')
    assert "\r" not in header
    assert "\n" not in header


# ---------------------------------------------------------------- connections


@asynccontextmanager
async def public(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, connections: int = 64
) -> AsyncIterator[tuple[App, int]]:
    monkeypatch.setattr(guard_module, "HEADER_TIME", 0.5)
    monkeypatch.setattr(guard_module, "BODY_TIME", 0.5)
    text = (scene.state / "settings.toml").read_text()
    (scene.state / "settings.toml").write_text(f"connections = {connections}\n{text}")
    listener = listen_tcp("127.0.0.1", 0)
    async with scene.open() as app, serving(create_api(app), local=[], public=[listener]):
        yield app, listener.getsockname()[1]


async def ends(reader: asyncio.StreamReader) -> bytes:
    with anyio.fail_after(10):
        return await reader.read()


@pytest.mark.anyio
async def test_a_header_that_does_not_come_is_not_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with public(scene, monkeypatch) as (_, port):
        for sent in (b"", b"GET / HTTP/1.1\r\nX: "):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            assert b" 408 " in await ends(reader)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n")  # and the one after an answer
        await reader.readuntil(b"}")
        writer.write(b"GET /api/ver")
        assert b" 408 " in await ends(reader)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
        said = await ends(reader)
        assert b" 431 " in said
        assert b"clear-site-data" not in said, "nothing but cookies has a browser's cookies removed"
        for address, cookies, cleared in (
            (b"/", b"x" * 100_000, True), (b"/" + b"x" * 100_000, b"x", False),
        ):  # fmt: skip
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET " + address + b" HTTP/1.1\r\nHost: x\r\nCookie: c=" + cookies)
            said = await ends(reader)
            assert b" 431 " in said
            assert (b'clear-site-data: "cookies"' in said) is cleared
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            for _ in range(20):  # drop by drop
                writer.write(b"X: y\r\n")
                await writer.drain()
                await anyio.sleep(0.1)
            await ends(reader)


@pytest.mark.anyio
async def test_a_host_that_is_none_is_refused_wherever_it_is_asked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(path: bytes, *hosts: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = b"".join(b"Host: " + host + b"\r\n" for host in hosts)
        writer.write(b"GET " + path + b" HTTP/1.1\r\n" + lines + b"Connection: close\r\n\r\n")
        return (await ends(reader)).split(b" ")[1]

    async with public(scene, monkeypatch) as (_, port):
        for path, good in ((b"/api/version", b"200"), (b"/nowhere", b"404")):
            for host in (b"x", b"x:1", b"x:", b"", b"[::1]:8400", b"127.0.0.1:65535", b"x_y.z"):
                assert await asked(path, host) == good, host
            for host in (
                b"host:8400.evil.example", b"x:99999", b"[::1]:x", b"[::1", b"u@h", b"a b", b"a/b",
                b"x:1:2", b"x?y", b"x:-1", b"[x]",
            ):  # fmt: skip
                assert await asked(path, host) == b"400", host
                assert await asked(path, b"x", host) == b"400", host


@pytest.mark.anyio
async def test_a_body_that_stops_is_not_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with public(scene, monkeypatch) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /api/projects/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        with contextlib.suppress(ConnectionResetError):
            await ends(reader)


@pytest.mark.anyio
async def test_one_peer_cannot_take_all_connections(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with public(scene, monkeypatch, 64) as (_, port):
        monkeypatch.setattr(guard_module, "HEADER_TIME", 30.0)
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(16)]
        await anyio.sleep(0.1)
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        assert b" 503 " in await ends(reader)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=("127.0.0.2", 0)
        )
        writer.write(b"GET /api/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await ends(reader), "another peer has its own share"
        for _, writer in held:
            writer.close()
        await anyio.sleep(0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await ends(reader), "what ended is counted no more"


@pytest.mark.anyio
async def test_a_thousand_idle_connections_end_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with public(scene, monkeypatch, 2048) as (app, port):
        held = []
        for _ in range(500):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nX: ")
            held.append(writer)
        path = scene.state / "own.sock"
        async with serving(create_api(app), local=[listen_local(path)]):
            transport = httpx.AsyncHTTPTransport(uds=str(path), verify=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://purveyor", timeout=10
            ) as client:
                assert (await client.get("/api/external-services/")).status_code == 200
        await anyio.sleep(1)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            assert (await client.get("/api/version")).status_code == 200
        for writer in held:
            writer.close()


def test_handles_are_kept_for_our_own_work() -> None:
    logger = make_logger(logging.CRITICAL)
    assert Guard(4096, 1024, logger).most == 1024 - guard_module.RESERVE
    assert Guard(4096, 1_000_000, logger).most == 4096
    assert Guard(4096, 100, logger).most == 1
    code = "import resource; from purveyor.kernel.api.guard import raise_handle_limit\n"
    code += "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 900)); print(raise_handle_limit())\n"
    code += "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.split("\n")[:2] == ["900", "(900, 900)"]


# ---------------------------------------------------------------- all of it, at random


CASES = 2000
STREAMS = ("/api/events", "/api/external-services/{reference}/logs")


@pytest.mark.nightly
def test_no_request_that_the_description_allows_or_forbids_is_a_fault(scene: Scene) -> None:
    """Schemathesis makes requests, good and bad, over the whole description, against the core on
    the fake engine."""

    async def work() -> None:
        async with http(scene) as (_, client):
            described = (await client.get("/api/schema/openapi.json")).json()
            schemathesis = pytest.importorskip("schemathesis")  # not beside the oldest dependencies
            schema = schemathesis.openapi.from_dict(described)
            every = [item.ok() for item in schema.get_all_operations()]
            every = [
                item
                for item in every
                if not (item.method.upper() == "GET" and item.path in STREAMS)
            ]
            wrong: list[Any] = []

            def examine(operation: Any) -> None:
                @settings(
                    max_examples=max(1, CASES // len(every)),
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    database=None,
                )
                @given(data=st.data())
                def one(data: Any) -> None:
                    case = data.draw(operation.as_strategy())
                    sent = case.as_transport_kwargs(base_url="http://purveyor")
                    allowed = {"method", "url", "params", "headers", "json", "data", "cookies"}
                    request = {name: value for name, value in sent.items() if name in allowed}
                    if isinstance(request.get("data"), bytes):
                        request["content"] = request.pop("data")
                    with contextlib.suppress(
                        httpx.InvalidURL, UnicodeEncodeError, httpx.LocalProtocolError
                    ):
                        answer = anyio.from_thread.run(lambda: client.request(**request))
                        if answer.status_code >= 500 and answer.status_code not in (
                            502,
                            503,
                            504,
                            507,
                        ):
                            wrong.append(
                                (operation.method, operation.path, request, answer.text[:300])
                            )

                one()

            for operation in every:
                await anyio.to_thread.run_sync(examine, operation)
            assert not wrong, wrong[:5]

    anyio.run(work)
