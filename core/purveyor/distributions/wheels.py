"""From what somebody wants to install to one wheel, and to what pip would do with it: looked at
before any of it runs."""

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, NamedTuple

from purveyor.distributions.files import canonical, sha256_of
from purveyor_hooks import BadInput, Failed

GROUP = "purveyor"
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9.!+_-]+")
CONSTRAINT = (
    "A line for each: NAME==VERSION --hash=sha256:HASH, as pip-compile --generate-hashes writes it."
)
HASH = re.compile(r"sha256:([0-9a-f]{64})")
AGREED = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(\S+)((?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
SOURCES = (".tar.gz", ".zip", ".tar.bz2", ".tgz")


class Wheel(NamedTuple):
    """A wheel on this host. `source` is what was asked for."""

    path: Path
    distribution: str
    version: str
    sha256: str
    size: int
    source: str


class Planned(NamedTuple):
    """One distribution that pip would install, and the hash of its file."""

    name: str
    version: str
    sha256: str


def wanted_hash(text: str | None) -> str:
    """The hash of --hash. Raises `BadInput` for what is none."""
    if text is None:
        return ""
    found = HASH.fullmatch(text)
    if found is None:
        why = "sha256: and 64 hexadecimal digits"
        raise BadInput(
            f"{text!r} is not a hash.",
            remedy="For example: --hash sha256:9f86d0…",
            errors={"hash": why},
        )
    return found[1]


def agreed(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """The versions and hashes of a file such as `pip-compile --generate-hashes` writes, by
    distribution. Raises `BadInput`."""
    try:
        lines = path.read_text().replace("\\\n", " ").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise BadInput(
            f"{path} cannot be read: {why}.", remedy=CONSTRAINT, errors={"constraint": why}
        ) from None
    found = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        parts = AGREED.fullmatch(line)
        if parts is None:
            why = "an exact version and its hash are missing"
            raise BadInput(
                f"{line!r} in {path} is not a constraint: {why}.",
                remedy=CONSTRAINT,
                errors={"constraint": why},
            )
        found[canonical(parts[1])] = parts[2], frozenset(re.findall("[0-9a-f]{64}", parts[3]))
    return found


def require_agreed(
    known: Mapping[str, tuple[str, frozenset[str]]], wheel: Wheel, needed: Sequence[Planned]
) -> None:
    """Raise `BadInput` for the first distribution that is not among those that were agreed upon.
    The wheel itself may be another: it was named by whoever installs it."""
    mine = (
        [Planned(wheel.distribution, wheel.version, wheel.sha256)]
        if wheel.distribution in known
        else []
    )
    for item in (*mine, *needed):
        version, hashes = known.get(item.name, ("", frozenset()))
        if item.version != version or item.sha256 not in hashes:
            what = f"{item.name} {item.version}, sha256:{item.sha256}"
            remedy = (
                "Nothing was installed. Look at it, then write it there; or use the file that "
                "belongs to this plugin."
            )
            raise BadInput(
                f"{what}, is not in the file of --constraint.",
                remedy=remedy,
                errors={"constraint": what},
            )


def runs_when_built(what: str) -> bool:
    """Whether something is no wheel yet: to make one of it runs its code."""
    return Path(what).is_dir() or what.endswith(SOURCES)


def check_source(what: str, *, build: bool, pinned: bool) -> None:
    """Raise `BadInput` for what cannot be installed, before anything is asked, fetched or run."""
    path = Path(what)
    if runs_when_built(what):
        if not path.exists():
            raise BadInput(f"There is no file {what}.", errors={"what": "there is no such file"})
        if path.is_dir() and not (path / "pyproject.toml").exists():
            why = "the folder has no pyproject.toml"
            raise BadInput(f"{what} cannot be installed: {why}.", errors={"what": why})
        if not build:
            raise BadInput(
                f"{what} is not a wheel: to build one runs its code on this host.",
                remedy=(
                    "Build it elsewhere and give the wheel; or say --build to have it built here."
                ),
                errors={"what": "not built"},
            )
        if pinned and path.is_dir():
            raise BadInput(
                "A folder has no hash.",
                remedy="Give a wheel.",
                errors={"hash": "of a file, and this is a folder"},
            )
    elif path.exists():
        _metadata(path)
    elif path.suffix == ".whl" or "/" in what or ":" in what:
        remedy = "Fetch the wheel yourself, and give the file." if ":" in what else ""
        raise BadInput(
            f"There is no file {what}.", remedy=remedy, errors={"what": "there is no such file"}
        )
    elif not PINNED.fullmatch(what):
        why = "a name needs its version: NAME==VERSION"
        name = re.split("[^A-Za-z0-9._-]", what)[0] or "purveyor-mariadb"
        raise BadInput(
            f"{what!r} says no version: whatever the index calls so now would run.",
            remedy=f"For example: {name}==1.0.0, and --hash if you know it.",
            errors={"what": why},
        )


def obtain(what: str, folder: Path, *, expected: str) -> Wheel:
    """The wheel of what was asked for: the file itself, one that is fetched, or one that is built
    here.

    Raises `BadInput` when a file has not the expected hash; of an sdist, that is asked of the
    sdist.
    """
    path = Path(what)
    if runs_when_built(what):
        if expected:
            _require_hash(path, expected)
        pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(path.absolute()))
        (path,) = folder.glob("*.whl")
    elif not path.exists():
        # a wheel alone: to look into anything else runs its code
        pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), what)
        (path,) = folder.glob("*.whl")
    if expected and not runs_when_built(what):
        _require_hash(path, expected)
    name, version = _metadata(path)
    return Wheel(path.absolute(), name, version, sha256_of(path), path.stat().st_size, what)


def _require_hash(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise BadInput(
            f"{path.name} is another file than the one that --hash names: it is sha256:{found}.",
            remedy="Nothing was installed. Ask whoever gave you the hash.",
            errors={"hash": "another file's"},
        )


def _metadata(path: Path) -> tuple[str, str]:
    """The name and version of the distribution in a wheel. Raises `BadInput` for what is no wheel,
    or no plugin."""
    try:
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            about = _of(wheel, names, "METADATA")
            points = _of(wheel, names, "entry_points.txt")
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError):
        about = points = ""
    found = HeaderParser().parsestr(about)
    if not (found["Name"] and found["Version"]):
        why = "it is not a wheel"
        raise BadInput(
            f"{path} cannot be installed: {why}.",
            remedy="Build one: pip wheel .",
            errors={"what": why},
        )
    if f"[{GROUP}]" not in points:
        why = f"it names no plugin in its entry points, group {GROUP!r}"
        raise BadInput(
            f"{path} is not a plugin: {why}.",
            remedy="See contrib/purveyor-mariadb.",
            errors={"what": why},
        )
    return canonical(found["Name"]), found["Version"]


def _of(wheel: zipfile.ZipFile, names: Sequence[str], name: str) -> str:
    found = [item for item in names if item.endswith(f".dist-info/{name}") and item.count("/") == 1]
    return wheel.read(found[0]).decode() if found else ""


def planned(
    wheel: Wheel,
    folder: Path,
    *,
    no_deps: bool,
    known: Mapping[str, tuple[str, frozenset[str]]] | None = None,
) -> list[Planned]:
    """What installing a wheel brings with it: what it needs and is not here yet, in the versions
    that are `known`. Nothing is installed, or built."""
    if no_deps:
        return []
    listed = folder / "constraints.txt"
    listed.write_text(
        "".join(
            f"{name}=={version}\n"
            for name, (version, _) in (known or {}).items()
            if name != wheel.distribution
        )
    )
    asked = (
        "install",
        "--dry-run",
        "--only-binary",
        ":all:",
        "--report",
        "-",
        "-c",
        str(listed),
        str(wheel.path),
    )
    report: dict[str, Any] = json.loads(pip(*asked) or "{}")
    found = []
    for item in report.get("install", []):
        name = canonical(item["metadata"]["name"])
        if name != wheel.distribution:
            digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
            if not digest:
                remedy = "Install that first, as you trust it; or say --no-deps."
                raise Failed(
                    f"{name}, which {wheel.distribution} needs, comes without a hash.",
                    remedy=remedy,
                )
            found.append(Planned(name, item["metadata"]["version"], digest))
    return sorted(found)


def install(wheel: Wheel, needed: Sequence[Planned], folder: Path) -> None:
    """Have pip install exactly these files. Raises `Failed` when one of them is another than
    before."""
    lines = [f"{wheel.path} --hash=sha256:{wheel.sha256}"]
    lines += [f"{item.name}=={item.version} --hash=sha256:{item.sha256}" for item in needed]
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(lines) + "\n")
    # a wheel of the same version, but other content, takes the place of the one that is there
    pip(
        "install",
        "--no-deps",
        "--force-reinstall",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "-r",
        str(listed),
    )


def pip(*arguments: str) -> str:
    """What pip prints. Raises `Failed` with its last words."""
    if importlib.util.find_spec("pip") is None:
        raise Failed("This Python has no pip.", remedy=f"Install it: {sys.executable} -m ensurepip")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Failed(
            f"pip could not do it: {lines[-1] if lines else 'it says nothing'}",
            remedy="See above, or try pip yourself.",
        )
    return done.stdout
