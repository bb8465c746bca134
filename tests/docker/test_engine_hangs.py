"""An engine that takes a connection and says nothing, and one that is on another host."""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest

from fake.scene import PLUGINS, SETTINGS, Scene
from purveyor.app import open_app
from purveyor.docker import Labels
from purveyor.docker.client import DockerEngine
from purveyor.docker.errors import LOOK, translated
from purveyor.doctor import examine
from purveyor.services import store as services
from purveyor_hooks import BadInput, EngineUnavailable

pytestmark = pytest.mark.anyio

LOOKS: dict[str, Callable[[DockerEngine], Awaitable[Any]]] = {
    "version": lambda engine: engine.version(),
    "inspect": lambda engine: engine.containers.inspect("main"),
    "list": lambda engine: engine.containers.listed(),
    "foreign": lambda engine: engine.containers.foreign(),
    "usage": lambda engine: engine.containers.usage("main"),
    "stop": lambda engine: engine.containers.stop("main"),
    "image": lambda engine: engine.images.inspect("app:1"),
    "volume": lambda engine: engine.volumes.show("main"),
    "gateway": lambda engine: engine.gateway(),
    "networks": lambda engine: engine.networks.listed(),
}


@pytest.fixture
async def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DockerEngine]:
    """An engine's client whose connections are taken and never answered, as a stopped dockerd
    does."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(100)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        engine = DockerEngine("fk", Labels("none"))
        yield engine
        await engine.close()


async def test_an_engine_that_hangs_keeps_nobody_longer_than_a_look_may_take(
    hanging: DockerEngine,
) -> None:
    said: dict[str, EngineUnavailable] = {}

    async def ask(name: str) -> None:
        try:
            await LOOKS[name](hanging)
        except EngineUnavailable as error:
            said[name] = error

    begun = monotonic()
    with anyio.fail_after(LOOK * 2):
        async with anyio.create_task_group() as group:
            for name in LOOKS:
                group.start_soon(ask, name)
    assert monotonic() - begun < LOOK + 2
    assert set(said) == set(LOOKS)
    assert all("did not answer within 5 s" in error.detail for error in said.values())


async def test_while_it_hangs_every_status_is_unknown_and_says_why(
    hanging: DockerEngine, scene: Scene
) -> None:
    async with open_app(scene.state, plugins=PLUGINS, log_level=logging.CRITICAL) as app:
        records = await app.context.store.read(services.list_all)
        with anyio.fail_after(LOOK + 3):
            found = await app.observer.statuses(records)
        assert len(found) == len(records) > 3
        assert {status.status for status in found.values()} == {"unknown"}
        assert all("did not answer within 5 s" in status.reason for status in found.values())
        assert [check.name for check in await examine(app, None, "production") if not check.ok] == [
            "answers"
        ]


async def test_what_takes_too_long_is_an_engine_that_is_away_and_what_may_take_long_is_waited_for() -> (
    None
):
    late = pytest.raises(
        EngineUnavailable, match=r"did not answer within 0 s: could not start the container main\."
    )
    with late, translated("start the container main", 0.01):
        await anyio.sleep(5)
    with translated("wait for main", None):
        await anyio.sleep(0.02)


@pytest.mark.parametrize(
    "host", ["tcp://192.0.2.7:2375", "ssh://root@192.0.2.7", "tcp://engine.invalid:2375"]
)
async def test_an_engine_on_another_host_is_refused_at_once(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    begun = monotonic()
    with pytest.raises(BadInput, match="the engine has to be on this host"):
        async with open_app(tmp_path, plugins=[]):
            pass
    assert monotonic() - begun < 1.5


@pytest.mark.parametrize(
    "host", ["tcp://127.0.0.1:1", "tcp://localhost:1", "unix:///nowhere/docker.sock"]
)
async def test_an_engine_of_this_host_may_be_reached_in_any_way(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    engine = DockerEngine("fk", Labels("none"))
    await engine.require_here()
    with pytest.raises(EngineUnavailable):
        await engine.version()
    await engine.close()
