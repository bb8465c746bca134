"""Attacks on the web with a real browser and a real app; in a module of their own, for the
browser's loop runs beside."""

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

import httpx
import pytest

from attacks.told import attack
from browsing import PAGES, base_of, enter_page, signed_out, visit
from support import DEMO, Stage, docker, eventually

if TYPE_CHECKING:  # what needs no browser runs where none is installed
    from playwright.sync_api import Browser


HOSTILE_APP = """
import http.server, json, os, urllib.request, urllib.error
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Type", "text/html"); self.end_headers()
        script = "said.textContent = JSON.stringify([document.referrer, !!window.opener])"
        page = "<title>app</title><p id=said></p><script>" + script + "</script>"
        self.wfile.write(page.encode())
        if self.path == "/":
            print("GOT " + json.dumps({name.lower(): value for name, value in self.headers.items()}), flush=True)
    def log_message(self, *given): pass
http.server.ThreadingHTTPServer(("", 8000), App).serve_forever()
"""
ASK = """
import sys, urllib.request, urllib.error
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given): return None
opener = urllib.request.build_opener(Stay)
root, cookie, bearer, *paths = sys.argv[1:]
for path in paths:
    asked = urllib.request.Request(root + path, headers={"Cookie": cookie, "Authorization": "Bearer " + bearer})
    try: print(path, opener.open(asked, timeout=10).status)
    except urllib.error.HTTPError as error: print(path, error.code)
    except OSError as error: print(path, 0)
"""


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage().serving() as made:
        made.cli("kv", "enable")
        made.cli("project", "create", "shop")
        made.cli("link", "kv", "shop")
        yield made


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = [
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ]
        made = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        yield made
        made.close()


SUBNET = "{{(index .IPAM.Config 0).Subnet}}"


def asked_from(
    network: str, root: str, cookie: str, bearer: str, paths: Sequence[str]
) -> dict[str, int]:
    """The status of each path, as a container on a network is answered."""
    said = docker(
        "run",
        "--rm",
        "--network",
        network,
        "--entrypoint",
        "python3",
        DEMO,
        "-c",
        ASK,
        root,
        cookie,
        bearer,
        *paths,
    )
    return {path: int(status) for path, status in (line.split(" ") for line in said.splitlines())}


@attack(
    "the web",
    "use the cookie that a browser sent to an app",
    "read where its visitor came from",
    "reach into the page that opened it",
    honest="the owner goes on, and the app is opened",
)
def test_a_cookie_that_an_app_was_sent_is_worth_nothing(stage: Stage, browser: "Browser") -> None:
    from playwright.sync_api import expect

    token = stage.cli("token", "create", "owner").strip()
    stage.cli(
        "deploy",
        "shop",
        DEMO,
        "--port",
        "8000",
        "--health-path",
        "/up",
        "--",
        "python3",
        "-c",
        HOSTILE_APP,
    )
    context = browser.new_context(base_url=stage.address)
    page = context.new_page()
    enter_page(page, token)
    base = base_of(page.url)
    visit(page, "/projects/shop")
    with context.expect_page() as opened:
        page.locator("#deployments").locator("xpath=ancestor::section").get_by_role(
            "link", name="http://127.0.0.1"
        ).click()
    expect(opened.value).to_have_title("app")
    assert json.loads(opened.value.locator("#said").text_content() or "") == ["", False], (
        "no referrer, no opener"
    )
    container = docker("ps", "-q", "--filter", f"name={stage.namespace}.shop.production")
    got = json.loads(str(eventually(lambda: re.search(r"GOT (.*)", docker("logs", container))[1])))  # type: ignore[index]
    cookie = got["cookie"]
    assert cookie.startswith("purveyor="), "the attack is a real one: cookies know no ports"
    assert "referer" not in got
    key = base.rpartition("/")[2]
    assert key not in json.dumps(got)
    stolen = cookie.partition("=")[2].partition(";")[0]

    paths = [*PAGES, *(f"/~/{stolen}{path}" for path in PAGES)]
    with httpx.Client(base_url=stage.address, headers={"Cookie": cookie}) as thief:
        for path in paths:
            assert signed_out(thief.get(path)), path
        for path in (
            "/api/projects",
            "/api/tokens",
            "/api/projects/shop/environments/production/variables",
        ):
            assert thief.get(path).status_code == 401
            assert thief.get(path, headers={"Authorization": f"Bearer {stolen}"}).status_code == 401

    gateway = docker(
        "network", "inspect", stage.namespace, "-f", "{{(index .IPAM.Config 0).Gateway}}"
    )
    root = f"http://{gateway}:{stage.address.rpartition(':')[2]}"
    with_key = [f"/~/{key}{path}" for path in PAGES]
    closed = [*PAGES, *with_key, "/sign-in", "/api/projects", "/api/tokens", "/api/version"]
    told = asked_from(stage.namespace, root, cookie, token, [*closed, "/api/kv/status"])
    assert {path: status for path, status in told.items() if status != 403} == {
        "/api/kv/status": 200
    }
    told = asked_from(
        "bridge", root, cookie, token, ["/sign-in", "/api/projects", "/api/kv/status"]
    )
    assert 200 not in told.values(), "a container of somebody else"
    variables = stage.variables("shop", host=False)
    assert (
        httpx.get(
            f"{root}/api/kv/status",
            headers={"Authorization": f"Bearer {variables['KV_REST_API_TOKEN']}"},
        ).status_code
        == 200
    )

    visit(page, "/projects/shop")
    # the owner noticed nothing
    expect(page.get_by_role("heading", name="shop", level=1)).to_be_visible()
    page.goto("/services")  # a bookmark, without a key
    page.wait_for_url(f"{base}/services")
    other = browser.new_context(base_url=stage.address)
    away = other.new_page()
    away.goto("/projects/shop")
    away.get_by_label("Token").fill(token)
    away.get_by_role("button", name="Sign in").click()
    expect(away.get_by_role("heading", name="shop", level=1)).to_be_visible()
    away.get_by_role("link", name="Sessions").click()
    expect(away.locator("tbody tr")).to_have_count(2)
    away.get_by_role("button", name="End all others").click()
    away.get_by_role("button", name="Go on").click()
    expect(away.locator("tbody tr")).to_have_count(1)
    page.goto("/services")
    expect(page.get_by_label("Token")).to_be_visible()
    other.close()
    context.close()


class Neighbour(http.server.BaseHTTPRequestHandler):
    """What else answers on this host: a page that tries what a page can, and cookies."""

    page = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        if self.path.startswith("/cookies"):  # of one host a browser keeps 180
            for number in range(40):
                self.send_header("Set-Cookie", f"{self.path[-1]}{number}={'x' * 4000}; Path=/")
        self.end_headers()
        self.wfile.write(f"<title>neighbour</title>{type(self).page}".encode())

    def log_message(self, *given: object) -> None:
        pass


TRIES = """
<iframe name=hole></iframe><iframe id=site src="SITE/sign-in"></iframe><iframe src="SITEKEY/services"></iframe>
<form id=form method=post target=hole></form><script>
document.cookie = "purveyor=mine; path=/~"; document.cookie = "purveyor=mine; path=/~/";
const said = {};
const tried = async (name, what) => { try { said[name] = String(await what()) } catch (error) { said[name] = error.name } };
const opened = url => new Promise((done, no) => { const it = new WebSocket(url); it.onopen = () => done("open"); it.onerror = () => no(new Error("closed")) });
const heard = url => new Promise((done, no) => { const it = new EventSource(url, {withCredentials: true}); it.onopen = () => done("open"); it.onerror = () => { it.close(); no(new Error("closed")) } });
const shown = url => new Promise((done, no) => { const it = new Image(); it.onload = () => done("shown"); it.onerror = () => no(new Error("nothing")); it.src = url });
const send = async action => { form.action = action; form.innerHTML = "<input name=name value=evil><input name=agreed value=yes>"; form.submit(); await new Promise(done => setTimeout(done, 300)); return "sent" };
(async () => {
  for (const path of ["SITE/api/projects", "SITEKEY/services", "SITE/sign-in"]) {
    await tried("read " + path, async () => (await fetch(path, {credentials: "include"})).status);
    await tried("change " + path, async () => (await fetch(path, {method: "PUT", credentials: "include", headers: {"X-CSRF": "x"}})).status);
  }
  await tried("look into", () => document.getElementById("site").contentDocument.body.innerText);
  await tried("socket", () => opened("SITE/api/events".replace("http", "ws")));
  await tried("events", () => heard("SITE/api/events"));
  await tried("picture", () => shown("SITEKEY/services"));
  await tried("form", () => send("SITEKEY/projects"));
  await tried("sign out", () => send("SITEKEY/sign-out"));
  await tried("end others", () => send("SITEKEY/sessions/end-others"));
  await tried("sign in", () => send("SITE/sign-in"));
  document.title = JSON.stringify(said);
})();
</script>
"""  # noqa: E501


@attack(
    "the web",
    "show the dashboard in a frame",
    "look into it from another port of this host",
    "read the API and pages by a script, with the cookie",
    "listen to events",
    "open a WebSocket",
    "send a form with the cookie, the key known",
    "put a cookie of one's own before the session's",
    "shut a browser out by cookies that fill every header",
    honest="the owner goes on meanwhile, and signs in again when the cookies are gone",
)
def test_a_page_of_another_port_gets_nothing_of_the_dashboard_in_the_same_browser(
    stage: Stage, browser: "Browser"
) -> None:
    """Even one that knows the key in the address, which no page is told."""
    from playwright.sync_api import expect

    token = stage.cli("token", "create", "framed").strip()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Neighbour) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        neighbour = f"http://127.0.0.1:{server.server_port}"
        context = browser.new_context(base_url=stage.address)
        page = context.new_page()
        enter_page(page, token)
        base = base_of(page.url)
        path = base[base.index("/~") :]
        Neighbour.page = TRIES.replace("SITEKEY", stage.address + path).replace(
            "SITE", stage.address
        )
        before = stage.world()
        other = context.new_page()
        other.goto(neighbour)
        expect(other).to_have_title(re.compile("sign in"), timeout=30_000)
        said = json.loads(other.title())
        sent = {name for name in said if name in ("form", "sign out", "end others", "sign in")}
        assert {said.pop(name) for name in sent} == {"sent"}
        assert {said.pop(name) for name in list(said) if name.startswith(("read", "change"))} == {
            "TypeError"
        }
        assert said == dict.fromkeys(("socket", "events", "picture"), "Error") | {
            "look into": "TypeError"
        }
        urls = [frame.url for frame in other.frames[1:]]
        assert urls[1:] == ["chrome-error://chromewebdata/"] * 2, urls
        assert stage.world() == before
        sessions = [item for item in stage.json("token", "sessions") if item["token"] == "framed"]
        assert len(sessions) == 1
        page.goto(f"{path}/services")
        expect(page.get_by_role("heading", name="Services", level=1)).to_be_visible()

        for number in range(4):  # an answer has an end, too
            other.goto(f"{neighbour}/cookies{number}")
        page.goto(f"{path}/services")
        page.goto(f"{path}/services")
        expect(page.get_by_label("Token")).to_be_visible()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Services", level=1)).to_be_visible()
        context.close()
        server.shutdown()


@attack(
    "the web",
    "reach the dashboard from a container by any address of the host",
    honest="the host itself reaches it by each",
)
def test_who_listens_everywhere_is_no_more_open_to_containers(
    make_stage: Callable[..., Stage],
) -> None:
    with make_stage('listen = "0.0.0.0:0"').serving() as made:
        made.cli("kv", "enable")
        token = made.cli("token", "create", "owner").strip()
        port = made.address.rpartition(":")[2]
        eventually(lambda: made.rows("SELECT value FROM meta WHERE key = 'api-gateway'"))
        addresses = [
            # an engine that was never started before does not tell the gateway of its own network
            str(ip_network(docker("network", "inspect", network, "-f", SUBNET).strip())[1])
            for network in (made.namespace, "bridge")
        ]
        for address in addresses:  # that of its own network, and another of the host's
            told = asked_from(
                made.namespace,
                f"http://{address}:{port}",
                "",
                token,
                [*PAGES, "/api/tokens", "/api/kv/status"],
            )
            assert {path: status for path, status in told.items() if status != 403} == {
                "/api/kv/status": 200
            }, address
        told = asked_from(
            "bridge",
            f"http://{addresses[0]}:{port}",
            "",
            token,
            ["/sign-in", "/api/tokens", "/api/kv/status"],
        )
        assert 200 not in told.values()
        for address in (*addresses, "127.0.0.1"):
            bearer = {"Authorization": f"Bearer {token}"}
            assert (
                httpx.get(f"http://{address}:{port}/api/tokens", headers=bearer).status_code == 200
            ), "the host itself"


def test_without_javascript_it_is_signed_in_read_and_signed_out(
    stage: Stage, browser: "Browser"
) -> None:
    from playwright.sync_api import expect

    context = browser.new_context(base_url=stage.address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/projects/shop")
    page.get_by_label("Token").fill(stage.cli("token", "create", "plain").strip())
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="shop", level=1)).to_be_visible()
    page.get_by_role("link", name="Services", exact=True).click()
    expect(page.get_by_role("heading", name="Services", level=1)).to_be_visible()
    left = page.url
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto(left)
    expect(page.get_by_label("Token")).to_be_visible()
    context.close()


def test_sessions_are_listed_and_ended_on_the_command_line(stage: Stage) -> None:
    token = stage.cli("token", "create", "grace").strip()
    with httpx.Client(base_url=stage.address) as client:
        base = base_of(client.post("/sign-in", data={"token": token}).headers["location"])
        mine = next(item for item in stage.json("token", "sessions") if item["token"] == "grace")
        assert "grace" in stage.cli("token", "sessions")
        stage.cli("token", "end-session", str(mine["id"]))
        assert signed_out(client.get(f"{base}/services"))
        assert "no open session" in stage.cli("token", "end-session", str(mine["id"]), code=4)
