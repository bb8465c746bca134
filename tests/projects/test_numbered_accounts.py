"""Types whose credentials have accounts of their own: none is ever named like one before."""

import msgspec
import pytest

from fake.scene import Scene
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
    ("shop_2", "shop_2", set(), "shop_2_2"),
])  # fmt: skip
def test_each_has_a_number_that_none_had(
    resource: str, before: str, taken: set[str], wanted: str
) -> None:
    assert naming.account(KIND, resource, before, taken) == wanted


def number(app: App) -> None:
    provider = app.house.registry.provider("fake")
    provider.kind = msgspec.structs.replace(provider.kind, numbered_accounts=True)


async def test_an_account_of_before_is_told_of_and_the_plan_says_what_becomes_of_it(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        assert await doctor.owners(app) == []
        number(app)
        told = dict(await doctor.owners(app))
        grace = " --grace 1h" if app.house.registry.provider("fake").offers("retire") else ""
        assert told["main"].endswith(
            f"Give it a login of its own: purveyor rotate shop -e preview --service main{grace}, "
            "then deploy it again: purveyor deploy shop -e preview"
        )
        plan = await app.plan(
            "rotate",
            msgspec.convert({"project": "shop", "service": "main"}, app.verb("rotate").arguments),
        )
        assert plan.resources[0].startswith(
            "new account shop_production_2 in place of shop_production, which goes on as"
        )
