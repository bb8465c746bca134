"""A real third-party plugin: built as a wheel, installed into a clean environment, used, checked,
removed."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import support
from distributions import ROOT, build, run, wheel_of
from of_before import as_before, require_contained, shown
from support import REDIS, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

SOURCE = ROOT / "contrib/purveyor-mariadb"
IMAGE = "purveyor-test/mariadb:11.8"


@pytest.fixture(scope="module")
def python(engine: None, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with Purveyor in it, from its wheels."""
    run(SOURCE / "image/build")
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    run(
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-compile",
        "-c",
        ROOT / "contrib/constraints.txt",
        *wheels.values(),
    )
    return python


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build(folder, SOURCE)
    return wheel_of(folder, "purveyor-mariadb")


@pytest.fixture(scope="module")
def stage(python: Path, make_stage: Any) -> Iterator[Stage]:
    """An installation run by the clean environment's Python."""
    own = support.PURVEYOR
    made = make_stage(images={"mariadb": IMAGE})
    support.PURVEYOR = [str(python), "-m", "purveyor"]
    try:
        yield made
    finally:
        support.PURVEYOR = own


def test_it_is_a_small_distribution_that_knows_the_contract_alone() -> None:
    names = set()
    for module in (SOURCE / "purveyor_mariadb").glob("*.py"):
        text = module.read_text()
        assert len([line for line in text.splitlines() if line.strip()]) < 300, module
        tree = ast.parse(text)
        names |= {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        names |= {
            str(node.module)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and not node.level
        }
    ours = {name.partition(".")[0] for name in names if name.startswith("purveyor")}
    assert ours == {"purveyor_hooks"}


@pytest.mark.parametrize(
    ("content", "says"), [(b"not a wheel at all", "not a wheel"), (None, "no file")]
)
def test_what_is_no_plugin_is_refused_and_nothing_is_installed(
    content: bytes | None, says: str, stage: Stage, tmp_path: Path
) -> None:
    path = tmp_path / "purveyor_x-1.0-py3-none-any.whl"
    if content is not None:
        path.write_bytes(content)
    before = stage.json("plugin", "list")
    assert says in stage.cli("plugin", "install", str(path), code=2)
    assert stage.json("plugin", "list") == before


def test_a_wheel_without_a_plugin_is_told_so(stage: Stage, python: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = '
        '"hatchling.build"\n[project]\nname = "plain"\nversion = "1"\n'
        '[tool.hatch.build.targets.wheel]\nonly-include = ["plain.py"]\n'
    )
    (tmp_path / "plain.py").write_text("")
    build(tmp_path, tmp_path)
    assert "names no plugin" in stage.cli(
        "plugin", "install", str(wheel_of(tmp_path, "plain")), code=2
    )


def test_installed_it_is_created_linked_and_used_like_any_other(stage: Stage, wheel: Path) -> None:
    assert "no service type" in stage.run("create", "mariadb", "main").stderr.lower()
    assert "service type mariadb" in stage.cli("plugin", "install", str(wheel), "--yes")
    found = {item["name"]: item for item in stage.json("plugin", "list")}
    assert found["mariadb"]["service_type"] == "mariadb"
    assert found["mariadb"]["version"] == "1.0.0"
    assert "backup" in stage.cli("plugin", "show", "mariadb")
    with stage.serving():
        stage.cli("create", "mariadb", "main")
        stage.cli("project", "create", "shop")
        stage.cli("link", "main", "shop")
        variables = stage.variables("shop", host=False)
        assert variables["MARIADB_HOST"] == f"{stage.namespace}-main"
        done = docker(
            "run", "--rm", "--network", stage.namespace, "-e",
            f"MYSQL_PWD={variables['MARIADB_PASSWORD']}",
            "--entrypoint", "mariadb", IMAGE, "-h", variables["MARIADB_HOST"], "-u",
            variables["MARIADB_USER"],
            variables["MARIADB_DATABASE"], "-Ne",
            "CREATE TABLE t AS SELECT 42 AS x; SELECT x FROM t",
        )  # fmt: skip
        assert done == "42"
        code = "import os, sys; sys.exit('MARIADB_URL' not in os.environ)"
        stage.cli("run", "shop", "--", sys.executable, "-c", code)


def test_a_container_of_before_serves_on_and_its_next_start_contains_it(stage: Stage) -> None:
    """With its data. Its type says of no root file system that nobody writes to it."""
    name = f"{stage.namespace}-main"

    def rows() -> str:
        variables = stage.variables("shop", host=False)
        return docker(
            "run", "--rm", "--network", stage.namespace, "-e",
            f"MYSQL_PWD={variables['MARIADB_PASSWORD']}", "--entrypoint", "mariadb", IMAGE,
            "-h", variables["MARIADB_HOST"], "-u", variables["MARIADB_USER"],
            variables["MARIADB_DATABASE"], "-Ne", "SELECT x FROM t", check=False,
        )  # fmt: skip

    number = as_before(name, stage.namespace)
    with stage.serving():
        eventually(lambda: rows() == "42")
        assert shown(name)["Id"] == number
        assert "purveyor restart main" in stage.run("doctor").stdout
        stage.cli("restart", "main")
        assert rows() == "42"
        require_contained(name, closed=False)


TABLES = 30
ODD = "a `; DROP TABLE `t07`; -- \\' % \n"  # what a tenant calls a table


def root(stage: Stage, statement: str, database: str = "mysql") -> list[str]:
    """What the server answers its administrator, behind Purveyor's back."""
    script = 'MYSQL_PWD="$(cat /etc/purveyor/mariadb-password)" exec mariadb -uroot -N "$@"'
    name = f"{stage.namespace}-main"
    words = ("sh", "-c", script, "-", "-e", statement, database)
    return docker("exec", name, *words).splitlines()


def made_at(stage: Stage, database: str) -> dict[str, str]:
    """When each table was made, or rebuilt last."""
    found = root(
        stage,
        "SELECT table_name, create_time FROM information_schema.tables WHERE table_type = "
        f"'BASE TABLE' AND table_schema = '{database}' AND table_name LIKE 't%'",
    )
    return dict(line.split("\t") for line in found)


def test_optimize_goes_on_at_the_table_where_its_daemon_was_killed(stage: Stage) -> None:
    """A table that an app holds keeps it there; what was rebuilt before is not rebuilt again."""
    with stage.serving():
        database = stage.variables("shop")["MARIADB_DATABASE"]
        quoted = ODD.replace("`", "``")
        root(
            stage,
            "; ".join(f"CREATE TABLE t{number:02} (x INT)" for number in range(TABLES))
            + f"; CREATE TABLE `{quoted}` (x INT); CREATE TABLE T15 (x INT)"
            + "; CREATE VIEW t99 AS SELECT * FROM mysql.global_priv",
            database,
        )
        offered = stage.json("service", "operations", "main")
        assert [item["name"] for item in offered] == ["optimize"]
        plan = stage.json("service", "run", "main", "optimize", "--plan")
        assert plan["steps"] == ["tables"]
        assert any(f"tables of {database}" in line for line in plan["resources"])
        refused = stage.cli("service", "run", "main", "optimize", "-a", "database=x`y", code=2)
        assert "has no database" in refused
        begun = made_at(stage, database)
        holding = subprocess.Popen(
            ["docker", "exec", f"{stage.namespace}-main", "sh", "-c",
             'MYSQL_PWD="$(cat /etc/purveyor/mariadb-password)" exec mariadb -uroot -e '
             '"START TRANSACTION; SELECT * FROM t15; SELECT SLEEP(60)" ' + database],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(1.1)  # times of tables are whole seconds
        with stage.local() as client:
            path = "/api/external-services/main/operations/mariadb.optimize"
            answer = client.post(path, json={}, headers={"Prefer": "respond-async"})
        number = answer.json()["operation_id"]
        waits = (
            "SELECT info FROM information_schema.processlist WHERE state LIKE 'Waiting for%lock'"
        )
        eventually(lambda: [line for line in root(stage, waits) if "t15" in line])
        os.kill(stage.daemon, signal.SIGKILL)
        before = made_at(stage, database)
        rebuilt = {name for name in before if before[name] != begun[name]}
        assert {f"t{number:02}" for number in range(15)} <= rebuilt
        assert "t15" not in rebuilt
        holding.kill()
        for (number_of,) in (line.split() for line in root(
            stage, "SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP%' AND "
            "info NOT LIKE '%processlist%'")):  # fmt: skip
            root(stage, f"KILL {number_of}")
        holding.wait()
        time.sleep(1.1)
    with stage.serving():
        eventually(lambda: stage.json("operations", str(number))["state"] != "running")
        ended = stage.json("operations", str(number))
        assert ended["state"] == "succeeded", ended
        after = made_at(stage, database)
        assert {name for name in after if after[name] == before[name]} == rebuilt
        assert after.keys() == before.keys()  # no name was taken for a statement
        left = root(stage, "SELECT User FROM mysql.global_priv WHERE User LIKE 'purveyor_load%'")
        assert left == []
        lines = stage.cli("--json", "events", "--service", "main").splitlines()
        told = [
            event for event in map(json.loads, lines)
            if event["type"].startswith("service.mariadb.optimize.")
        ]  # fmt: skip
        assert {event["type"].rpartition(".")[2] for event in told} >= {
            "started",
            "progress",
            "succeeded",
        }


SOME = (
    "it_is_created",
    "ports_are_on_loopback",
    "projects_are_linked",
    "projects_are_kept_apart",
    "a_backup_is_restored",
    "its_operations_are_resumed",
)


@pytest.mark.parametrize(
    "only", [SOME, pytest.param((), marks=pytest.mark.nightly)], ids=["some", "all"]
)
def test_it_keeps_every_promise(only: tuple[str, ...], stage: Stage) -> None:
    chosen = [word for check in only for word in ("--only", check)]
    found = json.loads(
        stage.run("--json", "plugin", "check", "mariadb", *chosen, timeout=500).stdout
    )
    assert isinstance(found, list), found
    assert len(found) >= max(len(only), 1)
    assert {item["check"]: item["seen"] for item in found if item["kept"] is False} == {}
    unclaimed = {item["check"] for item in found if item["kept"] is None}
    assert unclaimed <= {
        "former_credentials_have_their_time",  # a user has one password
        "a_further_one_is_dropped_alone",  # a link has one database
    }


def test_removed_its_services_stay_listed_with_their_data_and_say_what_to_do(
    stage: Stage, wheel: Path
) -> None:
    assert "comes with Purveyor" in stage.run("plugin", "uninstall", "postgres", "--yes").stderr
    assert "main stay listed" in stage.cli("plugin", "uninstall", "mariadb", "--yes")
    with stage.serving():
        listed = stage.json("list")
        assert [item["slug"] for item in listed] == ["main"]
        assert "not installed" in listed[0]["status_reason"]
        assert "Install its plugin again" in stage.run("start", "main").stderr
    stage.cli("plugin", "install", str(wheel), "--yes")
    with stage.serving():
        assert stage.json("health", "main")["healthy"]
        stage.cli("unlink", "main", "shop")
        stage.cli("delete", "main", "--purge", "--yes")


def test_the_code_of_the_authors_guide_is_a_plugin_that_serves(
    make_stage: Any, tmp_path: Path
) -> None:
    guide = (SOURCE / "README.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", guide, re.DOTALL)
    code = "\n".join(
        text for kind, text in blocks if kind == "python" and "Conformance" not in text
    )
    project = tomllib.loads(next(text for kind, text in blocks if kind == "toml"))
    (tmp_path / "purveyor_hello.py").write_text(code)
    info = tmp_path / "purveyor_hello-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['project']['name']}\nVersion: 1.0.0\n"
    )
    points = project["project"]["entry-points"]["purveyor"]
    (info / "entry_points.txt").write_text(
        "[purveyor]\n" + "".join(f"{name} = {where}\n" for name, where in points.items())
    )
    stage = make_stage(images={"hello": REDIS})
    stage.environment["PYTHONPATH"] = str(tmp_path)
    with stage.serving():
        stage.cli("create", "hello", "first")
        assert stage.json("health", "first")["healthy"]
        stage.cli("project", "create", "world")
        stage.cli("link", "first", "world")
        inside, found = stage.variables("world", host=False), stage.variables("world")
        assert inside["HELLO_HOST"] == f"{stage.namespace}-first"
        user, password = found["HELLO_USER"], found["HELLO_PASSWORD"]
        with redis.Redis(port=int(found["HELLO_PORT"]), username=user, password=password) as client:
            assert client.set(f"{user}:greeting", "hello")
        stage.cli("unlink", "first", "world")
        with (
            pytest.raises(redis.AuthenticationError),
            redis.Redis(port=int(found["HELLO_PORT"]), username=user, password=password) as client,
        ):
            client.get(f"{user}:greeting")
    shell = [text for kind, text in blocks if kind == "sh"]
    assert shell
    for word in re.findall(r"purveyor (\w+) (\w+)", "".join(shell)):
        assert "Usage" in stage.cli(*word, "--help")


def test_the_kits_class_is_one_line(tmp_path: Path, engine: None) -> None:
    (tmp_path / "test_it.py").write_text(
        "from purveyor_hooks.conformance import Conformance\n\n\n"
        f'class TestRedis(Conformance): service_type, image = "redis", "{REDIS}"\n'
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-k",
        "pure or created or loopback",
        "-p",
        "no:cacheprovider",
        tmp_path,
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, timeout=300
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
