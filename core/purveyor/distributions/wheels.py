"""From what somebody wants to install to one wheel, and to what pip would do with it: looked at
before any of it runs."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from purveyor.distributions import content
from purveyor.distributions.files import canonical, sha256_of
from purveyor_hooks import BadInput, Failed

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
    """A wheel on this host, and what is in it. `source` is what was asked for."""

    path: Path
    held: content.Content
    sha256: str
    size: int
    source: str

    @property
    def distribution(self) -> str:
        return self.held.distribution

    @property
    def version(self) -> str:
        return self.held.version


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


def read_constraints(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
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
        content.look(path, plugin=True)
    elif path.suffix == ".whl" or "/" in what or ":" in what:
        remedy = "Fetch the wheel yourself, and give the file." if ":" in what else ""
        raise BadInput(
            f"There is no file {what}.", remedy=remedy, errors={"what": "there is no such file"}
        )
    elif not PINNED.fullmatch(what):
        why = "a name needs its version: NAME==VERSION"
        name = re.split("[^A-Za-z0-9._-]", what)[0] or "purveyor-mariadb"
        raise BadInput(
            f"{what!r} names no version: any code that the index serves under that name would run.",
            remedy=f"For example: {name}==1.0.0, and --hash if you know it.",
            errors={"what": why},
        )


def obtain(what: str, folder: Path, *, expected: str) -> Wheel:
    """The wheel of what was asked for, in a folder that nobody else writes to: a copy of the file,
    one that is fetched, or one that is built here. What is looked at, shown and installed is that.

    Raises `BadInput` when a file has not the expected hash, of an sdist when the sdist has not; and
    for what `content.look` refuses.
    """
    given = Path(what)
    if given.is_file():
        folder.mkdir(exist_ok=True)
        what_is_here = folder / given.name
        shutil.copyfile(given, what_is_here)
        given = what_is_here
    if runs_when_built(what):
        if expected:
            _require_hash(given, expected)
        built = folder / "built"
        pip("wheel", "--no-deps", "--wheel-dir", str(built), str(given.absolute()))
        (path,) = built.glob("*.whl")
    elif given.exists():
        path = given
    else:
        # a wheel alone: to look into anything else runs its code
        fetched = folder / "fetched"
        pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(fetched), what)
        (path,) = fetched.glob("*.whl")
    if expected and not runs_when_built(what):
        _require_hash(path, expected)
    held = content.look(path, plugin=True)
    return Wheel(path.absolute(), held, sha256_of(path), path.stat().st_size, what)


def fetch(needed: Sequence[Planned], folder: Path) -> list[Wheel]:
    """The files of what a wheel needs, looked at like itself. Raises `Failed` when one of them is
    another than was planned, and `BadInput` for what `content.look` refuses."""
    if not needed:
        return []
    place = folder / "needed"
    lines = [f"{item.name}=={item.version} --hash=sha256:{item.sha256}" for item in needed]
    pip(
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--dest",
        str(place),
        "-r",
        str(_listed(folder, lines)),
    )
    return [
        Wheel(
            path, content.look(path, plugin=False), sha256_of(path), path.stat().st_size, path.name
        )
        for path in sorted(place.iterdir())
    ]


def _listed(folder: Path, lines: Sequence[str]) -> Path:
    path = folder / "requirements.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def _require_hash(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise BadInput(
            f"{path.name} is another file than the one that --hash names: it is sha256:{found}.",
            remedy="Nothing was installed. Ask whoever gave you the hash.",
            errors={"hash": "another file's"},
        )


def plan_installation(
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


def install(wheels: Sequence[Wheel], folder: Path) -> None:
    """Have pip install exactly these files. Raises `Failed` when one of them is another than
    before."""
    listed = _listed(folder, [f"{item.path} --hash=sha256:{item.sha256}" for item in wheels])
    # a wheel of the same version, but other content, takes the place of the one that is there
    pip(
        "install",
        "--no-deps",
        "--no-index",
        "--force-reinstall",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "-r",
        str(listed),
    )


def installed_version(name: str) -> str:
    """The version of a distribution that is here, "" for none."""
    found = content.find_installed(name)
    return found.version if found else ""


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
