"""The four distributions: each is built, installed alone, and used."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest

import purveyor
from distributions import PARTS, ROOT, Clean, run
from support import eventually

NAMES = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"


def project(name: str) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / PARTS[name] / "pyproject.toml").read_text())[
        "project"
    ]
    return found


def python_of(page: Path) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def test_all_have_one_version_and_one_bound_for_each_dependency() -> None:
    bounds: dict[str, set[str]] = {}
    for name in PARTS:
        found = project(name)
        assert found.get("version", purveyor.__version__) == purveyor.__version__, name
        extras = found.get("optional-dependencies", {})
        assert isinstance(extras, dict)
        for line in [
            *found["dependencies"],
            *(line for lines in extras.values() for line in lines),
        ]:  # type: ignore[misc]
            package, bound = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(.*)", line).groups()  # type: ignore[union-attr]
            bounds.setdefault(package, set()).add(bound)
    assert {package: found for package, found in bounds.items() if len(found) > 1} == {}
    assert {package: found for package, found in bounds.items() if package in PARTS} == {
        package: {f"=={purveyor.__version__}"} for package in PARTS
    }


@pytest.mark.parametrize("name", PARTS)
def test_a_wheel_has_its_licence_and_its_types(name: str, wheels: dict[str, Path]) -> None:
    files = ZipFile(wheels[name]).namelist()
    assert [file for file in files if file.endswith(".dist-info/licenses/LICENSE")]
    packages = {file.partition("/")[0] for file in files if file.endswith(".py")}
    assert {f"{package}/py.typed" for package in packages} - set(files) == set()
    assert "Typing :: Typed" in project(name)["classifiers"]  # type: ignore[operator]


def test_no_file_is_in_two_wheels(wheels: dict[str, Path]) -> None:
    files = [
        file
        for path in wheels.values()
        for file in ZipFile(path).namelist()
        if ".dist-info/" not in file
    ]
    assert len(files) == len(set(files))


# ---------------------------------------------------------------- the SDKs


class FakeApi(BaseHTTPRequestHandler):
    """The calls of the API that the examples of the SDKs make, for one token."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers["Authorization"] != "Bearer secret":
            problem = {
                "type": "urn:purveyor:unauthorized",
                "title": "A valid token is needed",
                "detail": "No.",
                "remedy": "Ask.",
            }
            self.answer(401, json.dumps(problem).encode())
        elif self.path.startswith("/api/blob"):
            FakeApi.stored = body
            name = "reports/may.txt"
            made = {
                "url": f"http://here/{name}",
                "pathname": name,
                "contentType": "text/plain",
                "size": len(body),
            }
            self.answer(200, json.dumps({**made, "uploadedAt": "2026-05-31T12:00:00Z"}).encode())
        elif self.path == "/api/kv/set":
            FakeApi.stored = body
            self.answer(200, b'{"result": "OK"}')
        elif self.path == "/api/kv/incr":
            self.answer(
                200, json.dumps({"value": json.loads(FakeApi.stored)["value"] + 1}).encode()
            )

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/api/blob/7/reports/may.txt" else 404, FakeApi.stored)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    stored = b""


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeApi) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


SAYS = {"kv": "42", "blob": "b'all is well' http://here/reports/may.txt"}
REFUSED = {
    "kv": (
        "from purveyor_kv import KV, KVError\ntry: KV(token='another').get('a')\nexcept "
        "KVError as e: print(e.code, e.remedy)"
    ),
    "blob": "from purveyor_blob import Blob, BlobError as E\ntry: Blob(token='another').put('a', b'')\n"
    "except E as e: print(e.code, e.remedy)",
}


@pytest.mark.parametrize("name", SAYS)
def test_an_sdk_is_few_packages_and_does_what_its_page_says(
    name: str, wheels: dict[str, Path], clean: Clean, api: str
) -> None:
    python = clean(wheels[f"purveyor-{name}"])
    installed = run(python, "-c", NAMES).split()
    assert len(installed) < 10, installed
    assert [item for item in installed if item.startswith("purveyor")] == [f"purveyor-{name}"]
    variables = {
        "PURVEYOR_API_URL": api,
        "PURVEYOR_TOKEN": "secret",
        "PURVEYOR_PROJECT_ID": "7",
        "KV_URL": "redis://none:6379",
    }
    environment = {"PATH": os.environ["PATH"], **variables}
    (code,) = python_of(ROOT / PARTS[f"purveyor-{name}"] / "README.md")
    done = subprocess.run(
        [python, "-I", "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == SAYS[name], done.stderr
    done = subprocess.run(
        [python, "-I", "-c", REFUSED[name]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "unauthorized Ask.", done.stderr


def test_kv_says_what_the_direct_way_lacks(wheels: dict[str, Path], clean: Clean) -> None:
    python = clean("--no-deps", wheels["purveyor-kv"])
    code = (
        "from purveyor_kv import KV, KVError\ntry: KV(direct=True)\nexcept KVError as e: print(e)"
    )
    environment = {"KV_URL": "redis://none:6379", "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    without = "import sys; sys.modules['redis'] = None\n"
    done = subprocess.run(
        [python, "-c", without + code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "purveyor-kv[redis]" in done.stdout, done.stderr


# ---------------------------------------------------------------- the contract


def test_a_plugin_is_checked_and_loaded_with_the_contract_alone(
    wheels: dict[str, Path], clean: Clean, tmp_path: Path
) -> None:
    python = clean(wheels["purveyor-hooks"])
    installed = run(python, "-c", NAMES).split()
    assert [item for item in installed if item.startswith("purveyor")] == ["purveyor-hooks"]
    assert len(installed) < 6, installed
    (tmp_path / "hello.py").write_text(python_of(ROOT / "hooks/README.md")[0])
    (tmp_path / "wrong.py").write_text(
        (tmp_path / "hello.py").read_text().replace("event.type", "event.typo")
    )
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--python-executable",
        python,
        "--cache-dir",
        tmp_path / "c",
    ]
    checked = subprocess.run(
        [*mypy, "hello.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert checked.returncode == 0, checked.stdout
    checked = subprocess.run(
        [*mypy, "wrong.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert '"Event" has no attribute "typo"' in checked.stdout
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import pluggy, hello; from purveyor_hooks import specs, PROJECT_NAME\n"
        "manager = pluggy.PluginManager(PROJECT_NAME); manager.add_hookspecs(specs)\n"
        "manager.register(hello); manager.check_pending(); "
        "print(manager.hook.on_event.get_hookimpls()[0].plugin_name)"
    )
    assert run(python, "-I", "-c", code, tmp_path).strip() == "hello"


# ---------------------------------------------------------------- the server


def look_at(program: Path, state: Path) -> None:
    """What somebody does first with what was installed, where there is no engine: it is told so,
    and serves."""
    environment = {
        "PATH": os.environ["PATH"],
        "PURVEYOR_STATE": str(state),
        "DOCKER_HOST": f"unix://{state}/none.sock",
    }
    assert purveyor.__version__ in subprocess.check_output(
        [program, "--version"], env=environment, text=True
    )
    listed = json.loads(
        subprocess.check_output([program, "--json", "plugin", "list"], env=environment, text=True)
    )
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "purveyor"
    ]
    assert {
        item["name"]: item["error"] for item in listed if item["distribution"] == "purveyor"
    } == dict.fromkeys(wanted, "")
    assert {item["version"] for item in listed} == {purveyor.__version__}
    with (state / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [program, "serve", "--listen", "127.0.0.1:0"], env=environment, stdout=log, stderr=log
        )
    try:
        eventually(
            lambda: daemon.poll() is not None or b'"serving"' in (state / "log").read_bytes()
        )
        assert daemon.poll() is None, (state / "log").read_text()
        command = [
            "curl",
            "-sf",
            "--unix-socket",
            state / "purveyor.sock",
            "http://purveyor/api/version",
        ]
        assert json.loads(subprocess.check_output(command))["version"] == purveyor.__version__
    finally:
        daemon.terminate()
        daemon.wait(60)


def test_the_server_runs_from_its_wheels(
    wheels: dict[str, Path], clean: Clean, tmp_path: Path
) -> None:
    """What it depends on is taken from the environment of these tests: test_third_party has an
    index find it."""
    python = clean("--no-deps", *wheels.values())
    site = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip()
    )
    (site / "tests.pth").write_text(sysconfig.get_paths()["purelib"])
    where = (
        "import purveyor, purveyor_hooks, purveyor_kv, purveyor_postgres as p; "
        "print(p.__file__, purveyor.__file__)"
    )
    assert all(str(site) in path for path in run(python, "-c", where).split())
    share = python.parent.parent / "share"
    assert (share / "man/man1/purveyor.1").read_text().startswith(".TH PURVEYOR 1")
    for name in (
        "bash-completion/completions/purveyor",
        "zsh/site-functions/_purveyor",
        "fish/vendor_completions.d/purveyor.fish",
    ):
        assert "_PURVEYOR_COMPLETE" in (share / name).read_text()
    look_at(python.parent / "purveyor", tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_the_page_installs_the_server_as_a_tool(tool: str, tmp_path: Path) -> None:
    page = (ROOT / "docs/install.md").read_text().partition("## Install it as a tool")[2]
    (script,) = (
        block
        for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[:2]
        if f"{tool} " in block
    )
    venv.create(tmp_path / "tools", with_pip=True)
    run(tmp_path / "tools/bin/pip", "install", "-q", tool)
    shutil.copytree(
        ROOT,
        tmp_path / "checkout",
        symlinks=True,
        ignore=shutil.ignore_patterns(".venv", ".git", ".*_cache", "tests"),
    )
    home = {
        "PIPX_HOME": "pipx",
        "PIPX_BIN_DIR": "bin",
        "PIPX_MAN_DIR": "man",
        "UV_TOOL_DIR": "uv",
        "UV_TOOL_BIN_DIR": "bin",
    }
    environment = {**os.environ, **{name: str(tmp_path / folder) for name, folder in home.items()}}
    environment["PATH"] = f"{tmp_path}/tools/bin:{environment['PATH']}"
    command = ["bash", "-euc", script]
    done = subprocess.run(
        command,
        cwd=tmp_path / "checkout",
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "state").mkdir()
    look_at(tmp_path / "bin/purveyor", tmp_path / "state")
