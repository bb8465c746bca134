"""A file that an archive lacks is named before anything is made: a server would stop there, and
serve as if that were all."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fake import server
from fake.scene import Scene, differences, do, look_after, picture
from purveyor.archiving import wal as changes
from purveyor.backups.storage import LocalStorage
from purveyor_hooks import BadInput, hookimpl
from purveyor_postgres import wal

pytestmark = pytest.mark.anyio


def segments(*names: str) -> list[str]:
    return [f"00000001{name}" for name in names]


@pytest.mark.parametrize(("names", "missing"), [
    (segments("0000000000000001"), ""),
    (segments("0000000000000001", "0000000000000002"), ""),
    (segments("0000000000000001", "0000000000000003", "0000000000000004"),
    "000000010000000000000002"),
    (segments("00000000000000FE", "0000000100000000"), "0000000100000000000000FF"),
    (segments("00000000000000FE", "00000000000000FF", "0000000100000000"), ""),
    (segments("00000000000000FF", "0000000100000001"), "000000010000000100000000"),
    (segments("00000000000000FF", "0000000200000000"), "000000010000000100000000"),
    (segments("000000000000003F", "0000000100000000", "0000000100000001"), ""),  # 64 MB each
    (segments("000000000000003F", "0000000100000000", "00000001000000FF"),
    "000000010000000000000040"),
    ([*segments("0000000000000005", "0000000000000006"), "00000002.history",
    "000000020000000000000006"], ""),
    ([*segments("0000000000000005"), "00000002.history", "000000020000000000000007"],
    "000000010000000000000006"),
    ([], ""),
])  # fmt: skip
def test_the_first_segment_that_is_missing_is_named(names: list[str], missing: str) -> None:
    assert wal.archive_gap(names) == missing


@hookimpl
def archive_gap(names: Sequence[str]) -> str:
    """The fake server's files are numbered."""
    there = {int(name) for name in names}
    return next(
        (f"{number:08d}" for number in range(min(there), max(there)) if number not in there), ""
    )


@pytest.fixture
def gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "archive_gap", archive_gap, raising=False)


def changes_of(scene: Scene) -> list[Path]:
    return sorted((scene.state / "backups" / "tracked").glob("changes-*/*"))


@pytest.mark.usefixtures("gaps")
@pytest.mark.parametrize("to", ["a moment", "the end"])
@pytest.mark.parametrize("into", [{"new_name": "again"}, {"service_id": "tracked"}])
async def test_a_gap_is_named_before_anything_is_made(
    scene: Scene, to: str, into: dict[str, Any]
) -> None:
    async with scene.open() as app:
        for value in ("one", "two", "three"):
            moment = datetime.now(UTC)
            scene.put("tracked", "blog_production", later=value)
            await look_after(app, ship=True)
        given = {"archive": "tracked", **into, "at": moment if to == "a moment" else None}
        lost = changes_of(scene)[-2]
        lost.unlink()
        before = await picture(scene, app)
        with pytest.raises(BadInput, match=f"the archive lacks {lost.name.split('.')[0]}"):
            await do(app, "restore", **given)
        assert not differences(await picture(scene, app), before)
        await do(app, "restore", **given, keep_going=True)


@pytest.mark.parametrize(("files", "held"), [
    (["1", "2", "3.partial-7"], ["1", "2", "3"]),
    (["1", "2.partial-5", "2", "3"], ["1", "2", "3"]),
    (["1", "2.partial-5", "3"], ["1", "3"]),
    (["1.partial-2", "2"], ["2"]),
])  # fmt: skip
async def test_an_unfinished_file_counts_where_it_is_the_last(
    files: list[str], held: list[str], tmp_path: Path
) -> None:
    for name in files:
        path = tmp_path / "changes" / f"{name}.{'0' * 64}.zst"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert await changes.whole(LocalStorage(tmp_path), "changes", "1", None) == held
