"""What plugins keep of services, by key."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from fake.scene import Scene, do
from purveyor.app import App, PluginCore
from purveyor.kernel.plugins.registry import Plugin
from purveyor.recovery import document
from purveyor.services import document_store
from purveyor.services.documents import ServiceDocuments
from purveyor_hooks import BadInput, NotFound

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(scene: Scene) -> AsyncIterator[App]:
    async with scene.open() as app:
        yield app


def kept(app: App, service: int = 1, plugin: str = "fake") -> ServiceDocuments:
    return ServiceDocuments(app.context.store, plugin, service)


async def test_they_are_written_together_read_listed_and_deleted(app: App) -> None:
    mine = kept(app)
    assert await mine.get("a") is None
    await mine.write({"a": {"x": [1, None]}, "b/1": "one", "b/2": 2, "b_": False})
    assert await mine.get("a") == {"x": [1, None]}
    assert await mine.list() == ["a", "b/1", "b/2", "b_"]
    assert await mine.list("b/") == ["b/1", "b/2"]
    assert await mine.list(after="b/1", limit=1) == ["b/2"]
    await mine.write({"a": None, "b/1": "other"})
    assert (await mine.get("a"), await mine.get("b/1")) == (None, "other")
    with pytest.raises(BadInput):
        await mine.write({"c": 1, "bad": object()})
    assert await mine.get("c") is None


async def test_each_plugin_has_its_own_of_each_service(app: App) -> None:
    await kept(app).write({"a": 1})
    assert await kept(app, service=2).get("a") is None
    assert await kept(app, plugin="other").get("a") is None
    assert await kept(app, plugin="other").list() == []


async def test_sealed_ones_are_encrypted_where_they_lie(scene: Scene) -> None:
    async with scene.open() as app:
        await kept(app).write(
            {"open": "readable-by-all", "shut": "s3cr3t-of-the-plugin"}, sealed=False
        )
        await kept(app).write({"shut": "s3cr3t-of-the-plugin-2"}, sealed=True)
        assert await kept(app).get("shut") == "s3cr3t-of-the-plugin-2"
    with closing(sqlite3.connect(scene.state / "purveyor.db")) as db:
        found = dict(db.execute("SELECT key, value FROM plugin_documents").fetchall())
    assert found["open"] == '"readable-by-all"'
    assert "s3cr3t" not in found["shut"]


@pytest.mark.parametrize("key", ["", "x" * 201, "a\n", "a\0b", "\ud800", "\x7f", 7])
async def test_keys_that_cannot_be_used_are_told(app: App, key: Any) -> None:
    with pytest.raises(BadInput, match="key"):
        await kept(app).write({key: 1})
    with pytest.raises(BadInput, match="key"):
        await kept(app).get(key)


@pytest.mark.parametrize("key", ["'; DROP TABLE services; --", "%", "_", "ä" * 200, "a b", "*"])
async def test_any_other_text_is_a_key(app: App, key: str) -> None:
    await kept(app).write({key: key, "other": 1})
    assert await kept(app).get(key) == key
    assert await kept(app).list(key) == [key]


async def test_they_have_limits_and_what_goes_over_changes_nothing(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="larger than"):
        await kept(app).write({"a": "x" * 65_536})
    monkeypatch.setattr(document_store, "MOST", 3)
    await kept(app).write({"a": 1, "b": 2})
    with pytest.raises(BadInput, match="3 documents"):
        await kept(app).write({"b": None, "c": 3, "d": 4, "e": 5})
    assert await kept(app).list() == ["a", "b"]
    await kept(app).write({"a": None, "c": 3, "d": 4})
    assert await kept(app).list() == ["b", "c", "d"]


async def number_of(app: App, name: str) -> int:
    return await app.context.store.read(
        lambda tx: int(tx.value("SELECT id FROM services WHERE slug = ?", [name]))
    )


async def test_they_outlive_a_deletion_and_go_with_the_purge(app: App) -> None:
    number = await number_of(app, "idle")
    await kept(app, number).write({"a": 1})
    await do(app, "delete", service="idle")
    await do(app, "undelete", service="idle")
    assert await kept(app, number).get("a") == 1
    await do(app, "delete", service="idle")
    volume = await app.context.store.read(
        lambda tx: tx.value("SELECT id FROM volumes WHERE origin = 'idle' AND state = 'kept'")
    )
    await do(app, "purge-volume", volume=volume, confirm="idle")
    assert await kept(app, number).list() == []


async def test_a_purge_of_other_data_of_a_service_keeps_them(app: App) -> None:
    number = await number_of(app, "main")
    await kept(app, number).write({"a": 1})
    await do(app, "restore", backup="1", service_id="main")
    volume = await app.context.store.read(
        lambda tx: tx.value("SELECT id FROM volumes WHERE origin = 'main' AND state = 'kept'")
    )
    await do(app, "purge-volume", volume=volume, confirm="main")
    assert await kept(app, number).get("a") == 1


async def test_a_deletion_with_the_data_or_of_an_imported_one_removes_them(app: App) -> None:
    idle, lent = await number_of(app, "idle"), await number_of(app, "lent")
    for number in (idle, lent):
        await kept(app, number).write({"a": 1})
    await do(app, "delete", service="idle", purge=True)
    await do(app, "delete", service="lent")
    assert [await kept(app, number).list() for number in (idle, lent)] == [[], []]


async def test_a_copy_of_the_state_has_them(scene: Scene) -> None:
    async with scene.open() as app:
        await kept(app).write({"a": 1})
    _, body = document.make(scene.state / "purveyor.db", {})
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(body)
        found = db.execute("SELECT plugin, service_id, key, value FROM plugin_documents").fetchall()
    assert ("fake", 1, "a", "1") in found


async def test_a_plugin_reaches_those_of_its_own_services_alone(app: App) -> None:
    fake = next(plugin for plugin in app.context.registry.plugins if plugin.name == "fake")
    await PluginCore(app, fake).documents(1).write({"a": 1})
    assert await kept(app).get("a") == 1
    other = Plugin(name="other", service_type="other")
    with pytest.raises(NotFound):
        await PluginCore(app, other).documents(1).get("a")
    with pytest.raises(NotFound):
        await PluginCore(app, fake).documents(999).write({"a": 1})
    with pytest.raises(NotFound):
        PluginCore(app, Plugin(name="typeless")).documents(1)
