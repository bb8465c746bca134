"""What a project's own token asks for that is another's, and what a reader tries at the dashboard;
on the fake engine, over the whole application."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from attacks.test_web import csrf, enter, signed_out, site
from attacks.told import attack
from browsing import PAGES
from fake.scene import Scene, do, picture

pytestmark = pytest.mark.anyio

DEPLOY = "/api/projects/shop/deployments"
BODIES: tuple[dict[str, Any], ...] = (
    {"variables": {"FAKE_PASSWORD": "mine"}}, {"variables": {"FAKE_HOST": "evil.example"}},
    {"variables": {"A=B": "x"}}, {"variables": {"": "x"}}, {"variables": {"A B": "x"}},
    {"variables": {"A\0": "x"}}, {"variables": {"A": "x\0B=y"}}, {"variables": {"\u0410": "x"}},
    {"command": ["a\0b"]}, {"port": 80, "health_path": "/ HTTP/1.1\r\nHost: evil.example\r\n"},
    {"port": 80, "health_path": "@evil.example/"}, {"port": 80, "health_path": "/\0"},
    {"port": 0}, {"port": 65536}, {"port": -1}, {"timeout": 3601}, {"timeout": 0}, {"pids": 0},
    {"memory": 1}, {"environment": "../main"}, {"environment": "A B"}, {"environment": ""},
    {"environment": "x" * 300}, {"environment": "production\n"}, {"environment": "\u0440roduction"},
    {"image": "APP:1"}, {"image": "app:1 --privileged"}, {"image": "../app:1"}, {"image": "app:1\n"},
    {"image": "-app"}, {"image": ""}, {"image": "app@sha256:x"}, {"image": "a" * 300},
    {"labels": {"dev.purveyor.service": "1"}}, {"entrypoint": ["sh"]}, {"volumes": ["/:/host"]},
    {"hostname": "db"}, {"ports": {"22": 22}}, {"pid": "host"}, {"ipc": "host"},
    {"sysctls": {"net.ipv4.ip_forward": "1"}}, {"runtime": "other"}, {"restart": "no"},
    {"dns": ["192.0.2.1"]}, {"extra_hosts": {"purveyor-api": "192.0.2.1"}}, {"aliases": ["fk-main"]},
    {"project": "blog"}, {"project_id": 2}, {"by_project": False},
)  # fmt: skip


@attack(
    "tokens and sign-in",
    "set what a linked service sets",
    "hide a second variable in a name or a value",
    "ask the app's health by a request of one's own making",
    "deploy to an environment that is none by its name",
    "hide an option of the engine in the name of an image",
    "ask for an alias, a resolver, a host, a label, a volume or a process space",
    "deploy for another project by a field",
    honest="deploys with variables of any name that there is, PATH and LD_PRELOAD too",
)
async def test_nothing_in_a_deploy_says_more_than_it_may(scene: Scene) -> None:
    async with site(scene) as made, made.client() as client:
        bearer = {"Authorization": f"Bearer {await made.token('ci', 'project', 1)}"}
        before = await picture(scene, made.app)
        for body in BODIES:
            for asked in ("", "?plan=true"):
                answer = await client.post(
                    f"{DEPLOY}{asked}", headers=bearer, json={"image": "app:1", **body}
                )
                assert answer.status_code in (400, 403, 404), (body, asked, answer.text)
        assert await picture(scene, made.app) == before
        own = {"PATH": "/bin", "LD_PRELOAD": "/x.so", "DOCKER_HOST": "x", "_": "y", "a1": "z"}
        answer = await client.post(
            DEPLOY, headers=bearer, json={"image": "app:1", "variables": own}
        )
        assert answer.status_code == 201, answer.text
        held = scene.engine.require(answer.json()["container"]).environment
        assert own.items() <= held.items()


@attack(
    "tokens and sign-in",
    "read another project's deployment by its number",
    "read its app's log",
    "plan what would be done to another project",
    "read an operation, or end one",
    "name another project by its number, in capitals, by escapes",
    "have an answer sent elsewhere by being asynchronous",
    honest="reads its own deployment, and a plan",
)
async def test_what_is_another_projects_is_not_there_for_a_token(scene: Scene) -> None:
    async with site(scene) as made, made.client() as client:
        await do(made.app, "deploy", project="blog", image="app:1")
        bearer = {"Authorization": f"Bearer {await made.token('ci', 'project', 1)}"}
        rows = await made.app.context.store.read(
            lambda tx: list(tx.rows("SELECT id, project_id FROM deployments ORDER BY id"))
        )
        theirs = next(row["id"] for row in rows if row["project_id"] == 2)
        mine = next(row["id"] for row in rows if row["project_id"] == 1)
        tried: list[tuple[str, str]] = [
            ("GET", f"{DEPLOY}/{theirs}"), ("GET", f"{DEPLOY}/{theirs}/log"),
            ("GET", f"/api/projects/blog/deployments/{theirs}"),
            ("GET", f"/api/projects/2/deployments/{theirs}/log"),
            ("GET", "/api/operations"), ("GET", "/api/operations/1"),
            ("POST", "/api/operations/1/cancel"), ("POST", "/api/operations/1/abandon"),
            ("POST", "/api/projects/blog/rotate?plan=true"), ("DELETE", "/api/projects/blog?plan=true"),
        ]  # fmt: skip
        for name in ("2", "BLOG", "Blog", "%62log", "blog%00", "./blog", "shop/../blog", "shop%2f..%2fblog",
                     " blog", "blog ", "02", "+2", "2.0", "%D0%B2log"):  # fmt: skip
            tried += [("GET", f"/api/projects/{name}/deployments"), ("POST", f"/api/projects/{name}/deployments"),
                      ("GET", f"/api/projects/{name}/environments/production/variables")]  # fmt: skip
        before = await picture(scene, made.app)
        for method, path in tried:
            for more in ({}, {"Prefer": "respond-async"}):
                given = {"json": {"image": "app:1"}} if method == "POST" else {}
                answer = await client.request(method, path, headers={**bearer, **more}, **given)
                assert answer.status_code in (400, 401, 403, 404, 405), (method, path, answer.text)
                assert "fk.blog" not in answer.text
        assert await picture(scene, made.app) == before
        assert (await client.get(f"{DEPLOY}/{mine}", headers=bearer)).json()["id"] == mine
        assert (await client.get(f"{DEPLOY}/{mine}/log", headers=bearer)).status_code == 200
        planned = await client.post(f"{DEPLOY}?plan=true", headers=bearer, json={"image": "app:1"})
        assert planned.json()["verb"] == "deploy"


def forms(api: Any) -> Iterator[str]:
    """Every address of the dashboard's that changes something, but for what is a reader's own."""
    for route in api.routes:
        if "POST" in getattr(route, "methods", ()) and route.path.startswith("/~/"):
            path = route.path.partition("}")[2]
            if not path.startswith(("/sign-out", "/sessions")):
                yield re.sub(r"\{(\w+):(\w+)\}", lambda found: "1" if found[2] == "int" else {"project": "shop", "service": "main", "environment": "production"}.get(found[1], "main"), path)  # fmt: skip # noqa: E501


@attack(
    "the web",
    "change anything by any form of the dashboard as a reader, the form's own word known",
    "reveal secrets as a reader",
    honest="a reader reads, and ends a session of their own",
)
async def test_a_reader_changes_nothing_by_any_form(scene: Scene) -> None:
    async with site(scene) as made, made.client() as reader:
        base = await enter(reader, await made.token("eve", "read"))
        form = await csrf(reader, base)
        given = {"agreed": "yes", "name": "new", "service": "main", "project": "shop", "scope": "admin",
                 "service_type": "fake", "image": "app:1", "purge": "yes", "slug": "shop"}  # fmt: skip
        before = await picture(scene, made.app)
        paths = sorted(set(forms(made.api)))
        assert len(paths) > 20, paths
        for path in paths:
            answer = await reader.post(f"{base}{path}", data={**given, **form})
            assert answer.status_code in (400, 403, 404), (path, answer.status_code)
            assert "pvy_" not in answer.text
        assert await picture(scene, made.app) == before
        for page in ("/services", "/projects"):
            assert (await reader.get(f"{base}{page}")).status_code in (200, 302, 403, 404), page
        await reader.post(f"{base}/sessions/end-others", data={**form, "agreed": "yes"})
        await reader.post(f"{base}/sign-out", data=form)
        assert signed_out(await reader.get(f"{base}/services"))


@attack(
    "the web",
    "ask under a name of one's own that leads to this host",
    honest="the owner asks under the host's own name, at the same time",
)
@pytest.mark.parametrize("host", ["evil.example:8400", "evil.example", "127.0.0.1.evil.example:8400"])  # fmt: skip
async def test_a_name_that_was_led_here_gets_nothing(host: str, scene: Scene) -> None:
    """DNS rebinding: for the browser that page and the dashboard are one origin then, but neither
    half of a session is that name's."""
    async with site(scene) as made, made.client() as owner, made.client() as page:
        base = await enter(owner, await made.token())
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        for path in PAGES:
            assert signed_out(await page.get(path, headers=headers)), path
            assert signed_out(await page.get(f"{base}{path}", headers=headers)), path
        for path in ("/api/projects", "/api/events", "/api/tokens", "/api/sessions"):
            assert (await page.get(path, headers=headers)).status_code == 401, path
        answer = await page.post("/sign-in", data={"token": "guess"}, headers=headers)
        assert answer.status_code == 403
        assert host not in answer.text
        answer = await page.get("/services", headers=headers)
        assert "evil" not in str(answer.headers.get("location", ""))
        assert (await owner.get(f"{base}/services")).status_code == 200
