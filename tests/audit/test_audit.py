"""The audit log: who did or saw what; what is in it stays as it is, and costs little."""

import json
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio.to_thread
import click.testing
import httpx
import pytest
from litestar import Router, post
from litestar.middleware import DefineMiddleware

from fake.asked import Asked, asked
from fake.scene import Scene
from purveyor.app import PluginCore
from purveyor.asgi import create_api
from purveyor.audit import log as log_module
from purveyor.audit import store as audit
from purveyor.audit.log import came_back
from purveyor.audit.models import AuditRecord, Entry
from purveyor.cli.client import SOCKET
from purveyor.doctor import examine
from purveyor.internal_client import inward
from purveyor.kernel.api.auth import Authentication
from purveyor.kernel.api.notes import ORIGIN
from purveyor.kernel.api.server import listen_local, serving
from purveyor.kernel.api.tokens import create as create_token
from purveyor.kernel.db import Store, Tx
from purveyor.kernel.operations import store as operations
from purveyor.program import cli
from purveyor.recovery import document
from purveyor_hooks import BadInput, StorageFull, standing

pytestmark = pytest.mark.anyio
SERVICES = "/api/external-services"


def told(record: AuditRecord) -> tuple[str, str, str, str, str]:
    return record.actor, record.action, record.target, record.outcome, record.reveals


async def test_every_change_is_told_with_who_from_where_and_how_it_ended(scene: Scene) -> None:
    async with asked(scene) as desk:
        await desk.local.post("/api/users", json={"name": "ada"})
        made = await desk.token("laptop", user="ada")
        ada = await desk.by(made["token"])
        await ada.post(f"{SERVICES}/main/restart")
        await ada.post(f"{SERVICES}/main/restart", headers={"Prefer": "respond-async"})
        await ada.post(f"{SERVICES}/nothing/restart")
        await ada.post(f"{SERVICES}/", json={"name": "more", "service_type": "fake"})
        found = await desk.entries(actor="ada")
        assert [told(item) for item in found] == [
            ("ada", f"POST {SERVICES}/{{reference}}/restart", "main", "ok", ""),
            ("ada", f"POST {SERVICES}/{{reference}}/restart", "main", "begun", ""),
            ("ada", f"POST {SERVICES}/{{reference}}/restart", "nothing", "failed", ""),
            ("ada", f"POST {SERVICES}", "more", "ok", ""),
        ]
        assert {(item.origin, item.token_id) for item in found} == {("127.0.0.1", made["id"])}
        assert [item.operation_id is not None for item in found] == [True, True, False, True]
        local = await desk.entries(actor="local")
        assert {item.origin for item in local} == {"local socket"}
        assert [(item.action, item.target, item.reveals) for item in local] == [
            ("POST /api/users", "ada", ""), ("POST /api/tokens", str(made["id"]), "token")
        ]  # fmt: skip


async def test_every_reveal_is_told_before_it_is_answered(scene: Scene) -> None:
    paths = {
        f"{SERVICES}/main/browse": "rows",
        f"{SERVICES}/main/logs": "log",
        f"{SERVICES}/main/client": "connection",
        "/api/projects/shop/environments/production/variables": "variables",
        f"{SERVICES}/main/projects/shop/environment": "variables",
        f"{SERVICES}/projects/shop/environment": "variables",
    }
    async with asked(scene) as desk:
        client = await desk.by((await desk.token("t"))["token"])
        before = len(await desk.entries())
        shown = [path for path in paths if (await client.get(path)).status_code == 200]
        assert len(shown) >= 4
        await client.post(f"{SERVICES}/main/reveal")
        await client.post("/api/projects/shop/environments/production/reveal")
        await desk.local.post("/api/audit/backup-key-printed")
        found = (await desk.entries())[before:]
        assert [item.reveals for item in found] == [
            *(paths[path] for path in shown),
            "parameters",
            "variables",
            "backup key",
        ]
        assert {"shop/production"} <= {item.target for item in found}
        client.headers["Authorization"] = "Bearer wrong"
        assert (await client.get(f"{SERVICES}/main/client")).status_code == 401
        assert (await desk.entries())[-1].reveals == ""


@pytest.mark.parametrize("word", ["cancel", "abandon"])
async def test_an_operation_of_a_number_that_none_can_have_is_told_and_written_down(
    scene: Scene, word: str
) -> None:
    async with asked(scene) as desk:
        answer = await desk.local.post(f"/api/operations/{2**63}/{word}")
        assert answer.status_code == 404, answer.text
        entry = (await desk.entries())[-1]
        assert (entry.operation_id, entry.target) == (None, str(2**63))


async def test_reading_writes_nothing(scene: Scene) -> None:
    async with asked(scene) as desk:
        token = await desk.token("t")
        client = await desk.by(token["token"])
        await client.get(f"{SERVICES}/")
        written = []
        desk.app.context.store.committed = lambda: written.append(1)
        for path in (
            SERVICES,
            f"{SERVICES}/main",
            "/api/projects",
            "/api/tokens",
            "/api/audit",
            "/api/users",
            "/api/operations",
        ):
            assert (await client.get(path)).status_code == 200, path
        assert (await client.post(f"{SERVICES}/main/restart?plan=true")).status_code == 200
        assert written == []


async def test_a_word_in_the_address_does_not_keep_a_change_out_of_it(scene: Scene) -> None:
    async with asked(scene) as desk:
        await desk.local.delete("/api/sessions?plan=true")
        assert (await desk.entries())[-1].action == "DELETE /api/sessions"


async def test_who_is_refused_is_counted_each_minute_and_peer_and_fills_no_disk(
    scene: Scene,
) -> None:
    async with asked(scene) as desk:
        stranger, reader = (
            await desk.by("pvy_guess"),
            await desk.by((await desk.token("r", scope="read"))["token"]),
        )
        before = len(await desk.entries())
        for number in range(300):
            assert (await stranger.get(f"/api/projects/guess-{number}")).status_code == 401
        for _ in range(50):
            assert (await reader.post(f"{SERVICES}/main/stop")).status_code == 403
        assert len(await desk.entries()) == before + 2
        await desk.app.audit.turn(all_of_them=True)
        refused = (await desk.entries())[before:]
        assert [(item.actor, item.origin, item.outcome, item.times) for item in refused] == [
            ("", "127.0.0.1", "refused", 1), ("token:r", "127.0.0.1", "refused", 1),
            ("", "127.0.0.1", "refused", 299), ("token:r", "127.0.0.1", "refused", 49),
        ]  # fmt: skip


async def test_the_same_secret_read_again_and_again_is_counted_too(scene: Scene) -> None:
    async with asked(scene) as desk:
        client = await desk.by((await desk.token("ci"))["token"])
        before = len(await desk.entries())
        for _ in range(20):
            await client.get("/api/projects/shop/environments/production/variables")
        await client.get("/api/projects/blog/environments/production/variables")
        await desk.app.audit.turn(all_of_them=True)
        assert [(item.target, item.times) for item in (await desk.entries())[before:]] == [
            ("shop/production", 1), ("blog/production", 1), ("shop/production", 19)
        ]  # fmt: skip


async def test_peers_without_number_are_counted_together(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "KINDS", 5)
    async with scene.open() as app:
        for number in range(40):
            entry = Entry(
                at=app.now(),
                actor="",
                origin=f"10.0.0.{number}",
                action="GET /x",
                outcome="refused",
            )
            await app.audit.record(entry, (entry.origin, 401))
        await app.audit.turn(all_of_them=True)
        found = (
            await app.context.store.read(
                lambda tx: audit.page(tx, audit.Wanted(), limit=100, offset=0)
            )
        ).items
        assert (found[0].origin, found[0].times) == ("many", 34)
        assert len(found) == 7


async def test_no_secret_is_in_it(scene: Scene) -> None:
    async with asked(scene) as desk:
        made = await desk.token("t")
        client = await desk.by(made["token"])
        body = {
            "name": "more",
            "service_type": "fake",
            "parameters": {"password": "hunter22-planted"},
        }
        await client.post(f"{SERVICES}/", json=body)
        await client.get(f"{SERVICES}/main/client?token=hunter22-planted")
        await client.post(f"{SERVICES}/main/restart?password=hunter22-planted")
        variables = (
            await client.get("/api/projects/shop/environments/production/variables")
        ).json()["variables"]
        text = repr(await desk.entries())
        secrets = [
            value for name, value in variables.items() if "PASSWORD" in name or "URL" in name
        ]
        for secret in (made["token"], "hunter22-planted", *secrets):
            assert secret not in text


async def test_only_administrators_read_it(scene: Scene) -> None:
    async with asked(scene) as desk:
        reader = await desk.by((await desk.token("r", scope="read"))["token"])
        for path in ("/api/audit", "/api/audit/verify"):
            assert (await reader.get(path)).status_code == 403
        assert (await reader.post("/api/audit/backup-key-printed")).status_code == 403


async def test_it_is_read_by_parts_by_user_target_and_time(scene: Scene) -> None:
    async with asked(scene) as desk:
        for number in range(7):
            await desk.token(f"t{number}")
        answer = await desk.local.get("/api/audit", params={"limit": 3, "offset": 3})
        assert [item["id"] for item in answer.json()] == [4, 3, 2]
        assert answer.headers["X-Total-Count"] == "7"
        assert len((await desk.local.get("/api/audit", params={"user": "local"})).json()) == 7
        assert (await desk.local.get("/api/audit", params={"user": "ada"})).json() == []
        assert (
            await desk.local.get("/api/audit", params={"since": "2999-01-01T00:00"})
        ).json() == []
        assert (
            len((await desk.local.get("/api/audit", params={"until": "2999-01-01T00:00"})).json())
            == 7
        )
        assert (await desk.local.get("/api/audit", params={"since": "soon"})).status_code == 400


async def test_without_a_daemon_the_origin_is_the_command_line(scene: Scene) -> None:
    async with asked(scene, called="command line") as desk:
        await desk.token("t")
        assert [item.origin for item in await desk.entries()] == ["command line"]


async def test_what_a_page_asks_in_this_process_is_told_with_the_peer_of_the_page(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        assert ORIGIN.get() == ""  # what is asked with no peer at all says so
        _, token = await app.context.store.write(
            lambda tx: create_token(tx, name="t", scope="admin", project_id=None, expires_at=None)
        )
        assert app.workers is not None
        async with inward(create_api(app), token, app.workers) as client:
            ORIGIN.set("192.0.2.7")
            await client.call("POST", "/api/users", json={"name": "ada"})
        found = (
            await app.context.store.read(
                lambda tx: audit.page(tx, audit.Wanted(), limit=1, offset=0)
            )
        ).items
        assert found[0].origin == "192.0.2.7"


async def test_data_of_apps_is_told_once_a_minute_of_others_and_never_of_the_app_itself(
    scene: Scene,
) -> None:
    async with scene.open() as app:

        @post("/set", opt={"audit": "data"})
        async def set_value() -> None:
            """An app's own data."""

        authentication = DefineMiddleware(Authentication)
        standing_routes = standing.routes(PluginCore(app), "fake")
        api = create_api(app)
        api.register(
            Router(
                "/api/own",
                route_handlers=[set_value, *standing_routes],
                middleware=[authentication],
                opt={"audit": "data"},
            )
        )

        def make(tx: Tx) -> list[tuple[int, str]]:
            made = [
                create_token(tx, name=name, scope="admin", project_id=None, expires_at=None)
                for name in ("admin", "app")
            ]
            environment = tx.value("SELECT id FROM environments")
            tx.update(
                "tokens",
                "id = ?",
                [made[1][0]],
                scope="project",
                project_id=1,
                environment_id=environment,
            )
            return made

        (number, admin), (_, own) = await app.context.store.write(make)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=api), base_url="http://p"
        ) as client:  # type: ignore[arg-type]
            for token in (admin, own):
                for _ in range(3):
                    answer = await client.post(
                        "/api/own/set", headers={"Authorization": f"Bearer {token}"}
                    )
                    assert answer.status_code == 201
            for word in ("enable", "enable"):
                answer = await client.post(
                    f"/api/own/{word}", headers={"Authorization": f"Bearer {admin}"}
                )
                assert answer.status_code == 200, answer.text
            await client.delete("/api/own/disable", headers={"Authorization": f"Bearer {admin}"})
        found = (
            await app.context.store.read(
                lambda tx: audit.page(tx, audit.Wanted(), limit=9, offset=0)
            )
        ).items[::-1]
        assert [(item.action, item.actor) for item in found] == [
            ("POST /api/own/set", "token:admin"), ("POST /api/own/enable", "token:admin"),
            ("POST /api/own/enable", "token:admin"), ("DELETE /api/own/disable", "token:admin"),
        ]  # fmt: skip
        stopped = (
            await app.context.store.read(lambda tx: operations.list_page(tx, limit=1))
        ).items[0]
        assert (stopped.verb, stopped.actor, stopped.token_id) == ("stop", "token:admin", number)


# ---------------------------------------------------------------- a disk that is full


class Cramped(Store):
    """A store on a disk that can be full."""

    def fill(self, *, yes: bool = True) -> None:
        assert self._writer is not None
        pages = self._writer.execute("PRAGMA page_count").fetchone()[0]
        self._writer.execute(f"PRAGMA max_page_count = {pages if yes else 1_000_000}")


async def write_until_full(store: Store) -> None:
    with suppress(StorageFull):
        for _ in range(200):
            await store.write(
                lambda tx: tx.emit("token.revoked", data={"id": 1, "actor": "x" * 5_000})
            )


async def test_on_a_full_disk_secrets_are_read_and_told_as_soon_as_there_is_room(
    scene: Scene,
) -> None:
    async with asked(scene, make_store=Cramped) as desk:
        store = desk.app.context.store
        assert isinstance(store, Cramped)
        client = await desk.by((await desk.token("t"))["token"])
        await client.get("/api/projects")
        before = len(await desk.entries())
        store.fill()
        await write_until_full(store)
        for number in range(3):
            desk.app.audit._repeats.clear()
            answer = await client.get("/api/projects/shop/environments/production/variables")
            assert answer.status_code == 200, number
        if desk.app.audit.waiting:  # a page may have had room for one
            checks = await examine(desk.app, None, "production", quick=True)
            assert [item.ok for item in checks if item.subject == "audit log"] == [False]
        store.fill(yes=False)
        await desk.app.audit.turn()
        assert desk.app.audit.waiting == 0
        assert [item.reveals for item in (await desk.entries())[before:]] == ["variables"] * 3
        assert not (await desk.verdict()).problems


async def test_what_cannot_be_held_is_told_as_a_number(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "HELD", 3)
    async with asked(scene, make_store=Cramped) as desk:
        store = desk.app.context.store
        assert isinstance(store, Cramped)
        store.fill()
        await write_until_full(store)
        for number in range(20):
            await desk.app.audit.record(desk.app.audit.entry(f"thing {number}", detail="x" * 2_000))
        store.fill(yes=False)
        await desk.app.audit.turn()
        found = await desk.entries()
        lost = sum(item.times for item in found if item.action == "entries lost")
        kept = [item.action for item in found if item.action.startswith("thing")]
        assert kept[-3:] == ["thing 17", "thing 18", "thing 19"]
        assert lost + len(kept) == 20
        assert lost >= 10


# ---------------------------------------------------------------- attacks on what is written


async def fill(desk: Asked, count: int = 9) -> None:
    for number in range(count):
        await desk.token(f"t{number}")


def by_hand(scene: Scene, *statements: str) -> None:
    """Change the database as somebody with the file would, triggers and all."""
    with closing(sqlite3.connect(scene.state / "purveyor.db", isolation_level=None)) as db:
        db.execute("DROP TRIGGER audit_is_not_changed")
        db.execute("DROP TRIGGER audit_is_kept")
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize("statement", [
    "UPDATE audit SET actor = 'eve' WHERE id = 4",
    "UPDATE audit SET id = 400 WHERE id = 4",
    "DELETE FROM audit WHERE id = 4",
    "DELETE FROM audit",
    "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE id = 4",
    "REPLACE INTO audit SELECT 4, at, 'eve', token_id, origin, action, target, outcome, status, reveals, operation_id, times, "
    "detail, hash FROM audit WHERE id = 4",
])  # fmt: skip
async def test_an_entry_is_not_changed_or_removed_by_an_ordinary_statement(
    statement: str, scene: Scene
) -> None:
    async with asked(scene) as desk:
        await fill(desk)
        before = await desk.entries()
    with (
        closing(sqlite3.connect(scene.state / "purveyor.db", isolation_level=None)) as db,
        suppress(sqlite3.IntegrityError),
    ):
        db.execute(statement)
    async with asked(scene) as desk:
        if await desk.entries() != before:  # REPLACE asks no trigger unless it is told to
            assert (await desk.verdict()).problems


@pytest.mark.parametrize(("attack", "says"), [
    (["UPDATE audit SET actor = 'eve' WHERE id = 4"], "entry 4 is not as it was written"),
    (["UPDATE audit SET at = '2020-01-01T00:00:00+00:00' WHERE id = 4"],
    "entry 4 is not as it was written"),
    (["UPDATE audit SET outcome = 'ok', times = 2 WHERE id = 9"],
    "entry 9 is not as it was written"),
    (["UPDATE audit SET hash = (SELECT hash FROM audit WHERE id = 5) WHERE id = 4"],
    "entry 4 is not as it was written"),
    (["DELETE FROM audit WHERE id = 4"], "entry 4 is missing"),
    (["DELETE FROM audit WHERE id BETWEEN 4 AND 6"], "entries 4 to 6 are missing"),
    (["DELETE FROM audit WHERE id = 4", "UPDATE audit SET id = id - 1 WHERE id > 4"],
    "entry 4 is not as it was written"),
    (["DELETE FROM audit WHERE id = 1"], "entry 1 is missing"),
    (["DELETE FROM audit WHERE id < 4",
    "UPDATE audit_marks SET entry = 3, hash = 'x' WHERE name = 'first'"], "not marked"),
    (["DELETE FROM audit WHERE id >= 8"], "entries 8 to 9 are missing"),
    (["DELETE FROM audit WHERE id >= 8",
    "UPDATE audit_marks SET entry = 7, hash = (SELECT hash FROM audit WHERE id = 7) "
      "WHERE name = 'last'"], "not marked"),
    (["DELETE FROM audit"], "entries 1 to 9 are missing"),
    (["DELETE FROM audit", "DELETE FROM audit_marks WHERE name = 'last'"], "not marked"),
    (["DELETE FROM audit_marks"], "not marked"),
    (["INSERT INTO audit SELECT 10, at, 'eve', token_id, origin, action, target, outcome, status, reveals, operation_id, times, "
      "detail, hash FROM audit WHERE id = 9"], "entry 10 is not as it was written"),
    (["UPDATE audit SET actor = (SELECT actor || '!' FROM audit WHERE id = 3) WHERE id = 3",
      "UPDATE audit SET hash = lower(hex(randomblob(32))) WHERE id = 3"],
      "entry 3 is not as it was written"),
])  # fmt: skip
async def test_what_is_changed_by_hand_is_found(attack: list[str], says: str, scene: Scene) -> None:
    async with asked(scene) as desk:
        await fill(desk)
        assert (await desk.verdict()).problems == []
    by_hand(scene, *attack)
    async with asked(scene) as desk:
        found = (await desk.local.get("/api/audit/verify")).json()
        assert says in "; ".join(found["problems"])
        checks = await examine(desk.app, None, "production", quick=True)
        assert [item.ok for item in checks if item.subject == "audit log"] == [False]
        await desk.token("later")
        assert says in "; ".join((await desk.verdict()).problems), (
            "what is written later hides nothing"
        )


async def test_the_log_of_another_installation_does_not_pass_for_this_one_s(
    scene: Scene, tmp_path: Path
) -> None:
    other = Scene(tmp_path / "other")
    other.begin()
    async with asked(other) as desk:
        await fill(desk, 3)
    async with asked(scene) as desk:
        await fill(desk, 5)
    by_hand(
        scene,
        f"ATTACH '{other.state / 'purveyor.db'}' AS other",
        "DELETE FROM audit",
        "DELETE FROM audit_marks",
        "INSERT INTO audit SELECT * FROM other.audit",
        "INSERT INTO audit_marks SELECT * FROM other.audit_marks",
    )
    async with asked(scene) as desk:
        assert len((await desk.verdict()).problems) >= 3


async def test_what_is_cut_off_while_the_daemon_runs_is_told_by_the_daemon(scene: Scene) -> None:
    async with asked(scene) as desk:
        await fill(desk, 5)
        old = await desk.app.context.store.read(
            lambda tx: tx.row("SELECT * FROM audit_marks WHERE name = 'last'")
        )
        assert old is not None
        await fill(desk, 3)
        marks = ", ".join(f"{name} = '{old[name]}'" for name in ("entry", "hash", "mac"))
        by_hand(
            scene,
            "DELETE FROM audit WHERE id > 5",
            f"UPDATE audit_marks SET {marks} WHERE name = 'last'",
        )
        assert not (await desk.verdict()).problems, (
            "an older end that is whole is one: nothing in the file says otherwise"
        )
        await desk.token("later")
        found = await desk.entries()
        assert [item.action for item in found[-2:]] == ["changed by hand", "POST /api/tokens"]
        assert found[-2].detail == "it ended with entry 8, and ended with entry 5 then"
        assert len((await desk.verdict()).problems) == 1


async def test_a_quick_look_takes_the_newest_alone(scene: Scene) -> None:
    async with asked(scene) as desk:
        await fill(desk)
    by_hand(scene, "UPDATE audit SET actor = 'eve' WHERE id = 3")
    async with asked(scene) as desk:
        few = await desk.verdict(4)
        assert (few.entries, few.first, few.last, few.problems) == (4, 6, 9, [])
        assert (await desk.verdict()).problems


# ---------------------------------------------------------------- what is let go


async def aged(desk: Asked, days: list[float]) -> None:
    now = datetime.now(UTC)

    def work(tx: Tx) -> None:
        for age in days:
            audit.append(
                tx,
                Entry(
                    at=now - timedelta(days=age),
                    actor="ada",
                    origin="local socket",
                    action=f"{age}",
                ),
            )

    await desk.app.context.store.write(work)


async def test_what_is_older_than_audit_days_goes_and_an_entry_says_so(scene: Scene) -> None:
    with (scene.state / "settings.toml").open("a") as opened:
        opened.write("audit-days = 30\n")
    async with asked(scene) as desk:
        await aged(desk, [90, 60, 31, 29, 1])
        await desk.app.audit.sweep()
        found = await desk.entries()
        assert [(item.id, item.action) for item in found] == [
            (4, "29"),
            (5, "1"),
            (6, "entries let go"),
        ]
        assert found[-1].detail == "entries 1 to 3: older than 30 days"
        assert (await desk.verdict()).problems == []
        await desk.app.audit.sweep()
        assert len(await desk.entries()) == 3
        told = (
            await desk.local.get(
                "/api/events?type=audit.cut", headers={"Accept": "application/json"}
            )
        ).json()
        assert [item["data"] for item in told] == [{"first": 1, "last": 3}]
        await desk.token("later")
        assert (await desk.verdict()).problems == []


async def test_only_what_is_past_goes_and_only_from_the_beginning(scene: Scene) -> None:
    async with asked(scene) as desk:
        await aged(desk, [1, 900, 900])  # a clock that was put back
        await desk.app.audit.sweep()
        assert len(await desk.entries()) == 3

        def work(tx: Tx) -> None:
            tx.db.execute("DELETE FROM audit WHERE id = 2")

        with pytest.raises(sqlite3.IntegrityError, match="are kept"):
            await desk.app.context.store.write(work)


async def test_after_the_loss_of_the_host_it_goes_on_and_says_what_is_not_there(
    scene: Scene, tmp_path: Path
) -> None:
    async with asked(scene) as desk:
        await fill(desk, 6)
    _, body = document.make(scene.state / "purveyor.db", {})
    (scene.state / "purveyor.db").unlink()
    document.write(body, scene.state / "purveyor.db")
    async with asked(scene) as desk:
        assert await desk.entries() == []
        assert (await desk.verdict()).problems == ["entries 1 to 6 are missing"]
        await desk.app.context.store.write(came_back)
        assert [(item.id, item.detail) for item in await desk.entries()] == [
            (7, "entries 1 to 6: they stayed on the lost host")
        ]
        assert (await desk.verdict()).problems == []


async def test_an_entry_is_no_change_of_the_state_that_is_copied(scene: Scene) -> None:
    async with asked(scene) as desk:
        path = scene.state / "purveyor.db"
        before = document.revision(path)
        await desk.app.audit.record(desk.app.audit.entry("x"))
        assert document.revision(path) == before


async def test_an_entry_is_one_short_transaction(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene.open() as app:
        await app.audit.record(app.audit.entry("first"))
        counted: list[str] = []
        writer = app.context.store._opened(app.context.store._writer)
        writer.conn.set_trace_callback(counted.append)
        await app.audit.record(app.audit.entry("x"))
        writer.conn.set_trace_callback(None)
        assert len(counted) <= 8, counted


def test_every_field_of_an_entry_is_under_its_hash() -> None:
    assert set(audit.NAMES) == set(AuditRecord.__struct_fields__) - {"id", "hash"}


# ---------------------------------------------------------------- the command line


async def test_the_command_line_shows_it_and_says_by_its_exit_code_whether_it_holds(
    scene: Scene,
) -> None:
    async def command(*words: str) -> click.testing.Result:
        invoke = partial(
            click.testing.CliRunner().invoke, cli, ["--state", str(scene.state), *words]
        )
        return await anyio.to_thread.run_sync(invoke)

    async with (
        scene.open() as app,
        serving(create_api(app), local=[listen_local(scene.state / SOCKET)]),
    ):
        assert (await command("audit")).output == "There are no such entries.\n"
        assert (await command("user", "add", "ada")).exit_code == 0
        token = (await command("token", "create", "laptop", "--user", "ada")).output.strip()
        assert token.startswith("pvy_")
        listed = await command("user", "list")
        assert "ada" in listed.output
        shown = (await command("audit", "--user", "local")).output
        assert "POST /api/tokens [token revealed]" in shown
        assert "laptop, admin, for ada" in shown
        assert token not in shown
        found = json.loads((await command("audit", "-n", "1", "--json")).output)
        assert [item["action"] for item in found] == ["POST /api/tokens"]
        assert json.loads((await command("audit", "--until", "2020-01-01", "--json")).output) == []
        wrong = await command("audit", "--since", "yesterday")
        assert isinstance(wrong.exception, BadInput)
        assert "since" in wrong.exception.errors
        good = await command("audit", "verify")
        assert (good.exit_code, good.output) == (
            0,
            "All entries (2, 1 to 2) are as they were written.\n",
        )
        assert (await command("user", "disable", "ada", "--yes")).exit_code == 0
        by_hand(scene, "UPDATE audit SET target = 'eve' WHERE id = 1")
        bad = await command("audit", "verify")
        assert bad.exit_code == 1
        assert "entry 1 is not as it was written" in bad.output
