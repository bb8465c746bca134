"""What an operation records for its own steps is shown to nobody, whoever knows its type."""

import pytest

from fake.asked import asked
from fake.scene import Scene, do
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.schemas import operation_view

pytestmark = pytest.mark.anyio
# numbers of rows, which nobody outside can look up
NUMBERS = {"bindings", "new_bindings", "later"}


async def test_numbers_of_accounts_are_recorded_and_not_shown(scene: Scene) -> None:
    async with asked(scene) as desk:
        app = desk.app
        await do(app, "rotate", service="main", project="shop")
        await do(app, "unlink", service="main", project="shop")
        await do(app, "link", service="main", project="bare")
        await do(app, "bind", project="bare", environment="preview")
        await do(app, "unlink", service="main", project="bare", now=True)
        await do(app, "deploy", project="bare", image="app:1")
        await do(app, "delete-environment", project="bare", environment="preview")
        listed = (await desk.local.get("/api/operations", params={"limit": 100})).json()
        records = (
            await app.context.store.read(lambda tx: operations.list_page(tx, limit=100))
        ).items
        types = app.operation_types
    shown = {item["id"]: item["arguments"].keys() for item in listed}
    held = {record.verb: NUMBERS & record.arguments.keys() for record in records}
    verbs = {"rotate", "unlink", "link", "bind", "deploy", "delete-environment"}
    assert verbs <= {verb for verb, names in held.items() if names}
    for record in records:
        names = NUMBERS & record.arguments.keys()
        assert names <= {*types[record.verb].internal}, record.verb
        assert shown[record.id] == record.arguments.keys() - names, record.verb


async def test_one_whose_type_is_gone_shows_no_more_than_before(scene: Scene) -> None:
    async with scene.open() as app:
        number = await do(app, "bind", project="shop", environment="preview")
        await app.context.store.write(
            lambda tx: tx.update("operations", "id = ?", [number], verb="of.nobody")
        )
        record = await app.context.store.read(lambda tx: operations.get(tx, number))
    assert "bindings" in record.arguments
    assert operation_view(record).arguments.keys() == {"project", "environment"}
