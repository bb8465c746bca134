"""Data identity: a service serves the data set that is recorded, or says why not; never an empty
server."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import POSTGRES, REDIS, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

SEED = {
    "postgres": ("-c", "CREATE TABLE precious AS SELECT generate_series(1, 500) AS id"),
    "redis": ("SET", "precious", "500"),
}
READ = {"postgres": ("-Atc", "SELECT count(*) FROM precious"), "redis": ("GET", "precious")}


@pytest.fixture(
    scope="module", params=["postgres", pytest.param("redis", marks=pytest.mark.nightly)]
)
def filled(request: pytest.FixtureRequest, house: Stage) -> Iterator[str]:
    """A service that holds 500."""
    name = f"s-{request.param}"
    house.cli("create", request.param, name)
    house.cli("connect", name, "--", *SEED[request.param])
    yield name
    house.cli("delete", name, "--purge", "--yes")


@pytest.fixture
def service(filled: str, house: Stage) -> str:
    """The same, stopped: each test gives it back as it was."""
    house.cli("stop", filled)
    return filled


def kind(service: str) -> str:
    return service.removeprefix("s-")


def holds(house: Stage, service: str) -> bool:
    return house.cli("connect", service, "--", *READ[kind(service)]).strip() == "500"


def data_of(house: Stage, service: str) -> Path:
    return house.state / "volumes" / house.json("show", service)["service"]["volume"]


def refused(house: Stage, service: str, *words: str) -> None:
    said = house.cli("start", service, code=5)
    for word in words:
        assert word in said, said
    found = house.json("show", service)["service"]
    assert found["status"] == "refused", found
    assert found["status_reason"]
    assert docker("ps", "-q", "--filter", f"name=^/{house.namespace}-{service}$") == ""


@pytest.mark.every_engine
def test_a_removed_docker_volume_loses_nothing(service: str, house: Stage) -> None:
    docker("rm", "-v", f"{house.namespace}-{service}")
    (volume,) = [name for name in house.volumes() if f"-{service}-" in name]
    docker("volume", "rm", volume)
    house.cli("start", service)
    assert holds(house, service)


@pytest.mark.every_engine
def test_an_empty_volume_swapped_in_is_refused(service: str, house: Stage) -> None:
    docker("rm", "-v", f"{house.namespace}-{service}")
    (volume,) = [name for name in house.volumes() if f"-{service}-" in name]
    docker("volume", "rm", volume)
    docker("volume", "create", volume)
    refused(house, service, "not the recorded one", str(data_of(house, service)))
    docker("volume", "rm", "-f", volume)
    house.cli("start", service)
    assert holds(house, service)


def test_an_emptied_folder_is_refused_until_the_data_is_back(service: str, house: Stage) -> None:
    folder = data_of(house, service)
    aside = folder.with_suffix(".aside")
    shutil.copytree(folder, aside, symlinks=True, copy_function=copy_with_owner)
    copy_owners(folder, aside)
    for child in folder.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    refused(house, service, "is missing")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files == [], "nothing may be initialised in a folder that should hold data"
    for child in folder.iterdir():  # the mount point of a volume that the image declares
        child.rmdir()
    for child in aside.iterdir():
        child.rename(folder / child.name)
    aside.rmdir()
    house.cli("start", service)
    assert holds(house, service)


def copy_with_owner(source: str, target: str) -> str:
    shutil.copy2(source, target)
    return target


def copy_owners(source: Path, target: Path) -> None:
    for path in [source, *source.rglob("*")]:
        owner = path.lstat()
        os.chown(
            target / path.relative_to(source), owner.st_uid, owner.st_gid, follow_symlinks=False
        )


def test_a_folder_that_is_gone_is_refused(service: str, house: Stage) -> None:
    folder = data_of(house, service)
    folder.rename(folder.with_suffix(".gone"))
    refused(house, service, "is gone")
    assert not folder.exists()
    folder.with_suffix(".gone").rename(folder)
    house.cli("start", service)
    assert holds(house, service)


def test_another_data_set_is_stopped_and_can_be_accepted_in_so_many_words(
    service: str, house: Stage
) -> None:
    folder = data_of(house, service)
    before = (
        house.local()
        .get(f"/api/external-services/{service}/client")
        .json()["client"]["environment"]
    )
    (password,) = before.values()
    house.cli("create", kind(service), "other", "-p", f"password={password}")
    house.cli("stop", "other")
    other = data_of(house, "other")
    folder.rename(folder.with_suffix(".mine"))
    other.rename(folder)
    refused(house, service, "another data set", "--accept-data")
    house.cli("start", service, "--accept-data")
    assert not house.run("connect", service, "--", *READ[kind(service)]).stdout.strip()
    house.cli("stop", service)
    folder.rename(other)
    folder.with_suffix(".mine").rename(folder)
    refused(house, service, "another data set")
    house.cli("start", service, "--accept-data")
    assert holds(house, service)
    house.cli("delete", "other", "--purge", "--yes")


def test_a_foreign_data_set_is_found_also_when_docker_starts_the_container(
    service: str, house: Stage
) -> None:
    """As after a reboot, or a `docker start` by hand."""
    folder = data_of(house, service)
    (password,) = house.call("GET", f"/external-services/{service}/client")["client"][
        "environment"
    ].values()
    house.cli("create", kind(service), "reboot", "-p", f"password={password}")
    house.cli("stop", "reboot")
    other = data_of(house, "reboot")
    house.cli("start", service)
    docker("stop", f"{house.namespace}-{service}")
    folder.rename(folder.with_suffix(".mine"))
    other.rename(folder)
    docker("start", f"{house.namespace}-{service}")
    eventually(lambda: house.json("show", service)["service"]["status"] == "refused")
    assert docker("ps", "-q", "--filter", f"name=^/{house.namespace}-{service}$") == ""
    folder.rename(other)
    folder.with_suffix(".mine").rename(folder)
    house.cli("start", service)
    assert holds(house, service)
    house.cli("delete", "reboot", "--purge", "--yes")


@pytest.mark.every_engine
def test_another_port_and_another_mount_of_the_image_lose_nothing(house: Stage) -> None:
    """PostgreSQL 18 images mount elsewhere than 17 ones: the data stays where it is recorded."""
    docker("tag", "purveyor-test/postgres:17", f"{house.namespace}/moved:17")
    try:
        house.cli("create", "postgres", "moved", "--image", "purveyor-test/postgres:17")
        house.cli("connect", "moved", "--", *SEED["postgres"])
        build = "FROM purveyor-test/postgres:17\nENV PGDATA=/elsewhere/data\nVOLUME /elsewhere\n"
        subprocess.run(
            ["docker", "build", "-q", "-t", f"{house.namespace}/moved:17", "-"],
            input=build.encode(),
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
            check=True,
            capture_output=True,
        )
        port = house.json("show", "moved")["service"]["port"] + 11
        house.cli("update", "moved", "--image", f"{house.namespace}/moved:17", "-p", f"port={port}")
        assert house.cli("connect", "moved", "--", *READ["postgres"]).strip() == "500"
        house.cli("restart", "moved")
        assert house.cli("connect", "moved", "--", *READ["postgres"]).strip() == "500"
    finally:
        house.cli("delete", "moved", "--purge", "--yes")
        docker("rmi", "-f", f"{house.namespace}/moved:17", check=False)


# ------------------------------------------------------------ prune, on an engine of the test's own


@pytest.fixture
def own_engine(engine: None) -> Iterator[Callable[..., list[str]]]:
    """A second engine in a network namespace of its own; the answer wraps a command to run beside
    it."""
    # short: containerd's socket is a path of at most 108 characters
    tmp_path = Path(tempfile.mkdtemp(prefix="pvt-"))
    socket = tmp_path / "docker.sock"
    places = [f"--{name}={tmp_path}/{name}" for name in ("data-root", "exec-root")]
    daemon = ["dockerd", *places, f"--pidfile={tmp_path}/pid", f"--host=unix://{socket}"]
    script = 'ip link set lo up; exec "$@"'
    with open(tmp_path / "dockerd.log", "wb") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *daemon],
            stdout=log,
            stderr=log,
        )
    try:
        host = ["env", f"DOCKER_HOST=unix://{socket}"]
        inside = ["nsenter", f"--target={process.pid}", "--net", *host]

        def up() -> bool:
            assert process.poll() is None, (tmp_path / "dockerd.log").read_text()[-2000:]
            return subprocess.run([*host, "docker", "version"], capture_output=True).returncode == 0

        eventually(up)
        yield lambda *command: [*inside, *command]
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize("name", ["redis", pytest.param("postgres", marks=pytest.mark.nightly)])
def test_a_stopped_service_survives_a_prune_of_everything(
    name: str, own_engine: Callable[..., list[str]], make_stage: Callable[..., Stage]
) -> None:
    stage = make_stage()
    image = {"redis": REDIS, "postgres": POSTGRES}[name]

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            own_engine(*command), env=stage.environment, capture_output=True, text=True, timeout=120
        )

    def purveyor(*arguments: str) -> str:
        done = run(sys.executable, "-m", "purveyor", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load() -> None:
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
            subprocess.run(
                own_engine("docker", "load", "-q"),
                stdin=save.stdout,
                check=True,
                capture_output=True,
            )

    load()
    purveyor("create", name, name)
    purveyor("connect", name, "--", *SEED[name])
    purveyor("stop", name, "--yes")
    pruned = run("docker", "system", "prune", "-a", "--volumes", "-f")
    assert pruned.returncode == 0, pruned.stderr
    assert run("docker", "ps", "-aq").stdout == ""
    assert run("docker", "images", "-q").stdout == ""

    said = run(sys.executable, "-m", "purveyor", "start", name)
    assert said.returncode == 6
    assert "was not found locally, and pulling it failed" in said.stderr
    load()  # on a machine with a registry, start pulls it
    purveyor("start", name)
    assert purveyor("connect", name, "--", *READ[name]).strip() == "500"
    purveyor("delete", name, "--purge", "--yes")
