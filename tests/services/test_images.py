"""The images that contrib/images builds keep the official images' conventions, and pulling works
from a real registry."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import Stage, docker, eventually, free_port

pytestmark = pytest.mark.fortnightly

POSTGRES = [f"purveyor-test/postgres:{major}" for major in (15, 16, 17, 18)]
KEY_VALUE = ["purveyor-test/redis:7.0", "purveyor-test/redis:8.0", "purveyor-test/valkey:8.1"]


@pytest.fixture
def run(engine: None) -> Iterator[Callable[..., str]]:
    """Runs a container that is removed in the end; the answer is its id."""
    made: list[str] = []

    def start(*arguments: str) -> str:
        made.append(docker("run", "-d", *arguments))
        return made[-1]

    yield start
    for container in made:
        docker("rm", "-f", "-v", container)


@pytest.mark.parametrize("image", POSTGRES)
def test_postgres_takes_its_settings_from_variables_files_and_scripts(
    image: str, run: Callable[..., str], tmp_path: Path
) -> None:
    scripts = tmp_path / "initdb"
    scripts.mkdir()
    (scripts / "1.sql").write_text("CREATE TABLE from_sql (id int)")
    (scripts / "2.sh").write_text(
        'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "CREATE TABLE from_sh (id int)"'
    )
    password = tmp_path / "password"
    password.write_text("p w'd\n")
    container = run(
        "-v", f"{scripts}:/docker-entrypoint-initdb.d:ro", "-v", f"{password}:/run/password:ro",
        "-e", "POSTGRES_USER=boss", "-e", "POSTGRES_DB=stock", "-e",
        "POSTGRES_PASSWORD_FILE=/run/password",
        "-e", "POSTGRES_INITDB_ARGS=--data-checksums --locale=C", image, "-c", "work_mem=7MB",
    )  # fmt: skip

    def ask(sql: str) -> str:
        login = (
            "exec",
            "-e",
            "PGPASSWORD=p w'd",
            container,
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            "boss",
            "-d",
            "stock",
            "-Atc",
        )
        return docker(*login, sql, check=False)

    eventually(lambda: ask("SELECT 1") == "1")
    assert ask("SHOW work_mem") == "7MB"
    assert ask("SHOW data_checksums") == "on"
    assert ask("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'from_%'") == "2"
    assert docker("exec", container, "stat", "-c", "%U", "/proc/1").strip() == "postgres"
    docker("stop", "-t", "20", container)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0"
    docker("start", container)
    eventually(lambda: ask("SELECT 1") == "1")


def test_postgres_without_a_password_says_so(run: Callable[..., str]) -> None:
    container = run(POSTGRES[-1])
    assert docker("wait", container) == "1"
    assert (
        "POSTGRES_PASSWORD"
        in subprocess.run(["docker", "logs", container], capture_output=True, text=True).stderr
    )


@pytest.mark.parametrize("image", KEY_VALUE)
def test_redis_and_valkey_hand_arguments_on_and_stop_in_peace(
    image: str, run: Callable[..., str]
) -> None:
    container = run(image, "--maxmemory", "12mb", "--appendonly", "yes")
    cli = "valkey-cli" if "valkey" in image else "redis-cli"
    eventually(lambda: docker("exec", container, cli, "PING", check=False) == "PONG")
    assert "12582912" in docker("exec", container, cli, "CONFIG", "GET", "maxmemory")
    docker("exec", container, cli, "SET", "k", "v")
    assert docker("exec", container, "stat", "-c", "%U", "/proc/1").strip() == "redis"
    docker("stop", "-t", "20", container)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0"
    docker("start", container)
    eventually(lambda: docker("exec", container, cli, "GET", "k", check=False) == "v")


def test_building_again_builds_nothing(engine: None) -> None:
    build = Path(__file__).resolve().parents[2] / "contrib/images/build"
    said = subprocess.run(
        [build, "--without-slow"], capture_output=True, text=True, check=True
    ).stdout
    assert "0 built" in said


# ----------------------------------------------------------- pulling, from Debian's docker-registry


@pytest.fixture
def registry(engine: None, tmp_path: Path) -> Iterator[str]:
    """A real registry on this host; Docker takes 127.0.0.1 without TLS."""
    program = shutil.which("docker-registry")
    assert program, "install Debian's docker-registry (contrib/prepare dev does)"
    address = f"127.0.0.1:{free_port()}"
    config = tmp_path / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: "
        f"{tmp_path}/registry}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    server = subprocess.Popen(
        [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield address
    finally:
        server.terminate()
        server.wait(10)


def test_a_missing_image_is_pulled_with_progress_and_one_that_is_there_is_not(
    registry: str, make_stage: Callable[..., Stage]
) -> None:
    image = f"{registry}/stock/redis:8.0"
    build = f"FROM purveyor-test/redis:8.0\nLABEL unique={registry}\n"
    command = ["docker", "build", "-q", "-t", image, "-"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin", "DOCKER_BUILDKIT": "0"}
    subprocess.run(command, input=build.encode(), env=environment, check=True, capture_output=True)
    stage = make_stage()
    try:
        eventually(
            lambda: (
                subprocess.run(["docker", "push", "-q", image], capture_output=True).returncode == 0
            )
        )
        stage.cli("create", "redis", "here", "--image", image)
        assert not [line for line in stage.cli("events").splitlines() if ".progress" in line]
        stage.cli("delete", "here", "--purge", "--yes")
        docker("rmi", "-f", image)
        stage.cli("create", "redis", "pulled", "--image", image)
        said = [line for line in stage.cli("events").splitlines() if ".progress" in line]
        assert any(f"pulling {image}" in line for line in said)
        assert stage.json("health", "pulled")["healthy"]
    finally:
        stage.clean()
        docker("rmi", "-f", image, check=False)
