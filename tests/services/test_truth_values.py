"""What is said is so: time-outs by who they are of, settings by their bounds, logs without
secrets."""

import json
import logging
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from purveyor.kernel.db.secrets import Secrets, open_secrets
from purveyor.kernel.logs import libraries, make_logger
from purveyor.kernel.plugins.registry import Plugin
from purveyor.providers.registry import ProviderRegistry
from purveyor.settings import load
from purveyor_hooks import BadInput, DeadlineExceeded, Failed, Image, Service, ServiceType, hookimpl


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Slow:
    """A type whose driver gives up by itself, or hangs."""

    hangs = False

    @hookimpl
    def service_type(self) -> ServiceType:
        return ServiceType(
            name="slow", label="", description="", default_image="x:1", parameters=(), ports=()
        )

    @hookimpl
    async def ready(self, service: Service, access: Any) -> None:
        if self.hangs:
            await anyio.sleep(60)
        raise TimeoutError("the driver's own")

    @hookimpl
    def container(self, service: Service) -> None: ...

    @hookimpl
    async def census(self, service: Service, access: Any) -> None: ...

    @hookimpl
    async def restore(self, service: Service, access: Any, source: Any) -> None: ...

    @hookimpl
    async def backup(self, service: Service, access: Any, sink: Any) -> None:
        raise TimeoutError("the driver's own")


@pytest.mark.anyio
async def test_a_drivers_time_out_is_told_as_its_own_and_ours_as_ours() -> None:
    registry, plugin = ProviderRegistry(make_logger(logging.CRITICAL)), Slow()
    registry.register(plugin, Plugin(name="slow"))
    provider = registry.provider("slow")
    service = Service(
        id=1,
        name="main",
        slug="main",
        service_type="slow",
        parameters={},
        secrets={},
        image=Image(reference="x:1"),
        host="h",
    )
    for call in (provider.run("ready", service, deadline=10.0, access=None),
        provider.run("backup", service, access=None, sink=None, tools=None)):  # fmt: skip
        with pytest.raises(Failed, match="TimeoutError: the driver's own") as told:
            await call
        assert "within" not in told.value.detail
    plugin.hangs = True
    with pytest.raises(DeadlineExceeded, match=r"did not finish ready of main within 0 s"):
        await provider.run("ready", service, deadline=0.05, access=None)


@pytest.mark.parametrize(
    "line",
    ["health-interval = 0", "health-interval = -5", "health-interval = inf",
    "health-interval = nan", "stall-timeout = 0",
     "ready-timeout = -1", "pull-timeout = 1e9", "archive-interval = -1", "archive-queue = 0",
     "old-data-days = -3",
     "port-offset = 70000", "port-offset = -1", "connections = 0", "connections = 1000000",
     'volumes = "relative/path"',
     'backups = "here"', 'listen = "127.0.0.1:²"', 'listen = "127.0.0.1:99999"'],
)  # fmt: skip
def test_a_setting_out_of_its_bounds_is_refused_by_its_name(tmp_path: Path, line: str) -> None:
    (tmp_path / "settings.toml").write_text(line)
    with pytest.raises(BadInput, match=line.partition(" ")[0]):
        load(tmp_path)


def logged(secrets: Any, **fields: Any) -> dict[str, Any]:
    stream = StringIO()
    make_logger(logging.DEBUG, stream, secrets).warning("something", **fields)
    found: dict[str, Any] = json.loads(stream.getvalue())
    return found


def test_a_traceback_holds_no_secret() -> None:
    secrets = Secrets(b"0" * 43 + b"=")
    secrets.seal({"password": "correct horse/battery", "port": 5432, "name": "innocent-name"})
    try:
        raise RuntimeError(
            "login as postgresql://app:hunter22hunter@db/x failed with correct horse/battery"
        )
    except RuntimeError as error:
        line = json.dumps(
            logged(
                secrets.known, exc_info=error, error=str(error), url="x?p=correct%20horse%2Fbattery"
            )
        )
    for secret in ("correct horse/battery", "hunter22hunter", "correct%20horse"):
        assert secret not in line
    assert "RuntimeError" in line
    assert logged(secrets.known, service="innocent-name")["service"] == "innocent-name"
    assert logged(secrets.known, token="abc",
        nested={"password": "x", "list": ["correct horse/battery"]}) | {"timestamp": ""} == {
        "token": "***", "nested": {"password": "***", "list": ["***"]}, "event": "something",
        "level": "warning", "timestamp": "",
    }  # fmt: skip


def test_a_secret_is_encoded_once_and_not_for_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def counted(text: str, safe: str) -> str:
        encoded.append(text)
        return quote(text, safe=safe)

    monkeypatch.setattr("purveyor.kernel.logs.quote", counted)
    secrets = ["correct horse/battery", "another one of them"]
    stream = StringIO()
    logger = make_logger(logging.DEBUG, stream, lambda: secrets)
    for _ in range(3):
        logger.warning("something", one="x", other="correct%20horse%2Fbattery")
    assert encoded == secrets
    # another order, and one that is not known any more
    secrets[:] = ["a third one/of them", secrets[0]]
    logger.warning("something", other="another one of them", third="a%20third%20one%2Fof%20them")
    assert encoded[2:] == ["a third one/of them"]
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["other"] for line in lines[:3]} == {"***"}
    assert (lines[3]["other"], lines[3]["third"]) == ("another one of them", "***")


def test_a_librarys_warning_is_no_traceback_for_whoever_runs_a_command() -> None:
    stream = StringIO()
    with libraries(make_logger(logging.WARNING, stream)):
        try:
            raise ValueError("a header that cannot be read")
        except ValueError:
            logging.getLogger("urllib3").warning("Failed to parse headers", exc_info=True)
            assert not stream.getvalue()
            logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=True)
    line = json.loads(stream.getvalue())
    assert (line["level"], line["of"]) == ("error", "asyncio")
    assert "ValueError" in line["exception"]


def test_what_is_opened_is_known_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purveyor.kernel.db.secrets.REMEMBERED", 3)
    first = open_secrets(tmp_path)
    sealed = first.seal("a secret of one")
    second = open_secrets(tmp_path)
    assert list(second.known()) == []
    second.open(sealed)
    for number in range(3):
        second.seal(f"secret number {number}")
    assert list(second.known()) == [f"secret number {number}" for number in range(3)]
