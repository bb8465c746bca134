"""What a backup says it holds is what was written into it; what is not carried is named; what is
kept can be reached."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from fake.scene import Scene, create, do, look_after
from purveyor.app import App
from purveyor.backups import store as backups
from purveyor.backups.models import BackupRecord
from purveyor.backups.operations.adopt import AdoptArguments, Adopted
from purveyor.backups.repository import KEY_FILE, BackupRepository, require_elsewhere
from purveyor.backups.routes import view
from purveyor.backups.storage import DATA, LocalStorage
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import Outcome
from purveyor.projects.operations.link import LinkArguments
from purveyor.services import store as services
from purveyor.services.models import VolumeRecord
from purveyor_hooks import BadInput, Conflict, Failed, NotFound, PurveyorError

pytestmark = pytest.mark.anyio


async def backup_of(app: App, service: str, **given: object) -> BackupRecord:
    await do(app, "backup", service=service, **given)
    return (
        await app.context.store.read(
            lambda tx: backups.list_backups(tx, service_id=services.get(tx, service).id)
        )
    )[0]


async def outcome(app: App, number: int) -> Outcome:
    return await app.context.store.read(lambda tx: operations.outcome(tx, number))


async def kept(app: App, origin: str) -> list[VolumeRecord]:
    """What is kept of a service, newest first."""
    found = await app.context.store.read(lambda tx: services.volumes(tx, ["kept"]))
    return sorted(
        (item for item in found if item.origin == origin),
        key=lambda item: str(item.kept_at),
        reverse=True,
    )


# ---------------------------------------------------------------- what is in it


async def test_a_database_that_cannot_be_read_is_named_and_the_others_are_saved(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        server = scene.server("main")
        server.held.resources["closed"] = {"a": "1"}
        server.save()
        made = await backup_of(app, "main")
        assert made.state == "suspect"
        assert "closed: it is closed" in made.error_message
        assert set(made.metadata["counts"]["databases"]) == {"shop_production", "shop_preview"}
        number = await do(app, "restore", backup=str(made.id), new_name="again")
        assert [str(item) for item in (await outcome(app, number)).left_out] == [
            "closed: it is closed"
        ]
        assert set(scene.server("again").held.resources) == {"shop_production", "shop_preview"}


async def test_what_is_not_carried_is_named_by_backup_plan_and_restore(scene: Scene) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", secret="x")
        made = await backup_of(app, "main")
        assert made.state == "ok"
        assert made.metadata["left_out"] == [
            {
                "where": "shop_production",
                "what": "secret",
                "why": "it is not carried",
                "notice": False,
            }
        ]
        plan = await app.plan(
            "restore",
            msgspec.convert(
                {"backup": str(made.id), "new_name": "again"},
                app.operation_type("restore").arguments,
            ),
        )
        assert plan.warnings == ["Not in the backup: shop_production: secret: it is not carried"]


async def test_an_empty_service_is_no_suspect_and_one_that_lost_a_database_is(scene: Scene) -> None:
    async with scene.open() as app:
        await create(app, "fresh")
        made = await backup_of(app, "fresh")
        assert (made.state, made.error_message) == (
            "ok",
            "It is empty: there was nothing to back up.",
        )
        await backup_of(app, "main")
        server = scene.server("main")
        del server.held.resources["shop_preview"]
        server.save()
        made = await backup_of(app, "main")
        assert made.state == "suspect"
        assert "shop_preview was in the backup" in made.error_message


async def test_what_a_project_had_and_was_purged_makes_no_backup_suspect(scene: Scene) -> None:
    """Else every later one would be, for good, and none of them would be used."""
    async with scene.open() as app:
        scene.put("main", "shop_production", **{f"k{number}": "v" for number in range(200)})
        assert (await backup_of(app, "main")).state == "ok"
        await do(app, "unlink", service="main", project="shop", purge=True)
        assert (await backup_of(app, "main")).state == "ok"


async def test_a_database_that_shrank_is_named_and_a_few_keys_say_nothing(scene: Scene) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", **{f"key{number}": "x" for number in range(200)})
        scene.put("main", "shop_preview", **{f"key{number}": "x" for number in range(5000)})
        await backup_of(app, "main")
        server = scene.server("main")
        server.held.resources["shop_production"] = {"one": "x"}
        server.save()
        made = await backup_of(app, "main")
        assert made.state == "suspect"
        assert "shop_production holds less than a tenth" in made.error_message
        await create(app, "small")
        server = scene.server("small")
        server.held.resources["tiny"] = {str(number): "x" for number in range(50)}
        server.save()
        await backup_of(app, "small")
        server.held.resources["tiny"] = {"one": "x"}
        server.save()
        assert (await backup_of(app, "small")).state == "ok"


# ---------------------------------------------------------------- differences


async def test_a_new_service_keeps_what_came_and_names_the_differences(scene: Scene) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", fragile="x", minor="y")
        made = await backup_of(app, "main")
        number = await do(app, "restore", backup=str(made.id), new_name="again")
        found = await outcome(app, number)
        assert found.differences == ("keys of shop_production: 3 before, 2 after",)
        assert [str(item) for item in found.findings] == ["shop_production: minor: it is another"]
        assert scene.server("again").held.resources["shop_production"] == {
            "precious": "gold",
            "minor": "y",
        }
        number = await do(app, "clone", service="main", name="copy")
        assert (await outcome(app, number)).differences


async def test_in_place_a_difference_stops_before_anything_is_exchanged_unless_a_person_says_so(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", fragile="x")
        made = await backup_of(app, "main")
        with pytest.raises(Failed, match="keys of shop_production: 2 before, 1 after") as told:
            await do(app, "restore", backup=str(made.id), service_id="main")
        assert "--keep-going" in told.value.remedy
        assert scene.server("main").held.resources["shop_production"] == {
            "precious": "gold",
            "fragile": "x",
        }
        await do(app, "restore", backup=str(made.id), service_id="main", keep_going=True)
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}


async def test_a_notice_stops_nothing(scene: Scene) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", minor="x")
        made = await backup_of(app, "main")
        number = await do(app, "restore", backup=str(made.id), service_id="main")
        assert not (await outcome(app, number)).losses


async def test_an_upgrade_names_beforehand_what_is_refused_and_stops_at_a_loss(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", fragile="x")
        given = {"service": "main", "docker_image": "fake:2"}
        plan = await app.plan(
            "upgrade", msgspec.convert(given, app.operation_type("upgrade").arguments)
        )
        assert plan.warnings == [
            "The new version will not take it: shop_production: fragile: the new version has it not"
        ]
        with pytest.raises(Failed, match="keys of shop_production"):
            await do(app, "upgrade", **given)
        assert scene.server("main").held.major == "1"
        # it is for this that one rehearses
        rehearsed = await do(app, "upgrade", **given, rehearse=True)
        assert (await outcome(app, rehearsed)).differences
        await do(app, "upgrade", **given, keep_going=True)
        assert scene.server("main").held.major == "2"


@pytest.mark.parametrize(
    ("image", "downtime"), [("fake:2", "none"), ("fake:1-b", "until the old server is up again")]
)
async def test_the_plan_of_a_rehearsal_says_when_the_server_is_stopped(
    image: str, downtime: str, scene: Scene
) -> None:
    async with scene.open() as app:
        given = {"service": "main", "docker_image": image, "rehearse": True}
        plan = await app.plan(
            "upgrade", msgspec.convert(given, app.operation_type("upgrade").arguments)
        )
        assert plan.downtime.endswith(downtime)


async def test_a_copy_acts_on_nothing_and_an_upgrade_takes_over(scene: Scene) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", job="on")
        number = await do(app, "clone", service="main", name="copy")
        assert scene.server("copy").held.resources["shop_production"]["job"] == "off"
        assert [str(item) for item in (await outcome(app, number)).findings] == [
            "shop_production: job: it is off in a copy"
        ]
        await do(app, "upgrade", service="main", docker_image="fake:2")
        assert scene.server("main").held.resources["shop_production"]["job"] == "on"


async def test_a_verification_with_differences_is_no_proof_and_one_without_is(scene: Scene) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", fragile="x")
        made = await backup_of(app, "main")
        await do(app, "verify-backup", backup=str(made.id))
        found = await app.context.store.read(lambda tx: backups.get(tx, made.id))
        assert (found.state, found.proven_at) == ("suspect", None)
        assert "keys of shop_production: 2 before, 1 after" in found.error_message
        await do(app, "verify-backup", backup="1")
        assert (
            view(await app.context.store.read(lambda tx: backups.get(tx, 1))).proven_at is not None
        )


async def proof(app: App, number: int) -> tuple[str, bool]:
    found = await app.context.store.read(lambda tx: backups.get(tx, number))
    return found.state, found.proven_at is not None


async def test_a_backup_that_something_speaks_against_is_never_called_proven(scene: Scene) -> None:
    """Whether it was suspect when it was made, or a later restore of it finds something."""
    async with scene.open() as app:
        good = await backup_of(app, "main")
        server = scene.server("main")
        server.held.resources["closed"] = {"a": "1"}
        server.save()
        lacking = await backup_of(app, "main")
        for number in (good.id, lacking.id):
            await do(app, "verify-backup", backup=str(number))
        assert await proof(app, good.id) == ("ok", True)
        assert await proof(app, lacking.id) == ("suspect", False)
        server.held.resources.pop("closed")
        server.save()
        scene.put("main", "shop_production", fragile="x")
        fragile = await backup_of(app, "main")

        def prove(tx: Tx) -> None:
            backups.update(tx, fragile.id, state="ok", proven_at=tx.now, proven_seconds=1.0)

        await app.context.store.write(prove)
        await do(
            app, "restore", backup=str(fragile.id), new_name="part", databases=["shop_preview"]
        )
        assert await proof(app, fragile.id) == ("ok", True)
        await do(app, "restore", backup=str(fragile.id), new_name="whole")
        assert await proof(app, fragile.id) == ("suspect", False)


async def test_what_comes_back_otherwise_is_found_by_its_contents_alone(scene: Scene) -> None:
    """Its number is the same."""
    async with scene.open() as app:
        scene.put("main", "shop_production", twisted="abc")
        made = await backup_of(app, "main")
        await do(app, "verify-backup", backup=str(made.id))
        assert await proof(app, made.id) == ("ok", True)
        number = await do(app, "verify-backup", backup=str(made.id), deep=True)
        assert (await outcome(app, number)).differences == (
            "keys of shop_production: twisted is not as it was",
        )
        assert await proof(app, made.id) == ("suspect", False)
        assert (
            "twisted"
            in (await app.context.store.read(lambda tx: backups.get(tx, made.id))).error_message
        )


async def test_what_may_change_by_itself_is_no_difference_and_the_proof_says_what_it_compared(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", passing="abc")
        made = await backup_of(app, "main")
        await do(app, "verify-backup", backup=str(made.id), deep=True)
        found = view(await app.context.store.read(lambda tx: backups.get(tx, made.id)))
        assert (found.state, found.metadata["deep"]) == ("ok", True)
        await do(app, "verify-backup", backup=str(made.id))
        assert (
            "deep"
            not in (await app.context.store.read(lambda tx: backups.get(tx, made.id))).metadata
        )
        assert list(scene.state.glob("contents-*")) == []


async def proven(app: App) -> BackupRecord:
    made = await backup_of(app, "main")

    def prove(tx: Tx) -> None:
        backups.update(tx, made.id, proven_at=tx.now, proven_seconds=1.0)

    await app.context.store.write(prove)
    return made


@pytest.mark.parametrize("trouble", ["engine", "disk", "time", "bug", "died"])
async def test_what_a_verification_meets_where_it_restores_to_says_nothing_about_the_backup(
    trouble: str, scene: Scene
) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", trouble=trouble)
        made = await proven(app)
        with pytest.raises(PurveyorError):
            await do(app, "verify-backup", backup=str(made.id))
        assert await proof(app, made.id) == ("ok", True)


async def test_a_place_that_is_away_and_a_key_that_is_missing_say_nothing_about_the_backup(
    scene: Scene,
) -> None:
    class Away(LocalStorage):
        def read(self, path: str) -> AsyncIterator[bytes]:
            raise Failed(f"The bucket does not answer for {path}.")

    async with scene.open() as app:
        made = await proven(app)
        key = scene.state / KEY_FILE
        content = key.read_bytes()
        key.unlink()
        with pytest.raises(BadInput, match="a key that is not here"):
            await do(app, "verify-backup", backup=str(made.id))
        key.write_bytes(content)
        key.chmod(0o600)

        async def place_of(backup: BackupRecord) -> LocalStorage:
            return Away(Path(made.location.removesuffix(made.folder)))

        app.part(BackupRepository).place_of = place_of  # type: ignore[method-assign]
        with pytest.raises(Failed, match="does not answer"):
            await do(app, "verify-backup", backup=str(made.id))
        assert await proof(app, made.id) == ("ok", True)


@pytest.mark.parametrize("wrong", ["refused", "damaged", "gone"])
async def test_what_a_server_refuses_that_is_well_and_what_was_damaged_speak_against_a_backup(
    wrong: str, scene: Scene
) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", **({"trouble": wrong} if wrong == "refused" else {}))
        made = await proven(app)
        data = Path(made.location) / DATA
        if wrong == "damaged":
            data.write_bytes(data.read_bytes()[:-9] + b"x" * 9)
        elif wrong == "gone":
            data.unlink()
        with pytest.raises(PurveyorError):
            await do(app, "verify-backup", backup=str(made.id))
        assert await proof(app, made.id) == ("suspect", False)


# ---------------------------------------------------------------- a part of it


async def test_one_database_is_restored_and_compared_alone(scene: Scene) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_preview", fragile="x")
        made = await backup_of(app, "main")
        number = await do(
            app, "restore", backup=str(made.id), new_name="again", databases=["shop_production"]
        )
        assert scene.server("again").held.resources == {"shop_production": {"precious": "gold"}}
        assert not (await outcome(app, number)).losses


@pytest.mark.parametrize("into", [{"new_name": "again"}, {"service_id": "main"}])
async def test_a_database_that_is_not_in_it_or_a_part_in_place_is_refused(
    into: dict[str, str], scene: Scene
) -> None:
    async with scene.open() as app:
        wanted = ["other"] if "new_name" in into else ["shop_production"]
        with pytest.raises(BadInput) as told:
            await do(app, "restore", backup="1", databases=wanted, **into)
        assert set(told.value.errors) == {"databases"}


# ---------------------------------------------------------------- what is kept


async def test_data_of_before_a_restore_comes_back_with_the_credentials_that_open_it(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        scene.put("main", "shop_production", later="silver")
        await do(app, "restore", backup="1", service_id="main")
        await do(app, "rotate-administrator", service="main")
        (old,) = await kept(app, "main")
        await do(app, "attach-volume", service="main", volume=old.id)
        assert scene.server("main").held.resources["shop_production"] == {
            "precious": "gold",
            "later": "silver",
        }
        (other,) = await kept(app, "main")
        assert other.id != old.id
        await do(app, "attach-volume", service="main", volume=other.id[:8])  # and back again
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}


async def test_what_an_undone_upgrade_kept_can_be_had(scene: Scene) -> None:
    async with scene.open() as app:
        scene.put("risen", "news_production", since="the upgrade")
        await do(app, "undo-upgrade", service="risen")
        assert "since" not in scene.server("risen").held.resources["news_production"]
        (later,) = await kept(app, "risen")
        await do(app, "clone-volume", volume=later.id, name="later")
        assert scene.server("later").held.resources["news_production"]["since"] == "the upgrade"
        assert not scene.server("later").held.accounts  # no project is let in
        with pytest.raises(Conflict, match="nothing to go back to"):
            await do(app, "undo-upgrade", service="risen")


async def test_data_of_a_deleted_service_serves_another_one(scene: Scene) -> None:
    async with scene.open() as app:
        (gone,) = await kept(app, "gone")
        await do(app, "attach-volume", service="idle", volume=gone.id)
        with pytest.raises(NotFound):
            await do(app, "undelete", service="gone")


async def test_undelete_asks_which(scene: Scene) -> None:
    async with scene.open() as app:
        await create(app, "gone")
        await do(app, "delete", service="gone")
        with pytest.raises(Conflict, match="2 services named 'gone' were deleted") as told:
            await do(app, "undelete", service="gone")
        first, second = sorted(item.id for item in await kept(app, "gone"))
        assert first in told.value.detail
        assert second in told.value.detail
        numbers = [word for word in told.value.remedy.split() if word.rstrip(".").isdecimal()]
        await do(app, "undelete", service=numbers[0].rstrip("."))


@pytest.mark.parametrize("volume", ["used", "other type", "unknown"])
async def test_a_volume_that_cannot_be_attached_is_refused(volume: str, scene: Scene) -> None:
    async with scene.open() as app:
        wanted = "0123456789"
        if volume == "used":
            wanted = (
                await app.context.store.read(lambda tx: services.get(tx, "main"))
            ).volume_id or ""
        elif volume == "other type":
            (gone,) = await kept(app, "gone")
            await app.context.store.write(
                lambda tx: services.update_volume(tx, gone.id, service_type="other")
            )
            wanted = gone.id
        with pytest.raises((BadInput, Conflict, NotFound)):
            await do(app, "attach-volume", service="idle", volume=wanted)


# ---------------------------------------------------------------- whose it is


def forge(path: Path, **changes: object) -> None:
    """A manifest as somebody writes it who has the place and not the key: with a hash that is
    right."""
    said = msgspec.json.decode(path.read_bytes())["manifest"]
    text = msgspec.json.encode({**said, **changes})
    path.write_bytes(
        b'{"manifest":' + text + b',"sha256":"' + hashlib.sha256(text).hexdigest().encode() + b'"}'
    )


@pytest.mark.parametrize("verb", ["restore", "verify-backup"])
@pytest.mark.parametrize(
    "changes", [{"image": "evil:1"}, {"counts": {}}, {"parameters": {"size": 9}}, {}]
)
async def test_a_forged_manifest_is_refused_before_anything_of_it_is_used(
    changes: dict[str, object], verb: str, scene: Scene
) -> None:
    async with scene.open() as app:
        made = await backup_of(app, "main")
        forge(scene.state / "backups" / made.folder / "manifest.json", **changes)
        before = {item.name for item in scene.engine.world.containers}
        with pytest.raises(BadInput, match="was signed, and is not any more"):
            await do(
                app,
                verb,
                backup=str(made.id),
                **({"new_name": "again"} if verb == "restore" else {}),
            )
        assert {item.name for item in scene.engine.world.containers} == before
        assert not any(item.image == "evil:1" for item in scene.engine.world.containers)


async def test_another_backups_manifest_proves_nothing(scene: Scene) -> None:
    async with scene.open() as app:
        first, second = await backup_of(app, "main"), await backup_of(app, "main")
        folder = scene.state / "backups"
        (folder / second.folder / "manifest.json").write_bytes(
            (folder / first.folder / "manifest.json").read_bytes()
        )
        with pytest.raises(BadInput, match="signature does not fit"):
            await do(app, "restore", backup=str(second.id), new_name="again")


async def adopted_from_folder(app: App, *, accept_unsigned: bool) -> Adopted:
    given = AdoptArguments(accept_unsigned=accept_unsigned)
    answer = (await app.change("adopt-backups", given, "test")).made.answer
    assert isinstance(answer, Adopted)
    return answer


async def test_an_unsigned_backup_is_used_by_a_persons_word_alone_and_runs_our_own_image(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        made = await backup_of(app, "main")
        forge(scene.state / "backups" / made.folder / "manifest.json", image="evil:1")
        await app.context.store.write(lambda tx: backups.delete(tx, made.id))
        adopted, refused = await adopted_from_folder(app, accept_unsigned=False)
        assert (adopted, len(refused)) == ([], 1)
        (adopted,), _ = await adopted_from_folder(app, accept_unsigned=True)
        assert adopted.started_at == made.started_at
        given = {"backup": str(adopted.id), "new_name": "again"}
        with pytest.raises(BadInput, match="not signed by this installation"):
            await do(app, "restore", **given)
        await do(app, "restore", **given, accept_unsigned=True)
        assert (
            await app.context.store.read(lambda tx: services.get(tx, "again"))
        ).image == "fake:1"


async def test_an_adopted_backup_expires_when_it_was_to(scene: Scene) -> None:
    async with scene.open() as app:
        made = await backup_of(app, "main", keep_days=3)
        await app.context.store.write(lambda tx: backups.delete(tx, made.id))
        ((again,), _) = await adopted_from_folder(app, accept_unsigned=False)
        assert (again.expires_at, again.started_at) == (made.expires_at, made.started_at)


async def test_what_an_older_version_made_is_ours_by_its_record(scene: Scene) -> None:
    async with scene.open() as app:
        made = await backup_of(app, "main")
        facts = {name: value for name, value in made.metadata.items() if name != "mac"}
        await app.context.store.write(lambda tx: backups.update(tx, made.id, metadata=facts))
        forge(scene.state / "backups" / made.folder / "manifest.json")
        await do(app, "restore", backup=str(made.id), new_name="again")
        forge(scene.state / "backups" / made.folder / "manifest.json", image="evil:1")
        with pytest.raises(BadInput, match="is not signed"):
            await do(app, "restore", backup=str(made.id), new_name="again-2")


def changes_of(scene: Scene) -> list[Path]:
    """The files of changes of the archived service, oldest first."""
    return sorted((scene.state / "backups" / "tracked").glob("changes-*/*"))


async def test_a_change_that_somebody_else_wrote_is_refused(scene: Scene) -> None:
    async with scene.open() as app:
        newest = changes_of(scene)[-1]
        name = newest.name.split(".")[0]
        forged = newest.with_name(f"{name}.{'0' * 64}.{'0' * 32}.zst")
        newest.rename(forged)
        with pytest.raises(BadInput, match="is not ours"):
            await do(app, "restore", archive="tracked", new_name="again")
        forged.rename(newest)
        await do(app, "restore", archive="tracked", new_name="again")


async def test_each_base_copy_of_a_sealed_archive_is_sealed_and_opens_what_follows_it(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await do(app, "archive", service="main", encrypt=True)
        await do(app, "backup", service="main", backup_type="base")
        made = (await app.context.store.read(lambda tx: backups.list_backups(tx, service_id=1)))[0]
        assert (made.backup_type, made.encryption) == ("base", "age")
        scene.put("main", "shop_production", after="the second copy")
        await look_after(app, ship=True)
        sealed = sorted((scene.state / "backups" / "main").glob("changes-*/*"))
        assert all(path.read_bytes().startswith(b"age-encryption.org/v1\n") for path in sealed)
        await do(app, "restore", archive="main", new_name="again")
        assert scene.server("again").held.resources["shop_production"]["after"] == "the second copy"


async def test_a_strangers_file_keeps_no_change_from_being_shipped(scene: Scene) -> None:
    async with scene.open() as app:
        newest = changes_of(scene)[-1]
        coming = f"{int(newest.name.split('.')[0]) + 1:08d}"
        newest.with_name(f"{coming}.{'0' * 64}.zst").write_bytes(b"nothing")
        scene.put("tracked", "blog_production", after="the stranger")
        await look_after(app, ship=True)
        assert any(
            path.name.startswith(coming) and path.stat().st_size > 7 for path in changes_of(scene)
        )
        await do(app, "restore", archive="tracked", new_name="again")
        assert scene.server("again").held.resources["blog_production"]["after"] == "the stranger"


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:{port}", "http://localhost:{port}/", "http://fk-main:9000"]
)
async def test_a_bucket_of_this_very_installation_is_no_place_for_backups(
    endpoint: str, scene: Scene
) -> None:
    async with scene.open() as app:
        port = (await app.context.store.read(lambda tx: services.get(tx, "main"))).parameters[
            "port"
        ]
        with pytest.raises(BadInput, match="a service of this installation"):
            await app.context.store.read(
                lambda tx: require_elsewhere(tx, endpoint.format(port=port))
            )
        for other in (
            "https://s3.example.com",
            f"http://10.0.0.7:{port}",
            "http://127.0.0.1:1",
            "",
        ):
            await app.context.store.read(lambda tx: require_elsewhere(tx, other))


# ---------------------------------------------------------------- where they are


async def test_a_folder_that_is_not_removed_is_told(tmp_path: Path) -> None:
    place, elsewhere = LocalStorage(tmp_path / "backups"), tmp_path / "elsewhere"
    await place.put("main/one/data.zst", b"x")
    elsewhere.mkdir()
    (tmp_path / "backups/main/two").symlink_to(elsewhere)
    (tmp_path / "backups/main/three").write_bytes(b"")
    await place.remove("main/one")
    await place.remove("main/one")
    assert not (tmp_path / "backups/main/one").exists()
    for name in ("two", "three"):
        with pytest.raises(Failed, match=r"cannot be deleted: "):
            await place.remove(f"main/{name}")
    assert elsewhere.is_dir()


# ---------------------------------------------------------------- whose data was restored


async def restored_for_a_project_that_is_gone(app: App) -> None:
    """Backup 1 holds data of the project shop."""
    await do(app, "unlink", service="main", project="shop", now=True)
    await do(app, "delete-project", project="shop")
    await do(app, "restore", backup="1", new_name="again")


async def test_restored_data_waits_for_its_project_whenever_that_is_made(scene: Scene) -> None:
    async with scene.open() as app:
        await restored_for_a_project_that_is_gone(app)
        await do(app, "create-project", name="shop")
        number = await do(app, "link", service="again", project="shop")
        assert scene.server("again").held.resources["shop_production"] == {"precious": "gold"}
        assert "shop_production" in scene.server("again").held.accounts
        assert (await app.context.store.read(lambda tx: operations.get(tx, number))).outcome is None


async def test_who_comes_after_one_that_took_it_up_and_left_does_not_get_it(scene: Scene) -> None:
    async with scene.open() as app:
        await restored_for_a_project_that_is_gone(app)
        for _ in range(2):
            await do(app, "create-project", name="shop")
            await do(app, "link", service="again", project="shop")
            await do(app, "unlink", service="again", project="shop", now=True)
            await do(app, "delete-project", project="shop")
        found = scene.server("again").held.resources
        assert found["shop_production"] == {"precious": "gold"}
        assert [
            held for name, held in found.items() if name not in ("shop_production", "shop_preview")
        ] == [{}]


async def test_a_link_that_makes_an_empty_one_beside_restored_data_says_so(scene: Scene) -> None:
    async with scene.open() as app:
        await restored_for_a_project_that_is_gone(app)
        await do(app, "create-project", name="shop-2")
        plan = await app.plan("link", LinkArguments(service="again", project="shop-2"))
        assert any("shop_production (of shop/production)" in text for text in plan.warnings)
        number = await do(app, "link", service="again", project="shop-2")
        outcome = (await app.context.store.read(lambda tx: operations.get(tx, number))).outcome
        assert outcome is not None
        assert "gets an empty one" in str(outcome.findings[0])
        assert outcome.losses == []


async def test_a_link_that_fails_gives_restored_data_back_as_it_was(scene: Scene) -> None:
    async with scene.open() as app:
        await restored_for_a_project_that_is_gone(app)
        await do(app, "create-project", name="shop")
        scene.engine.acted = _fail
        try:
            with pytest.raises(Failed):
                await do(app, "link", service="again", project="shop")
        finally:
            scene.engine.acted = lambda name: None
        assert scene.server("again").held.resources["shop_production"] == {"precious": "gold"}


def _fail(name: str) -> None:
    raise Failed(f"{name}: by the test")
