"""What apps may do and what a project's own token may ask for: the rules, on the fake engine."""

import io
import re
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from fake.engine import Container
from fake.scene import SETTINGS, Scene, do
from purveyor import checks
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.deployments import containment
from purveyor.deployments import store as deployment_store
from purveyor.docker import files as placing
from purveyor.docker.files import Placed
from purveyor.docker.models import digest
from purveyor.kernel.api import tokens
from purveyor.kernel.api.server import listen_tcp, serving
from purveyor.projects import store as projects
from purveyor.projects.models import ProjectRecord
from purveyor.services import routes as service_routes
from purveyor.settings import Settings
from purveyor.settings import load as load_settings
from purveyor_hooks import (
    OF_ENTRY_POINTS,
    AppSpec,
    BadInput,
    Certificate,
    Conflict,
    ContainerSpec,
    Failed,
    File,
    Forbidden,
    ImageMissing,
    Mount,
)

pytestmark = pytest.mark.anyio
MB = 1024 * 1024


def settle(scene: Scene, text: str) -> None:
    """Settings for the next core."""
    (scene.state / "settings.toml").write_text(f"{SETTINGS}\n{text}\n")


def newest(scene: Scene, scope: str = "shop.production") -> Container:
    return [item for item in scene.engine.world.containers if item.name.startswith(f"fk.{scope}.")][
        -1
    ]


async def ask(app: App, **given: Any) -> int:
    """A deploy that the project's own token asks for."""
    return await do(
        app, "deploy", **{"project": "shop", "image": "app:2", "by_project": True, **given}
    )


async def test_an_app_has_no_capability_and_an_end_to_its_memory_and_processes(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await do(app, "deploy", project="shop", image="app:2")
        found = newest(scene)
        assert (found.capabilities, found.memory, found.pids) == ([], 2048 * MB, 1024)
        await ask(app, memory=100, pids=50)
        found = newest(scene)
        assert (found.capabilities, found.memory, found.pids) == ([], 100 * MB, 50)


async def test_an_administrator_adds_capabilities_by_name_and_the_plan_says_so(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        given = {
            "project": "shop",
            "image": "app:2",
            "cap_add": ["cap_setuid", "CHOWN"],
            "memory": 4096,
            "pids": 5000,
        }
        kind = app.operation_type("deploy")
        planned = await app.plan("deploy", kind.arguments(**given))
        assert any("CHOWN, SETUID" in warning for warning in planned.warnings)
        await do(app, "deploy", **given)
        found = newest(scene)
        assert (found.capabilities, found.memory, found.pids) == (
            ["CHOWN", "SETUID"],
            4096 * MB,
            5000,
        )
        scene.engine.world.containers.remove(found)
        number = await app.context.store.read(
            lambda tx: deployment_store.deployments(tx, state="active")[0].id
        )
        await do(app, "repair-app", deployment=number)
        assert newest(scene).capabilities == ["CHOWN", "SETUID"], "what it was deployed with"
        await do(app, "deploy", project="shop", image="app:2")
        assert newest(scene).capabilities == [], "each deploy says it anew"


async def test_an_installation_gives_capabilities_to_every_app(scene: Scene) -> None:
    settle(scene, 'app-capabilities = ["chown"]\napp-memory = 0\napp-pids = 99')
    async with scene.open() as app:
        await ask(app, memory=999_999)
        found = newest(scene)
        assert (found.capabilities, found.memory, found.pids) == (["CHOWN"], 999_999 * MB, 99)


@pytest.mark.parametrize(
    ("field", "given"),
    [("cap_add", {"cap_add": ["NET_RAW"]}), ("memory", {"memory": 2049}), ("pids", {"pids": 1025})],
)
async def test_a_projects_token_asks_for_no_more_than_everybody_gets(
    field: str, given: dict[str, Any], scene: Scene
) -> None:
    async with scene.open() as app:
        before = len(scene.engine.world.containers)
        with pytest.raises(Forbidden) as refused:
            await ask(app, **given)
        assert set(refused.value.errors) == {field}
        assert len(scene.engine.world.containers) == before


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("cap_add", {"cap_add": ["ALL"]}), ("cap_add", {"cap_add": ["NET RAW"]}),
        ("cap_add", {"cap_add": ["", "CHOWN"]}),
        ("memory", {"memory": 0}), ("memory", {"memory": -1}), ("memory", {"memory": 10**12}),
        ("pids", {"pids": 0}),
        ("pids", {"pids": -1}), ("image", {"image": None, "memory": 100}),
        ("image", {"image": None, "cap_add": ["CHOWN"]}),
    ],
)  # fmt: skip
async def test_what_is_no_limit_and_no_capability_is_named(
    field: str, given: dict[str, Any], scene: Scene
) -> None:
    async with scene.open() as app:
        with pytest.raises(BadInput) as refused:
            await do(app, "deploy", **{"project": "shop", "image": "app:2", **given})
        assert field in refused.value.errors


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('app-capabilities = ["ROOT"]', "app-capabilities[0]"), ("app-memory = -1", "app-memory"),
        ("app-pids = 0", "app-pids"),
        ('deploy-images = [" "]', "deploy-images[0]"),
        ("project-environments = -1", "project-environments"),
    ],
)  # fmt: skip
async def test_settings_that_cannot_be_used_are_named(text: str, named: str, scene: Scene) -> None:
    settle(scene, text)
    with pytest.raises(BadInput) as refused:
        load_settings(scene.state)
    assert named in refused.value.detail


# ---------------------------------------------------------------- the route


@asynccontextmanager
async def talking(
    app: App, scope: str, project: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token of a scope, over the network."""

    def work(tx: Any) -> str:
        number = projects.get(tx, project).id if project else None
        return tokens.create(tx, name="t", scope=scope, project_id=number, expires_at=None)[1]

    token = await app.context.store.write(work)
    listener = listen_tcp("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        serving(create_api(app), local=[], public=[listener]),
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60, verify=False) as client,
    ):
        yield client


async def test_the_token_decides_what_may_be_asked_for_and_no_field_does(scene: Scene) -> None:
    body = {"image": "app:2", "cap_add": ["CHOWN"]}
    async with scene.open() as app:
        async with talking(app, "project", "shop") as client:
            refused = await client.post("/projects/shop/deployments", json=body)
            assert (refused.status_code, refused.json()["errors"]) == (
                403,
                {"cap_add": "for admin tokens only"},
            )
            assert (
                await client.post("/projects/shop/deployments?plan=true", json=body)
            ).status_code == 403
            for field in ("by_project", "privileged", "user", "mounts"):
                answer = await client.post(
                    "/projects/shop/deployments", json={"image": "app:2", field: False}
                )
                assert answer.status_code == 400, field
            done = await client.post(
                "/projects/shop/deployments", json={"image": "app:2", "memory": 64}
            )
            assert (done.status_code, done.json()["memory"], done.json()["cap_add"]) == (
                201,
                64,
                [],
            )
        async with talking(app, "admin") as client:
            done = await client.post("/projects/shop/deployments", json=body)
            assert (done.status_code, done.json()["cap_add"]) == (201, ["CHOWN"])


async def test_the_engines_own_words_are_for_administrators(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene.open() as app:
        with pytest.raises(ImageMissing) as told:
            await do(app, "deploy", project="shop", image="registry.example/none:1")
        assert "there is no registry" in told.value.detail
        with pytest.raises(ImageMissing) as plain:
            await ask(app, image="registry.example/none:1")
        assert plain.value.detail == "The image registry.example/none:1 is not available."

        def acted(name: str) -> None:
            if name == "start container":
                raise Failed("dial tcp 10.0.0.7:22: connection refused")

        scene.engine.acted = acted
        with pytest.raises(Failed) as failed:
            await ask(app)
        assert failed.value.detail == "The app's container could not be started."
        newest_first = await app.context.store.read(lambda tx: deployment_store.deployments(tx))
        assert newest_first[0].error == failed.value.detail
        with pytest.raises(Failed, match=r"10\.0\.0\.7"):
            await do(app, "deploy", project="shop", image="app:2")


# ---------------------------------------------------------------- environments


async def test_a_projects_token_makes_environments_up_to_a_number(scene: Scene) -> None:
    settle(scene, "project-environments = 3")
    async with scene.open() as app:
        await ask(app, environment="third", create=True)
        with pytest.raises(Conflict, match="3 environments") as refused:
            await ask(app, environment="fourth", create=True)
        assert "environment" in refused.value.errors
        await ask(app, environment="third", create=True)
        await do(app, "deploy", project="shop", environment="fourth", create=True, image="app:2")
        await ask(app, environment="fourth")


async def test_a_projects_token_that_looks_makes_none(scene: Scene) -> None:
    async with scene.open() as app, talking(app, "project", "shop") as client:
        for number in range(12):
            for path in (
                f"/projects/shop/environments/e{number}/variables",
                "/external-services/main/projects/shop/environment",
            ):
                params = {"environment": f"e{number}"} if "external" in path else {}
                assert (await client.get(path, params=params)).status_code == 404
            assert (
                await client.post(f"/projects/shop/environments/e{number}/reveal")
            ).status_code == 404
        assert len((await client.get("/projects/shop/environments")).json()) == 2


# ---------------------------------------------------------------- images

SHOP = ProjectRecord(id=1, slug="shop", name="shop", created_at=None)  # type: ignore[arg-type]


async def allowed(scene: Scene, image: str, *listed: str) -> str:
    """What a project's token gets when it asks for an image, "" when it is refused."""
    settings = Settings(deploy_images=list(listed))
    async with scene.open() as app:
        try:
            return await app.context.store.read(
                lambda tx: containment.require_image(
                    settings, SHOP, image, ours=containment.is_ours(tx, SHOP, image)
                )
            )
        except Forbidden:
            return ""


@pytest.mark.parametrize(
    "image",
    [
        "127.0.0.1:8400/x:1", "127.0.0.1:1/x", "127.0.0.1/x", "127.1/x", "0x7f.1/x", "10.0.0.7/x",
        "localhost/x",
        "localhost:5000/x", "evil.localhost/x", "[::1]:5000/x", "registry.example:22/x",
        "internal:80/x", "sha256:" + "a" * 64,
    ],
)  # fmt: skip
async def test_a_projects_token_has_no_door_of_this_host_tried(image: str, scene: Scene) -> None:
    assert await allowed(scene, image) == ""
    assert await allowed(scene, image, "*") == ""
    assert await allowed(scene, image, "*/*") == ""


@pytest.mark.parametrize(
    ("image", "listed", "gets"),
    [
        ("nginx", (), "nginx:latest"), ("acme/shop:1", (), "acme/shop:1"),
        ("ghcr.io/acme/shop:1", (), "ghcr.io/acme/shop:1"),
        # a name, and never the beginning of some image's id
        ("4bcff63911fc", (), "4bcff63911fc:latest"),
        ("127.0.0.1:5000/shop:1", ("127.0.0.1:5000/*",), "127.0.0.1:5000/shop:1"),
        ("ghcr.io/acme/shop:1", ("ghcr.io/acme/*",), "ghcr.io/acme/shop:1"),
        ("ghcr.io/acme/shop/web:1", ("ghcr.io/acme/{project}/*",), "ghcr.io/acme/shop/web:1"),
        ("nginx:1", ("nginx",), "nginx:1"),
        ("docker.io/library/nginx:1", ("nginx",), "docker.io/library/nginx:1"),
        ("nginx:1", ("docker.io/library/*",), "nginx:1"), ("acme/x:1", ("acme/*",), "acme/x:1"),
        ("acme/x:1", ("*",), "acme/x:1"),
        ("ghcr.io/acme/other:1", ("ghcr.io/acme/{project}/*",), ""),
        ("nginx:1", ("ghcr.io/acme/*",), ""),
        ("evil.example/ghcr.io/acme/x", ("ghcr.io/acme/*",), ""),
        ("evil.example/nginx", ("nginx",), ""),
        ("127.0.0.1:5001/shop:1", ("127.0.0.1:5000/*",), ""),
    ],
)  # fmt: skip
async def test_images_are_listed_by_patterns(
    image: str, listed: tuple[str, ...], gets: str, scene: Scene
) -> None:
    assert await allowed(scene, image, *listed) == gets


async def test_an_image_that_only_another_project_runs_is_that_projects(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.world.images["private:1"] = {}
        await do(app, "deploy", project="bare", image="private:1")
        for name in ("private:1", "docker.io/library/private:1", "private"):
            with pytest.raises(ImageMissing, match="is not available"):
                await ask(app, image=name, command=["cat", "/etc/shadow"])
        await do(app, "deploy", project="shop", image="private:1")
        await ask(app, image="private:1")
    settle(scene, 'deploy-images = ["private", "app"]')
    async with scene.open() as app:
        await do(app, "create-project", name="third")
        await ask(app, project="third", image="private:1")


async def test_what_others_run_is_not_told(scene: Scene) -> None:
    """One that others run is answered like one that nobody has, in a plan and afterwards, too."""
    async with scene.open() as app, talking(app, "project", "shop") as client:
        scene.engine.world.images["private:1"] = {}
        await do(app, "deploy", project="bare", image="private:1")

        async def told(image: str) -> list[Any]:
            found: list[Any] = []
            body = {"image": image, "command": ["cat", "/etc/shadow"]}
            for path in ("?plan=true", ""):
                answer = await client.post(f"/projects/shop/deployments{path}", json=body)
                text = re.sub(r'"(id|deployment|operation_id)":\d+', r'"\1":0', answer.text)
                text = re.sub(r"\.\d+\b", ".0", text)
                found += [answer.status_code, text.replace(image, "IMAGE")]
            listed = (await client.get("/projects/shop/deployments")).json()
            newest = next(item for item in listed if item["image"] == image)
            return [*found, newest["state"], newest["error"].replace(image, "IMAGE")]

        assert await told("private:1") == await told("nobodys:1")
        done = await client.post("/projects/shop/deployments", json={"image": "app:2"})
        assert done.status_code == 201


async def test_what_a_project_runs_already_it_goes_on_with(scene: Scene) -> None:
    async with scene.open() as app:
        scene.engine.world.images |= {
            f"127.0.0.1:{port}/{name}": {}
            for port in (5000, 5001)
            for name in ("shop:1", "shop:2", "x:1")
        }
        await do(app, "deploy", project="shop", image="127.0.0.1:5000/shop:1")
        await ask(app, image="127.0.0.1:5000/shop:2")
        for image in ("127.0.0.1:5001/shop:1", "127.0.0.1:5000/x:1"):
            with pytest.raises(Forbidden, match="has a port"):
                await ask(app, image=image)
        with pytest.raises(Forbidden, match="has a port"):
            await ask(app, project="bare", image="127.0.0.1:5000/shop:2")
    settle(scene, 'deploy-images = ["app"]')
    async with scene.open() as app:
        with pytest.raises(Forbidden, match="not listed"):
            await ask(app, image="127.0.0.1:5000/shop:2")


async def test_images_are_recorded_by_what_their_registry_calls_them(scene: Scene) -> None:
    async with scene.open() as app:
        name = "registry.example/app@sha256:" + "b" * 64
        scene.engine.world.digests |= {"app:2": name, "fake:1": name}
        async with talking(app, "admin") as client:
            done = (await client.post("/projects/shop/deployments", json={"image": "app:2"})).json()
            assert done["image_digest"] == name
            scene.engine.world.tags["app:2"] = "app:1"  # the name means another one now
            shown = (await client.get(f"/projects/shop/deployments/{done['id']}")).json()
            assert shown["image_digest"] == name
            unknown = (
                await client.post("/projects/shop/deployments", json={"image": "app:1"})
            ).json()
            assert unknown["image_digest"] == ""
        await do(app, "restart", service="main")
        assert (await service_routes.service_details(app, "main")).image_digest == name


# ---------------------------------------------------------------- what runs already


async def test_what_runs_goes_on_and_the_next_start_contains_it(scene: Scene) -> None:
    async with scene.open() as app:
        before = {item.name: item.id for item in scene.engine.world.containers}
        # as from before containers were contained: their specs were others
        for item in scene.engine.world.containers:
            item.labels["dev.purveyor.spec"] = "an older one"
            item.capabilities, item.contained = ["NET_RAW"], False
        scene.engine.save()
    async with scene.open() as app:
        await app.reconciler.sweep()
        told = {check.subject: check for check in await checks.of_containment(app)}
        assert {"main", "shop/production"} <= told.keys()
        assert "purveyor deploy shop -e production IMAGE" in told["shop/production"].detail
        assert {item.name: item.id for item in scene.engine.world.containers} == before
        await do(app, "restart", service="main")
        found = scene.engine.require("fk-main")
        assert found.id != before["fk-main"]
        assert found.capabilities == list(OF_ENTRY_POINTS)
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}
        await do(app, "deploy", project="shop", image="app:1")
        assert told.keys() - {check.subject for check in await checks.of_containment(app)} == {
            "main",
            "shop/production",
        }


async def test_a_container_is_made_anew_when_what_it_may_do_changes() -> None:
    plain = ContainerSpec(image="x")
    assert digest(plain, {}, None) != digest(ContainerSpec(image="x", capabilities=()), {}, None)
    assert digest(plain, {}, None) != digest(ContainerSpec(image="x", read_only=True), {}, None)


async def test_a_server_whose_image_has_to_write_to_its_root_may_where_the_settings_say_so(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        await do(app, "restart", service="main")
        assert scene.engine.require("fk-main").read_only
    settle(scene, 'writable-images = ["other/*", "fake*"]')
    async with scene.open() as app:
        await do(app, "restart", service="main")
        assert not scene.engine.require("fk-main").read_only
        assert scene.server("main").held.resources["shop_production"] == {"precious": "gold"}
        assert "main" not in {check.subject for check in await checks.of_containment(app)}
    settle(scene, "writable-images = []")
    async with scene.open() as app:
        (told,) = [check for check in await checks.of_containment(app) if check.subject == "main"]
        assert "purveyor restart main" in told.detail
        await do(app, "restart", service="main")
        assert scene.engine.require("fk-main").read_only
        assert "main" not in {check.subject for check in await checks.of_containment(app)}


async def test_files_of_a_container_whose_root_is_read_only_have_volumes_to_be_in() -> None:
    files = tuple(
        File(path=path, content="x", mode=0o755)
        for path in ("/data/users", "/etc/purveyor/a", "/etc/purveyor/own/b", "/etc/weed/c")
    )
    spec = ContainerSpec(image="x", mount=Mount(target="/data"), files=files, read_only=True)
    assert placing.folders_of(spec) == ["/etc/purveyor", "/etc/weed"]
    certified = ContainerSpec(
        image="x", mount=Mount(target="/data"), certificate=Certificate(file="/data/pair")
    )
    assert placing.folders_of(certified) == ["/etc/purveyor"]  # what vouches for it
    further = [Placed(File(path="/etc/purveyor/networks", content="1 10.0.0.0/24"))]
    plain = ContainerSpec(image="x", mount=Mount(target="/data"))
    assert placing.folders_of(plain) == []
    assert placing.folders_of(plain, further) == ["/etc/purveyor"]
    put = [Placed(file, ("acme", "other")) for file in files]
    found = placing.by_place(put, "/data")
    assert {place: len(some) for place, some in found.items()} == {
        "/data": 1,
        "/etc/purveyor": 2,
        "/etc/weed": 1,
    }
    assert list(placing.by_place(put, None)) == ["/"]

    def told(users: dict[str, tuple[int, int]]) -> list[tuple[str, int, str]]:
        pair = Placed(File(path="/etc/purveyor/pair", content="x", mode=0o600), ("acme", "other"))
        some = [*found["/etc/purveyor"], pair, *further]
        packed = placing.archive(some, "/etc/purveyor", users)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            return [(item.name, item.uid, oct(item.mode)) for item in tar.getmembers()]

    others = [("own", 0, "0o755"), ("a", 7, "0o755"), ("own/b", 7, "0o755")]
    roots = ("networks", 0, "0o644")
    assert told({"root": (0, 0), "other": (7, 8)}) == [*others, ("pair", 7, "0o600"), roots]
    assert told({"root": (0, 0)})[-2:] == [("pair", 0, "0o644"), roots]  # for everybody in it


# ---------------------------------------------------------------- advice

REFUSED = 'chown("/var/cache/nginx/client_temp", 101) failed (1: Operation not permitted)'


async def test_an_app_that_needs_what_it_has_not_is_told_the_way() -> None:
    settings, app = Settings(), AppSpec(image="nginx:1")
    for user in ("", "root", "0", "0:0"):
        said = containment.advice(app, user, settings, REFUSED)
        assert "--cap-add CHOWN --cap-add SETGID --cap-add SETUID" in said
        assert "app-capabilities" in said
    assert containment.advice(app, "101", settings, REFUSED) == ""
    assert containment.advice(app, "", settings, "out of luck") == ""
    all_of_them = Settings(app_capabilities=["CHOWN", "SETGID", "SETUID"])
    assert containment.advice(app, "", all_of_them, REFUSED) == ""
