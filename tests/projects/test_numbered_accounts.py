"""Types whose credentials have accounts of their own: none is ever named like one before."""

import msgspec
import pytest

from fake.scene import Scene, do
from fake.server import OF_BEFORE
from purveyor import doctor
from purveyor.app import App
from purveyor.projects import naming
from purveyor_hooks import Naming, ServiceType

pytestmark = pytest.mark.anyio
KIND = ServiceType(
    name="x",
    label="X",
    description="",
    default_image="",
    parameters=(),
    ports=(),
    naming=Naming(limit=10),
    numbered_accounts=True,
)


@pytest.mark.parametrize(("resource", "before", "taken", "wanted"), [
    ("shop_p", "", set(), "shop_p_1"), ("shop_p", "shop_p", set(), "shop_p_2"),
    ("shop_p", "shop_p_9", set(), "shop_p_10"),
    ("shop_p", "shop_p_1", {"shop_p_2"}, "shop_p_3"), ("shop_prod_", "", set(), "shop_pro_1"),
    ("shop_p", "shopkeeper", set(), "shop_p_2"),
    ("shop_2", "shop_2", set(), "shop_2_2"),
])  # fmt: skip
def test_each_has_a_number_that_none_had(
    resource: str, before: str, taken: set[str], wanted: str
) -> None:
    assert naming.account(KIND, resource, before, taken) == wanted


def test_each_key_is_another_and_a_type_without_numbers_keeps_its_first() -> None:
    numbered = msgspec.structs.replace(KIND, account_length=20)
    first = naming.account(numbered, "shop-p", "", set())
    assert len(first) == 20
    assert naming.account(numbered, "shop-p", first, {first}) not in (first, "shop-p")
    plain = msgspec.structs.replace(numbered, numbered_accounts=False)
    assert naming.account(plain, "shop-p", first, {first}) == first


def number(app: App) -> None:
    provider = app.context.registry.provider("fake")
    provider.kind = msgspec.structs.replace(provider.kind, numbered_accounts=True)


async def test_an_account_of_before_is_told_of_and_the_plan_says_what_becomes_of_it(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        number(app)
        assert await doctor.owners(app) == []
        await do(app, "update", service="main", parameters={"size": OF_BEFORE})
        told = dict(await doctor.owners(app))
        assert told["main"].endswith(
            "shop/preview logs in as before. Give it a login of its own: purveyor rotate shop -e "
            "preview --service main --grace 1h, then deploy it again: purveyor deploy shop -e preview"
        )
        plan = await app.plan(
            "rotate",
            msgspec.convert(
                {"project": "shop", "service": "main"}, app.operation_type("rotate").arguments
            ),
        )
        assert plan.resources == [
            "new account shop_production_2 in place of shop_production, which logs in as before "
            "until then"
        ]
