"""Whether a state directory is a new one, is to go on with, or has lost what it stood on."""

from pathlib import Path

from purveyor.kernel.db.faults import translate_faults, way_back
from purveyor_hooks import StateRefused

MARK = "beginning"  # there from the first moment of a new installation until its database is whole


def begin(state: Path, *folders: Path) -> None:
    """Mark a directory that nothing was ever kept in as a new installation. Raises `StateRefused`
    when there are a key or data and no database: that is no new one.

    `folders` hold the installation's data. Backups and their key are where a new installation
    begins after the host was lost.
    """
    path = state / "purveyor.db"
    if (state / MARK).exists() or (path.exists() and path.stat().st_size):
        return
    key = state / "key"
    with translate_faults(path):
        traces = [str(key)] if key.exists() else []
        traces += [str(folder) for folder in folders if folder.is_dir() and any(folder.iterdir())]
        if traces:
            raise describe_loss(path, "is empty" if path.exists() else "is not there", traces)
        (state / MARK).touch(mode=0o600)


def describe_loss(path: Path, how: str, traces: list[str]) -> StateRefused:
    """The database of an installation is gone."""
    there = f"{', '.join(traces)} {'are' if len(traces) > 1 else 'is'}"
    return StateRefused(
        f"The database {path} {how}, but {there} there: this is not a new installation.",
        remedy=f"Nothing was touched; what runs, runs on. {way_back(path)} "
        "To begin anew beside it, give another state directory (--state).",
    )


def mark_begun(state: Path) -> None:
    """The new installation's database is whole."""
    with translate_faults(state):
        (state / MARK).unlink(missing_ok=True)
