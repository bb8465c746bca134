"""A hostile app, page or neighbour against the dashboard and the API: what each tries, and what
honest ones do all the same."""

import io
import json
import logging
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import EntryPoint
from typing import Any

import anyio
import click
import httpx
import pytest

from attacks.told import attack
from browsing import PAGES, base_of, signed_out
from fake.scene import PLUGINS, Scene
from purveyor.access import session_store as sessions
from purveyor.access import sign_ins
from purveyor.app import App, open_app
from purveyor.asgi import create_api
from purveyor.cli.terminal import safe_output, visible
from purveyor.docker.models import Network
from purveyor.kernel.api import tokens
from purveyor.kernel.api.peers import Neighbours, Reach, judge_peers
from purveyor.kernel.api.refusals import Refusals
from purveyor.kernel.api.server import listen_tcp, serving
from purveyor.kernel.events import store as events
from purveyor.kernel.logs import make_logger
from purveyor.projects import store as projects
from purveyor.projects import tokens as environment_tokens
from purveyor.services import networks
from purveyor_dashboard.pages import Pages
from purveyor_hooks import EngineUnavailable

WEB = [
    EntryPoint(name="dashboard", value="purveyor_dashboard:plugin", group="purveyor"),
    EntryPoint(name="kv", value="purveyor_kv_service:plugin", group="purveyor"),
]
ON_FAKE = pytest.mark.anyio
GATEWAY = "10.9.0.1"
OURS, THEIRS, LAN = "10.9.0.7", "10.8.0.7", "192.0.2.7"
NETWORKS = (
    Network(name="bridge", subnets=("10.8.0.0/16",), ours=False),
    Network(name="fk", subnets=("10.9.0.0/16",), ours=True),
)


class Site:
    """A dashboard and an API, and who asks them: by default a browser on this host."""

    def __init__(self, app: App, api: Any) -> None:
        self.app = app
        self.api = api

    def client(
        self, application: Any = None, peer: str = "127.0.0.1", **options: Any
    ) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=application or self.api, client=(peer, 1))
        return httpx.AsyncClient(
            transport=transport, base_url="http://host:8400", timeout=30, **options
        )

    async def token(
        self, name: str = "ada", scope: str = "admin", project: int | None = None
    ) -> str:
        """A token of somebody."""
        made = await self.app.context.store.write(
            lambda tx: tokens.create(
                tx, name=name, scope=scope, project_id=project, expires_at=None
            )
        )
        return made[1]

    async def told(self, kind: str) -> list[dict[str, Any]]:
        """What the journal says of this kind."""
        found = await self.app.context.store.read(lambda tx: events.after(tx, 0, 5000))
        return [event.data for event in found if event.type == kind]


@asynccontextmanager
async def site(scene: Scene) -> AsyncIterator[Site]:
    made = open_app(
        scene.state,
        make_engine=scene.engine_of,
        plugins=[*PLUGINS, *WEB],
        log_level=logging.CRITICAL,
    )
    async with made as app:
        yield Site(app, create_api(app))


async def enter(client: httpx.AsyncClient, token: str) -> str:
    """Sign in; the answer is what the addresses of the session begin with."""
    answer = await client.post("/sign-in", data={"token": token})
    assert answer.status_code == 302, answer.text
    return base_of(answer.headers["location"])


async def csrf(client: httpx.AsyncClient, base: str) -> dict[str, str]:
    found = re.search(r'name="csrf" value="([^"]+)"', (await client.get(f"{base}/services")).text)
    assert found
    return {"csrf": found[1]}


# ---------------------------------------------------------------- the door for containers


class Networks:
    """The networks of an engine, which can be away."""

    def __init__(self, *found: Network) -> None:
        self.found: list[Network] = list(found)
        self.away = False
        self.asked = 0

    async def __call__(self) -> Sequence[Network]:
        self.asked += 1
        if self.away:
            raise EngineUnavailable("It does not answer.")
        return tuple(self.found)


def neighbours(networks: Networks) -> Neighbours:
    made = Neighbours(networks, make_logger(logging.CRITICAL))
    made.gateway = GATEWAY
    return made


@attack(
    "the web",
    "ask as somebody else's container",
    "ask from the LAN at the apps' address",
    "ask as an app at another address of the host",
    "ask as an app over IPv6",
    "ask without an address",
    honest=(
        "an app gets what is for apps; the host itself, and who comes from outside where it "
        "listens, everything"
    ),
)
@ON_FAKE
@pytest.mark.parametrize(("peer", "arrived", "at_gateway", "reach"), [
    (OURS, GATEWAY, True, Reach.APPS),  # an app, as it should be
    (THEIRS, GATEWAY, True, Reach.NOTHING),  # a container of somebody else
    (LAN, GATEWAY, True, Reach.NOTHING),  # a neighbour on the LAN with a route
    ("", GATEWAY, True, Reach.NOTHING),
    ("127.0.0.1", GATEWAY, True, Reach.APPS),  # the host tries its own door
    # an app, through whatever address of the host somebody listens on
    (OURS, LAN, False, Reach.APPS),
    (THEIRS, "0.0.0.0", False, Reach.APPS),
    (f"::ffff:{OURS}", "::", False, Reach.APPS),
    ("fe80::42%2", "::", False, Reach.APPS),  # of a network with IPv6
    (OURS, GATEWAY, False, Reach.APPS),  # one listener for everything
    (THEIRS, GATEWAY, False, Reach.NOTHING),
    (LAN, GATEWAY, False, Reach.NOTHING),
    (LAN, "192.0.2.1", False, Reach.ALL),  # the administrator, who listens there for that
    ("2001:db8::7", "2001:db8::1", False, Reach.ALL),
    ("127.0.0.1", "127.0.0.1", False, Reach.ALL),
    ("::1", "::1", False, Reach.ALL),
])  # fmt: skip
async def test_who_gets_what(peer: str, arrived: str, at_gateway: bool, reach: Reach) -> None:
    assert (
        await neighbours(Networks(*NETWORKS)).reach(peer, arrived, at_gateway=at_gateway) is reach
    )


@ON_FAKE
async def test_an_app_on_a_network_that_was_just_made_is_no_stranger() -> None:
    networks = Networks(*NETWORKS[:1])
    known = neighbours(networks)
    assert await known.reach(LAN, LAN, at_gateway=False) is Reach.ALL
    networks.found = [*NETWORKS]
    assert await known.reach(OURS, LAN, at_gateway=False) is Reach.APPS
    assert await known.reach(OURS, GATEWAY, at_gateway=True) is Reach.APPS
    asked = networks.asked
    for _ in range(100):
        assert await known.reach(OURS, GATEWAY, at_gateway=True) is Reach.APPS
        assert await known.reach(LAN, LAN, at_gateway=False) is Reach.ALL
    assert networks.asked <= asked + 1, "each of many requests does not ask the engine"


@ON_FAKE
async def test_while_the_engine_is_away_apps_go_on_and_nobody_gets_more_than_before() -> None:
    networks = Networks(*NETWORKS)
    networks.away = True
    never = neighbours(networks)
    assert await never.reach(LAN, LAN, at_gateway=False) is Reach.APPS, "it may be a container"
    assert await never.reach("127.0.0.1", "127.0.0.1", at_gateway=False) is Reach.ALL
    networks.away = False
    known = neighbours(networks)
    await known.look()
    networks.away = True
    assert await known.reach(OURS, GATEWAY, at_gateway=True) is Reach.APPS
    assert await known.reach(THEIRS, LAN, at_gateway=False) is Reach.APPS
    assert await known.reach(LAN, LAN, at_gateway=False) is Reach.ALL


@attack(
    "the web",
    "read the dashboard from a container",
    "read the API there",
    "read events there",
    "read variables there",
    "do so with an administrator's token",
    "do so with both halves of a session",
    honest="an app uses KV",
)
@ON_FAKE
@pytest.mark.parametrize("path", [
    *PAGES, "/sign-in", "/static/app.js", "/api/projects", "/api/external-services/", "/api/tokens",
    "/api/sessions",
    "/api/events",
    "/api/version", "/api/schema/openapi.json", "/api/plugins",
    "/api/projects/shop/environments/production/variables",
    "/api/projects/shop/deployments",
])  # fmt: skip
async def test_a_container_reaches_nothing_but_what_is_for_apps(path: str, scene: Scene) -> None:
    """Also with an administrator's token, or with both halves of somebody's session."""
    async with site(scene) as made:
        token = await made.token()
        door = judge_peers(made.api, neighbours(Networks(*NETWORKS)), at_gateway=False)
        async with (
            made.client() as host,
            made.client(door, OURS) as container,
            made.client(door, LAN) as admin,
        ):
            base = await enter(host, token)
            container.cookies = host.cookies
            bearer = {"Authorization": f"Bearer {token}"}
            for address in (path, f"{base}{path}"):
                answer = await container.get(address, headers=bearer)
                if answer.status_code == 404 and address.startswith(base):
                    continue  # there is no such page at all
                assert answer.status_code == 403, address
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["remedy"]
            assert (await container.get("/api/kv/status", headers=bearer)).status_code == 200
            assert (await admin.get("/api/projects", headers=bearer)).status_code == 200


@attack(
    "the web",
    "sign in from a container",
    "make a project there",
    "switch KV on there",
    "change KV there",
    "switch KV off there",
    "end everybody's sessions there",
    "deploy there",
    "reveal secrets there",
    honest="an app uses KV",
)
@ON_FAKE
@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/sign-in"), ("POST", "/api/projects"), ("POST", "/api/kv/enable"),
    ("PATCH", "/api/kv/update"),
    ("DELETE", "/api/kv/disable"), ("DELETE", "/api/sessions"),
    ("POST", "/api/projects/shop/deployments"),
    ("POST", "/api/projects/shop/environments/production/reveal"),
])  # fmt: skip
async def test_a_container_changes_nothing(method: str, path: str, scene: Scene) -> None:
    async with site(scene) as made:
        token = await made.token()
        door = judge_peers(made.api, neighbours(Networks(*NETWORKS)), at_gateway=True)
        async with made.client(door, OURS, headers={"Authorization": f"Bearer {token}"}) as client:
            answer = await client.request(method, path, json={})
            assert (answer.status_code, answer.json()["type"]) == (
                403,
                "urn:purveyor:error:forbidden",
            )


@ON_FAKE
async def test_somebody_else_s_container_does_not_even_reach_what_is_for_apps(scene: Scene) -> None:
    async with site(scene) as made:
        headers = {"Authorization": f"Bearer {await made.token()}"}
        door = judge_peers(made.api, neighbours(Networks(*NETWORKS)), at_gateway=True)
        for peer, status in ((THEIRS, 403), (LAN, 403), (OURS, 200)):
            async with made.client(door, peer, headers=headers) as client:
                assert (await client.get("/api/kv/status")).status_code == status, peer


@ON_FAKE
async def test_the_listener_for_containers_is_one_and_the_other_is_not(scene: Scene) -> None:
    async with site(scene) as made:
        token = await made.token()
        door, public = listen_tcp("127.0.0.1", 0), listen_tcp("127.0.0.1", 0)
        addresses = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in (door, public)]
        async with (
            serving(made.api, local=[], public=[public]) as servers,
            httpx.AsyncClient() as client,
        ):
            await servers.open(door, at_gateway=True)
            bearer = {"Authorization": f"Bearer {token}"}
            for address, status in zip(addresses, (403, 200), strict=True):
                assert (
                    await client.get(f"{address}/api/projects", headers=bearer)
                ).status_code == status
                assert (await client.get(f"{address}/sign-in")).status_code == status
                assert (
                    await client.get(f"{address}/api/kv/status", headers=bearer)
                ).status_code == 200


# ---------------------------------------------------------------- tokens of apps


@attack(
    "tokens and sign-in",
    "send another app's token",
    "send it over IPv6",
    "send another project's own token",
    honest="its own app sends it, and the host, and what a person put on the network",
)
@ON_FAKE
async def test_a_token_that_an_app_stole_is_of_no_use_to_it(scene: Scene) -> None:
    """By whose network it comes from. The same token works for its own app, and for whom a person
    has put on the installation's own network; an administrator's works for either."""
    async with site(scene) as made:

        def furnish(tx: Any) -> tuple[str, str, str]:
            project, other = (projects.get(tx, name) for name in ("shop", "blog"))
            tx.db.execute("DELETE FROM networks")
            mine, theirs = (projects.environments(tx, item.id)[0] for item in (project, other))
            for number, environment in enumerate((mine, theirs)):
                networks.take_in(
                    tx, environment.id, f"fk.{number}.production", f"10.9.{number + 1}.0/26"
                )
            environment_tokens.ensure_of_environment(tx, project, mine)
            _, whole = tokens.create(
                tx, name="ci", scope="project", project_id=project.id, expires_at=None
            )
            _, admin = tokens.create(
                tx, name="ada", scope="admin", project_id=None, expires_at=None
            )
            return environment_tokens.of_environment(tx, mine.id) or "", whole, admin

        of_app, of_project, of_admin = await made.app.context.store.write(furnish)
        door = judge_peers(made.api, neighbours(Networks(*NETWORKS)), at_gateway=True)
        for peer, token, status in (
            ("10.9.1.7", of_app, 200), ("::ffff:10.9.1.7", of_app, 200), ("10.9.2.7", of_app, 403),
            ("::ffff:10.9.2.7", of_app, 403), (OURS, of_app, 200), ("127.0.0.1", of_app, 200),
            ("10.9.1.7", of_project, 200), ("10.9.2.7", of_project, 403), (OURS, of_project, 200),
            ("10.9.1.7", of_admin, 200), ("10.9.2.7", of_admin, 200),
        ):  # fmt: skip
            async with made.client(
                door, peer, headers={"Authorization": f"Bearer {token}"}
            ) as client:
                answer = await client.get("/api/kv/status")
                assert answer.status_code == status, (peer, token, answer.text)
        assert (await made.told("token.refused"))[0]["peers"] == ["10.9.2.7"]


# ---------------------------------------------------------------- one half of a session


@attack(
    "the web",
    "open a page by its key alone",
    "open one by the cookie alone",
    "say the cookie for a key",
    "say a key without its end",
    "say the key of one's own session",
    "say the key twice",
    honest="the owner opens it",
)
@ON_FAKE
@pytest.mark.parametrize("path", PAGES)
async def test_neither_half_of_a_session_opens_anything(path: str, scene: Scene) -> None:
    async with (
        site(scene) as made,
        made.client() as owner,
        made.client() as thief,
        made.client() as other,
    ):
        base = await enter(owner, await made.token())
        key, cookie = base.rpartition("/")[2], owner.cookies["purveyor"]
        theirs = await enter(other, await made.token("eve", "read"))
        assert signed_out(await thief.get(f"{base}{path}")), "the key without the cookie"
        thief.cookies.set("purveyor", cookie, domain="host.local")
        thief.cookies.set("purveyor", cookie)
        for guess in (
            path,
            f"/~/{cookie}{path}",
            f"/~/x{path}",
            f"/~/{key[:-1]}{path}",
            f"{theirs}{path}",
            f"/~/{key}.{key}{path}",
        ):
            answer = await thief.get(guess)
            assert signed_out(answer) or answer.status_code == 404, guess
        answer = await owner.get(f"{base}/services")
        assert answer.status_code == 200


@attack(
    "the web",
    "send a session's cookie as a token",
    "send its key as a token",
    "send both",
    honest="the owner's dashboard asks the API",
)
@ON_FAKE
async def test_a_session_is_no_token_to_the_api(scene: Scene) -> None:
    async with site(scene) as made, made.client() as owner:
        base = await enter(owner, await made.token())
        key, cookie = base.rpartition("/")[2], owner.cookies["purveyor"]
        for bearer in (cookie, key, f"{cookie}.{key}", f"{key}.{cookie}"):
            assert (
                await owner.get("/api/projects", headers={"Authorization": f"Bearer {bearer}"})
            ).status_code == 401
        assert (await owner.get("/api/projects")).status_code == 401
        assert "shop" in (await owner.get(f"{base}/projects")).text


@ON_FAKE
async def test_the_database_and_the_journal_hold_nothing_that_opens_a_session(scene: Scene) -> None:
    async with site(scene) as made, made.client() as owner:
        token = await made.token()
        base = await enter(owner, token)
        await owner.post(f"{base}/sign-out", data=await csrf(owner, base))
        base = await enter(owner, token)
        await owner.post("/sign-in", data={"token": "pvy_wrong-and-secret"})
        key, cookie = base.rpartition("/")[2], owner.cookies["purveyor"]
        assert await made.told("session.opened")
        assert await made.told("session.ended")
        held = b"".join(path.read_bytes() for path in scene.state.glob("purveyor.db*"))
        for secret in (key, cookie, token, "wrong-and-secret"):
            assert secret.encode() not in held


@ON_FAKE
async def test_a_fault_of_ours_leaves_no_key_in_the_log(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    async with site(scene) as made, made.client() as owner:
        base = await enter(owner, await made.token())
        made.app.context = replace(made.app.context, logger=make_logger(logging.WARNING, log))
        monkeypatch.setattr(Pages, "page", fail)
        assert (await owner.get(f"{base}/projects/shop")).status_code == 500
        said = log.getvalue()
        assert "/~/{key}/projects/{project}" in said
        assert base.rpartition("/")[2] not in said
        assert owner.cookies["purveyor"] not in said


@attack(
    "the web",
    "use both halves of a session after signing out",
    honest="is signed in until then",
)
@ON_FAKE
async def test_signed_out_is_signed_out_on_the_server(scene: Scene) -> None:
    async with site(scene) as made, made.client() as owner, made.client() as thief:
        base = await enter(owner, await made.token())
        thief.cookies = httpx.Cookies(owner.cookies)
        assert (await thief.get(f"{base}/services")).status_code == 200, (
            "whoever has both halves has all"
        )
        await owner.post(f"{base}/sign-out", data=await csrf(owner, base))
        assert signed_out(await thief.get(f"{base}/services"))


@ON_FAKE
async def test_a_session_ends_with_its_token_by_itself_and_when_it_is_not_used(
    scene: Scene,
) -> None:
    async with site(scene) as made, made.client() as client:
        store = made.app.context.store

        async def pass_time(hours: float, **columns: str) -> None:
            """As if it were later: all that was noted was earlier."""

            def work(tx: Any) -> None:
                for row in list(tx.rows("SELECT * FROM web_sessions")):
                    moved = {
                        name: tx.now - timedelta(hours=hours) + timedelta(hours=add)
                        for name, add in columns.items()
                    }
                    tx.update("web_sessions", "id = ?", [row["id"]], **moved)

            await store.write(work)
            made.app.memory.forget([("web_sessions", number) for number in range(1, 20)])

        token = await made.token()
        base = await enter(client, token)
        await pass_time(1.9, last_used_at=0)
        assert (await client.get(f"{base}/services")).status_code == 200, "1.9 hours are no rest"
        await pass_time(2.1, last_used_at=0)
        made.app.sign_ins._uses.clear()
        assert signed_out(await client.get(f"{base}/services"))
        base = await enter(client, token)
        assert await store.read(lambda tx: tx.value("SELECT count(*) FROM web_sessions")) == 1, (
            "the one that is over is gone"
        )
        await pass_time(12.1, expires_at=12)
        assert signed_out(await client.get(f"{base}/services"))
        base = await enter(client, token)
        number = await store.read(lambda tx: tx.value("SELECT max(id) FROM tokens"))
        await client.delete(
            f"/api/tokens/{number}", headers={"Authorization": f"Bearer {await made.token('boss')}"}
        )
        assert signed_out(await client.get(f"{base}/services"))
        assert await store.read(lambda tx: tx.value("SELECT count(*) FROM web_sessions")) == 0


@ON_FAKE
async def test_a_log_that_is_followed_ends_with_the_session(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(scene) as made, made.client() as client:
        base = await enter(client, await made.token())
        form = await csrf(client, base)

        async def follow(name: str, *, lines: int | str = 200) -> AsyncIterator[str]:
            yield "before\n"
            await client.post(f"{base}/sign-out", data=form)
            yield "after\n"

        monkeypatch.setattr(made.app.context.engine.containers, "follow", follow)
        text = (await client.get(f"{base}/services/main/logs/stream")).text
        assert ("before" in text, "after" in text) == (True, False)


@ON_FAKE
async def test_what_a_page_asks_by_itself_does_not_keep_a_session_alive(scene: Scene) -> None:
    async with site(scene) as made, made.client() as client:
        base = await enter(client, await made.token())

        async def last_used(back: timedelta, **headers: str) -> Any:
            def work(tx: Any) -> None:
                tx.update("web_sessions", "TRUE", [], last_used_at=tx.now - back)

            await made.app.context.store.write(work)
            made.app.memory.forget([("web_sessions", number) for number in range(1, 20)])
            before = await made.app.context.store.read(
                lambda tx: tx.value("SELECT last_used_at FROM web_sessions")
            )
            assert (await client.get(f"{base}/services", headers=headers)).status_code == 200
            return before != await made.app.context.store.read(
                lambda tx: tx.value("SELECT last_used_at FROM web_sessions")
            )

        assert not await last_used(timedelta(hours=1), **{"HX-Request": "true"})
        assert await last_used(timedelta(hours=1))


@ON_FAKE
async def test_sessions_of_one_token_are_bounded(scene: Scene) -> None:
    async with site(scene) as made:
        token = await made.token()
        for _ in range(sessions.MOST + 5):
            await made.app.sign_ins.open(token, LAN)
        count = await made.app.context.store.read(
            lambda tx: tx.value("SELECT count(*) FROM web_sessions")
        )
        assert count == sessions.MOST


# ---------------------------------------------------------------- signing in


@attack(
    "the web",
    "sign somebody in from another site",
    "sign in from an app of this host",
    "sign in from another port",
    "sign in from a page that hides where it is",
    honest="signs in at the dashboard",
)
@ON_FAKE
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://127.0.0.1:31001", "http://host:31001", "http://host", "null"],
)
async def test_no_other_page_signs_somebody_in(origin: str, scene: Scene) -> None:
    async with site(scene) as made, made.client() as client:
        token = await made.token()
        answer = await client.post("/sign-in", data={"token": token}, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        own = await client.post(
            "/sign-in", data={"token": token}, headers={"Origin": "http://host:8400"}
        )
        assert own.status_code == 302
        assert (await made.told("session.refused"))[0]["count"] == 1


@attack(
    "the web",
    "put a cookie in its place from another port",
    honest="is signed in over TLS",
)
@ON_FAKE
async def test_over_tls_the_cookie_is_of_this_host_alone(scene: Scene) -> None:
    (scene.state / "settings.toml").write_text('dashboard-url = "https://purveyor.example.com"')
    async with site(scene) as made, made.client(headers={"Host": "purveyor.example.com"}) as client:
        answer = await client.post("/sign-in", data={"token": await made.token()})
        said = answer.headers["set-cookie"].lower()
        assert said.startswith("__host-purveyor=")
        for part in ("secure", "httponly", "samesite=strict", "path=/;"):
            assert part in f"{said};"
        assert "domain" not in said
        cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
        page = f"{base_of(answer.headers['location'])}/services"
        assert (await client.get(page, headers=cookie)).status_code == 200
        plain = {"Cookie": cookie["Cookie"].replace("__Host-", "")}
        assert signed_out(await client.get(page, headers=plain)), (
            "one that any port could set is not taken"
        )


@attack(
    "the web",
    "say that a plain request came over TLS",
    "say so with X-Forwarded-Host",
    honest="is signed in over plain HTTP on this host",
)
@ON_FAKE
@pytest.mark.parametrize("setting", ["", "https://purveyor.example.com", "http://localhost:8400"])
async def test_what_a_request_says_of_tls_is_not_believed(setting: str, scene: Scene) -> None:
    """Else an app that answers on this host has the cookie, and later plain pages, sent to where it
    wants them."""
    (scene.state / "settings.toml").write_text(f'dashboard-url = "{setting}"')
    forged = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "purveyor.example.com",
        "Forwarded": "proto=https",
    }
    async with site(scene) as made, made.client(headers=forged) as client:
        answer = await client.post("/sign-in", data={"token": await made.token()})
        assert answer.status_code == 302
        assert answer.headers["set-cookie"].startswith("purveyor=")
        assert "secure" not in answer.headers["set-cookie"].lower()
        assert "strict-transport-security" not in answer.headers


@ON_FAKE
@pytest.mark.parametrize("path", ["/sign-in", "/api/version", "/nothing", "/api/projects/"])
async def test_browsers_are_told_to_come_over_tls_where_the_settings_say_so_and_nowhere_else(
    path: str, scene: Scene
) -> None:
    (scene.state / "settings.toml").write_text('dashboard-url = "https://Purveyor.example.com"')
    async with site(scene) as made, made.client() as client:
        for host, told in (("purveyor.example.com", True), ("PURVEYOR.example.com:443", True),
            ("host:8400", False),
                           ("purveyor.example.com.evil.example", False)):  # fmt: skip
            answer = await client.get(path, headers={"Host": host})
            assert ("strict-transport-security" in answer.headers) is told, host


@attack(
    "tokens and sign-in",
    "try tokens one after the other",
    honest="the right token never waits",
)
@ON_FAKE
async def test_one_who_tries_wrong_tokens_is_slowed_and_refused_and_locks_nobody_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins, "SLOWER", 0.05)
    async with site(scene) as made, made.client() as client:
        token = await made.token()
        answers: list[httpx.Response] = []

        async def attempt(number: int) -> None:
            answers.append(
                await client.post("/sign-in", data={"token": f"pvy_{number:08d}-nonsense"})
            )

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(attempt, number)
        told = sorted(answer.status_code for answer in answers)
        assert told.count(403) == 10
        assert told.count(429) == 30
        assert all(answer.headers["content-type"].startswith("text/html") for answer in answers)
        begun = time.monotonic()
        assert (await client.post("/sign-in", data={"token": token})).status_code == 302
        assert time.monotonic() - begun < 1, (
            "the owner comes from the same address: all do behind a proxy"
        )
        assert len(await made.told("session.refused")) == 1


@attack(
    "tokens and sign-in",
    "try the end of a token from many addresses",
    honest="its owner signs in meanwhile",
)
@ON_FAKE
async def test_many_peers_that_try_one_token_s_end_share_its_tries(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins, "SLOWER", 0)
    async with site(scene) as made:
        token = await made.token()
        told = []
        for number in range(20):
            async with made.client(peer=f"192.0.2.{number}") as client:
                told.append(
                    (
                        await client.post("/sign-in", data={"token": token[:-4] + f"{number:04d}"})
                    ).status_code
                )
        assert told == [403] * 10 + [429] * 10
        async with made.client(peer=LAN) as owner:
            assert (await owner.post("/sign-in", data={"token": token})).status_code == 302
            assert (await owner.post("/sign-in", data={"token": "pvy_other"})).status_code == 403


@ON_FAKE
async def test_wrong_tokens_are_noticed_once_a_minute(scene: Scene) -> None:
    async with site(scene) as made, made.client(peer=LAN) as client:
        for number in range(264):
            answer = await client.get(
                "/api/projects", headers={"Authorization": f"Bearer pvy_{number}"}
            )
            assert answer.status_code == 401
        assert await made.told("token.refused") == [{"count": 1, "peers": [LAN]}]
        now = 0.0
        refusals = Refusals(made.app.context.store, "session.refused", clock=lambda: now)
        for number in range(100):
            now += 1
            await refusals.note(f"192.0.2.{number}")
        now += 60
        await refusals.tell()
        await refusals.tell()
        counts = [item["count"] for item in await made.told("session.refused")]
        assert counts == [1, 60, 39]
        assert len((await made.told("session.refused"))[1]["peers"]) == 5


@attack(
    "the web",
    "lead on to another host",
    "lead on by a backslash",
    "lead on by a whole address",
    "lead on by two headers",
    "lead on by an address without end",
    honest="is led on to the page that was wanted",
)
@ON_FAKE
@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "\\evil",
        "/a\r\nLocation: //e",
        "/" * 5000,
    ],
)
async def test_the_way_on_from_signing_in_leads_to_no_other_host(wanted: str, scene: Scene) -> None:
    async with site(scene) as made, made.client() as client:
        token = await made.token()
        page = await client.get("/sign-in", params={"next": wanted})
        assert (page.status_code, "evil" in page.text) == (200, False)
        location = (await client.post("/sign-in", data={"token": token, "next": wanted})).headers[
            "location"
        ]
        assert location == f"{base_of(location)}/services"
        location = (
            await client.post("/sign-in", data={"token": token, "next": "/services/main?x=1"})
        ).headers["location"]
        assert location == f"{base_of(location)}/services/main?x=1"


# ---------------------------------------------------------------- who is signed in


@attack(
    "tokens and sign-in",
    "end an administrator's session as a reader",
    "list sessions with a project's token",
    "end a session by a forged form",
    honest="administrators list and end all, readers their own",
)
@ON_FAKE
async def test_everybody_s_sessions_are_listed_and_ended_by_administrators_and_one_s_own_by_readers(
    scene: Scene,
) -> None:
    async with (
        site(scene) as made,
        made.client() as ada,
        made.client(peer=LAN, headers={"User-Agent": "Eve\x1b[2J"}) as eve,
    ):
        admin, reader = await made.token(), await made.token("eve", "read")
        of_ada, of_eve = await enter(ada, admin), await enter(eve, reader)
        boss, small = {"Authorization": f"Bearer {admin}"}, {"Authorization": f"Bearer {reader}"}
        listed = (await ada.get("/api/sessions", headers=boss)).json()
        assert [(item["token"], item["peer"]) for item in listed] == [
            ("eve", LAN),
            ("ada", "127.0.0.1"),
        ]
        assert listed[0]["agent"] == "Eve[2J"
        own = (await ada.get("/api/sessions", headers=small)).json()
        assert [item["token"] for item in own] == ["eve"]
        assert (
            await ada.delete(f"/api/sessions/{listed[1]['id']}", headers=small)
        ).status_code == 404
        project = {"Authorization": f"Bearer {await made.token('app', 'project', 1)}"}
        assert (await ada.get("/api/sessions", headers=project)).status_code == 403
        text = (await ada.get(f"{of_ada}/sessions")).text
        assert "(this one)" in text
        assert LAN in text
        forged = await ada.post(f"{of_ada}/sessions/{listed[0]['id']}/end", data={"csrf": "x"})
        assert forged.status_code == 403
        assert (await eve.get(f"{of_eve}/services")).status_code == 200
        await ada.post(f"{of_ada}/sessions/{listed[0]['id']}/end", data=await csrf(ada, of_ada))
        assert signed_out(await eve.get(f"{of_eve}/services"))
        of_eve = await enter(eve, reader)
        form = await csrf(ada, of_ada)
        assert (
            "End all sessions but this one?"
            in (await ada.post(f"{of_ada}/sessions/end-others", data=form)).text
        )
        await ada.post(f"{of_ada}/sessions/end-others", data={**form, "agreed": "yes"})
        assert signed_out(await eve.get(f"{of_eve}/services"))
        assert (await ada.get(f"{of_ada}/services")).status_code == 200
        assert {item["actor"] for item in await made.told("session.ended")} == {"token:ada"}


@attack(
    "tokens and sign-in",
    "sign in with a project's token",
    honest="an administrator's token signs in",
)
@ON_FAKE
async def test_a_project_s_token_opens_no_session(scene: Scene) -> None:
    async with site(scene) as made, made.client() as client:
        answer = await client.post(
            "/sign-in", data={"token": await made.token("app", "project", 1)}
        )
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


# ----------------------------------------------------------- what answers say to whoever keeps them


@ON_FAKE
async def test_answers_with_secrets_are_kept_by_nobody_and_guessed_by_nobody(scene: Scene) -> None:
    async with site(scene) as made, made.client() as client:
        token = await made.token()
        bearer = {"Authorization": f"Bearer {token}"}
        for method, path in (
            ("GET", "/api/projects/shop/environments/production/variables"),
            ("POST", "/api/projects/shop/environments/production/reveal"),
            ("POST", "/api/external-services/main/reveal"),
            ("POST", "/api/tokens"),
        ):
            body = {"name": "t"} if path.endswith("tokens") else None
            answer = await client.request(method, path, headers=bearer, json=body)
            assert answer.is_success, answer.text
            assert answer.headers["cache-control"] == "no-store", path
            assert answer.headers["x-content-type-options"] == "nosniff", path
        base = await enter(client, token)
        page = await client.get(f"{base}/services")
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        for path in (
            "/static/app.js",
            "/sign-in",
            "/nothing",
            "/api/nothing",
            f"{base}/services",
            "/api/kv/status",
        ):
            assert (await client.get(path)).headers["x-content-type-options"] == "nosniff", path


# ---------------------------------------------------------------- a terminal


HOSTILE = "\x1b]0;PWNED\x07\x1b[2J\x1b]52;c;cm0gLXJm\x07\x9b2J\x08up\rover"


@attack(
    "the web",
    "print what acts on the terminal of who reads it",
    honest="prints text in any language",
)
def test_what_an_app_printed_does_not_act_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    out = sys.stdout
    with safe_output():
        click.echo(f"it ended: {HOSTILE}", color=True)
        click.secho("fine\tand\r\ngreen", fg="green", color=True)
        click.echo(json.dumps({"said": HOSTILE}, ensure_ascii=False))
    text = out.getvalue()  # type: ignore[attr-defined]
    assert (
        re.findall(
            r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]|\r(?!\n)", text
        )
        == []
    )
    assert "\x1b[32mfine\tand\r\ngreen\x1b[0m" in text
    assert "PWNED" in text
    assert json.loads(text.splitlines()[-1]) == {"said": HOSTILE}, "to a program it is what it was"
    assert visible("größe 名前 🦆") == "größe 名前 🦆"
