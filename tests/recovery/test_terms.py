"""One installation writes to a place: whoever sees that another one does stops, goes on serving,
and says so."""

import platform
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from fake.copied import (
    Fickle,
    current,
    files,
    keep_at,
    keys_of,
    living,
    newest,
    status,
    told,
    until,
)
from fake.scene import Scene, do, look_after
from purveyor.app import App
from purveyor.archiving import store as archives
from purveyor.backups import store as backups
from purveyor.backups.fence import Fence
from purveyor.backups.models import SourceRecord
from purveyor.backups.storage import LocalStorage, S3Storage
from purveyor.kernel.db.database import installation, note
from purveyor.recovery import copier, document
from purveyor.recovery.sealing import Mark, owner_path, write_mark
from purveyor.recovery.thinning import NEWEST
from purveyor_hooks import Conflict, Event, Failed, PurveyorError
from support import SEAWEEDFS, Stage

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]


@pytest.fixture
def place(scene: Scene, tmp_path: Path) -> LocalStorage:
    """Where the scene's backups go, outside of its state directory."""
    folder = tmp_path / "place"
    keep_at(scene, folder)
    return LocalStorage(folder)


@pytest.fixture
def other(scene: Scene, place: LocalStorage, tmp_path: Path) -> Iterator[Scene]:
    """The same installation once more, in a state directory of its own: what it became is up to the
    test."""
    made = Scene(tmp_path / "other")
    yield made
    shutil.rmtree(made.state, ignore_errors=True)


def copy(scene: Scene, other: Scene) -> None:
    """Copy a state directory while it is in use, as somebody does who copies a machine."""
    shutil.copytree(scene.state, other.state, ignore=shutil.ignore_patterns("purveyor.*"))
    with closing(sqlite3.connect(scene.state / "purveyor.db")) as db:
        db.execute("VACUUM INTO ?", [str(other.state / "purveyor.db")])


async def project(app: App, name: str) -> None:
    await do(app, "create-project", name=name)


async def changed(app: App, number: int) -> None:
    await app.context.store.write(lambda tx: note(tx, "changed", str(number)))


async def recovered(app: App) -> None:
    """What a recovery does at the places."""
    await app.copies.take_over(anew=True)
    await project(app, "recovered")
    assert await app.copies.flush(5) == []


# ---------------------------------------------------------------- another one takes over


@pytest.mark.daily
async def test_a_recovery_elsewhere_supersedes_the_one_that_lives(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await do(app, "backup", service="main", keep_days=1)
        await current(app, place)
        assert app.context.part(Fence).closed == {}
        copy(scene, other)
        async with living(other, follow=False) as successor:
            await recovered(successor)
        await until(lambda: app.context.part(Fence).closed)
        await until(lambda: status(app, place).superseded)
        await anyio.sleep(0.1)
        before = files(place.root)
        (event,) = await told(app, "state-copy.superseded")
        assert event.data["place"] == str(place.root)
        assert event.data["by"].startswith(platform.node())
        await project(app, "served")  # it goes on serving
        with pytest.raises(Conflict, match="taken over"):
            await do(app, "backup", service="main")
        last = (await app.context.store.read(backups.list_backups))[-1]
        with pytest.raises(Conflict, match="taken over"):
            await do(app, "delete-backup", backup=str(last.id))
        await app.scheduler.turn()
        await anyio.sleep(0.3)
        assert files(place.root) == before, "nothing is written and nothing deleted there any more"
        assert len(await told(app, "state-copy.superseded")) == 1, "it is said once"
    assert files(place.root) == before, "nor at the end"


@pytest.mark.daily
async def test_what_expires_stays_where_another_one_writes(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await do(app, "backup", service="main", keep_days=1)
        await do(app, "backup", service="main", keep_days=1)
        await current(app, place)
        copy(scene, other)
        async with living(other, follow=False) as successor:
            await recovered(successor)
        past = datetime.now(UTC) - timedelta(days=2)
        await app.context.store.write(lambda tx: tx.update("backups", "TRUE", [], expires_at=past))
        before = {name for name in files(place.root) if name.startswith("main/")}
        await app.scheduler.turn()
        assert {name for name in files(place.root) if name.startswith("main/")} == before
        await app.copies.take_over()  # a person says that it is this one
        await current(app, place)
        await app.scheduler.turn()
        assert {name for name in files(place.root) if name.startswith("main/")} < before


@pytest.mark.daily
async def test_who_writes_or_deletes_asks_first_and_does_not_wait_for_the_next_look(
    scene: Scene, other: Scene, place: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "LOOK", 3600.0)
    async with living(scene) as app:
        await current(app, place)
        copy(scene, other)
        async with living(other, follow=False) as successor:
            await recovered(successor)
        before = files(place.root)
        with pytest.raises(Conflict, match="taken over"):
            await do(app, "backup", service="main")
        await until(lambda: status(app, place).superseded)
        await anyio.sleep(0.1)  # what was under way arrives
        shipped = status(app, place).revision
        await project(app, "served")
        await anyio.sleep(0.2)
        assert status(app, place).revision == shipped, "who knows stops copying as well"
        assert {name for name in files(place.root) if name.startswith("main/")} == {
            name for name in before if name.startswith("main/")
        }


@pytest.mark.daily
async def test_a_command_without_the_daemon_asks_too(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await current(app, place)
    copy(scene, other)
    async with living(other, follow=False) as successor:
        await recovered(successor)
    before = files(place.root)
    async with living(scene, follow=False) as app:
        with pytest.raises(Conflict, match="taken over"):
            await do(app, "backup", service="main")
    assert files(place.root) == before
    async with scene.open() as app:
        assert len(await told(app, "state-copy.superseded")) == 1


async def test_the_old_one_started_again_is_refused_however_often(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await current(app, place)
    copy(scene, other)
    async with living(other, follow=False) as successor:
        await recovered(successor)
        found = await newest(successor, place)
    for _ in range(3):
        async with living(scene) as app:
            await until(lambda: status(app, place).superseded)
    async with living(other, follow=False) as successor:
        assert (await newest(successor, place)).header == found.header, (
            "what the recovered one wrote is the newest"
        )


@pytest.mark.daily
async def test_a_copy_of_the_machine_makes_the_older_process_give_way(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await current(app, place)
        copy(scene, other)
        async with living(other) as clone:
            assert (await clone.copies.identity()).incarnation == (
                await app.copies.identity()
            ).incarnation
            await until(lambda: status(app, place).superseded)
            await project(clone, "clone")
            await current(clone, place)
            assert not status(clone, place).superseded
            assert len(await told(app, "state-copy.superseded")) == 1


@pytest.mark.daily
async def test_two_copies_of_a_machine_that_start_at_once_are_not_both_taken_for_the_one(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await current(app, place)
    copy(scene, other)
    async with living(scene) as app, living(other) as clone:
        await until(lambda: status(app, place).superseded or status(clone, place).superseded)
        await until(lambda: status(app, place).at or status(clone, place).at)
        assert bool(status(app, place).superseded) != bool(status(clone, place).superseded)


@pytest.mark.daily
async def test_takeover_is_a_persons_word_and_reopens_what_was_closed(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await current(app, place)
        copy(scene, other)
        async with living(other) as successor:
            await recovered(successor)
            await until(lambda: status(app, place).superseded)
            await app.copies.take_over()
            await project(app, "again")
            await current(app, place)
            await do(app, "backup", service="main")
            await until(lambda: status(successor, place).superseded)
            with pytest.raises(Conflict, match="taken over"):
                await do(successor, "backup", service="main")
            assert app.context.part(Fence).closed == {}
            assert (await newest(app, place)).header.incarnation == (
                await app.copies.identity()
            ).incarnation


@pytest.mark.daily
async def test_a_takeover_by_a_command_without_the_daemon_is_claimed_when_it_ends(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await current(app, place)
    copy(scene, other)
    async with living(other) as successor:
        await recovered(successor)
        async with living(scene, follow=False) as app:
            term = await app.copies.take_over()
        await until(lambda: status(successor, place).superseded)
        assert f"(term {term})" in status(successor, place).superseded


async def test_a_split_network_each_is_refused_where_the_other_was_and_takeover_ends_it(
    scene: Scene, other: Scene, tmp_path: Path
) -> None:
    """The old one reaches only B, the recovered one only A; then both reach both."""
    a, b = LocalStorage(tmp_path / "a"), LocalStorage(tmp_path / "b")
    async with living(scene, a, b) as app:
        await current(app, a, b)
    copy(scene, other)
    for made in (scene, other):
        keep_at(made, made.state / "backups")  # no place of its own beside these
    async with living(other, a, follow=False) as app:
        await recovered(app)
    async with living(other, a) as app:
        await current(app, a)
    for _ in range(4):
        async with living(scene, b) as app:
            await current(app, b)
    for made, refused, held in ((other, b, a), (scene, a, b)):
        async with living(made, a, b) as app:
            await until(lambda: status(app, refused).superseded and status(app, held).at)
            assert not status(app, held).superseded
    async with living(other, a, b) as app:
        await app.copies.take_over()
        await current(app, a, b)
    async with living(other, a, b) as app:
        await current(app, a, b)
    async with living(scene, a, b) as app:
        await until(lambda: status(app, a).superseded and status(app, b).superseded)


class Slow(LocalStorage):
    """A folder of which one answer about an owner's mark is on its way for as long as `let`
    says."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.armed = False
        self.reached, self.let = threading.Event(), threading.Event()

    async def get(self, path: str) -> bytes:
        content = await super().get(path)
        if self.armed and path.endswith("/owner"):
            self.armed = False

            def wait() -> None:
                self.reached.set()
                self.let.wait(10)

            await anyio.to_thread.run_sync(wait)
        return content


@pytest.mark.daily
async def test_an_answer_that_was_on_its_way_does_not_undo_a_takeover(
    scene: Scene, other: Scene, tmp_path: Path
) -> None:
    slow = Slow(tmp_path / "slow")
    async with living(scene, slow) as app:
        await current(app, slow)
        copy(scene, other)
        keep_at(other, other.state / "backups")
        slow.armed = True
        async with living(other, LocalStorage(slow.root), follow=False) as successor:
            await recovered(successor)
        await until(slow.reached.is_set)
        await app.copies.take_over()
        slow.let.set()
        await current(app, slow)
        assert not status(app, slow).superseded
        assert app.context.part(Fence).closed == {}


@pytest.mark.daily
async def test_a_mark_that_our_key_did_not_make_stops_nobody(
    scene: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await current(app, place)
        name = await app.context.store.read(installation)
        await place.put(owner_path(name, 99), b'{"owner": "{}", "mac": "00"}')
        await anyio.sleep(0.4)
        await do(app, "backup", service="main")
        await project(app, "more")
        await current(app, place)
        assert app.context.part(Fence).closed == {}
    async with living(scene) as app:
        await current(app, place)


@pytest.mark.daily
async def test_a_place_that_was_taken_over_is_asked_again_when_its_source_has_changed(
    scene: Scene, other: Scene, tmp_path: Path
) -> None:
    """Whoever gives a source another key may have meant another bucket."""
    folder = LocalStorage(tmp_path / "there")
    keep_at(scene, scene.state / "backups")
    async with living(scene, folder) as app:
        await current(app, folder)
        copy(scene, other)
        async with living(other, folder, follow=False) as successor:
            await recovered(successor)
        await until(lambda: status(app, folder).superseded)
        shutil.rmtree(folder.root)
        app.copies._wanted = {
            key: (target._replace(known_by="another"), scope)
            for key, (target, scope) in app.copies._wanted.items()
        }
        await project(app, "wakes")
        await current(app, folder)
        assert app.context.part(Fence).closed == {}


@pytest.mark.daily
def test_of_many_that_claim_at_once_one_gets_it(tmp_path: Path) -> None:
    for number in range(5):
        won: list[bytes] = []
        barrier = threading.Barrier(8)

        def claim(who: bytes, path: str, won: list[bytes], barrier: threading.Barrier) -> None:
            async def work() -> None:
                barrier.wait()
                if await LocalStorage(tmp_path).claim(path, who):
                    won.append(who)

            anyio.run(work)

        path = f"state/x/{number:08d}/owner"
        threads = [
            threading.Thread(target=claim, args=(b"%d" % who, path, won, barrier))
            for who in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert (tmp_path / path).read_bytes() == won[0]


@pytest.mark.parametrize("server", ["rustfs", "seaweedfs"])
def test_of_many_that_claim_at_once_in_a_bucket_one_gets_it(
    server: str, house: Stage, request: pytest.FixtureRequest
) -> None:
    image = request.getfixturevalue("rustfs") if server == "rustfs" else SEAWEEDFS
    house.cli("create", "s3", server, "--image", image)
    house.cli("project", "create", f"claims-{server}")
    house.cli("link", server, f"claims-{server}")
    found = house.variables(f"claims-{server}")
    source = SourceRecord(
        id=1, name="x", bucket_name=found["S3_BUCKET"], bucket_path="",
        endpoint=found["S3_ENDPOINT"], region="us-east-1",
        access_key_id=found["S3_ACCESS_KEY"], secret_key=found["S3_SECRET_KEY"],
        force_path_style=True,
        created_at=datetime.now(UTC),
    )  # fmt: skip

    async def work() -> None:
        for number in range(5):
            path, won = f"state/x/{number:08d}/owner", []

            async def claim(who: bytes, path: str = path, won: list[bytes] = won) -> None:
                async with S3Storage(
                    source, source.secret_key
                ).held() as place:  # a client of its own
                    if await place.claim(path, who):
                        won.append(who)

            async with anyio.create_task_group() as group:
                for who in range(8):
                    group.start_soon(claim, b"%d" % who)
            assert len(won) == 1
            assert await S3Storage(source, source.secret_key).get(path) == won[0]

    anyio.run(work)


@pytest.mark.daily
async def test_a_term_that_is_ours_already_is_claimed_again(
    scene: Scene, place: LocalStorage
) -> None:
    """An answer that was lost, a place that was away meanwhile: the mark is the same, to the
    byte."""
    async with living(scene) as app:
        await current(app, place)
        await app.copies._claim(place)
        await app.copies._claim(place)


# ---------------------------------------------------------------- archives


async def shipped(app: App, place: LocalStorage) -> set[str]:
    return {name for name in files(place.root) if "/changes-" in name}


async def followed(scene: Scene, app: App) -> None:
    """The archive begins anew at the place, with a base copy of its own."""
    await do(app, "end-archive", service="tracked")
    await do(app, "archive", service="tracked")
    scene.put("tracked", "blog_production", first="1")
    await look_after(app, ship=True)


@pytest.mark.daily
async def test_archives_ship_and_thin_nothing_where_another_one_writes(
    scene: Scene, other: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await followed(scene, app)
        await current(app, place)
        before = await shipped(app, place)
        assert before
        copy(scene, other)
        async with living(other, follow=False) as successor:
            await recovered(successor)
        await until(lambda: status(app, place).superseded)
        scene.put("tracked", "blog_production", second="2")
        await look_after(app, ship=True)
        assert await shipped(app, place) == before
        (archive,) = await app.context.store.read(archives.list_all)
        assert archive.state == "waiting"
        assert "taken over" in archive.reason
        await app.context.store.write(
            lambda tx: archives.update(tx, archive.service_id, state="broken")
        )
        (archive,) = await app.context.store.read(archives.list_all)
        with pytest.raises(Conflict, match="taken over"):
            await app.archivist.turn(archive)
        assert "purveyor-check" not in files(place.root), "nor is it tried whether one can write"
        await app.context.store.write(
            lambda tx: archives.update(tx, archive.service_id, state="following")
        )
        await app.copies.take_over()
        await look_after(app, ship=True)
        assert await shipped(app, place) - before


async def test_an_archive_asks_once_a_minute_and_before_it_deletes(
    scene: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await followed(scene, app)
        asked = []
        look = app.copies.look

        async def counted(address: str) -> None:
            asked.append(address)
            await look(address)

        app.context.part(Fence).look = counted
        for number in range(4):
            scene.put("tracked", "blog_production", more=str(number))
            await look_after(app, ship=True)
        assert len(asked) <= 1
        assert await shipped(app, place)


# ---------------------------------------------------------------- places that are away


@pytest.mark.daily
async def test_a_place_that_is_away_at_the_start_gets_it_when_it_is_back(
    scene: Scene, place: LocalStorage, tmp_path: Path
) -> None:
    gone = LocalStorage(tmp_path / "gone")
    gone.root.write_text("a file is in the way")
    async with living(scene, gone) as app:
        await app.copies.settle(5.0)  # it has failed once: nothing waits for it
        await current(app, place)
        await until(lambda: status(app, gone).error)
        assert status(app, gone).behind_since is not None
        gone.root.unlink()
        await current(app, gone)
        assert status(app, gone).error == ""
        assert status(app, gone).behind_since is None
        assert (await newest(app, gone)).body == (await newest(app, place)).body


@pytest.mark.daily
async def test_one_that_hangs_holds_up_nobody(
    scene: Scene, place: LocalStorage, tmp_path: Path
) -> None:
    hanging = Fickle(tmp_path / "hanging")
    hanging.frozen = True
    async with living(scene, hanging) as app:
        with anyio.fail_after(2):
            await app.copies.settle(0.2)
            for number in range(5):
                await project(app, f"p{number}")
                await current(app, place)
            await do(app, "backup", service="main")
        assert status(app, hanging).at is None
        hanging.frozen = False
        await current(app, hanging)
        hanging.frozen = True
        await project(app, "again")
        with anyio.fail_after(2):
            await current(app, place)
            assert await app.copies.flush(0.2) == [hanging.address], (
                "the end waits for it so long and no longer"
            )
            hanging.frozen = False


@pytest.mark.daily
async def test_a_takeover_does_not_wait_for_a_place_that_hangs(
    scene: Scene, place: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "ANSWER", 0.1)
    hanging = Fickle(tmp_path / "hanging")
    async with living(scene, hanging) as app:
        await current(app, place, hanging)
        hanging.frozen = True
        with anyio.fail_after(2):
            await app.copies.take_over()
            await current(app, place)
        hanging.frozen = False
        await current(app, hanging)


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_one_that_is_late_is_told_once_and_told_again_when_it_is_current(
    scene: Scene, place: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    late = Fickle(tmp_path / "late")

    # on a slow machine the other place is late as well, now and then
    async def of_it(app: App, kind: str) -> list[Event]:
        return [event for event in await told(app, kind) if event.data["place"] == late.label]

    async with living(scene, late) as app:
        await current(app, place, late)
        monkeypatch.setattr(copier, "LATE", 0.3)  # the first copy may take longer on a slow machine
        kept = tmp_path / "kept"
        if how == "hangs":
            late.frozen = True
        else:
            late.root.rename(kept)
            late.root.write_text("in the way")
        await project(app, "missing")
        await until(lambda: status(app, late).told)
        await anyio.sleep(0.5)
        (event,) = await of_it(app, "state-copy.late")
        assert event.data["error"] == (
            "It does not answer." if how == "hangs" else event.data["error"]
        )
        assert event.data["error"]
        assert not await of_it(app, "state-copy.current")
        if how == "hangs":
            late.frozen = False
        else:
            late.root.unlink()
            kept.rename(late.root)
        await current(app, late)
        await until(lambda: not status(app, late).told)
        await anyio.sleep(0.1)
        assert len(await of_it(app, "state-copy.current")) == 1


async def test_a_place_that_hangs_when_it_is_only_looked_at_is_told_as_late(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Fickle(tmp_path / "late")
    async with living(scene, late) as app:
        await current(app, late)
        monkeypatch.setattr(copier, "LATE", 0.3)
        await anyio.sleep(0.1)
        late.frozen = True
        await anyio.sleep(0.4)  # it is being looked at
        assert not status(app, late).told, "it has all there is"
        await project(app, "missing")
        await until(lambda: status(app, late).told)
        late.frozen = False
        await current(app, late)
        await until(lambda: not status(app, late).told)


async def test_a_backup_that_cannot_ask_fails_and_does_not_hang(
    scene: Scene, other: Scene, place: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "DEADLINE", 0.2)
    async with living(scene) as app:
        await current(app, place)
        fickle = Fickle(place.root)
        app.copies._reached[place.address] = fickle
        fickle.frozen = True
        with pytest.raises(Failed, match="does not answer"):
            await do(app, "backup", service="main")
        fickle.frozen = False
        await do(app, "backup", service="main")


# ---------------------------------------------------------------- what is written, and when


async def test_what_is_only_seen_is_not_shipped_and_a_heartbeat_is(
    scene: Scene, place: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def documents() -> list[str]:
        return sorted(name for name in files(place.root) if name.endswith(".pvs"))

    async with living(scene) as app:
        await current(app, place)
        await anyio.sleep(0.1)
        before = documents()
        for number in range(40):
            await app.context.store.write(
                lambda tx: tx.update("tokens", "TRUE", [], last_used_at=str(number))
            )
            await app.context.store.write(
                lambda tx: tx.update("archives", "TRUE", [], queue_bytes=number)
            )
        await anyio.sleep(0.5)
        assert documents() == before
        await project(app, "one")
        await current(app, place)
        await anyio.sleep(0.1)
        assert 0 < len(documents()) - len(before) <= 3
        before = documents()
        (scene.state / "hooks").mkdir(exist_ok=True)
        (scene.state / "hooks/tell").write_text("#!/bin/sh\n")
        await until(lambda: len(documents()) == len(before) + 1)  # by itself, after a while
        await anyio.sleep(0.3)
        before = documents()
        monkeypatch.setattr(copier, "HEARTBEAT", 0.2)
        await until(lambda: len(documents()) >= len(before) + 2)


async def test_what_lies_beside_and_changes_all_the_time_is_shipped_with_the_next_change(
    scene: Scene, place: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outbox of webhooks is written to with every event."""
    monkeypatch.setattr(copier, "LOOK", 3600.0)
    (scene.state / "box").write_text("0")
    async with living(scene) as app:
        await project(app, "one")
        await current(app, place)
        await anyio.sleep(0.1)
        before = set(files(place.root))
        for number in range(20):
            (scene.state / "box").write_text("x" * number)
            await app.context.store.write(
                lambda tx: tx.update("tokens", "TRUE", [], last_used_at=str(number))
            )
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        assert set(files(place.root)) == before
        await project(app, "two")
        await current(app, place)
        with closing(sqlite3.connect(":memory:")) as db:
            db.deserialize((await newest(app, place)).body)
            assert db.execute("SELECT content FROM carried WHERE name = 'box'").fetchone() == (
                b"x" * 19,
            )


async def test_a_clock_that_was_put_back_does_not_silence_the_heartbeat(
    scene: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        await current(app, place)
        status(app, place).at = app.now() + timedelta(days=1)
        app.copies.changed()
        await until(lambda: (status(app, place).at or app.now()) <= app.now())


async def test_thinning_leaves_strangers_files_alone_and_is_not_led_astray_by_them(
    scene: Scene, place: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write there could have us delete all that is good by names that look newer."""
    monkeypatch.setattr(copier, "THIN", 0.05)
    monkeypatch.setattr(copier, "MARKS", 3)
    async with living(scene) as app:
        name = await app.context.store.read(installation)
        strange = [
            f"state/{name}/{number:08d}/{number:016d}-9999999999999.pvs"
            for number in range(10**7, 10**7 + NEWEST)
        ]
        strange += [
            f"state/{name}/{number:08d}/owner" for number in range(10**7, 10**7 + 2 * copier.MARKS)
        ]
        strange += [f"state/{name}/00000001/x.pvs", f"state/{name}/x.pvs"]
        for path in strange:
            await place.put(path, b"x")
        for number in range(14):
            await changed(app, number)
            await current(app, place)
        there = files(place.root)
        assert set(strange) <= set(there)
        assert len([path for path in there if path.endswith(".pvs")]) - NEWEST - 2 >= NEWEST, (
            "all of the last hour"
        )
        assert f"state/{name}/{(await app.copies.identity()).term:08d}/owner" in there
        assert status(app, place).error == ""
        assert (await newest(app, place)).header.revision >= document.revision(
            app.context.store.path
        )


async def test_old_copies_and_old_marks_are_thinned(
    scene: Scene, place: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "THIN", 0.05)
    monkeypatch.setattr(copier, "MARKS", 3)
    async with living(scene) as app:
        name = await app.context.store.read(installation)
        first = (await app.copies.identity()).term
        await app.context.store.write(
            lambda tx: tx.update("meta", "key = 'term'", [], value=str(first + 200))
        )
    year_ago = int(datetime.now(UTC).timestamp() * 1000) - 900 * 86_400_000
    old = [
        f"state/{name}/00000001/{number:016d}-{year_ago + number:013d}.pvs" for number in range(30)
    ]
    async with living(scene) as app:
        for path in old:
            await place.put(path, b"x")
        keys = await keys_of(app)
        for term in range(2, 9):
            mark = Mark(installation=name, term=term, incarnation="i", host="h", at=1)
            await place.put(mark.path, write_mark(mark, keys))
        await current(app, place)
        for number in range(NEWEST + 2):
            await changed(app, number)
            await current(app, place)
        await anyio.sleep(0.1)
        await changed(app, 99)
        await until(lambda: not set(old) & set(files(place.root)))
        marks = [path for path in files(place.root) if path.endswith("/owner")]
        assert len(marks) <= copier.MARKS + 1
        assert (await app.copies.identity()).mark.path in marks


@pytest.mark.daily
async def test_a_folder_in_the_state_directory_is_no_place_and_is_not_in_the_copy(
    scene: Scene, tmp_path: Path
) -> None:
    """It is lost with the state; and a copy that held the copies would grow without end."""
    keep_at(scene, scene.state / "kept" / "backups")
    there = LocalStorage(tmp_path / "there")
    async with living(scene, there) as app:
        await do(app, "backup", service="main")
        await current(app, there)
        assert set(app.copies.statuses) == {there.address}
        with closing(sqlite3.connect(":memory:")) as db:
            db.deserialize((await newest(app, there)).body)
            names = {row[0] for row in db.execute("SELECT name FROM carried")}
        assert "settings.toml" in names
        assert not [name for name in names if name.startswith(("kept", "volumes", "backups"))]
        assert "backup.key" not in names


@pytest.mark.daily
def test_two_buckets_of_one_name_are_two_places() -> None:
    def bucket(**given: Any) -> S3Storage:
        known: dict[str, Any] = {
            "id": 1,
            "name": "x",
            "bucket_name": "b",
            "bucket_path": "p",
            "access_key_id": "a",
        }
        rest: dict[str, Any] = {
            "secret_key": "s",
            "region": "r",
            "force_path_style": True,
            "created_at": datetime.now(UTC),
        }
        return S3Storage(SourceRecord(**known, **rest, **given), "s")

    one, two = bucket(endpoint="https://one"), bucket(endpoint="https://two")
    assert one.label == two.label
    assert one.address != two.address
    assert one.address == bucket(endpoint="https://one/").address


@pytest.mark.daily
async def test_the_end_tells_which_places_have_not_got_the_last(
    scene: Scene, place: LocalStorage, tmp_path: Path
) -> None:
    gone = LocalStorage(tmp_path / "gone")
    gone.root.write_text("in the way")
    async with living(scene, gone, follow=False) as app:
        assert await app.copies.flush(2) == [], "nothing has changed"
        await project(app, "last")
        assert await app.copies.flush(2) == [gone.address]
        with closing(sqlite3.connect(":memory:")) as db:
            db.deserialize((await newest(app, place)).body)
            assert db.execute("SELECT count(*) FROM projects WHERE name = 'last'").fetchone() == (
                1,
            )


@pytest.mark.daily
async def test_a_place_that_does_what_nobody_expects_ends_no_process(
    scene: Scene, place: LocalStorage, tmp_path: Path
) -> None:
    class Odd(LocalStorage):
        async def claim(self, path: str, content: bytes) -> bool:
            raise ValueError("Invalid endpoint")

    odd = Odd(tmp_path / "odd")
    async with living(scene, odd, follow=False) as app:
        await project(app, "last")
    async with living(scene, odd) as app:
        await current(app, place)
        await until(lambda: "Invalid endpoint" in status(app, odd).error)
        with pytest.raises(PurveyorError):
            await do(app, "backup", service="nobody")


@pytest.mark.daily
async def test_a_mark_that_somebody_without_the_key_put_in_our_way_stops_nobody(
    scene: Scene, place: LocalStorage
) -> None:
    """Else whoever may write to the place could keep every backup from it."""
    async with living(scene, follow=False) as app:
        who = await app.copies.identity()
        assert await place.claim(owner_path(who.installation, who.term), b"forged")
        await project(app, "new")
        assert await app.copies.flush(5) == []
        assert app.context.part(Fence).closed == {}
        mark = await place.get(owner_path(who.installation, who.term))
        assert mark == write_mark(who.mark, who.keys)
