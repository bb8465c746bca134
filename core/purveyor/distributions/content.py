"""What is in a wheel, looked at before any of it is put anywhere: whose name it bears, and whether it
stays in its own place.

pip puts what a wheel holds where the wheel says, over whatever is there, and believes its list of
files (RECORD). So a wheel is refused that is another's by its name, has modules, files or commands
in the place of somebody else's, or a list of files that is not of what it holds; and the plugin's
own, which no plugin has cause for, when it has code run in programs that are none of Purveyor's.
"""

import base64
import configparser
import csv
import hashlib
import lzma
import re
import stat
import sys
import sysconfig
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import HeaderParser
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from purveyor.distributions.files import canonical
from purveyor_hooks import BadInput

GROUP = "purveyor"
OWN = "purveyor"  # the distribution, and the command
LARGEST = 1024**3  # bytes of all that a wheel holds
FILE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._]*)-(?P<version>[A-Za-z0-9_.!+]+)(-\d[A-Za-z0-9_]*)?"
    r"-[\w.]+-[\w.]+-[\w.]+\.whl"
)
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
POINT = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
MODULE = re.compile(r"\w+(?:\.\w+)*(?:\s*:\s*\w+(?:\.\w+)*)?", re.ASCII)
COMMAND = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
EVERYWHERE = ("sitecustomize", "usercustomize")  # modules that every Python imports by itself
UNLISTED = ("RECORD", "RECORD.jws", "RECORD.p7s")


class Content(NamedTuple):
    """What a wheel is called, the commands that it puts beside Purveyor's own, and what of it runs
    in every Python program of this environment."""

    distribution: str
    version: str
    plugins: tuple[str, ...]
    commands: tuple[str, ...]
    everywhere: tuple[str, ...]


def look(path: Path, *, plugin: bool) -> Content:
    """What a wheel holds; `plugin`: it is what was asked for, and not what that needs. Raises
    `BadInput` that lists all that is wrong."""
    try:
        with zipfile.ZipFile(path) as wheel:
            found, wrong = _look(wheel, path, plugin=plugin)
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError, csv.Error, RuntimeError,
            NotImplementedError, EOFError, zlib.error, lzma.LZMAError, configparser.Error):  # fmt: skip
        found, wrong = None, ["it is not a wheel"]
    if found is None or wrong:
        why = "; ".join(wrong)
        raise BadInput(
            f"{path.name} cannot be installed: {why}.",
            remedy="Nothing was installed. Ask whoever made it; one is built with: pip wheel .",
            errors={"what": why},
        )
    return found


def _look(wheel: zipfile.ZipFile, path: Path, *, plugin: bool) -> tuple[Content | None, list[str]]:
    items = wheel.infolist()
    wrong = list(_places(items))
    folders = {item.filename.partition("/")[0] for item in items}
    infos = sorted(folder for folder in folders if folder.endswith(".dist-info"))
    if wrong or len(infos) != 1 or f"{infos[0]}/METADATA" not in wheel.namelist():
        return None, wrong or ["it is not a wheel"]
    (info,) = infos
    about = HeaderParser().parsestr(wheel.read(f"{info}/METADATA").decode())
    wrong += _names(about, info, path)
    if wrong:
        return None, wrong
    name, version = canonical(about["Name"]), about["Version"]
    wrong += _unlike_its_list(wheel, items, info)
    points = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=True)
    points.optionxform = str  # type: ignore[assignment,method-assign]  # as its documentation says
    if f"{info}/entry_points.txt" in wheel.namelist():
        points.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    plugins = dict(points[GROUP]) if points.has_section(GROUP) else {}
    if plugin and not plugins:
        wrong.append(f"it names no plugin in its entry points, group {GROUP!r}")
    before = find_installed(name)
    wrong += _another_s(name, before, plugin=plugin)
    held = [item.filename for item in items if not item.is_dir()]
    modules = [text for text in map(_in_library, held) if text]
    wrong += _plugins(plugins, name, modules)
    wrong += _taken(modules, info, before)
    commands = sorted(
        {
            *(command for group in ("console_scripts", "gui_scripts")
              if points.has_section(group) for command in points[group]),
            *(text.partition(".data/scripts/")[2] for text in held if ".data/scripts/" in text),
        }
    )  # fmt: skip
    wrong += _commands(commands, before)
    wrong += _elsewhere(held, before, plugin=plugin)
    everywhere = [
        text
        for text in modules
        if "/" not in text and (text.endswith(".pth") or text.partition(".")[0] in EVERYWHERE)
    ]
    if plugin:
        wrong += [f"{text} would run in every Python program here" for text in everywhere]
    return (
        Content(name, version, tuple(plugins), tuple(commands), tuple(everywhere)),
        wrong,
    )


def _places(items: Sequence[zipfile.ZipInfo]) -> Iterator[str]:
    """What of the files has a name that leads elsewhere, or is no file."""
    seen: set[str] = set()
    if sum(item.file_size for item in items) > LARGEST:
        yield f"it holds more than {LARGEST} bytes"
    for item in items:
        name = item.filename
        # as it stands in the file: the library itself cuts a name at a NUL
        parts = PurePosixPath(item.orig_filename).parts
        if (
            not item.orig_filename.isprintable()
            or "\\" in item.orig_filename
            or item.orig_filename.startswith("/")
            or ".." in parts
            or not parts
        ):
            yield f"{item.orig_filename!r} leads elsewhere"
        kind = stat.S_IFMT(item.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"{name!r} is no file: a link, or a device"
        if name.rstrip("/") in seen:
            yield f"{name!r} is there twice"
        seen.add(name.rstrip("/"))


def _names(about: Message, info: str, path: Path) -> Iterator[str]:
    """How what a wheel is called inside differs from what its file is called."""
    file = FILE.fullmatch(path.name)
    if file is None:
        yield "its name is none of a wheel: NAME-VERSION-py3-none-any.whl"
        return
    if len(about.get_all("Name", [])) != 1 or len(about.get_all("Version", [])) != 1:
        yield "it does not say one name and one version"
        return
    name, version = str(about["Name"]), str(about["Version"])
    if not NAME.fullmatch(name) or not version.isprintable() or not version.isascii():
        yield "its name or version is none"
        return
    inside = info.removesuffix(".dist-info").rpartition("-")
    for called, of in ((file["name"], file["version"]), (inside[0], inside[2])):
        if canonical(called) != canonical(name) or _version(of) != _version(version):
            yield f"it calls itself {name} {version} inside, and {called} {of} outside"
            return


def _version(text: str) -> str:
    return re.sub(r"[-_.]", ".", text).lower()


def _unlike_its_list(
    wheel: zipfile.ZipFile, items: Sequence[zipfile.ZipInfo], info: str
) -> Iterator[str]:
    """What of the files is not as the list of files says."""
    if f"{info}/RECORD" not in wheel.namelist():
        yield "it has no list of its files (RECORD)"
        return
    rows = list(csv.reader(wheel.read(f"{info}/RECORD").decode().splitlines()))
    listed = {row[0]: row[1] for row in rows if len(row) > 1}
    if len(listed) != len(rows):
        yield "its list of files (RECORD) is none"
        return
    held = {item.filename for item in items if not item.is_dir()}
    for name in sorted(held - {f"{info}/{each}" for each in UNLISTED}):
        algorithm, _, digest = listed.get(name, "").partition("=")
        if algorithm not in ("sha256", "sha384", "sha512"):
            yield f"{name} is not in its list of files with a hash"
            continue
        with wheel.open(name) as opened:
            found = hashlib.new(algorithm)
            while part := opened.read(1024 * 1024):
                found.update(part)
        if base64.urlsafe_b64encode(found.digest()).rstrip(b"=").decode() != digest:
            yield f"{name} is not what its list of files says"
    for name in sorted(listed.keys() - held):
        yield f"its list of files has {name!r}, and it does not"


def find_installed(name: str) -> Distribution | None:
    """The distribution of this name that is here."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _another_s(name: str, before: Distribution | None, *, plugin: bool) -> Iterator[str]:
    """Whether a wheel of this name would take the place of Purveyor itself; or a plugin's that of
    what is none."""
    if name == OWN or name.startswith(f"{OWN}-hooks"):
        yield f"{name} is Purveyor's own name"
    elif plugin and before and not any(item.group == GROUP for item in before.entry_points):
        yield f"{name} is here already and is no plugin"


def _plugins(plugins: dict[str, str], name: str, modules: Sequence[str]) -> Iterator[str]:
    """What of the entry points is no plugin of this wheel's own."""
    tops = {text.partition("/")[0].removesuffix(".py") for text in modules}
    others = {
        entry.name: entry.dist.name if entry.dist else "another"
        for entry in entry_points(group=GROUP)
        if entry.dist is None or canonical(entry.dist.name) != name
    }
    for called, target in plugins.items():
        if not POINT.fullmatch(called):
            yield f"{called!r} is no name of a plugin"
        elif called in others:
            yield f"the plugin {called} is here already, of {others[called]}"
        if not MODULE.fullmatch(target):
            yield f"{target!r} is no module"
        elif target.partition(".")[0].partition(":")[0].strip() not in tops:
            yield f"the plugin {called} is {target}, which is not in it"


def _in_library(path: str) -> str:
    """Where a file goes among Python's modules, "" for one that goes elsewhere."""
    folder, _, rest = path.partition("/")
    if not folder.endswith(".data"):
        return path
    kind, _, inner = rest.partition("/")
    return inner if kind in ("purelib", "platlib") else ""


def _taken(modules: Sequence[str], info: str, before: Distribution | None) -> Iterator[str]:
    """What has the place of somebody else's module or file."""
    paths = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    mine = {str(item) for item in (before.files or ())} if before else set()
    tops = {text.partition("/")[0] for text in modules} - {info}
    for top in sorted(tops):
        module = top.partition(".")[0]
        own = any(item.partition("/")[0] == top for item in mine)
        if module in sys.stdlib_module_names:
            yield f"{top} has the name of a module of Python's own"
        elif not own and _is_somebody_s(module):
            yield f"{top} has the name of a module that is here already"
    for text in modules:
        if text not in mine and any((path / text).exists() for path in paths):
            yield f"{text} is here already, and another's"


def _is_somebody_s(module: str) -> bool:
    """Whether there is such a module, other than in the folder that somebody is in: a folder that
    several share is nobody's."""
    here = {"", str(Path.cwd())}
    paths = [path for path in sys.path if path not in here]
    for finder in sys.meta_path:
        where = paths if finder is PathFinder else None
        try:
            found = finder.find_spec(module, where)
        except (ImportError, ValueError):  # one that is half there
            return True
        if found is not None:
            return found.origin is not None
    return False


def _commands(commands: Sequence[str], before: Distribution | None) -> Iterator[str]:
    """What of the commands is none, or another's."""
    folder = Path(sysconfig.get_path("scripts"))
    mine = {Path(str(item)).name for item in (before.files or ())} if before else set()
    for command in commands:
        if not COMMAND.fullmatch(command):
            yield f"{command!r} is no name of a command"
        elif command == OWN or (command not in mine and (folder / command).exists()):
            yield f"the command {command} is here already, and another's"


def _elsewhere(held: Sequence[str], before: Distribution | None, *, plugin: bool) -> Iterator[str]:
    """What goes neither to the modules nor to the commands: a wheel may have it put anywhere below
    Python's own folder. Of what a plugin needs, data may go where there is none of others yet.
    Headers go to a folder of the wheel's name, where nothing looks that runs."""
    data = Path(sysconfig.get_path("data"))
    mine = {Path(item.locate()).resolve() for item in (before.files or ())} if before else set()
    for text in held:
        folder, _, rest = text.partition("/")
        kind, _, inner = rest.partition("/")
        if not folder.endswith(".data") or kind in ("purelib", "platlib", "scripts"):
            continue
        if kind == "headers" and not plugin:
            continue
        shared = kind == "data" and inner.partition("/")[0] in ("share", "etc")
        place = (data / inner).resolve()
        if plugin or not shared or (place.exists() and place not in mine):
            yield f"{text} would be put outside of Python's modules"
