"""The database is lost while its containers and data are there: it alone comes back from the newest
copy, and what the message says is enough."""

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import anyio
import pytest

from fake.host import Host, prepare
from fake.scene import create, do, look_after
from purveyor.backups.storage import LocalStorage
from purveyor.kernel.db import copies
from purveyor.kernel.db.faults import way_back
from purveyor.kernel.operations import store as operations
from purveyor.projects import store as projects
from purveyor.recovery.put_back import PutBack, put_back
from purveyor.services import hold
from purveyor.services import store as services
from purveyor_hooks import Conflict, NotFound, PurveyorError, StateRefused
from support import Stage, docker, eventually


@pytest.fixture(scope="module")
def furnished(room: Path) -> Iterator[Path]:
    folder, kept = room / "lost", room / "lost-kept"
    anyio.run(prepare, Host(folder / "host", folder / "place"))
    shutil.copytree(folder, kept)
    yield folder
    shutil.rmtree(folder)
    shutil.rmtree(kept)


@pytest.fixture
def host(furnished: Path) -> Host:
    shutil.rmtree(furnished, ignore_errors=True)
    shutil.copytree(furnished.with_name("lost-kept"), furnished)
    return Host(furnished / "host", furnished / "place")


async def put(host: Host, *, plan: bool = False) -> PutBack:
    async with put_back(host.state, None, None, host.build, host.engine_of, plan=plan) as found:
        return found


def lose(host: Host, how: str) -> None:
    path = host.state / "purveyor.db"
    if how == "removed":
        path.unlink()
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        path.write_bytes(path.read_bytes()[: 3 * 4096 + 100])


def running(host: Host) -> dict[str, str]:
    return {item.name: item.id for item in host.engine.world.containers if item.state == "running"}


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["removed", "emptied", "cut"])
@pytest.mark.daily
async def test_the_newest_sealed_copy_comes_back_and_everything_goes_on(
    host: Host, how: str
) -> None:
    async with host.open() as app:
        before = await app.context.store.read(services.list_all)
        await app.copies.flush(10)
        accounts = await app.context.store.read(
            lambda tx: [projects.bindings(tx, service_id=item.id) for item in before]
        )
        there, term = running(host), (await app.copies.identity()).term
    lose(host, how)
    with pytest.raises(StateRefused) as refused:
        async with host.open():
            pass
    assert "purveyor recover database" in refused.value.remedy

    files = {path: path.read_bytes() for path in host.state.rglob("*") if path.is_file()}
    planned = await put(host, plan=True)
    assert {path: path.read_bytes() for path in host.state.rglob("*") if path.is_file()} == files
    assert planned.label == LocalStorage(host.place).label
    assert planned.unknown == planned.missing == ()

    await put(host)
    with pytest.raises(Conflict, match="is whole"):
        await put(host)
    async with host.open() as app:
        assert await app.context.store.read(services.list_all) == before
        assert accounts == await app.context.store.read(
            lambda tx: [projects.bindings(tx, service_id=item.id) for item in before]
        )
        assert await app.context.store.read(hold.keeps_all), "nothing expires for a week"
        assert not await app.context.store.read(hold.is_held)
        assert (await app.copies.identity()).term > term, "it may go on writing copies"
        await look_after(app)
        await create(app, "later")
        assert await app.copies.flush(10) == []
        newest = await app.context.store.read(lambda tx: services.get(tx, "later"))
    assert newest.id > max(item.id for item in before) + 1
    assert there.items() <= running(host).items(), "what ran, runs on"
    # what was left of the lost one stays
    assert how == "removed" or (host.state / "purveyor.db.lost").exists()


@pytest.mark.anyio
@pytest.mark.daily
async def test_without_a_place_the_newest_of_its_own_copies_comes_back(host: Host) -> None:
    """Older and newer ones lie beside each other, and one of them is broken."""
    database = host.state / "purveyor.db"
    copies.copy(database, "daily-1")
    async with host.open() as app:
        await create(app, "second")
    made = copies.copy(database, "before-something")
    copies.copy(database, "daily-9").write_bytes(b"SQLite format 3\0 and nothing more")
    shutil.rmtree(host.place)
    lose(host, "removed")
    assert str(made.parent) in way_back(database)
    found = await put(host)
    assert (found.label, "second" in found.services) == (str(made), True)
    async with host.open() as app:
        await app.context.store.read(lambda tx: services.get(tx, "second"))


@pytest.mark.anyio
@pytest.mark.daily
async def test_a_place_that_is_named_and_the_key_on_paper_are_enough(
    host: Host, tmp_path: Path
) -> None:
    """The keys are lost together with the database."""
    async with host.open() as app:
        before = await app.context.store.read(services.list_all)
        await app.copies.flush(10)
    key = host.key()
    shutil.rmtree(host.state / "copies", ignore_errors=True)
    kept = {name: (host.state / name).read_bytes() for name in ("key", "backup.key")}
    for name in ("purveyor.db", *kept):
        (host.state / name).unlink()

    def opened(place: Path, with_key: bytes | None) -> AbstractAsyncContextManager[PutBack]:
        return put_back(
            host.state, LocalStorage(place), with_key, host.build, host.engine_of, plan=False
        )

    for place, given, said in (
        (host.place, None, "need the key"),
        (host.place, bytes(32), "No copy of the state opens"),
        (tmp_path, key, "no copy of an installation's state"),
    ):
        with pytest.raises(PurveyorError, match=said):
            async with opened(place, given):
                raise AssertionError("it was opened")
        assert not (host.state / "purveyor.db").exists()
    async with opened(host.place, key) as found:
        assert found.label == LocalStorage(host.place).label
    assert {name: (host.state / name).read_bytes() for name in kept} == kept
    async with host.open() as app:
        assert await app.context.store.read(services.list_all) == before


@pytest.mark.anyio
@pytest.mark.daily
async def test_what_came_after_the_copy_is_named_and_left_alone(host: Host) -> None:
    made = copies.copy(host.state / "purveyor.db", "daily-1")
    async with host.open() as app:
        await create(app, "after")
        await do(app, "delete", service="idle", purge=True)
    shutil.rmtree(host.place)
    lose(host, "removed")
    found = await put(host)
    assert found.label == str(made)
    assert "the container fk-after" in found.unknown
    assert any(item.startswith("the volume fk-after-") for item in found.unknown)
    assert found.missing == ("idle",)
    async with host.open() as app:
        await look_after(app)
        assert "fk-after" in running(host), "nothing is deleted because a copy does not know it"
        known = {item.name for item in host.engine.world.volumes}
        assert any(name.startswith("fk-after-") for name in known)


@pytest.mark.anyio
@pytest.mark.daily
async def test_a_copy_of_before_a_restore_is_refused(host: Host) -> None:
    """Its data is kept and old: to go on with it would be to lose what came since."""
    copies.copy(host.state / "purveyor.db", "daily-1")
    async with host.open() as app:
        await do(app, "restore", backup="1", service_id="main")
    shutil.rmtree(host.place)
    lose(host, "removed")
    with pytest.raises(Conflict, match="was restored or upgraded since") as refused:
        await put(host)
    assert "recover containers" in refused.value.remedy
    assert not (host.state / "purveyor.db").exists()


@pytest.mark.anyio
@pytest.mark.daily
async def test_what_was_under_way_is_named_and_not_gone_on_with(host: Host) -> None:
    async with host.open() as app:
        number = await do(app, "restart", service="main")
    with closing(sqlite3.connect(host.state / "purveyor.db")) as db, db:
        db.execute("UPDATE operations SET state = 'running' WHERE id = ?", [number])
    copies.copy(host.state / "purveyor.db", "daily-1")
    shutil.rmtree(host.place)
    lose(host, "removed")
    assert (await put(host)).ended == (f"restart (operation {number})",)
    async with host.open() as app:
        assert await app.context.store.read(operations.list_unfinished) == []


@pytest.mark.anyio
@pytest.mark.daily
async def test_who_took_over_elsewhere_is_not_put_back_here(host: Host, tmp_path: Path) -> None:
    async with host.open() as app:
        await app.copies.flush(10)
    copies.copy(host.state / "purveyor.db", "daily-1")
    other = Host(tmp_path / "other", host.place)
    await other.recover(host.key())
    async with other.open() as app:
        await app.copies.flush(10)
    lose(host, "removed")
    found = await put(host, plan=True)
    assert "taken this installation over" in " ".join(found.passed_over)
    assert found.label.endswith("daily-1.db")


@pytest.mark.anyio
@pytest.mark.daily
async def test_without_any_copy_the_other_way_is_named(host: Host) -> None:
    shutil.rmtree(host.place)
    shutil.rmtree(host.state / "copies", ignore_errors=True)
    lose(host, "removed")
    with pytest.raises(NotFound, match="no copy of the database") as refused:
        await put(host)
    assert "recover containers" in refused.value.remedy


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["removed", "replaced", "emptied"])
@pytest.mark.daily
async def test_a_database_that_is_taken_from_under_the_daemon_is_told_and_rescued(
    host: Host, how: str
) -> None:
    """Nothing is acknowledged that is in no file, and nothing of what was is lost."""
    shutil.rmtree(host.place)
    path = host.state / "purveyor.db"
    async with host.open() as app:
        await create(app, "last")
        if how == "emptied":
            path.write_bytes(b"")
        else:
            path.unlink()
        if how == "replaced":
            path.write_bytes(b"something")
        for _ in range(2):
            with pytest.raises(StateRefused, match=f"{how} while Purveyor used it") as told:
                await create(app, "never")
        with pytest.raises(StateRefused, match=how):
            await app.context.store.examine(services.list_all)
        assert how != "removed" or not path.exists(), "no empty one is made in its place"
    assert "purveyor recover database" in told.value.remedy
    if how == "emptied":
        return
    assert str(host.state / "copies/rescued.db") in told.value.remedy
    await put(host)
    async with host.open() as app:
        names = {item.name for item in await app.context.store.read(services.list_all)}
    assert "last" in names
    assert "never" not in names


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_database_that_is_lost_under_a_real_daemon_comes_back_by_what_is_said(
    make_stage: Callable[..., Stage], how: str
) -> None:
    """Only what the messages say is done."""
    made = make_stage()
    with made.serving() as stage:
        stage.furnish({"cache": "redis"}, ["shop"])
        stage.cli("webhook", "add", "mine", "http://127.0.0.1:9/x")
        variables = stage.variables("shop")
    shutil.rmtree(made.state / "copies")  # the next start makes one that has all this
    with made.serving() as stage:
        eventually((made.state / "copies/daily-1.db").exists)
        if how == "emptied":
            # else all that it held might be in the log beside it, and nothing would be lost
            with closing(sqlite3.connect(made.state / "purveyor.db")) as db:
                assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
            os.truncate(made.state / "purveyor.db", 0)
        else:
            (made.state / "purveyor.db").unlink()
        assert f"was {how} while Purveyor used it" in stage.run("create", "redis", "no").stderr
        assert f"was {how} while" in stage.run("doctor").stdout + stage.run("doctor").stderr
        read = 8 if how == "emptied" else 0
        assert stage.run("list").returncode == read, "what can be read is read"
        there = docker("ps", "-q", "--filter", f"name=^/{made.namespace}[-.]").split()
    said = made.run("list")
    assert said.returncode == 8
    (command,) = re.findall(r"purveyor (recover database) --plan", said.stderr)
    assert "cache" in made.cli(*command.split(), "--plan")
    assert how == "emptied" or not (made.state / "purveyor.db").exists()
    made.cli(*command.split())
    with made.serving() as stage:
        assert docker("ps", "-q", "--filter", f"name=^/{made.namespace}[-.]").split() == there
        assert stage.variables("shop") == variables
        assert "mine" in stage.cli("webhook", "list")
        eventually(
            lambda: stage.call("GET", "/external-services/cache")["service"]["status"] == "running"
        )
        assert stage.run("doctor").returncode == 0
