"""Pulling an image over a socket that a test answers: whatever becomes of it, the connection is
closed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.abc
import pytest

from purveyor.docker import Labels
from purveyor.docker.client import DockerEngine
from purveyor_hooks import EngineUnavailable, ImageMissing

pytestmark = pytest.mark.anyio

LINES = [{"status": "Pulling"}, {"id": "a", "progressDetail": {"current": 5, "total": 10}}]


class Daemon:
    """A dockerd that begins to pull, and goes on when it is let. `asked` are the first lines of
    what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = "200 OK"
        self.more = b""
        self.breaks = False
        self.closed = anyio.Event()

    async def answer(self, stream: anyio.abc.ByteStream) -> None:
        async with stream:
            try:
                while request := (await stream.receive()).decode():
                    self.asked.append(request.splitlines()[0])
                    if "/version" in request:
                        body = b'{"ApiVersion": "1.41"}'
                        head = (
                            "HTTP/1.1 200 OK\r\nContent-Type: "
                            f"application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                        )
                        await stream.send(head.encode() + body)
                        continue
                    head = (
                        f"HTTP/1.1 {self.status}\r\nContent-Type: "
                        "application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                    )
                    await stream.send(
                        head.encode() + (self.more or b"".join(chunk(line) for line in LINES))
                    )
                    if self.breaks:
                        return
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                self.closed.set()


def chunk(line: Any) -> bytes:
    text = json.dumps(line).encode() + b"\r\n"
    return b"%x\r\n%b\r\n" % (len(text), text)


@pytest.fixture
async def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Daemon]:
    path, made = tmp_path / "docker.sock", Daemon()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    async with (
        await anyio.create_unix_listener(path) as listening,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listening.serve, made.answer)
        yield made
        group.cancel_scope.cancel()


@pytest.fixture
async def engine(daemon: Daemon) -> AsyncIterator[DockerEngine]:
    made = DockerEngine("fk", Labels("none"))
    yield made
    await made.close()


async def silently(text: str) -> None:
    """Nobody listens."""


async def test_an_image_is_pulled_by_its_whole_name_and_progress_is_told(
    daemon: Daemon, engine: DockerEngine
) -> None:
    told: list[str] = []

    async def note(text: str) -> None:
        told.append(text)

    daemon.more = b"".join(chunk(line) for line in LINES) + b"0\r\n\r\n"
    for reference in ("app", "host:5000/app:1", f"app@sha256:{'a' * 64}"):
        await engine.images.pull(reference, note, 2)
    asked = [
        parse_qs(urlsplit(line.split()[1]).query)
        for line in daemon.asked
        if "images/create" in line
    ]
    assert asked == [
        {"fromImage": ["app"], "tag": ["latest"]},
        {"fromImage": ["host:5000/app:1"]},
        {"fromImage": [f"app@sha256:{'a' * 64}"]},
    ]
    assert told[:2] == ["pulling app", "pulling app: 50 %"]


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
async def test_why_an_image_cannot_be_pulled_is_said(
    daemon: Daemon, engine: DockerEngine, status: str
) -> None:
    line = {"error": "access denied"} if status.startswith("200") else {"message": "access denied"}
    daemon.status, daemon.more = status, chunk(line) + b"0\r\n\r\n"
    with pytest.raises(
        ImageMissing,
        match=r"The image app:1 was not found locally, and pulling it failed: access denied\.",
    ):
        await engine.images.pull("app:1", silently, 2)


async def test_a_pull_whose_engine_goes_away_is_not_taken_for_done(
    daemon: Daemon, engine: DockerEngine
) -> None:
    daemon.more = chunk(LINES[0])
    daemon.breaks = True
    with pytest.raises(EngineUnavailable):
        await engine.images.pull("app:1", silently, 2)


async def test_a_pull_that_stalls_is_given_up_and_closed(
    daemon: Daemon, engine: DockerEngine
) -> None:
    with pytest.raises(ImageMissing, match="made no progress") as kept:
        await engine.images.pull("app:1", silently, 0.2)
    with anyio.fail_after(2):
        await daemon.closed.wait()
    assert kept.value.remedy


async def test_a_pull_that_nobody_waits_for_any_more_is_closed(
    daemon: Daemon, engine: DockerEngine
) -> None:
    async def failing(text: str) -> None:
        if "%" in text:
            raise RuntimeError("the journal is full")

    with pytest.raises(RuntimeError) as kept:
        await engine.images.pull("app:1", failing, 5)
    with anyio.fail_after(2):
        await daemon.closed.wait()
    assert kept.value.args
