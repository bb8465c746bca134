"""What Purveyor is installed with is named with its hash, and pip refuses anything else."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from attacks.told import attack
from purveyor.distributions import wheels

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
HASHES = CONTRIB / "constraints-hashes.txt"


def test_every_constraint_has_its_hashes() -> None:
    lines = (CONTRIB / "constraints.txt").read_text().splitlines()
    named = dict(line.split("==") for line in lines if "==" in line)
    known = wheels.read_constraints(HASHES)
    assert {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in named.items()} == {
        name: version for name, (version, _) in known.items()
    }, "write it again: contrib/hashes"
    assert all(hashes for _, hashes in known.values())


@attack(
    "plugins",
    "bring another file than the one of a constraint into Purveyor's own environment",
    honest="what the constraints name is there",
)
def test_pip_takes_no_other_file_than_a_constraint_names(tmp_path: Path) -> None:
    """Of one of them a file is made that says the same version, and given to pip in its place."""
    pytest.importorskip("hatchling", reason="other Pythons are without the tools")
    source = tmp_path / "source"
    (source / "click").mkdir(parents=True)
    (source / "click/__init__.py").write_text("")
    (version, hashes) = wheels.read_constraints(HASHES)["click"]
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n"
        f"[project]\nname = 'click'\nversion = '{version}'\n"
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    listed = tmp_path / "listed.txt"
    text = HASHES.read_text()
    listed.write_text(re.findall(r"^click==(?:.*\\\n)*.*$", text, re.MULTILINE)[0])
    words = [*pip, "install", "--dry-run", "--ignore-installed", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*words, "--find-links", str(tmp_path), "--require-hashes", "-r", str(listed)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert any(item in done.stderr for item in hashes)
    assert "Would install" not in done.stdout
