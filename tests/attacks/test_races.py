"""What ends something while an app of its project is deployed, on the real engine: whichever comes
first, nothing of what ended is left, no network of it, and no credentials that open anything."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.request import urlopen

import asyncpg
import httpx
import pytest

from attacks.told import attack
from support import DEMO, MakeStage, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

ENVIRONMENT = "preview"
# seconds that the other one begins after the deploy: at each of its steps on a machine of ours
LATER = (0.0, 0.4, 1.5)
DEPLOY = ("POST", "/projects/alpha/deployments")
APP = {
    "image": DEMO, "environment": ENVIRONMENT, "create": True, "port": 8000,
    "health_path": "/healthz",
}  # fmt: skip


class Other(NamedTuple):
    """What is asked beside a deploy, and whether the environment is to be there afterwards."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    stays: bool = True


OTHERS = {
    "unlink": Other("DELETE", "/external-services/main/projects/alpha?now=true"),
    "unlink with the data": Other(
        "DELETE", "/external-services/main/projects/alpha?purge=true"
    ),
    "remove the environment": Other(
        "DELETE", f"/projects/alpha/environments/{ENVIRONMENT}?purge=true", stays=False
    ),
    "renew the credentials": Other(
        "POST", "/projects/alpha/rotate", {"environment": ENVIRONMENT}
    ),
    "deploy it again": Other(*DEPLOY, APP),
    "delete the service": Other("DELETE", "/external-services/main?purge=true"),
    "delete the project": Other("DELETE", "/projects/alpha?purge=true", stays=False),
}  # fmt: skip


@pytest.fixture(scope="module")
def stage(make_stage: MakeStage) -> Iterator[Stage]:
    with make_stage("health-interval = 2").serving() as made:
        made.furnish({"main": "postgres", "cache": "redis"}, ["beta"])
        yield made


def prepare(stage: Stage) -> None:
    """Alpha is there, linked to both, with an app that runs."""
    with stage.local() as client:
        if "alpha" not in {item["slug"] for item in client.get("/api/projects").json()}:
            client.post("/api/projects", json={"name": "alpha"}).raise_for_status()
        for service in ("main", "cache"):
            answer = client.post(
                f"/api/external-services/{service}/projects", json={"project_id": "alpha"}
            )
            assert answer.status_code in (200, 201, 409), answer.text
    deployed(stage)


def deployed(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.call(*DEPLOY, json=APP)
    return found


def ask(stage: Stage, method: str, path: str, body: Any, wait: float) -> httpx.Response:
    time.sleep(wait)
    with stage.local() as client:
        return client.request(method, f"/api{path}", json=body)


def held(stage: Stage) -> list[dict[str, str]]:
    """What the containers of alpha's apps have, and what a deploy would be given."""
    mine = f"name=^/{stage.namespace}.alpha."
    names = docker("ps", "-aq", "--filter", mine).split()
    found = [
        dict(item.partition("=")[::2] for item in json.loads(text))
        for text in docker("inspect", "-f", "{{json .Config.Env}}", *names).splitlines()
    ] if names else []  # fmt: skip
    path = f"/api/projects/alpha/environments/{ENVIRONMENT}/variables?reach=network"
    with stage.local() as client:
        answer = client.get(path)
    return [*found, answer.json()["variables"]] if answer.is_success else found


def accounts(seen: Sequence[dict[str, str]]) -> set[tuple[str, str, str]]:
    return {
        (item["POSTGRES_USER"], item["POSTGRES_PASSWORD"], item["POSTGRES_DATABASE"])
        for item in seen
        if "POSTGRES_PASSWORD" in item
    }


async def opens(stage: Stage, user: str, password: str, database: str) -> bool:
    port = stage.call("GET", "/external-services/main")["current_parameters"]["port"]
    try:
        opened = await asyncpg.connect(
            host="127.0.0.1", port=int(port), user=user, password=password, database=database
        )
    except asyncpg.PostgresError:
        return False
    await opened.close()
    return True


def networks_of(container: str) -> set[str]:
    text = docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", container)
    return set(json.loads(text))


def settled(stage: Stage) -> None:
    eventually(
        lambda: (
            stage.rows(
                "SELECT id FROM operations WHERE state NOT IN ('succeeded', 'failed', 'cancelled')"
            )
            == []
        ),
        60,
    )


@attack(
    "the network",
    "keep an account by a deploy while one's project is unlinked",
    "keep one while its data is deleted",
    "keep an app, a network or an account while one's environment is removed",
    "keep one while one's project is deleted",
    "keep the old credentials while they are renewed",
    "have two apps answer by deploying twice at once",
    "bring a service down by having it deleted while it is used",
    honest="whichever is done last is what holds, and the next deploy comes up",
)
@pytest.mark.anyio
@pytest.mark.parametrize("other", OTHERS)
async def test_what_ends_beside_a_deploy_leaves_nothing(other: str, stage: Stage) -> None:
    wanted = OTHERS[other]
    for wait in LATER:
        prepare(stage)
        seen = held(stage)
        with ThreadPoolExecutor(2) as pool:
            both = [
                pool.submit(ask, stage, *DEPLOY, APP, 0),
                pool.submit(ask, stage, wanted.method, wanted.path, wanted.body, wait),
            ]
            answers = [item.result() for item in both]
        settled(stage)
        said = [(answer.status_code, answer.text[:300]) for answer in answers]
        assert all(answer.status_code < 500 for answer in answers), (wait, said)
        await check(stage, wait, said, [*seen, *held(stage)])
        if other == "delete the service":
            assert answers[1].status_code in (400, 409), said
    prepare(stage)
    url = deployed(stage)["url"]
    assert eventually(lambda: urlopen(url).status == 200)


async def check(stage: Stage, wait: float, said: Any, seen: Sequence[dict[str, str]]) -> None:
    """What is there is what is recorded, and nothing else of alpha's opens anything."""
    told = (wait, said)
    (alpha,) = stage.rows("SELECT max(id) FROM projects WHERE slug = 'alpha'")[0] or (None,)
    active = {
        name
        for (name,) in stage.rows(
            "SELECT container FROM deployments JOIN projects ON projects.id = project_id "
            f"WHERE deployments.state = 'active' AND project_id = {alpha or 0}"
        )
    }
    prefix = f"{stage.namespace}.alpha."
    eventually(
        lambda: {name for name in stage.containers() if name.startswith(prefix)} == active, 60
    )
    assert len(active) < 2, told
    network = f"{stage.namespace}.alpha.{ENVIRONMENT}"
    eventually(lambda: (network in stage.networks()) == bool(active), 60)
    bound = {
        (service, resource)
        for service, resource in stage.rows(
            "SELECT services.slug, bindings.account FROM bindings JOIN services ON services.id = "
            f"service_id WHERE bindings.state = 'bound' AND bindings.project_id = {alpha or 0}"
        )
    }
    for service in ("main", "cache"):
        uses = any(item[0] == service for item in bound)
        joined = networks_of(f"{stage.namespace}-{service}")
        assert (network in joined) == (uses and bool(active)), (service, joined, told)
        assert joined <= {stage.namespace, network}, joined
    roles = set(
        stage.sql("main", "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname ~ '^alpha'")
    )
    assert roles == {account for service, account in bound if service == "main"}, told
    good = 0
    for account in accounts(seen):
        good += await opens(stage, *account)
    assert good == len(roles & {item[0] for item in accounts(seen)}), (told, good, roles)
