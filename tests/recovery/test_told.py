"""How far the copies of the state are: what the doctor and the API say."""

import base64
import os
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
from click.testing import CliRunner

from fake.copied import Fickle, current, keep_at, living, status, until
from fake.scene import Scene, do
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.audit import store as audit
from purveyor.audit.models import Wanted
from purveyor.backups import age
from purveyor.backups import store as backups
from purveyor.backups.storage import LocalStorage
from purveyor.checks import Check, of_copies
from purveyor.cli.client import SOCKET
from purveyor.doctor import examine
from purveyor.kernel.api import tokens
from purveyor.kernel.api.server import listen_local, serving
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import installation
from purveyor.program import cli
from purveyor.recovery import beside
from purveyor.recovery.sealing import Mark, write_mark

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick")]


@pytest.fixture
def place(scene: Scene, tmp_path: Path) -> LocalStorage:
    keep_at(scene, tmp_path / "place")
    return LocalStorage(tmp_path / "place")


async def said(app: App) -> dict[str, Check]:
    """What the doctor says of the copies."""
    found = [
        check
        for check in await examine(app, None, "production")
        if check.subject == "copy of the state"
    ]
    assert all(check.remedy for check in found if not check.ok)
    return {check.name: check for check in found}


async def supersede(app: App, place: LocalStorage) -> None:
    """Another incarnation claims a later term."""
    who = await app.copies.identity()
    mark = Mark(
        installation=who.installation,
        term=who.term + 9,
        incarnation="other",
        host="elsewhere",
        at=1_800_000_000_000,
    )
    assert await place.claim(mark.path, write_mark(mark, who.keys))


async def test_a_file_that_is_too_large_for_a_copy_is_told(
    scene: Scene, place: LocalStorage
) -> None:
    async with living(scene) as app:
        large = app.context.state / "plugins" / "large.bin"
        large.parent.mkdir(exist_ok=True)
        with large.open("wb") as opened:
            opened.truncate(beside.LARGEST + 1)
        check = (await said(app))[str(large)]
        assert not check.ok
        assert "16 MB" in check.detail
        large.unlink()
        assert str(large) not in await said(app)


async def test_without_a_place_elsewhere_the_doctor_says_that_none_is_made(scene: Scene) -> None:
    async with living(scene) as app:
        (check,) = (await said(app)).values()
        assert "none is made" in check.detail
        assert "purveyor backup source add" in check.remedy


async def test_a_bucket_of_its_own_service_and_a_folder_in_the_state_directory_count_for_nothing(
    scene: Scene,
) -> None:
    keep_at(scene, scene.state / "kept")

    def add(tx: Tx) -> None:
        port = tx.value("SELECT port FROM ports WHERE service_id = 1")
        endpoint = f"http://127.0.0.1:{port}"
        given = {
            "name": "own",
            "bucket_name": "b",
            "bucket_path": "",
            "access_key_id": "a",
            "secret_key": "s",
            "region": "r",
        }
        backups.insert_source(tx, **given, endpoint=endpoint, force_path_style=True)

    async with living(scene) as app:
        await app.context.store.write(add)
        (check,) = (await said(app)).values()
        assert "none is made" in check.detail


async def test_the_doctor_says_which_are_current_late_and_superseded(
    scene: Scene, place: LocalStorage, tmp_path: Path
) -> None:
    late, taken = Fickle(tmp_path / "late"), LocalStorage(tmp_path / "taken")
    async with living(scene, late, taken) as app:
        await current(app, place, late, taken)
        assert all(check.ok for check in (await said(app)).values())
        late.frozen = True
        await do(app, "create-project", name="missing")
        await current(app, place)
        await until(lambda: status(app, late).behind_since)
        assert (await said(app))[late.label].ok, "a second is not late"
        status(app, late).behind_from -= 120
        await supersede(app, taken)
        await until(lambda: status(app, taken).superseded)
        found = await said(app)
        assert found[place.label].ok
        assert "kB" in found[place.label].detail
        assert "It does not answer." in found[late.label].detail
        assert "lacks what has changed since" in found[late.label].detail
        assert "elsewhere, at 2027" in found[taken.label].detail
        assert "purveyor takeover" in found[taken.label].remedy
        assert [found[item.label].ok for item in (late, taken)] == [False, False]
        late.frozen = False


async def test_one_that_was_never_reached_is_told(scene: Scene, tmp_path: Path) -> None:
    gone = LocalStorage(tmp_path / "gone")
    gone.root.write_text("in the way")
    async with living(scene, gone) as app:
        await until(lambda: status(app, gone).error)
        assert (await said(app))[gone.label].detail == "the first one is on its way"
        status(app, gone).behind_from -= 120
        check = (await said(app))[gone.label]
        assert not check.ok
        assert check.detail.startswith("there is none since ")


async def test_a_process_that_is_not_the_daemon_does_not_call_them_late(
    scene: Scene, place: LocalStorage
) -> None:
    async with living(scene, follow=False) as app:
        (check,) = (item for item in await of_copies(app) if item.subject == "copy of the state")
        assert check.ok
        assert check.name == place.label


async def test_the_doctor_asks_for_the_key_on_paper_until_it_was_printed(
    scene: Scene, place: LocalStorage
) -> None:
    async def said() -> list[bool]:
        return [check.ok for check in await of_copies(app) if check.subject == "backup key"]

    async with living(scene) as app:
        await current(app, place)
        assert await said() == [False]
        command = ["--state", str(scene.state), "backup", "key", "print"]
        async with serving(create_api(app), local=[listen_local(scene.state / SOCKET)]):
            done = await anyio.to_thread.run_sync(CliRunner().invoke, cli, command)
        assert done.exit_code == 0
        assert done.stdout.splitlines()[-1].strip() == age.identity(
            base64.b64decode((scene.state / "backup.key").read_text())
        )
        assert await said() == [True]
        (entry,) = (
            await app.context.store.read(lambda tx: audit.page(tx, Wanted(), limit=9, offset=0))
        ).items
        assert (entry.actor, entry.reveals) == ("local", "backup key")
        (scene.state / "backup.key").write_bytes(base64.b64encode(os.urandom(32)))
        assert await said() == [False]


async def test_the_api_shows_each_copy_and_takes_over_at_a_persons_word(
    scene: Scene, place: LocalStorage, tmp_path: Path
) -> None:
    taken = LocalStorage(tmp_path / "taken")
    async with living(scene, taken) as app:
        await current(app, place, taken)

        def work(tx: Tx) -> list[str]:
            made = (
                tokens.create(tx, name=scope, scope=scope, project_id=None, expires_at=None)
                for scope in ("read", "admin")
            )
            return [item[1] for item in made]

        read, admin = await app.context.store.write(work)
        transport: Any = httpx.ASGITransport(app=create_api(app))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://p/api") as client:
            assert (await client.get("/recovery/")).status_code == 401
            client.headers["Authorization"] = f"Bearer {read}"
            await current(app, place, taken)
            await until(lambda: status(app, taken).behind_since is None)
            found = (await client.get("/recovery/")).json()
            assert found["recovery"] is None
            by_place = {item["place"]: item for item in found["copies"]}
            assert set(by_place) == {place.label, taken.label}
            assert by_place[taken.label]["current"]
            assert by_place[taken.label]["size_bytes"] > 1000
            await supersede(app, taken)
            await until(lambda: status(app, taken).superseded)
            (shown,) = [
                item
                for item in (await client.get("/recovery/")).json()["copies"]
                if item["place"] == taken.label
            ]
            assert not shown["current"]
            assert shown["superseded"].startswith("elsewhere")
            assert (await client.post("/recovery/takeover")).status_code == 403
            client.headers["Authorization"] = f"Bearer {admin}"
            answer = await client.post("/recovery/takeover")
            assert answer.status_code == 200
            await current(app, place, taken)
            assert answer.json() == {"term": (await app.copies.identity()).term}
            assert (await client.post("/recovery/finish")).status_code == 409


async def test_a_bucket_of_its_own_is_refused_as_a_source(scene: Scene) -> None:
    async with living(scene) as app:

        def work(tx: Tx) -> tuple[str, int]:
            token = tokens.create(tx, name="t", scope="admin", project_id=None, expires_at=None)[1]
            return token, tx.value("SELECT port FROM ports WHERE service_id = 1")

        token, port = await app.context.store.write(work)
        transport: Any = httpx.ASGITransport(app=create_api(app))  # type: ignore[arg-type]
        headers = {"Authorization": f"Bearer {token}"}
        given = {
            "name": "own",
            "bucket_name": "b",
            "access_key_id": "a",
            "secret_key": "s",
            "endpoint": f"http://127.0.0.1:{port}",
        }
        async with httpx.AsyncClient(
            transport=transport, base_url="http://p/api", headers=headers
        ) as client:
            answer = await client.post("/backups/s3-sources", json=given)
            assert answer.status_code == 400
            assert "is lost with it" in answer.json()["detail"]
        assert await app.context.store.read(backups.sources) == []
        assert await app.context.store.read(installation)
