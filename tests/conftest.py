"""Fixtures: stages on the real engine, each with a name of its own, all removed in the end."""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

import forkserver
from catalogue import uncatalogued
from distributions import STALE, stale
from fake.fixtures import anyio_backend, furnished, quick, room, scene, trial  # noqa: F401 - fixtures of tests that need no engine
from sampling import DAY, ORDINARY, Share, today
from sharding import Sharding, fortnightly
from support import MINIO, RUSTFS, MakeStage, Stage, docker, storage

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-durations",
        action="store_true",
        help="Write down how long each group of tests took.",
    )
    parser.addoption(
        "--sample-long",
        type=float,
        metavar="SECONDS",
        help="Where no file is named: of what takes longer, too, take the day's share alone.",
    )


def pytest_configure(config: pytest.Config) -> None:
    if stale():
        raise pytest.UsageError(STALE)
    # the workers see it in the same arguments
    config.option.whole = (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS or config.args == ["tests"]
    )
    if not hasattr(config, "workerinput"):
        os.environ.setdefault(DAY, str(today()))  # one day for all of them, over midnight too
    write = config.getoption("--write-durations") and not hasattr(config, "workerinput")
    config.pluginmanager.register(Sharding(write=write))


def pytest_report_header(config: pytest.Config) -> str:
    if ORDINARY in config.option.markexpr:
        return (
            f"what is long: the share of day {today()}; {DAY}={today()} takes it again, "
            "contrib/test --nightly takes all"
        )
    return "what is long: all of it"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that took a share and failed says how to have it fail again."""
    report = yield
    when = getattr(item, "callspec", None) and item.callspec.params.get("when")  # type: ignore[attr-defined]
    if report.failed and (
        when == "some" or "share" in getattr(item, "fixturenames", ()) or fortnightly(item)
    ):
        report.sections.append(("To repeat it", f"{DAY}={today()} contrib/test '{item.nodeid}'"))
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """What the fork server has imported was run by it alone: it says so when it ends, before what
    was measured is put together."""
    try:
        return (yield)
    finally:
        forkserver.end()


@pytest.fixture
def share(request: pytest.FixtureRequest) -> Share:
    """What this run takes of the test's cases."""
    return Share(request.node.nodeid, request.config.option.markexpr)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a Docker Engine: it uses the fixture, directly or through others. What kills
    it is left out where others use it."""
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()):
            item.add_marker("engine")
    if "PURVEYOR_OWN_ENGINE" not in os.environ:
        killing = [item for item in items if item.get_closest_marker("own_engine")]
        items[:] = [item for item in items if item not in killing]
        config.hook.pytest_deselected(items=killing)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as at a terminal: where the tests are started in the background, it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def engine() -> None:
    """A real engine with the images of contrib/images."""
    assert docker("version", "--format", "{{.Server.Version}}"), "these tests need a Docker Engine"
    # contrib/newer-engine has loaded those that it names
    if "PURVEYOR_TEST_IMAGES" not in os.environ:
        subprocess.run(
            [ROOT / "contrib/images/build", "--without-slow"], check=True, stdout=subprocess.DEVNULL
        )


@pytest.fixture(scope="session")
def minio(engine: None, request: pytest.FixtureRequest) -> str:
    """The image that takes minutes to build: the ordinary run uses it where it is, and the nightly
    one builds it."""
    if ORDINARY in request.config.option.markexpr:
        if not docker("images", "-q", MINIO):
            pytest.skip(
                "there is no MinIO here: contrib/images/build minio, or contrib/test --nightly"
            )
        return MINIO
    subprocess.run([ROOT / "contrib/images/build", MINIO], check=True, stdout=subprocess.DEVNULL)
    return MINIO


@pytest.fixture(scope="session")
def rustfs(engine: None) -> str:
    """The image that is made of a program which is not part of this repository."""
    if storage() != RUSTFS:
        why = "there is no RustFS here: see contrib/images/build"
        if "PURVEYOR_TEST_RUSTFS" in os.environ:
            pytest.fail(why)
        pytest.skip(why)
    return RUSTFS


@pytest.fixture(scope="module")
def make_stage(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStage]:
    """Makes stages that live as long as the module's tests."""
    made: list[Stage] = []

    def make(settings: str = "", images: dict[str, str] | None = None) -> Stage:
        folder = tmp_path_factory.mktemp("stage")
        made.append(Stage(folder, f"pvt-{secrets.token_hex(4)}", settings, images))
        return made[-1]

    yield make
    wrong = [line for stage in made for line in uncatalogued(stage.state)]
    for stage in made:
        stage.clean()
        shutil.rmtree(stage.state, ignore_errors=True)
    assert not wrong, wrong


SERVICES = {"main": "postgres", "cache": "redis"}


@pytest.fixture(scope="module")
def house(make_stage: MakeStage) -> Iterator[Stage]:
    """A daemon with nothing in it yet, for all tests of a module."""
    with make_stage().serving() as stage:
        yield stage


@pytest.fixture(scope="module")
def shops(house: Stage) -> Stage:
    """A PostgreSQL and a Redis, each linked to two projects: alpha and beta."""
    house.furnish(SERVICES, ["alpha", "beta"])
    return house


@pytest.fixture(scope="module")
def linked(make_stage: MakeStage) -> Stage:
    """Both services, and a project for the taking; nothing runs beside."""
    with make_stage().serving() as stage:
        stage.furnish(SERVICES)
    return stage
