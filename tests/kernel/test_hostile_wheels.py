"""Wheels that are not what they say, or want a place that is another's: each is refused before any of
it is put anywhere, and says why."""

import base64
import hashlib
import logging
import random
import stat
import sysconfig
import zipfile
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest

from attacks.told import attack
from purveyor.distributions import content, wheels
from purveyor.kernel.logs import make_logger
from purveyor.kernel.plugins.registry import GROUP
from purveyor.providers.registry import ProviderRegistry
from purveyor_hooks import BadInput, ServiceType, hookimpl

INFO = "quiet_plugin-1.0.dist-info"
POINTS = f"{INFO}/entry_points.txt"
DATA = "quiet_plugin-1.0.data"
Files = dict[str, str]


def files(points: str = "[purveyor]\nquiet = quiet_plugin\n", **about: str) -> Files:
    """What an honest wheel holds."""
    said = {"Metadata-Version": "2.1", "Name": "Quiet.Plugin", "Version": "1.0", **about}
    return {
        "quiet_plugin.py": '"""A plugin that does nothing."""\n',
        f"{INFO}/METADATA": "".join(f"{name}: {text}\n" for name, text in said.items()),
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        POINTS: points,
    }


def build(
    folder: Path, held: Files, *, info: str = INFO, name: str = "quiet_plugin-1.0-py3-none-any.whl",
    listed: Files | None = None, links: tuple[str, ...] = (), twice: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """A wheel of these files; `listed` is what its list of files says instead."""
    lines = []
    for path, text in (held if listed is None else listed).items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        lines.append(f"{path},sha256={digest.decode()},{len(text.encode())}")
    made = folder / name
    with zipfile.ZipFile(made, "w") as opened:
        for path, text in {
            **held,
            f"{info}/RECORD": "\n".join([*lines, f"{info}/RECORD,,"]),
        }.items():
            item = zipfile.ZipInfo(path)
            kind = stat.S_IFLNK if path in links else stat.S_IFREG
            item.external_attr = (kind | 0o644) << 16
            opened.writestr(item, text)
        for path in twice:
            with pytest.warns(UserWarning, match="Duplicate"):
                opened.writestr(path, "print('the second')\n")
    return made


def more(**others: str) -> Files:
    return {**files(), **{path.replace("__", "/"): text for path, text in others.items()}}


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a list of files that lies": (
        lambda folder: build(folder, files(), listed={**files(), "quiet_plugin.py": "else"}),
        "quiet_plugin.py is not what its list of files says"),
    "a file beside the list": (
        lambda folder: build(folder, {**files(), "quiet_more.py": ""}, listed=files()),
        "quiet_more.py is not in its list of files"),
    "a list of what is not there": (
        lambda folder: build(folder, files(), listed={**files(), "../../x": ""}),
        "its list of files has '../../x'"),
    "another name inside": (
        lambda folder: build(folder, files(Name="purveyor-mariadb")), "calls itself purveyor-mariadb"),
    "another version inside": (
        lambda folder: build(folder, files(Version="2.0")), "calls itself Quiet.Plugin 2.0"),
    "two names inside": (
        lambda folder: build(folder, files(Summary="x\nName: other")), "one name"),
    "another name outside": (
        lambda folder: build(folder, files(), name="loud_plugin-1.0-py3-none-any.whl"),
        "loud_plugin 1.0 outside"),
    "no name of a wheel": (lambda folder: build(folder, files(), name="x.whl"), "none of a wheel"),
    "dots": (lambda folder: build(folder, more(**{"..__..__bin__purveyor": ""})), "leads elsewhere"),
    "the root": (lambda folder: build(folder, more(**{"__etc__cron.d__x": ""})), "leads elsewhere"),
    "a backslash": (lambda folder: build(folder, more(**{"..\\x.py": ""})), "leads elsewhere"),
    "a control character": (lambda folder: build(folder, more(**{"a\x1b[2J.py": ""})), "leads elsewhere"),
    "a link": (
        lambda folder: build(folder, more(quiet_link="/etc/shadow"), links=("quiet_link",)),
        "is no file: a link"),
    "a file twice": (
        lambda folder: build(folder, files(), twice=("quiet_plugin.py",)), "is there twice"),
    "a file for every Python": (
        lambda folder: build(folder, more(**{"quiet.pth": "import os; os.system('id')\n"})),
        "quiet.pth would run in every Python program"),
    "a module for every Python": (
        lambda folder: build(folder, more(**{"usercustomize.py": ""})), "would run in every Python"),
    "one of them as data": (
        lambda folder: build(folder, more(**{f"{DATA}__purelib__quiet.pth": ""})),
        "would run in every Python"),
    "data in the folder of commands": (
        lambda folder: build(folder, more(**{f"{DATA}__data__bin__purveyor": "#!/bin/sh\n"})),
        "outside of Python's modules"),
    "data anywhere": (
        lambda folder: build(folder, more(**{f"{DATA}__data__share__x": ""})), "outside of"),
    "headers": (lambda folder: build(folder, more(**{f"{DATA}__headers__x.h": ""})), "outside of"),
    "the command purveyor": (
        lambda folder: build(folder, files(
            "[purveyor]\nquiet = quiet_plugin\n[console_scripts]\npurveyor = quiet_plugin:main\n")),
        "the command purveyor is here already"),
    "the same as a script": (
        lambda folder: build(folder, more(**{f"{DATA}__scripts__purveyor": "#!python\n"})),
        "the command purveyor is here already"),
    "another's command": (
        lambda folder: build(folder, files(
            "[purveyor]\nquiet = quiet_plugin\n[gui_scripts]\npytest = quiet_plugin:main\n")),
        "the command pytest is here already"),
    "a command with a path": (
        lambda folder: build(folder, files(
            "[purveyor]\nquiet = quiet_plugin\n[console_scripts]\n../x = quiet_plugin:main\n")),
        "'../x' is no name of a command"),
    "a bundled plugin's name": (
        lambda folder: build(folder, files("[purveyor]\npostgres = quiet_plugin\n")),
        "the plugin postgres is here already, of purveyor"),
    "a plugin's name with a path": (
        lambda folder: build(folder, files("[purveyor]\n../quiet = quiet_plugin\n")),
        "'../quiet' is no name of a plugin"),
    "a plugin's name that acts on a terminal": (
        lambda folder: build(folder, files("[purveyor]\nqu\x1b[2Jet = quiet_plugin\n")),
        "is no name of a plugin"),
    "a plugin's name in other letters": (
        lambda folder: build(folder, files("[purveyor]\np\u043estgres = quiet_plugin\n")),
        "is no name of a plugin"),
    "a module of another": (
        lambda folder: build(folder, files("[purveyor]\nquiet = os:system\n")), "which is not in it"),
    "what is no module": (
        lambda folder: build(folder, files("[purveyor]\nquiet = quiet_plugin; import os\n")),
        "is no module"),
    "a bundled plugin's module": (
        lambda folder: build(folder, more(**{"purveyor_postgres____init__.py": ""})),
        "purveyor_postgres has the name of a module that is here already"),
    "the core's module": (
        lambda folder: build(folder, more(**{"purveyor__app.py": ""})),
        "purveyor has the name of a module that is here already"),
    "a module of a dependency": (
        lambda folder: build(folder, more(**{"anyio.py": ""})), "anyio.py has the name of a module"),
    "a module of Python's own": (
        lambda folder: build(folder, more(**{"json____init__.py": ""})), "of Python's own"),
}  # fmt: skip


@attack(
    "plugins",
    "bring a list of files that lies",
    "be called otherwise inside than outside",
    "have a file put elsewhere by its name, a link, or as data",
    "have a file taken for another by being there twice",
    "run in every Python program of the host",
    "take the place of the command purveyor, or of another's",
    "take the name of a bundled plugin, or one that looks like it",
    "take the place of a module of Purveyor's, of a dependency's or of Python's",
    honest="a wheel with modules and a command of its own is taken",
)
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_what_it_says_is_refused(kind: str, tmp_path: Path) -> None:
    if (
        "command pytest" in HOSTILE[kind][1]
        and not Path(sysconfig.get_path("scripts"), "pytest").exists()
    ):
        pytest.skip("pytest has no command in this Python")
    make, why = HOSTILE[kind]
    made = make(tmp_path)
    for work in (
        lambda: wheels.check_source(str(made), build=False, pinned=False),
        lambda: wheels.obtain(str(made), tmp_path / "x", expected=""),
    ):
        with pytest.raises(BadInput) as told:
            work()
        assert why in told.value.errors["what"]
        assert "Nothing was installed" in told.value.remedy


def test_control_one_with_all_that_a_plugin_may_have_is_taken(tmp_path: Path) -> None:
    points = "[purveyor]\nquiet = quiet_plugin\nquiet-too = quiet_plugin.more:plugin\n"
    points += "[console_scripts]\nquiet = quiet_plugin:main\n"
    held = {
        **files(points), "quiet_plugin/__init__.py": "", "quiet_plugin/größe.txt": "",
        f"{DATA}/purelib/quiet_data/x.txt": "", f"{DATA}/scripts/quiet-tool": "#!python\n",
    }  # fmt: skip
    del held["quiet_plugin.py"]
    found = wheels.obtain(str(build(tmp_path, held)), tmp_path / "x", expected="").held
    assert found == content.Content(
        "quiet-plugin", "1.0", ("quiet", "quiet-too"), ("quiet", "quiet-tool"), ()
    )


def test_a_wheel_that_is_damaged_anywhere_is_refused_or_is_what_it_was(tmp_path: Path) -> None:
    made, rnd = (
        build(tmp_path, more(**{"quiet_more.py": "print('more')\n" * 200})),
        random.Random(7),
    )
    with zipfile.ZipFile(made) as opened:
        held = {item.filename: opened.read(item) for item in opened.infolist()}
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content_of in held.items():
            packed.writestr(name, content_of)
    whole, refused = made.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rnd.randrange(len(damaged))] ^= rnd.randrange(1, 256)
        made.write_bytes(damaged)
        try:
            content.look(made, plugin=True)
        except BadInput:
            refused += 1
        else:  # what changed is a date, or the like
            with zipfile.ZipFile(made) as opened:
                assert {item.filename: opened.read(item) for item in opened.infolist()} == held
    assert refused > 150


def test_control_what_a_plugin_needs_may_have_headers_and_data(tmp_path: Path) -> None:
    """As greenlet has, without which SQLAlchemy does not work with asyncio."""
    held = more(**{f"{DATA}__headers__x.h": "", f"{DATA}__data__share__quiet__x.json": ""})
    assert content.look(build(tmp_path, held), plugin=False).distribution == "quiet-plugin"
    elsewhere = more(**{f"{DATA}__data__bin__purveyor": "#!/bin/sh\n"})
    with pytest.raises(BadInput, match="outside of"):
        content.look(build(tmp_path, elsewhere), plugin=False)


@pytest.mark.parametrize("name", ["purveyor", "purveyor-hooks", "msgspec"])
def test_no_plugin_is_installed_in_the_place_of_purveyor_or_of_a_part_of_it(
    name: str, tmp_path: Path
) -> None:
    called = f"{name.replace('-', '_')}-9.0"
    info = f"{called}.dist-info"
    held = {
        path.replace(INFO, info): text for path, text in files(Name=name, Version="9.0").items()
    }
    made = build(tmp_path, held, info=info, name=f"{called}-py3-none-any.whl")
    with pytest.raises(BadInput) as told:
        wheels.obtain(str(made), tmp_path / "x", expected="")
    assert f"{name} is " in told.value.errors["what"]


def test_what_a_plugin_needs_is_looked_at_as_well(tmp_path: Path) -> None:
    """That is fetched by its hash from wherever pip is told to; it may run everywhere, which is
    shown, and is no plugin; but it takes nobody's place."""
    held = {**files("[console_scripts]\nquiet = quiet_plugin:main\n"), "quiet.pth": "import sys\n"}
    found = content.look(build(tmp_path, held), plugin=False)
    assert (found.plugins, found.commands, found.everywhere) == ((), ("quiet",), ("quiet.pth",))
    for kind in ("the command purveyor", "dots", "the core's module", "a list of files that lies",
                 "data in the folder of commands"):  # fmt: skip
        with pytest.raises(BadInput, match="cannot be installed"):
            content.look(HOSTILE[kind][0](tmp_path), plugin=False)


@attack(
    "plugins",
    "exchange a wheel after it was looked at",
    honest="what was looked at is what is installed",
)
def test_a_wheel_that_is_exchanged_after_it_was_looked_at_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(tmp_path, files())
    before = made.read_bytes()
    asked: list[str] = []
    monkeypatch.setattr(wheels, "pip", lambda *words: asked.append(Path(words[-1]).read_text()))
    wheel = wheels.obtain(str(made), tmp_path / "own", expected="")
    made.write_bytes(b"something else")
    assert wheel.path.read_bytes() == before
    wheels.install([wheel], tmp_path / "own")
    assert asked == [f"{wheel.path} --hash=sha256:{hashlib.sha256(before).hexdigest()}\n"]


class First:
    """A plugin that comes first by its name and brings a bundled one's service type."""

    @hookimpl
    def service_type(self) -> ServiceType:
        return ServiceType(
            name="redis",
            label="Redis",
            description="",
            default_image="x:1",
            parameters=(),
            ports=(),
        )


FIRST: Any = First()


@attack(
    "plugins",
    "take a bundled service type by a name that comes first",
    honest="the bundled ones are loaded",
)
def test_no_plugin_takes_a_bundled_ones_type_or_name() -> None:
    registry = ProviderRegistry(make_logger(logging.CRITICAL))
    mine = [
        EntryPoint(name=name, value=f"{__name__}:FIRST", group=GROUP) for name in ("aaa", "redis")
    ]
    registry.load([*mine, *entry_points(group=GROUP)])
    found = {plugin.name: plugin for plugin in registry.plugins}
    assert (found["redis"].error, found["redis"].distribution) == ("", "purveyor")
    assert "taken by the plugin redis" in found["aaa"].error
    assert "taken by another" in found["redis (second)"].error
    assert registry.provider("redis").plugin.name == "redis"
