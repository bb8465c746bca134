"""Installing somebody else's code: whose it is and as whom it runs is said before any of it runs,
and what is there is told."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from attacks.told import attack
from fake.scene import Scene
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.audit import store as audit
from purveyor.audit.models import AuditRecord, Wanted
from purveyor.cli.client import SOCKET
from purveyor.distributions import wheels
from purveyor.kernel.api.server import listen_local, serving
from purveyor_hooks import BadInput

ROOT = Path(__file__).resolve().parents[2]
PATHS = [
    *(str(ROOT / name) for name in ("core", "hooks", "plugins")),
    sysconfig.get_paths()["purelib"],
]


def make_wheel(
    folder: Path, version: str = "1.0", content: str = "", group: str = "purveyor"
) -> Path:
    """A wheel with one plugin, as somebody else would build it."""
    about = f"quiet_plugin-{version}.dist-info"
    files = {
        "quiet_plugin.py": f'"""A plugin that does nothing."""\n{content}',
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: Quiet.Plugin\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[{group}]\nquiet = quiet_plugin\n",
    }
    lines = []
    for name, text in files.items():
        digest = (
            base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        )
        lines.append(f"{name},sha256={digest},{len(text.encode())}")
    files[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,"]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"quiet_plugin-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as opened:
        for name, text in files.items():
            opened.writestr(name, text)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ------------------------------------------------------------- what is refused before anything runs


@pytest.mark.parametrize("what", [
    "purveyor-mariadb", "purveyor-mariadb>=1", "purveyor-mariadb==", "purveyor-mariadb==1.*",
    "purveyor-mariadb==1 --pre",
    "--index-url=x==1", "-e==1", "name == 1",
])  # fmt: skip
def test_a_name_without_its_version_is_refused(what: str) -> None:
    with pytest.raises(BadInput) as told:
        wheels.check_source(what, build=False, pinned=False)
    assert "version" in told.value.errors["what"]
    assert "==1.0.0" in told.value.remedy


@pytest.mark.parametrize(
    "what",
    [
        "https://example.com/x-1-py3-none-any.whl",
        "git+https://example.com/x",
        "x @ file:///x",
        "./x",
    ],
)
def test_an_address_is_not_fetched(what: str) -> None:
    with pytest.raises(BadInput, match="no file"):
        wheels.check_source(what, build=True, pinned=False)


def test_a_name_with_its_version_passes() -> None:
    for what in ("purveyor-mariadb==1.0.0", "purveyor_mariadb[fast]==2!1.0rc1+local"):
        wheels.check_source(what, build=False, pinned=False)


def test_what_has_to_be_built_is_refused_unless_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    sdist = tmp_path / "x-1.tar.gz"
    sdist.write_bytes(b"")
    for what in (folder, sdist):
        with pytest.raises(BadInput, match="runs its code") as told:
            wheels.check_source(str(what), build=False, pinned=False)
        assert "--build" in told.value.remedy
        wheels.check_source(str(what), build=True, pinned=False)
    with pytest.raises(BadInput, match="no hash"):
        wheels.check_source(str(folder), build=True, pinned=True)


@attack(
    "plugins",
    "put another wheel in the place of the one that was meant",
    honest="the one that was meant is taken",
)
def test_a_wheel_that_is_another_than_the_hash_says_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    assert wheels.obtain(str(path), tmp_path / "x", expected=digest(path)).sha256 == digest(path)
    with pytest.raises(BadInput, match="another file") as told:
        wheels.obtain(str(path), tmp_path / "x", expected="0" * 64)
    assert digest(path) in told.value.detail
    assert told.value.errors == {"hash": "another file's"}


@attack(
    "plugins",
    "bring another version of what it needs",
    "bring another file of the same version",
    "bring what nobody agreed upon",
    honest="what the file names is installed",
)
def test_what_a_plugin_brings_is_what_the_file_of_constraints_names(tmp_path: Path) -> None:
    listed = tmp_path / "constraints.txt"
    listed.write_text(
        f"# of the plugin\nHelp.er==1.2 \\\n    --hash=sha256:{'a' * 64} \\\n    "
        f"--hash=sha256:{'b' * 64}\n"
    )
    known = wheels.read_constraints(listed)
    assert known == {"help-er": ("1.2", frozenset({"a" * 64, "b" * 64}))}
    wheel = wheels.obtain(str(make_wheel(tmp_path)), tmp_path / "x", expected="")
    wheels.require_agreed(known, wheel, [wheels.Planned("help-er", "1.2", "b" * 64)])
    for other in (
        ("help-er", "1.3", "b" * 64),
        ("help-er", "1.2", "c" * 64),
        ("stranger", "1.2", "a" * 64),
    ):
        with pytest.raises(BadInput, match="not in the file") as told:
            wheels.require_agreed(known, wheel, [wheels.Planned(*other)])
        assert other[2] in told.value.detail
    known["quiet-plugin"] = ("1.0", frozenset({"d" * 64}))
    with pytest.raises(BadInput, match="quiet-plugin"):
        wheels.require_agreed(known, wheel, [])
    for line in (
        "helper",
        "helper>=1 --hash=sha256:" + "a" * 64,
        "helper==1.2",
        "helper==1.2 --hash=md5:0",
        "-r other.txt",
    ):
        listed.write_text(line)
        with pytest.raises(BadInput, match="not a constraint"):
            wheels.read_constraints(listed)
    with pytest.raises(BadInput, match="cannot be read"):
        wheels.read_constraints(tmp_path / "none")


@pytest.mark.parametrize(
    "text", ["", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:", "sha256:" + "g" * 64, "0" * 64]
)
def test_a_hash_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not a hash"):
        wheels.wanted_hash(text)


@attack(
    "plugins",
    "run code of a wheel that is only looked at",
    "bring a wheel that is no plugin",
    honest="a plugin's name, version and size are shown",
)
def test_a_wheel_is_looked_at_and_not_run(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, content="raise SystemExit('it ran')\n")
    found = wheels.obtain(str(path), tmp_path / "x", expected="")
    assert (found.distribution, found.version, found.size) == (
        "quiet-plugin",
        "1.0",
        path.stat().st_size,
    )
    with pytest.raises(BadInput, match="names no plugin"):
        wheels.check_source(str(make_wheel(tmp_path, group="others")), build=False, pinned=False)


# ---------------------------------------------------------------- what is installed


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python to install into, which finds Purveyor where it is."""
    pytest.importorskip("ensurepip")  # Debian has it in a package of its own
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, with_pip=True)
    return folder / "bin/python"


@asynccontextmanager
async def daemon(scene: Scene) -> AsyncIterator[App]:
    async with (
        scene.open() as app,
        serving(create_api(app), local=[listen_local(scene.state / SOCKET)]),
    ):
        yield app


async def command(python: Path, scene: Scene, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*PATHS, *sys.path[1:]]),
        "PIP_NO_INDEX": "1",
    }
    argv = [str(python), "-m", "purveyor", "--state", str(scene.state), *words]
    work = partial(
        subprocess.run,
        argv,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    return await anyio.to_thread.run_sync(work)


async def entries(app: App) -> list[AuditRecord]:
    found = await app.context.store.read(lambda tx: audit.page(tx, Wanted(), limit=100, offset=0))
    return found.items[::-1]


def differing(python: Path, state: Path) -> str:
    """How what is installed differs, as a daemon of that Python sees it."""
    code = (
        "import sys, sqlite3; from datetime import datetime\n"
        "from purveyor.distributions.files import differs; from purveyor.distributions.models "
        "import InstalledRecord\n"
        "db = sqlite3.connect(sys.argv[1]); db.row_factory = sqlite3.Row\n"
        "row = dict(db.execute('SELECT * FROM installed_plugins').fetchone())\n"
        "print(differs(InstalledRecord(**row)))"
    )
    argv = [str(python), "-c", code, str(state / "purveyor.db")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*PATHS, *sys.path[1:]])}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


@attack(
    "plugins",
    "be installed without anybody asked",
    "change a plugin's code afterwards",
    "take its code away",
    "install another in its place by other means",
    honest="is shown with its hash, installed, noted and removed",
)
@pytest.mark.anyio
async def test_it_is_asked_shown_installed_noted_audited_and_told_when_it_is_another(
    python: Path, scene: Scene, tmp_path: Path
) -> None:
    first, second = make_wheel(tmp_path / "a"), make_wheel(tmp_path / "b", content="X = 1\n")
    module = next((python.parent.parent / "lib").glob("python*")) / "site-packages/quiet_plugin.py"
    async with daemon(scene) as app:
        asked = await command(python, scene, "plugin", "install", str(first))
        assert asked.returncode == 2
        assert f"sha256:{digest(first)}" in asked.stderr
        assert "inside Purveyor" in asked.stderr
        assert "there is no terminal to ask at" in asked.stderr
        refused = await command(
            python,
            scene,
            "plugin",
            "install",
            str(first),
            "--yes",
            "--hash",
            f"sha256:{digest(second)}",
        )
        assert (refused.returncode, "another file" in refused.stderr) == (2, True)
        assert not module.exists()
        assert await entries(app) == []

        done = await command(
            python,
            scene,
            "plugin",
            "install",
            str(first),
            "--yes",
            "--hash",
            f"sha256:{digest(first)}",
        )
        assert done.returncode == 0, done.stderr
        assert module.exists()
        assert differing(python, scene.state) == ""
        (entry,) = await entries(app)
        assert (entry.actor, entry.action, entry.target) == (
            "local",
            "POST /api/plugins/installed",
            "quiet-plugin",
        )
        assert digest(first) in entry.detail

        module.write_text(module.read_text() + "import os\n")
        assert differing(python, scene.state) == "quiet_plugin.py is not as it was installed"
        module.unlink()
        assert "cannot be read" in differing(python, scene.state)

        again = await command(python, scene, "plugin", "install", str(second), "--yes")
        assert again.returncode == 0, again.stderr
        assert "X = 1" in module.read_text(), "one of the same version takes its place"
        assert differing(python, scene.state) == ""
        by_hand = [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            "--force-reinstall",
            str(first),
        ]
        await anyio.to_thread.run_sync(
            partial(subprocess.run, by_hand, check=True, env={**os.environ, "PYTHONPATH": ""})
        )
        assert "installed again by other means" in differing(python, scene.state)

        gone = await command(python, scene, "plugin", "uninstall", "quiet", "--yes")
        assert gone.returncode == 0, gone.stderr
        assert (await entries(app))[-1].action == "DELETE /api/plugins/installed/{distribution}"


@pytest.mark.anyio
async def test_the_api_and_the_doctor_tell_what_was_noted_and_that_it_is_another(
    scene: Scene,
) -> None:
    from purveyor.distributions import store as installed
    from purveyor.doctor import of_wheels
    from purveyor.kernel.plugins.registry import Plugin

    async with daemon(scene) as app:
        values: dict[str, Any] = {
            "version": "0", "source": "x.whl", "sha256": "0" * 64, "size_bytes": 7,
            "record_sha256": "1" * 64, "actor": "ada"
        }  # fmt: skip
        await app.context.store.write(lambda tx: installed.note(tx, "msgspec", **values))
        app.context.registry.plugins[0].distribution = "msgspec"
        assert isinstance(app.context.registry.plugins[0], Plugin)
        done = await command(Path(sys.executable), scene, "--json", "plugin", "list")
        shown = json.loads(done.stdout)[0]
        assert (shown["sha256"], shown["size_bytes"], shown["installed_by"]) == ("0" * 64, 7, "ada")
        assert "version 0 was installed" in shown["differs"]
        (check,) = await of_wheels(app)
        assert (check.name, check.ok) == ("msgspec", False)
