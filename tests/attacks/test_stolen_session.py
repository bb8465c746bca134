"""What a session of the dashboard is good for in other hands than its owner's, and what a reader
sees of secrets; on the fake engine, over the whole application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from attacks.test_web import Site, csrf, enter, signed_out, site
from attacks.told import attack
from browsing import base_of
from fake.scene import Scene, do
from purveyor.asgi import create_api
from purveyor.deployments import store as deployments
from purveyor.kernel.api.server import listen_tcp, serving
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.services import store as services

pytestmark = pytest.mark.anyio

PASSWORD = "a-password-of-the-app-itself"
GIVEN = {
    "reference": "main", "slug": "main", "service": "main", "service_type": "fake",
    "project": "shop", "environment": "production", "number": "1", "name": "FAKE_PASSWORD", "key": "{key}",
}  # fmt: skip
ENOUGH = 0.3  # seconds that a stream is listened to
# files, and what apps ask
LEFT_OUT = ("/static", "/api/schema", "/sign-in", "/api/kv")


def addresses(api: Any) -> list[str]:
    """What is read of the API, and every page below the key of a session."""
    found = set()
    for route in api.routes:
        if "GET" in getattr(route, "methods", ()) and not route.path.startswith(LEFT_OUT):
            parts = [
                item if isinstance(item, str) else GIVEN[item.name]
                for item in route.path_components
            ]
            found.add("/" + "/".join(parts))
    found |= {path.replace("main", "1") for path in found if path.startswith("/api/backups/")}
    found |= {"/api/events?limit=1000", "/~/{key}/services/main/data?path=shop_production"}
    return sorted(path for path in found if path.startswith(("/api/", "/~/")))


async def read(client: httpx.AsyncClient, path: str, **headers: str) -> tuple[int, str, bool]:
    """The status, what comes, and whether it goes on: a stream is listened to for a while."""
    text, goes_on = b"", True
    async with client.stream("GET", path, headers=headers) as answer:
        # what ends by itself is read to its end, whatever that takes
        wait = ENOUGH if "event-stream" in answer.headers.get("content-type", "") else 30
        with anyio.move_on_after(wait):
            async for chunk in answer.aiter_bytes():
                text += chunk
            goes_on = False
    return answer.status_code, text.decode(errors="replace"), goes_on


async def secrets_of(made: Site) -> set[str]:
    """All that opens something, as it is recorded: of services and data that is kept, of accounts,
    of apps' tokens, and what apps were given."""

    def work(tx: Tx) -> set[str]:
        found = {PASSWORD}
        for service in services.list_all(tx):
            found |= {str(value) for value in service.secrets.values()}
            for binding in projects.bindings(tx, service_id=service.id):
                found.add(binding.password)
        for deployment in deployments.deployments(tx):
            found |= {str(value) for value in (deployment.variables or {}).values()}
        return found

    return {text for text in await made.app.context.store.read(work) if len(text) > 5}


@asynccontextmanager
async def reached(made: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The same application behind a port: a client of a stream does not wait for its end there."""
    listener = listen_tcp("127.0.0.1", 0)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with (
        serving(create_api(made.app), local=[], public=[listener]),
        httpx.AsyncClient(base_url=base, timeout=60, trust_env=False) as client,
    ):
        yield client


@attack(
    "the web",
    "read a secret on any page as a reader",
    "read one in any answer of the API",
    honest="a reader reads every page, and follows what happens",
)
async def test_a_reader_opens_every_page_and_sees_no_secret(scene: Scene) -> None:
    async with site(scene) as made:
        await do(made.app, "deploy", project="shop", image="app:1", variables={"OWN": PASSWORD})
        kept = await secrets_of(made)
        assert len(kept) >= 5
        for item in scene.engine.world.containers:
            item.log.extend(f"connecting with {text}" for text in sorted(kept))
        async with reached(made) as client:
            token = await made.token("eve", "read")
            base = await enter(client, token)
            opened, streams = [], []
            for path in addresses(made.api):
                headers = {} if path.startswith("/~/") else {"Authorization": f"Bearer {token}"}
                if path == "/api/events?limit=1000":
                    headers["Accept"] = "application/json"
                address = path.replace("/~/{key}", base)
                status, text, goes_on = await read(client, address, **headers)
                assert status in (200, 302, 400, 403, 404), (path, text)
                assert [secret for secret in kept if secret in text] == [], path
                if status == 200:
                    (streams if goes_on else opened).append(path)
            assert streams == ["/api/events", "/~/{key}/dashboard/stream"]
            pages = {path for path in opened if path.startswith("/~/")}
            assert len(pages) > 15, pages
            assert len(opened) - len(pages) > 20, opened
            # control: they are what is revealed to who may
            boss = {"Authorization": f"Bearer {await made.token()}"}
            shown = await client.post(
                "/api/projects/shop/environments/production/reveal", headers=boss
            )
            assert any(secret in shown.text for secret in kept)


@attack(
    "tokens and sign-in",
    "have somebody sign in to a session that one has chosen",
    "sign in with a session",
    "say a token where the halves of a session belong",
    "send a form with the word of another session of the same person",
    honest="signs in twice, and each session sends its own forms",
)
async def test_a_session_is_chosen_by_nobody_and_is_worth_itself_alone(scene: Scene) -> None:
    async with site(scene) as made, made.client() as owner, made.client() as second:
        token, chosen = await made.token(), "c" * 43
        owner.cookies.set("purveyor", chosen, domain="host")
        answer = await owner.post(f"/sign-in?key={chosen}", data={"token": token, "key": chosen})
        base = base_of(answer.headers["location"])
        assert chosen not in base
        given = answer.cookies["purveyor"]
        assert given != chosen
        owner.cookies.clear()
        owner.cookies.set("purveyor", given)
        assert (await owner.get(f"{base}/services")).status_code == 200
        key = base.rpartition("/")[2]
        async with made.client() as thief:
            for cookie, place in (
                (chosen, chosen), (chosen, key), (given, chosen), (token, token), (token, key),
                (given, token),
            ):  # fmt: skip
                thief.cookies.clear()
                thief.cookies.set("purveyor", cookie)
                assert signed_out(await thief.get(f"/~/{place}/services")), (cookie, place)
            for text in (given, key, f"{given}.{key}"):
                answer = await thief.post("/sign-in", data={"token": text})
                assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
        other = await enter(second, token)
        foreign, own = await csrf(second, other), await csrf(owner, base)
        assert foreign != own
        forged = await owner.post(f"{base}/projects", data={"name": "forged", **foreign})
        assert forged.status_code == 403
        assert "forged" not in (await owner.get(f"{base}/projects")).text
        done = await owner.post(f"{base}/projects", data={"name": "honest", **own})
        assert done.status_code in (302, 303)


@attack(
    "tokens and sign-in",
    "go on in a session whose user was disabled",
    "go on in one whose user was removed",
    "go on listening in either",
    honest="other users' sessions go on, and who is enabled again signs in anew",
)
@pytest.mark.parametrize("end", ["disable", "remove"])
async def test_a_session_ends_with_whose_it_is(end: str, scene: Scene) -> None:
    async with site(scene) as made, reached(made) as client, reached(made) as other:
        boss = {"Authorization": f"Bearer {await made.token()}"}

        async def arrive(browser: httpx.AsyncClient, name: str) -> str:
            await browser.post("/api/users", headers=boss, json={"name": name})
            return await again(browser, name, "first")

        async def again(browser: httpx.AsyncClient, name: str, called: str) -> str:
            body = {"name": f"{called}-{name}", "user": name, "scope": "read"}
            token = (await browser.post("/api/tokens", headers=boss, json=body)).json()["token"]
            return await enter(browser, token)

        base, others = await arrive(client, "eve"), await arrive(other, "ada")
        assert (await client.get(f"{base}/services")).status_code == 200
        async with client.stream("GET", f"{base}/dashboard/stream") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            ended = (
                await other.post("/api/users/eve/disable", headers=boss)
                if end == "disable"
                else await other.delete("/api/users/eve", headers=boss)
            )
            assert ended.is_success, ended.text
            with anyio.fail_after(20):
                told = [line async for line in lines if line.startswith("data:")]
            assert not [line for line in told if "user." in line]
        assert signed_out(await client.get(f"{base}/services"))
        assert (await other.get(f"{others}/services")).status_code == 200
        if end == "disable":
            await other.post("/api/users/eve/enable", headers=boss)
            assert signed_out(await client.get(f"{base}/services")), "what was ended stays so"
            base = await again(client, "eve", "second")
            assert (await client.get(f"{base}/services")).status_code == 200
