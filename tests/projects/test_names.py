"""Names on the network: each is one thing's, and what is older than that rule is told."""

from typing import Any

import pytest

from attacks.told import attack
from fake.scene import NAMESPACE, Scene, create, do
from purveyor import checks
from purveyor.app import App
from purveyor.docker import names
from purveyor.projects import store as projects
from purveyor_hooks import BadInput, Conflict

pytestmark = pytest.mark.anyio


async def made(app: App, project: str, environment: str = "production") -> None:
    """As an older Purveyor made them, which asked nobody."""

    def work(tx: Any) -> None:
        found = projects.find(tx, project)
        number = found.id if found else projects.insert(tx, slug=project, name=project)
        if projects.find_environment(tx, number, environment) is None:
            projects.insert_environment(tx, number, environment)

    await app.context.store.write(work)


@attack(
    "names",
    "bind an environment that answers as another project's app",
    "deploy one",
    honest="makes an environment of another name",
)
async def test_an_environment_does_not_answer_as_another_projects_app(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "create-project", name="shop-x")
        for verb, more in (("bind", {}), ("deploy", {"create": True, "image": "app:1"})):
            with pytest.raises(Conflict) as refused:
                await do(app, verb, project="shop", environment="x-production", **more)
            assert "shop/x-production" in refused.value.detail
            assert "shop-x/production" in refused.value.detail
            assert "environment" in refused.value.errors
        await do(app, "bind", project="shop", environment="x")


@attack(
    "names",
    "make a project that answers as an environment of another",
    honest="makes a project of another name",
)
async def test_a_project_does_not_answer_as_another_projects_app(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "bind", project="shop", environment="x-production")
        with pytest.raises(Conflict, match="shop/x-production"):
            await do(app, "create-project", name="shop-x")
        await do(app, "create-project", name="shop-y")


@attack(
    "names",
    "differ only where a name is cut off",
    honest="has a name of forty letters",
)
async def test_names_that_are_alike_only_where_they_are_cut_are_alike(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "create-project", name="p" * 40)
        await do(app, "bind", project="p" * 40, environment="e" * 30)
        with pytest.raises(Conflict):
            await do(app, "bind", project="p" * 40, environment="e" * 31)


@attack(
    "names",
    "be called like the installation",
    "begin like its services",
    "write it in capitals",
    honest="begins with the same letters",
)
@pytest.mark.parametrize("name", [NAMESPACE, f"{NAMESPACE}-x", NAMESPACE.upper()])
async def test_no_project_is_called_like_services(name: str, scene: Scene) -> None:
    async with scene.open() as app:
        with pytest.raises(BadInput) as refused:
            await do(app, "create-project", name=name)
        assert "name" in refused.value.errors
        await do(app, "create-project", name=f"{NAMESPACE}x")


@attack(
    "names",
    "answer as a service from a project of before that rule",
    honest="goes on under its other names",
)
async def test_no_environment_of_an_older_project_answers_as_a_service(scene: Scene) -> None:
    async with scene.open() as app:
        await made(app, NAMESPACE)
        for environment in ("main", "later"):
            with pytest.raises(Conflict) as refused:
                await do(app, "bind", project=NAMESPACE, environment=environment)
            assert f"{NAMESPACE}-{environment}" in refused.value.detail
        # what nobody else is called stays as it was
        await do(app, "deploy", project=NAMESPACE, image="app:1")


@attack(
    "names",
    "make a service that answers as an app",
    "bring one back",
    "import one",
    honest="services of other names are made",
)
async def test_a_service_is_not_called_like_an_app(scene: Scene) -> None:
    async with scene.open() as app:
        await made(app, NAMESPACE, "late")
        with pytest.raises(Conflict, match=f"{NAMESPACE}/late"):
            await create(app, "late")
        await made(app, NAMESPACE, "gone")
        with pytest.raises(Conflict, match=f"{NAMESPACE}/gone"):
            await do(app, "undelete", service="gone")
        scene.engine.foreign("shop-production", "fake:1", {"FAKE_PASSWORD": "x"}, "/data")
        with pytest.raises(Conflict, match="shop/production"):
            await do(
                app,
                "import",
                container_id="shop-production",
                name="taken",
                service_type="fake",
                parameters={},
            )


async def test_what_shares_a_name_already_is_told_and_the_first_one_keeps_it(scene: Scene) -> None:
    async with scene.open() as app:
        assert await checks.of_names(app) == []
        await made(app, "shop-x")
        await made(app, "shop", "x-production")
        await made(app, NAMESPACE)
        await made(app, NAMESPACE, "main")
        found = {check.subject: check for check in await checks.of_names(app)}
        assert not found["shop-x-production"].ok
        assert (
            "shop-x/production and the app of shop/x-production"
            in found["shop-x-production"].detail
        )
        assert not found[f"{NAMESPACE}-main"].ok
        assert "the service main and the app of" in found[f"{NAMESPACE}-main"].detail
        assert found[f"{NAMESPACE}-production"].ok
        assert all(check.remedy for check in found.values() if not check.ok)
        await do(app, "deploy", project="shop-x", image="app:1")
        for project, environment in (("shop", "x-production"), (NAMESPACE, "main")):
            with pytest.raises(Conflict):
                await do(app, "deploy", project=project, environment=environment, image="app:1")


async def test_the_names_of_apps_are_what_they_were(scene: Scene) -> None:
    assert names.alias("shop", "production") == "shop-production"
    assert len(names.alias("p" * 40, "e" * 40)) == 63
    assert names.alias("p" * 40, "e" * 21 + "-x") == "p" * 40 + "-" + "e" * 21
