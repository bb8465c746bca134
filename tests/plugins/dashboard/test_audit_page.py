"""The page Audit: what the log holds, as text, by parts; and whether it is as it was written."""

import sqlite3
from contextlib import closing

import pytest
from test_hostile_pages import signed_in

from fake.scene import Scene

pytestmark = pytest.mark.anyio
HOSTILE = "<img src=x onerror=alert(1)>"


async def test_it_shows_who_did_what_and_what_was_revealed_and_nothing_in_it_is_markup(
    scene: Scene,
) -> None:
    async with signed_in(scene) as client:
        await client.get(f"/services/{HOSTILE}/logs")
        await client.get("/services/main/logs")
        page = (await client.get("/audit")).text
        assert "token:ada" in page
        assert '<strong class="small">log revealed</strong>' in page
        assert "<img" not in page
        assert HOSTILE not in page


async def test_it_is_narrowed_and_what_is_no_time_is_said(scene: Scene) -> None:
    async with signed_in(scene) as client:
        await client.get("/services/main/logs")
        none = await client.get("/audit", params={"user": HOSTILE})
        assert "There are no such entries." in none.text
        assert HOSTILE not in none.text
        assert (
            "log revealed"
            in (await client.get("/audit", params={"user": "token:ada", "target": "main"})).text
        )
        wrong = await client.get("/audit", params={"since": "soon"})
        assert wrong.status_code == 400
        assert "is not a time" in wrong.text


async def test_it_says_when_an_entry_was_changed_by_hand(scene: Scene) -> None:
    async with signed_in(scene) as client:
        await client.get("/services/main/logs")
        assert "as they were written" in (await client.get("/audit")).text
        with closing(sqlite3.connect(scene.state / "purveyor.db", isolation_level=None)) as db:
            db.execute("DROP TRIGGER audit_is_not_changed")
            db.execute("UPDATE audit SET actor = 'eve' WHERE id = 1")
        page = (await client.get("/audit")).text
        assert "changed the database by hand" in page
        assert "entry 1 is not as it was written" in page
