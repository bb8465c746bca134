"""After the host was lost: what comes back, what does not, and what has to be said; on the fake
engine."""

import re
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from fake.host import Host, prepare
from fake.matrix import Points, watched
from fake.scene import IMAGES, create, differences, do, picture
from purveyor import __version__
from purveyor.backups import store as backups
from purveyor.backups.storage import LocalStorage
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.recovery import controller, rebuild
from purveyor.recovery.models import recovering
from purveyor.recovery.outlook import Accepted
from purveyor.recovery.routes import _view as view
from purveyor.services import hold
from purveyor.services import store as services
from purveyor_hooks import BadInput, Conflict, Failed, NotFound, StateRefused, StateUnavailable

pytestmark = pytest.mark.anyio


class Fire(NamedTuple):
    """A furnished installation, kept as it was: `old` may be lit again."""

    room: Path
    kept: Path
    key: bytes


@pytest.fixture(scope="module")
def fire(room: Path) -> Iterator[Fire]:
    folder, kept = room / "fire", room / "fire-kept"
    key = anyio.run(prepare, Host(folder / "old", folder / "place"))
    shutil.copytree(folder, kept)
    yield Fire(folder, kept, key)
    shutil.rmtree(folder)
    shutil.rmtree(kept)


@pytest.fixture
def old(fire: Fire) -> Host:
    """The host before it burns."""
    shutil.rmtree(fire.room, ignore_errors=True)
    shutil.copytree(fire.kept, fire.room)
    return Host(fire.room / "old", fire.room / "place")


@pytest.fixture
def new(fire: Fire, old: Host) -> Host:
    """A machine with nothing on it."""
    return Host(fire.room / "new", fire.room / "place")


def bindings(tx: Tx) -> dict[int, Any]:
    every = [row["id"] for row in tx.rows("SELECT id FROM services")]
    return {
        item.id: (
            item.service_id,
            item.resource,
            item.account,
            item.password,
            item.state,
            item.slot,
        )
        for number in every
        for item in projects.bindings(tx, service_id=number)
    }


async def seen(host: Host) -> tuple[Any, dict[int, Any]]:
    async with host.open(resume=False) as app:
        return await picture(host, app), await app.context.store.read(bindings)


@pytest.mark.daily
async def test_everything_comes_back_with_the_numbers_and_the_passwords_that_it_had(
    old: Host, new: Host, fire: Fire
) -> None:
    before, accounts = await seen(old)
    old.burn()
    await new.recover(fire.key)
    after, now = await seen(new)
    assert now == accounts
    same = ("projects", "links", "bindings", "deployments", "ports")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    for container in ("fk-main", "fk-idle", "fk-tracked", "fk-risen"):
        had, has = before["servers"][container], after["servers"][container]
        # the daemon begins its archive anew
        assert {**has, "slot": False} == {**had, "slot": False}, container
    assert after["wrong"] == []
    states = {record[0]: record[1:3] for record in after["services"]}
    assert states["main"] == ("active", "running")
    assert states["asleep"] == ("active", "stopped")
    running = {name for name, _, runs, _ in after["containers"] if runs}
    assert {"fk-main", "fk-idle", "fk-tracked", "fk-risen"} <= running
    assert "fk-asleep" not in running


@pytest.mark.daily
async def test_what_comes_later_comes_by_itself_once_a_person_has_looked(
    old: Host, new: Host, fire: Fire
) -> None:
    old.burn()
    await new.recover(fire.key)
    async with new.open() as app:
        await app.reconciler.sweep()
        assert "fk.shop.production.1" not in {item.name for item in new.engine.world.containers}
        with pytest.raises(Conflict, match="being recovered"):
            await do(app, "deploy", project="blog", image="app:1")
        await app.context.store.write(
            lambda tx: tx.update("backups", "id > ?", [0], expires_at=tx.now - timedelta(days=1))
        )
        await app.scheduler.turn()
        assert (await app.context.store.read(lambda tx: backups.get(tx, 1))).state == "ok"
        await app.context.store.write(controller.finish)
        await app.reconciler.sweep()
        apps = [item for item in new.engine.world.containers if item.name.startswith("fk.shop.")]
        assert {item.state for item in apps} == {"running"}
        assert len(apps) == 2
        await app.scheduler.turn()
        # for a week
        assert (await app.context.store.read(lambda tx: backups.get(tx, 1))).state == "ok"
        await app.context.store.write(
            lambda tx: tx.update("meta", "key = ?", [hold.ENDED], value="2026-01-01T00:00:00+00:00")
        )
        await app.scheduler.turn()
        assert await app.context.store.read(lambda tx: backups.find(tx, 1)) is None


async def test_a_plan_writes_nothing_and_claims_nothing(old: Host, new: Host, fire: Fire) -> None:
    def files() -> Any:
        return {
            str(path): path.stat().st_mtime_ns for path in fire.room.rglob("*") if path.is_file()
        }

    old.burn()
    before = files()
    async with new.look(fire.key) as found:
        assert {item.name for item in found.outlook.services} == {
            "main",
            "idle",
            "tracked",
            "risen",
            "asleep",
        }
        assert all(item.backup for item in found.outlook.services)
    shutil.rmtree(new.folder / "engine")
    assert files() == before
    assert not new.state.exists()


# --------------------------------------------------------------- data that is damaged, or not there


def backup_of(host: Host, service: str, *, last: bool = True) -> Path:
    found = sorted(
        (host.place / service).glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns
    )
    return found[-1 if last else 0].parent


@pytest.mark.parametrize("damage", ["altered", "cut short", "gone", "another manifest"])
async def test_a_damaged_backup_is_named_and_the_one_before_it_used(
    damage: str, old: Host, new: Host, fire: Fire
) -> None:
    old.burn()
    newest, before = backup_of(new, "main"), backup_of(new, "main", last=False)
    data = newest / "data.zst"
    if damage == "altered":
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif damage == "cut short":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "gone":
        data.unlink()
    else:
        shutil.copy(before / "manifest.json", newest / "manifest.json")
    async with new.look(fire.key) as found:
        main = next(item for item in found.outlook.services if item.name == "main")
        # its bytes are read when it is restored
        assert (main.backup == newest.name) == (damage == "altered")
        assert bool(main.passed_over) == (damage != "altered")
    await new.recover(fire.key)
    after, _ = await seen(new)
    assert after["servers"]["fk-main"]["resources"]["shop_production"] == {"precious": "gold"}
    async with new.open(resume=False) as app:
        told = await app.context.store.read(view)
        assert told is not None
        (main,) = (item for item in told.services if item.service == "main")
        assert main.state == "back"
        assert any(newest.name in text for text in main.differences) == (damage == "altered")


@pytest.mark.daily
async def test_an_archive_that_lacks_a_file_is_passed_over_by_name(
    old: Host, new: Host, fire: Fire
) -> None:
    """Its server would serve what came before the gap, and say nothing."""
    async with new.look(fire.key) as found:
        assert next(item for item in found.outlook.services if item.name == "tracked").base
    shipped = sorted(path for path in (old.place / "tracked").glob("changes-*/*") if path.is_file())
    shipped[0].unlink()
    old.burn()
    async with new.look(fire.key) as found:
        tracked = next(item for item in found.outlook.services if item.name == "tracked")
        assert "The archive lacks" in tracked.passed_over[0]
        assert (tracked.base, bool(tracked.backup)) == (False, True)


async def test_a_fault_that_is_none_of_the_backups_brings_back_no_older_data(
    old: Host, new: Host, fire: Fire
) -> None:
    old.burn()
    await new.claim(fire.key)
    async with new.open() as app:

        def acted(name: str) -> None:
            if name == "restore":
                raise Failed("the server was killed in the middle of it")

        new.engine.acted = acted
        await app.recovery.run()
        new.engine.acted = lambda name: None
        told = await app.context.store.read(view)
        assert told is not None
        # that of an archive is restored otherwise
        assert {item.state for item in told.services} == {"missing", "back"}
        await do(app, "recover", service="main")  # the newest one, once the reason is gone
        assert new.server("main").held.resources["shop_production"] == {"precious": "gold"}


async def test_a_service_without_a_backup_is_not_handed_out_empty(
    old: Host, new: Host, fire: Fire
) -> None:
    async with old.open() as app:
        await create(app, "bare")
        await do(app, "link", service="bare", project="bare")
    old.burn()
    shutil.rmtree(old.place / "main")
    await new.recover(fire.key)
    async with new.open() as app:
        told = await app.context.store.read(view)
        assert told is not None
        missing = {item.service: item.error for item in told.services if item.state == "missing"}
        assert missing.keys() == {"bare", "main"}
        assert "No backup of it was made" in missing["bare"]
        assert "fk-bare" not in {item.name for item in new.engine.world.containers}
        # nor could they be, once it is finished
        with pytest.raises(Conflict, match="main, bare is not back"):
            await app.context.store.write(controller.finish)
        for given in ({"service": "bare"}, {"service": "main"}):
            with pytest.raises(BadInput, match="cannot be brought back"):
                await do(app, "recover", **given)
        await do(app, "recover", service="bare", empty=True)
        assert (
            new.server("bare").held.resources == {"bare_production": {}}
            or not new.server("bare").held.accounts
        )
        with pytest.raises(Conflict, match="is active"):
            await do(app, "recover", service="bare", empty=True)
        await do(app, "unlink", service="main", project="shop", force=True)
        await do(app, "delete", service="main")
        await app.context.store.write(controller.finish)


async def test_a_suspect_backup_is_passed_over_by_name_and_taken_at_a_persons_word(
    old: Host, new: Host, fire: Fire
) -> None:
    async with old.open() as app:
        server = old.server("main")
        del server.held.resources["shop_production"]  # behind our back
        server.save()
        await do(app, "backup", service="main")
    old.burn()
    async with new.look(fire.key) as found:
        main = next(item for item in found.outlook.services if item.name == "main")
        assert "is suspect: shop_production was in the backup" in main.passed_over[0]
        chosen = main.backup
    async with new.look(fire.key, accepted=Accepted(suspect=frozenset({"main"}))) as found:
        main = next(item for item in found.outlook.services if item.name == "main")
        assert main.backup > chosen or main.choice.backups[0] > 1
        assert main.passed_over == []


async def test_an_image_that_cannot_be_had_keeps_one_service_away_and_no_other(
    old: Host, new: Host, fire: Fire, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.burn()
    with monkeypatch.context() as patched:
        patched.setattr(
            "fake.host.IMAGES", {name: held for name, held in IMAGES.items() if name != "fake:2"}
        )
        async with new.look(fire.key) as found:
            assert {item.name: item.image_here for item in found.outlook.services}["risen"] is False
        await new.recover(fire.key)
    async with new.open() as app:
        told = await app.context.store.read(view)
        assert told is not None
        assert {item.service for item in told.services if item.state == "missing"} == {"risen"}
        await do(app, "recover", service="risen")  # it was loaded meanwhile
        assert new.server("risen").held.resources["news_production"] == {"precious": "gold"}


@pytest.mark.daily
async def test_only_what_is_vouched_for_is_used(old: Host, new: Host, fire: Fire) -> None:
    """An unsigned backup, whose signature was cut off."""
    old.burn()
    for path in (new.place / "main").glob("*/manifest.json"):
        content = path.read_bytes()
        path.write_bytes(content.partition(b',"mac"')[0] + b"}\n")
    async with new.look(fire.key) as found:
        main = next(item for item in found.outlook.services if item.name == "main")
        assert not main.choice.backups


# ---------------------------------------------------------------- whose data it is


@pytest.mark.daily
async def test_what_was_purged_after_the_backup_is_purged_again(
    old: Host, new: Host, fire: Fire
) -> None:
    """Its name and its place belong to another project now: that one must not find what was
    there."""
    async with old.open() as app:
        await do(app, "unlink", service="main", project="shop", purge=True)
        await do(app, "delete-project", project="shop")
        await do(app, "create-project", name="shop")
        await do(app, "link", service="main", project="shop")
        await do(app, "bind", project="shop", environment="production")
        assert old.server("main").held.resources == {"shop_production": {}}
    old.burn()
    async with new.look(fire.key) as found:
        main = next(item for item in found.outlook.services if item.name == "main")
        assert (main.late, "shop_production" in main.purged) == (["shop_production"], True)
    await new.recover(fire.key)
    async with new.open():
        assert new.server("main").held.resources == {"shop_production": {}}


@pytest.mark.parametrize("over", [False, True], ids=["inside its grace", "past it"])
async def test_a_former_login_ends_with_the_host_and_does_not_come_back(
    over: bool, old: Host, new: Host, fire: Fire
) -> None:
    """It is in the backup, in the base copy and in the state; and its time may be over when all
    that is read again."""
    async with old.open() as app:
        for project in ("shop", "blog"):
            await do(app, "rotate", project=project, grace=3600)
        await do(app, "backup", service="main")
        await do(app, "backup", service="tracked", backup_type="base")
        if over:
            await app.context.store.write(
                lambda tx: tx.update(
                    "bindings",
                    "former_until IS NOT NULL",
                    [],
                    former_until=tx.now - timedelta(seconds=1),
                )
            )
        for service in ("main", "tracked"):
            assert old.server(service).held.former
        outlived = await app.context.store.read(projects.list_outlived)
        assert len(outlived) == 2
    _, accounts = await seen(old)
    old.burn()
    await new.recover(fire.key)
    for service in ("main", "tracked"):
        assert new.server(service).held.former == {}, service
    assert (await seen(new))[1] == accounts
    async with new.open() as app:
        await app.endings.turn()
        assert await app.context.store.read(projects.list_outlived) == []
        await app.context.store.write(controller.finish)
        newest = await app.context.store.read(lambda tx: backups.list_backups(tx, service_id=1))
        for backup in newest:  # those that hold it, and those of before
            await do(app, "restore", backup=backup.backup_id, service_id="main")
            assert new.server("main").held.former == {}
        await app.endings.turn()
        assert new.server("main").held.former == {}
    assert (await seen(new))[1] == accounts


@pytest.mark.daily
async def test_what_is_younger_than_the_state_is_kept_closed_for_its_owner(
    old: Host, new: Host, fire: Fire
) -> None:
    """The newest copies are gone, the newest backup is not."""
    async with old.open() as app:
        await do(app, "create-project", name="young")
        await do(app, "link", service="main", project="young")
        await do(app, "bind", project="young", environment="production")
        old.put("main", "young_production", new="ore")
        copies = {*(old.place / "state").rglob("*.pvs")}
        await do(app, "backup", service="main")
    old.burn()
    for path in {*(old.place / "state").rglob("*.pvs")} - copies:
        path.unlink()
    taken = old.place / "main"
    await new.recover(fire.key)  # the copy knows nothing of that backup, and of the project
    assert taken.exists()
    async with new.open() as app:
        with pytest.raises(NotFound):
            await app.context.store.read(lambda tx: projects.get(tx, "young"))


async def test_a_state_of_the_past_has_todays_passwords_and_no_revoked_token(
    old: Host, new: Host, fire: Fire
) -> None:
    async with old.open() as app:
        moment = datetime.now(UTC)
        await anyio.sleep(0.01)
        await do(app, "rotate", project="shop")
        await do(app, "create-project", name="later")
        await app.context.store.write(
            lambda tx: tx.insert("tokens", name="x", hash="h", scope="admin", created_at=tx.now)
        )
        passwords = {
            number: item[3] for number, item in (await app.context.store.read(bindings)).items()
        }
    old.burn()
    await new.recover(fire.key, at=moment)
    async with new.open() as app:
        with pytest.raises(NotFound):
            await app.context.store.read(lambda tx: projects.get(tx, "later"))
        now = await app.context.store.read(bindings)
        assert {number: item[3] for number, item in now.items()} == {
            number: passwords[number] for number in now
        }
        assert (
            await app.context.store.read(
                lambda tx: tx.value("SELECT count(*) FROM tokens WHERE revoked_at IS NULL")
            )
            == 0
        )
    with pytest.raises(BadInput, match="from before that moment"):
        await Host(fire.room / "third", new.place).recover(
            fire.key, at=datetime(2020, 1, 1, tzinfo=UTC)
        )


# ---------------------------------------------------------------- in the way


@pytest.mark.daily
async def test_a_port_that_is_taken_is_named_before_anything_is_claimed(
    old: Host, new: Host, fire: Fire
) -> None:
    async with old.open(resume=False) as app:
        port = (await app.context.store.read(lambda tx: services.get(tx, "main"))).parameters[
            "port"
        ]
    old.burn()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(Conflict, match=str(port)):
            await new.recover(fire.key)
        assert not new.state.exists()
        await new.recover(fire.key, move_ports=True)
        async with new.open() as app:
            now = await app.context.store.read(lambda tx: services.get(tx, "main"))
            assert now.parameters["port"] != port
            told = await app.context.store.read(view)
            assert told is not None
            assert any("main listens on port" in text for text in told.notes)


@pytest.mark.daily
async def test_a_machine_that_has_the_installation_is_left_alone(
    old: Host, new: Host, fire: Fire
) -> None:
    with pytest.raises(Conflict, match="installation with"):
        await old.recover(fire.key)
    shutil.copytree(old.folder / "engine", new.folder / "engine")  # its state alone is lost
    with pytest.raises(Conflict, match="containers of that very installation"):
        await new.recover(fire.key)
    assert not new.state.exists()


@pytest.mark.parametrize("key", [b"\0" * 32, b"\xff" * 32])
@pytest.mark.daily
async def test_another_key_opens_nothing(key: bytes, old: Host, new: Host) -> None:
    old.burn()
    with pytest.raises(BadInput, match="opens no copy"):
        await new.recover(key)
    assert not new.state.exists()


async def test_a_place_without_a_copy_is_named(old: Host, fire: Fire, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no copy of an installation's state"):
        await Host(fire.room / "new", tmp_path).recover(fire.key)


@pytest.mark.daily
async def test_the_state_of_a_later_version_is_refused_with_both_versions_named(
    old: Host, new: Host, fire: Fire
) -> None:
    async with old.open() as app:
        await app.context.store.write(
            lambda tx: (
                tx.insert(
                    "_sqlite_migrations",
                    migration_set="purveyor",
                    name="of_tomorrow",
                    applied_at=tx.now,
                ),
                tx.update("meta", "key = 'version'", [], value="9.9.9"),
            )
        )
        await app.copies.flush(10)
    old.burn()
    before = sorted((fire.room / "place").rglob("*"))
    with pytest.raises(
        StateRefused, match=rf"Purveyor 9\.9\.9, and this is {re.escape(__version__)}.*of_tomorrow"
    ):
        await new.recover(fire.key)
    assert sorted((fire.room / "place").rglob("*")) == before
    assert not [path for path in new.folder.rglob("*") if path.name.startswith("state")]


async def test_the_lost_host_is_refused_when_it_lives(old: Host, new: Host, fire: Fire) -> None:
    await new.recover(fire.key)
    async with old.open(serve=True) as app:
        with anyio.fail_after(10):
            async for event in app.bus.follow(0):
                if event.type == "state-copy.superseded":
                    break
        with pytest.raises(Conflict, match="Another installation has taken over"):
            await do(app, "backup", service="main")
        with pytest.raises(Conflict, match="Another installation has taken over"):
            await do(app, "delete-backup", backup="1")
        await app.copies.take_over()
        await do(app, "backup", service="main")


# ---------------------------------------------------------------- interrupted


class Interrupted(NamedTuple):
    """A host, and a copy of everything for each moment of a recovery onto it."""

    host: Host
    points: list[Path]
    good: Any
    accounts: dict[int, Any]


async def interrupted(
    new: Host, fire: Fire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Interrupted:
    points = Points(fire.room, tmp_path / "points")
    new.make_store, new.changed, points.armed = watched(points), points.take, True

    def marked(name: str) -> None:
        inner: Callable[..., Any] = getattr(LocalStorage, name)

        async def call(self: LocalStorage, *given: Any) -> Any:
            points.take()
            answer = await inner(self, *given)
            points.take()
            return answer

        monkeypatch.setattr(LocalStorage, name, call)

    for name in ("claim", "put", "delete"):
        marked(name)
    await new.recover(fire.key)
    points.armed = False
    monkeypatch.undo()
    good, accounts = await seen(new)
    return Interrupted(new, points.taken, good, accounts)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.nightly)])
async def test_killed_at_any_point_a_recovery_goes_on_to_the_same_end(
    every: int, old: Host, new: Host, fire: Fire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.burn()
    found = await interrupted(new, fire, tmp_path, monkeypatch)
    assert len(found.points) > 50
    for number, point in enumerate(found.points):
        if number % every:
            continue
        shutil.rmtree(fire.room)
        shutil.copytree(point, fire.room)
        again = Host(fire.room / "new", fire.room / "place")
        await again.recover(fire.key)
        after, accounts = await seen(again)
        assert differences(after, found.good) == [], point.name
        assert accounts == found.accounts, point.name


async def test_numbers_that_an_interrupted_recovery_left_out_are_nobodys(
    old: Host, new: Host, fire: Fire
) -> None:
    """Whatever bears one in the data was not purged by a person: it is younger than the state."""
    old.burn()
    await new.claim(fire.key)
    async with new.open(resume=False) as app:
        first = await app.context.store.read(recovering)
    new.burn()
    third = Host(fire.room / "third", new.place)
    await third.claim(fire.key)
    async with third.open(resume=False) as app:
        second = await app.context.store.read(recovering)
    assert first is not None
    assert second is not None
    assert first.highest == second.highest


async def test_a_recovery_called_again_goes_on(old: Host, new: Host, fire: Fire) -> None:
    old.burn()
    await new.claim(fire.key)
    assert rebuild.require_empty(new.state) is not None
    await new.recover(fire.key)
    async with new.open() as app:
        await app.context.store.write(controller.finish)
        with pytest.raises(Conflict, match="No recovery is under way"):
            await app.context.store.write(controller.finish)


@pytest.mark.daily
async def test_a_place_with_an_odd_name_and_no_room_for_the_state(old: Host, fire: Fire) -> None:
    old.burn()
    odd = fire.room / 'a "place", with \\ and ü'
    shutil.move(old.place, odd)
    await Host(fire.room / "new", odd).recover(fire.key)
    async with Host(fire.room / "new", odd).open() as app:
        assert app.context.settings.backups == str(odd)
    with pytest.raises(Conflict, match="file system of its own"):
        rebuild.require_empty(Path("/proc"))
    (fire.room / "file").touch()
    third = Host(fire.room / "file", odd)
    with pytest.raises(StateUnavailable):
        await third.recover(fire.key)
