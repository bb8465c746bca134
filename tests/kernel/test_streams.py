"""The event stream, and what the command line makes of it: slow readers, tokens that end, daemons
that go, come and hang."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from fake.scene import Scene
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.cli import client as client_module
from purveyor.cli.client import Client
from purveyor.kernel.api import tokens
from purveyor.kernel.api.server import listen_local, listen_tcp, serving
from purveyor.kernel.events import routes as event_routes
from purveyor.kernel.operations import Step
from purveyor.kernel.operations import store as operations
from purveyor.services.exposed import STOP
from purveyor.services.operations.lifecycle import Stop
from purveyor_hooks import Interrupted

pytestmark = pytest.mark.anyio
PURVEYOR = [sys.executable, "-m", "purveyor"]


@asynccontextmanager
async def daemon(scene: Scene, path: Path) -> AsyncIterator[App]:
    """As `serve` does it, on the fake engine."""
    async with scene.open(serve=True) as app:
        async with serving(create_api(app), local=[listen_local(path)]):
            yield app
            app.bus.close()
        path.unlink()


@asynccontextmanager
async def client(path: Path, who: str = "the daemon") -> AsyncIterator[Client]:
    transport = httpx.AsyncHTTPTransport(uds=str(path), verify=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://purveyor", timeout=10
    ) as http:
        yield Client(http, who)


async def test_a_slow_reader_gets_every_event_and_is_never_cut_off(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_routes, "KEEP_ALIVE", 0.3)
    async with scene.open() as app:
        listener = listen_tcp("127.0.0.1", 0)
        _, token = await app.context.store.write(
            lambda tx: tokens.create(tx, name="t", scope="read", project_id=None, expires_at=None)
        )
        async with serving(create_api(app), local=[], public=[listener]):
            after = await app.bus.last()
            async with await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1]) as stream:
                await stream.send(
                    f"GET /api/events?after={after} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                    f"{token}\r\n\r\n".encode()
                )
                for _ in range(200):
                    await app.context.store.write(
                        lambda tx: tx.emit("service.unhealthy", data={"reason": "x" * 20_000})
                    )
                await anyio.sleep(2)  # several times the silence, while nothing is read
                seen, text = 0, b""
                with anyio.fail_after(30):
                    while seen < 200:
                        text += await stream.receive(1_000_000)
                        seen = text.count(b"\nid: ")
                with anyio.fail_after(5):
                    while b": alive" not in await stream.receive():
                        pass


async def test_a_stream_ends_with_its_token(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_routes, "KEEP_ALIVE", 0.2)
    async with scene.open() as app:
        listener = listen_tcp("127.0.0.1", 0)
        number, token = await app.context.store.write(
            lambda tx: tokens.create(tx, name="t", scope="read", project_id=None, expires_at=None)
        )
        async with (
            serving(create_api(app), local=[], public=[listener]),
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=5
            ) as http,
            http.stream(
                "GET", "/api/events", headers={"Authorization": f"Bearer {token}"}
            ) as answer,
        ):
            assert answer.status_code == 200
            lines: list[str] = []

            def end(tx: Any) -> None:
                tokens.revoke(tx, number)
                tx.emit("token.revoked", data={"id": number})

            with anyio.fail_after(5):
                async for line in answer.aiter_lines():
                    lines.append(line)
                    if ": following" in line:
                        await app.context.store.write(end)
            assert not [line for line in lines if "token.revoked" in line], (
                "what comes after its end is not for it"
            )


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`stop` waits until this file is there."""
    path = tmp_path / "gate"

    async def wait() -> None:
        while not path.exists():  # noqa: ASYNC110
            await anyio.sleep(0.02)

    before = Stop.steps
    monkeypatch.setattr(
        Stop, "steps", lambda self, operation: [Step("wait", wait), *before(self, operation)]
    )
    return path


async def test_an_operation_is_followed_over_a_restart_to_its_real_end(
    scene: Scene, gate: Path, tmp_path: Path
) -> None:
    path = tmp_path / "sock"
    told: list[Mapping[str, Any]] = []
    ended: list[Mapping[str, Any]] = []

    async def follow() -> None:
        async with client(path) as api:
            ended.append(await api.run_operation(STOP.call(service="main"), told.append))

    async with anyio.create_task_group() as group:
        async with daemon(scene, path) as app:
            group.start_soon(follow)
            with anyio.fail_after(10):
                while not any(event["type"] == "service.stop.step" for event in told):  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            (under_way,) = await app.context.store.read(operations.list_unfinished)
        assert not ended
        await anyio.sleep(0.5)
        assert not ended, "a daemon that is away is not an operation that has ended"
        async with daemon(scene, path):
            await anyio.sleep(0.5)
            assert not ended
            gate.touch()
            with anyio.fail_after(20):
                while not ended:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
    assert (ended[0]["id"], ended[0]["state"]) == (under_way.id, "succeeded")
    numbers = [event["id"] for event in told]
    assert numbers == sorted(set(numbers)), "each event once, in order"
    assert told[-1]["type"] == "service.stop.succeeded"


async def test_a_stream_that_breaks_is_no_failure_of_the_operation(
    scene: Scene, gate: Path, tmp_path: Path
) -> None:
    """Between client and daemon stands something that cuts every connection after a while."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    ended: list[Mapping[str, Any]] = []

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_unix_connection(inner)
        with anyio.move_on_after(0.4):
            async with anyio.create_task_group() as pumps:
                pumps.start_soon(pump, reader, behind_writer)
                pumps.start_soon(pump, behind_reader, writer)
        for end in (writer, behind_writer):
            end.transport.abort()

    async with (
        daemon(scene, inner),
        await asyncio.start_unix_server(cut, outer),
        anyio.create_task_group() as group,
    ):

        async def follow() -> None:
            async with client(outer) as api:
                ended.append(await api.run_operation(STOP.call(service="main"), lambda event: None))

        group.start_soon(follow)
        await anyio.sleep(1.5)
        assert not ended
        gate.touch()
        with anyio.fail_after(10):
            while not ended:  # noqa: ASYNC110
                await anyio.sleep(0.02)
    assert ended[0]["state"] == "succeeded"


class Silent(httpx.AsyncByteStream):
    """A stream that tells the end of an operation, and from then on nothing but that it is
    there."""

    def __init__(self, *told: bytes) -> None:
        self._told = told

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self._told:
            yield line
        while True:
            await anyio.sleep(0.05)
            yield b": there\n\n"


async def test_a_daemon_that_goes_away_between_the_last_event_and_the_answer_is_asked_again() -> (
    None
):
    """Found by `contrib/torture`: the event does not come a second time, and the command waited for
    it for ever."""
    end = json.dumps(
        {"id": 7, "operation": 5, "type": "project.create.succeeded", "data": {}}
    ).encode()
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/api/events":
            return httpx.Response(
                200,
                stream=Silent(
                    *([b"data: " + end + b"\n\n"] if asked.count("/api/events") == 1 else [])
                ),
            )
        if asked.count("/api/operations/5") == 2:
            raise httpx.ConnectError("no file handle is left")
        state = "running" if asked.count("/api/operations/5") == 1 else "succeeded"
        return httpx.Response(200, json={"verb": "create-project", "state": state})

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(answer), base_url="http://purveyor"
    ) as http:
        with anyio.fail_after(60):
            ended = await Client(http)._to_its_end(5, 6, lambda _: None)
    assert ended["state"] == "succeeded"


async def test_a_daemon_that_stays_away_is_told_and_how_to_go_on(
    scene: Scene,
    gate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(client_module, "AWAY", 1.0)
    path = tmp_path / "sock"
    async with anyio.create_task_group() as group:
        failed: list[Interrupted] = []
        begun = anyio.Event()

        async def follow() -> None:
            async with client(path) as api:
                try:
                    await api.run_operation(STOP.call(service="main"), lambda event: begun.set())
                except Interrupted as error:
                    failed.append(error)

        async with daemon(scene, path):
            group.start_soon(follow)
            await begun.wait()
        with anyio.fail_after(10):
            while not failed:  # noqa: ASYNC110
                await anyio.sleep(0.02)
    assert "purveyor operations" in failed[0].remedy
    assert "goes on when it is back" in capsys.readouterr().err


# ---------------------------------------------------------------- the command itself


def answering(path: Path, how: str) -> None:
    """A socket that behaves as daemons do that are not well."""
    import socket

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(0 if how == "is full" else 16)
    held = []
    if how == "is full":
        for _ in range(8):
            waiting = socket.socket(socket.AF_UNIX)
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(path))
            held.append(waiting)

    def serve() -> None:
        if how == "is full":
            time.sleep(60)
        while True:
            connection, _ = listener.accept()
            held.append(connection)
            with contextlib.suppress(OSError):
                if how != "hangs":
                    connection.recv(1000)
                if how == "garbage":
                    connection.sendall(b"\x00\xffwhat?\r\n\r\n")
                if how != "hangs":
                    connection.close()

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.parametrize("how", ["hangs", "cuts", "garbage", "is full"])
def test_a_daemon_that_does_not_answer_is_a_sentence_within_five_seconds(
    tmp_path: Path, how: str
) -> None:
    (tmp_path / "settings.toml").write_text("")
    (tmp_path / "lock").write_text("4711\n")
    answering(tmp_path / "purveyor.sock", how)
    began = time.monotonic()
    done = subprocess.run(
        [*PURVEYOR, "--state", tmp_path, "list"], capture_output=True, text=True, timeout=60
    )
    took = time.monotonic() - began
    assert (done.returncode, done.stdout) == (7, "")
    assert "The daemon (process 4711)" in done.stderr
    assert "Traceback" not in done.stderr
    assert client_module.FIRST_LOOK + client_module.HANGS < 5
    assert took < 30, "the sentence, and the start of a Python on a machine that may be busy"


def test_what_only_looks_makes_no_state_directory_and_says_where_it_looked(tmp_path: Path) -> None:
    state = tmp_path / "nowhere"
    environment = {**os.environ, "PURVEYOR_STATE": str(state)}
    for command in (["list"], ["env", "shop"], ["export"]):
        done = subprocess.run(
            [*PURVEYOR, *command], capture_output=True, text=True, env=environment, timeout=60
        )
        assert done.returncode == 4, (command, done.stderr)
        assert f"no installation in {state} (the one that $PURVEYOR_STATE names)" in done.stderr
    done = subprocess.run(
        [*PURVEYOR, "--json", "types"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert "postgres" in [item["service_type"] for item in json.loads(done.stdout)]
    assert not state.exists()
    subprocess.run(
        [*PURVEYOR, "project", "create", "shop"],
        check=True,
        capture_output=True,
        env=environment,
        timeout=60,
    )
    assert (state / "purveyor.db").exists()


def test_a_daemon_waits_for_a_command_and_commands_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('listen = "127.0.0.1:0"\n')
    # an engine would be given the network of an ordinary installation
    nobody = f"unix://{tmp_path}/nobody.sock"
    environment = {**os.environ, "PURVEYOR_STATE": str(tmp_path), "DOCKER_HOST": nobody}
    holds = (
        "import sys, time; from pathlib import Path; from purveyor.kernel.db.lock import "
        "StateLock\n"
    )
    holds += "with StateLock(Path(sys.argv[1])): print(flush=True); sys.stdin.readline()"
    command = subprocess.Popen(
        [sys.executable, "-c", holds, tmp_path], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert command.stdout is not None
    assert command.stdin is not None
    command.stdout.readline()
    daemon = subprocess.Popen(
        [*PURVEYOR, "serve"], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert daemon.stderr is not None
        waiting = json.loads(daemon.stderr.readline())
        assert (waiting["event"], waiting["process"]) == ("waiting", str(command.pid))
        command.stdin.close()
        said = ""
        while '"event": "serving"' not in said:
            line = daemon.stderr.readline()
            assert line, said
            said += line
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)
        command.wait(30)
    made = [
        subprocess.Popen(
            [*PURVEYOR, "project", "create", f"p{number}"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(2)
    ]
    for process in made:
        assert process.wait(60) == 0, process.stderr.read() if process.stderr else ""
