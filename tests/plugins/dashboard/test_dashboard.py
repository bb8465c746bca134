"""The dashboard in a real browser, against the real daemon and engine: as a person would use it."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

import data
import npm
from browsing import enter, enter_page, same, visit
from purveyor_hooks.conformance import Bench
from sampling import Share
from support import DEMO, PATIENCE, REDIS, Stage, docker, eventually, hanging

pytestmark = pytest.mark.fortnightly

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTHS = (360, 1440)
expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage("health-interval = 1").serving() as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def token(stage: Stage) -> str:
    return stage.cli("token", "create", "dashboard").strip()


@pytest.fixture(scope="module")
def context(browser: Browser, stage: Stage, token: str) -> Iterator[BrowserContext]:
    """Somebody who is signed in."""
    made = browser.new_context(base_url=stage.address, viewport={"width": 1440, "height": 900})
    made.set_default_timeout(PATIENCE * 1000)
    page = made.new_page()
    enter_page(page, token)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page on which nothing may go wrong in the console."""
    made = context.new_page()
    said: list[str] = []
    made.on(
        "console",
        lambda message: said.append(message.text) if message.type in ("error", "warning") else None,
    )
    made.on("pageerror", lambda error: said.append(str(error)))
    made.on(
        "response",
        lambda answer: (
            said.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        ),
    )
    yield made
    made.close()
    assert said == []


def done(page: Page) -> None:
    """The operation that is shown comes to a good end."""
    expect(page.locator("#operation .head")).to_contain_text("succeeded", timeout=180_000)


def aside(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run what has an event loop of its own: the browser's driver has this thread's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *arguments).result()


# ---------------------------------------------------------------- who may come in


def test_nobody_comes_in_without_a_token(browser: Browser, stage: Stage, token: str) -> None:
    with httpx.Client(base_url=stage.address) as client:
        for path in ("/", "/services", "/projects", "/activity", "/services/x/logs"):
            answer = client.get(path, follow_redirects=True)
            assert answer.url.path == "/sign-in"
        assert client.get("/dashboard/stream").status_code in (302, 307)
        wrong = client.post("/sign-in", data={"token": "nonsense"})
        assert wrong.status_code == 403
        assert "unknown" in wrong.text
        begun = time.monotonic()
        client.post("/sign-in", data={"token": "nonsense"})
        assert time.monotonic() - begun > 0.4, "a second try is slowed"
        good = client.post("/sign-in", data={"token": token})
        cookie = good.headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=strict", "Max-Age"):
            assert part.lower() in cookie.lower()
        assert token not in cookie


def test_a_form_that_another_site_made_changes_nothing(stage: Stage, token: str) -> None:
    with httpx.Client(base_url=stage.address) as client:
        enter(client, token)
        text = client.get("/projects").text
        csrf = re.search(r'name="csrf" value="([^"]+)"', text)
        assert csrf
        assert client.post("/projects", data={"name": "forged"}).status_code == 403
        assert client.post("/projects", data={"name": "forged", "csrf": "x"}).status_code == 403
        headers = {"Origin": "https://evil.example"}
        assert (
            client.post(
                "/projects", data={"name": "forged", "csrf": csrf[1]}, headers=headers
            ).status_code
            == 403
        )
        assert (
            client.get("/projects")
            .headers["content-security-policy"]
            .startswith("default-src 'none'")
        )
    assert "forged" not in stage.cli("project", "list")


def test_a_token_that_may_only_read_sees_no_button_and_changes_nothing(
    browser: Browser, stage: Stage
) -> None:
    reader = stage.cli("token", "create", "looker", "--scope", "read").strip()
    with httpx.Client(base_url=stage.address) as client:
        enter(client, reader)
        text = client.get("/services").text
        assert "Create Service" not in text
        csrf = re.search(r'name="csrf" value="([^"]+)"', text)
        assert csrf
        assert client.post("/projects", data={"name": "sneaky", "csrf": csrf[1]}).status_code == 403
    assert "sneaky" not in stage.cli("project", "list")


# ---------------------------------------------------------------- a day's work


def test_a_service_is_created_and_watched_until_it_serves(page: Page, stage: Stage) -> None:
    visit(page, "/services")
    expect(page.get_by_role("heading", name="Nothing here yet")).to_be_visible()
    page.get_by_role("link", name="Create the first service").click()
    page.get_by_role("link", name="PostgreSQL").click()
    page.get_by_label("Name", exact=True).fill("main")
    page.get_by_label("Max connections").fill("60")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".steps")).to_contain_text("ready")
    done(page)
    page.get_by_role("link", name="Go on").click()
    expect(page.get_by_role("heading", name="main", level=1)).to_be_visible()
    assert stage.json("show", "main")["current_parameters"]["max_connections"] == "60"
    expect(page.locator("#charts svg").first).to_be_visible()


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(
    context: BrowserContext, stage: Stage
) -> None:
    page = context.new_page()
    visit(page, "/services/new?type=postgres")
    page.get_by_label("Name", exact=True).fill("other")
    page.get_by_label("Max connections").fill("many")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".field-error")).to_contain_text("whole number")
    expect(page.get_by_label("Name", exact=True)).to_have_value("other")
    assert "other" not in stage.cli("list")
    page.close()


def test_it_is_linked_and_its_variables_are_seen(page: Page, stage: Stage) -> None:
    visit(page, "/projects")
    page.get_by_label("New project").fill("shop")
    page.get_by_role("button", name="Create Project").click()
    page.get_by_label("Link Service").select_option(label="main (postgres)")
    page.get_by_role("button", name="Link", exact=True).click()
    done(page)
    page.get_by_role("link", name="Go on").click()
    expect(page.locator("#variables").locator("xpath=ancestor::section")).to_contain_text(
        "shop_production"
    )
    password = stage.variables("shop", host=False)["POSTGRES_PASSWORD"]
    assert password not in page.content()
    page.get_by_role("button", name="Reveal").click()
    expect(page.locator("#v-POSTGRES_PASSWORD")).to_have_text(password)
    assert "project.revealed" in stage.cli("events", "-n", "50")


def test_secrets_of_a_service_are_behind_a_reveal_that_is_noted(page: Page, stage: Stage) -> None:
    visit(page, "/services/main")
    secret = stage.call("GET", "/external-services/main/client")["client"]["environment"][
        "PGPASSWORD"
    ]
    assert secret not in page.content()
    page.get_by_role("button", name="Reveal secrets").click()
    expect(page.locator("#secret-password")).to_have_text(secret)
    assert "service.revealed" in stage.cli("events", "-n", "50")


def test_it_is_stopped_and_started_and_others_see_it_at_once(
    page: Page, context: BrowserContext
) -> None:
    watching = context.new_page()
    visit(watching, "/services")
    expect(watching.locator("#list")).to_contain_text("running")
    visit(page, "/services/main")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Stop main?")
    expect(page.locator("main")).to_contain_text("from now until it is started again")
    page.get_by_role("link", name="Back").click()
    expect(page.locator("main")).to_contain_text("running")  # nothing was done
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Go on").click()
    done(page)
    expect(watching.locator("#list")).to_contain_text("stopped")
    page.get_by_role("link", name="Go on").click()
    page.get_by_role("button", name="Start").click()
    done(page)
    expect(watching.locator("#list")).to_contain_text("running")
    watching.close()


def test_logs_are_followed_and_searched(page: Page, stage: Stage) -> None:
    visit(page, "/services/main/logs")
    expect(page.locator("#log")).to_contain_text("ready to accept connections")
    stage.run("connect", "main", "--", "-c", "SELECT nonsense_for_the_log")
    expect(page.locator("#log")).to_contain_text("nonsense_for_the_log")
    page.get_by_label("Search").fill("nonsense_for")
    expect(page.locator("#log")).not_to_contain_text("ready to accept connections")
    expect(page.locator("#log")).to_contain_text("nonsense_for_the_log")


def test_readers_of_a_log_come_and_go(stage: Stage, token: str) -> None:
    with httpx.Client(base_url=stage.address, timeout=60) as client:
        enter(client, token)
        for _ in range(20):
            with client.stream("GET", "/services/main/logs/stream") as answer:
                assert next(answer.iter_text()).startswith("data: ")


def test_it_is_backed_up_proven_scheduled_and_restored(page: Page, stage: Stage) -> None:
    stage.cli("connect", "main", "--", "-c", "CREATE TABLE t AS SELECT 1 AS x")
    visit(page, "/services/main/backups")
    page.get_by_role("button", name="Back up now").click()
    done(page)
    page.get_by_role("link", name="Go on").click()
    expect(page.locator("table")).to_contain_text("ok")
    page.get_by_role("button", name="Compare contents").click()
    done(page)
    visit(page, "/services/main/backups")
    expect(page.locator("table")).to_contain_text("verified")
    expect(page.locator("table")).to_contain_text("contents compared")
    page.get_by_label("Name").fill("nightly")
    page.get_by_role("button", name="Add schedule").click()
    expect(page.get_by_text("nightly", exact=True)).to_be_visible()
    page.get_by_role("link", name="Restore…").click()
    page.get_by_label("Name").fill("again")
    page.get_by_role("button", name="Restore", exact=True).click()
    done(page)
    assert stage.sql("again", "SELECT x FROM t") == ["1"]


def test_what_it_holds_is_looked_at_page_by_page(page: Page, stage: Stage) -> None:
    aside(
        data.ask,
        stage.variables("shop"),
        "CREATE TABLE numbers AS SELECT g, 'n' || g AS name FROM generate_series(1, 120) g",
    )
    visit(page, "/services/main/data")
    page.get_by_role("link", name="shop_production").click()
    page.get_by_role("link", name="public.numbers").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="g", exact=True).click()
    page.get_by_role("link", name="g ↑").click()
    expect(page.locator("tbody tr").first).to_contain_text("120")
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("tbody tr").first).to_contain_text("70")
    assert page.get_by_text("Read-only.").is_visible()


OTHERS = ("redis", "mongodb", "s3", "kv", "blob")


@pytest.fixture(scope="module")
def others(stage: Stage) -> None:
    """A service of each of the other types."""
    stage.furnish({f"look-{kind}": kind for kind in OTHERS})


@pytest.mark.parametrize("kind", OTHERS)
def test_what_the_other_types_hold_is_looked_at(
    kind: str, others: None, page: Page, stage: Stage
) -> None:
    stage.cli("project", "create", f"of-{kind}")
    stage.cli("link", f"look-{kind}", f"of-{kind}")
    plugin = Bench.plugin_of(kind)
    exercise = plugin.exercise()
    account = exercise.account(stage.variables(f"of-{kind}"))
    aside(anyio.run, exercise.write, account, "greeting", "hello there")
    visit(page, f"/services/look-{kind}/data")
    if kind in ("redis", "kv"):
        page.get_by_role("link", name=f"db{bindings(stage, kind)}", exact=True).click()
        page.get_by_role("link", name="greeting").click()
        expect(page.locator("table")).to_contain_text("hello there")
    elif kind == "mongodb":
        page.get_by_role("link", name=account.resource).click()
        page.get_by_role("link", name="things").click()
        expect(page.locator("table")).to_contain_text("hello there")
    else:
        page.locator("tbody tr", has_text=f"of-{kind}-production").get_by_role("link").click()
        with page.expect_download() as taken:
            page.get_by_role("link", name="greeting").click()
        assert Path(taken.value.path()).read_text() == "hello there"
        aside(anyio.run, exercise.write, account, "large", "x" * 20_000_000)
        readers_leave_in_the_middle(stage, taken.value.url)


def readers_leave_in_the_middle(stage: Stage, small: str) -> None:
    """What is large is cut off again and again, by readers of the API, and then taken whole; what
    is not there is said."""
    asked = parse_qs(urlsplit(small).query)["path"]
    path = f"/api/external-services/{urlsplit(small).path.partition('/services/')[2].replace('/data', '')}"
    large = [asked[0], asked[1].replace("greeting", "large")]
    with stage.local() as client:
        for _ in range(5):
            with client.stream("GET", path, params={"path": large}) as answer:
                assert answer.is_success
                next(answer.iter_raw())
        assert client.get(path, params={"path": large}).text.strip('"') == "x" * 20_000_000
        for wrong in (asked[:1], [asked[0], "nothing"], ["nowhere", "nothing"]):
            refused = client.get(path, params={"path": wrong})
            assert refused.status_code == 404, refused.text
            assert refused.json()["remedy"]


def bindings(stage: Stage, kind: str) -> int:
    """The database number that the type's project has."""
    (row,) = stage.rows(f"SELECT slot FROM bindings WHERE project = 'of-{kind}'")
    return int(row[0])


def test_a_deployment_shows_its_log(page: Page, stage: Stage) -> None:
    stage.cli(
        "deploy",
        "shop",
        DEMO,
        "--",
        "python3",
        "-c",
        "import time; print('it is up', flush=True); time.sleep(600)",
    )
    visit(page, "/projects/shop")
    page.locator("#deployments").locator("xpath=ancestor::section").get_by_role(
        "link", name="1", exact=True
    ).click()
    expect(page.locator("#log")).to_contain_text("it is up")


def test_an_upgrade_shows_its_plan_before_its_button(page: Page, stage: Stage) -> None:
    visit(page, "/services/again/settings")
    assert page.get_by_role("button", name="Upgrade", exact=True).count() == 0
    page.get_by_label("Image").fill("purveyor-test/postgres:18")
    page.get_by_role("button", name="Show the plan").click()
    expect(page.locator("main")).to_contain_text("migrate")
    page.get_by_role("button", name="Upgrade", exact=True).click()
    done(page)
    assert stage.sql("again", "SHOW server_version")[0].startswith("18")


def test_parameters_are_changed_and_a_copy_is_made(page: Page, stage: Stage) -> None:
    visit(page, "/services/main/settings")
    page.get_by_label("Max connections").fill("70")
    page.get_by_role("button", name="Change").click()
    expect(page.locator("main")).to_contain_text("Downtime")
    page.get_by_role("button", name="Go on").click()
    done(page)
    assert stage.json("show", "main")["current_parameters"]["max_connections"] == "70"
    visit(page, "/services/main/settings")
    page.get_by_label("Copy it, with all its data, as").fill("copy")
    page.get_by_role("button", name="Clone").click()
    done(page)
    assert stage.sql("copy", "SELECT x FROM t") == ["1"]


def test_what_interrupts_says_first_what_that_costs_and_whom(page: Page, stage: Stage) -> None:
    """One rule, as on the command line: the plan, and a way back; also without JavaScript."""
    last = stage.call("GET", "/operations")[0]["id"]
    for path, button, heading in (
        ("/services/main", "Restart", "Restart main?"),
        ("/services/main/settings", "New administrator credentials", "Rotate administrator main?"),
        ("/services/main/links", "Unlink", "Unlink main and shop?"),
        ("/projects/shop", "Rotate credentials", "Rotate shop/production?"),
    ):
        visit(page, path)
        page.get_by_role("button", name=button).first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        expect(page.locator("main")).to_contain_text("Downtime")
        page.evaluate((npm.installed() / "node_modules/axe-core/axe.min.js").read_text())
        found: Any = page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})"
        )
        assert [item["id"] for item in found["violations"]] == []
        page.get_by_role("link", name="Back").click()
        expect(page.get_by_role("heading", level=1)).not_to_have_text(heading)
    assert stage.call("GET", "/operations")[0]["id"] == last


def test_an_operation_is_cancelled_once_it_was_seen_what_that_takes_back(
    page: Page, stage: Stage
) -> None:
    with hanging(f"{stage.namespace}-main"):
        begun = stage.call(
            "POST", "/external-services/main/rotate", headers={"Prefer": "respond-async"}
        )["operation_id"]
        visit(page, f"/operations/{begun}")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Cancel operation {begun}?")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Rotate administrator")
    eventually(lambda: stage.call("GET", f"/operations/{begun}")["state"] == "failed")
    assert stage.json("health", "main")["healthy"]


def test_a_container_is_imported_when_its_credentials_work(page: Page, stage: Stage) -> None:
    name = f"{stage.namespace}-theirs"
    docker("run", "-d", "--name", name, REDIS, "redis-server", "--requirepass", "hunter22")
    visit(page, "/import")
    page.locator("tr", has_text=name).get_by_role("link", name="Import…").click()
    page.get_by_role("textbox", name="Password").fill("hunter22")
    page.get_by_label("Name", exact=True).fill("theirs")
    page.get_by_role("button", name="Verify and import").click()
    expect(page.get_by_role("heading", name="theirs", level=1)).to_be_visible()
    assert stage.json("health", "theirs")["healthy"]


def test_it_is_deleted_by_its_typed_name_only(context: BrowserContext, stage: Stage) -> None:
    page = context.new_page()
    visit(page, "/services/copy/settings")
    page.get_by_label("Type its name: copy").fill("cpoy")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was deleted")
    assert stage.json("health", "copy")["healthy"]
    visit(page, "/services/copy/settings")
    page.get_by_label("Type its name: copy").fill("copy")
    page.get_by_role("button", name="Delete", exact=True).click()
    done(page)
    assert "copy" not in [item["slug"] for item in stage.json("list")]
    assert "copy" in stage.cli("list", "--deleted")
    page.close()


def test_what_was_deleted_comes_back_or_goes_for_good(page: Page, stage: Stage) -> None:
    visit(page, "/kept")
    page.get_by_role("button", name="Bring copy back").click()
    done(page)
    assert stage.sql("copy", "SELECT x FROM t") == ["1"]
    stage.cli("delete", "copy")
    visit(page, "/kept")
    kept = page.locator("section", has=page.get_by_role("heading", name="copy", exact=True))
    kept.get_by_text("Delete permanently").click()
    kept.get_by_label("Type its name: copy").fill("copy")
    kept.get_by_role("button", name="Delete this data").click()
    done(page)
    visit(page, "/kept")
    assert page.get_by_role("heading", name="copy", exact=True).count() == 0
    assert "copy" not in stage.cli("list", "--deleted")


def test_every_moment_is_kept_and_one_is_restored(
    page: Page, context: BrowserContext, stage: Stage
) -> None:
    visit(page, "/services/main/backups")
    page.get_by_role("button", name="Start archiving").click()
    done(page)
    page.get_by_role("link", name="Go on").click()
    expect(page.locator("#archive-panel")).to_contain_text("following")
    wrong = context.new_page()
    visit(wrong, "/services/main/moment")
    wrong.get_by_label("Time (UTC)").fill("2020-01-01T00:00:00")
    wrong.get_by_label("Name of the new one").fill("then")
    wrong.get_by_role("button", name="Restore", exact=True).click()
    expect(wrong.get_by_role("alert")).to_contain_text("begins at")
    expect(wrong.get_by_label("Name of the new one")).to_have_value("then")
    wrong.close()
    page.get_by_role("link", name="Restore to a point in time…").click()
    page.get_by_label("Name of the new one").fill("then")
    page.get_by_role("button", name="Restore", exact=True).click()
    done(page)
    assert stage.sql("then", "SELECT x FROM t") == ["1"]
    visit(page, "/services/main/backups")
    page.get_by_role("button", name="End archiving").click()
    page.get_by_role("button", name="Go on").click()
    done(page)
    assert stage.call("GET", "/backups/archives") == []


def test_schedules_are_paused_and_deleted(page: Page, stage: Stage) -> None:
    visit(page, "/services/main/backups")
    page.get_by_role("button", name="Disable nightly").click()
    expect(page.get_by_role("button", name="Enable nightly")).to_be_visible()
    assert not stage.call("GET", "/backups/schedules/nightly")["enabled"]
    page.get_by_role("button", name="Delete nightly").click()
    expect(page.get_by_text("No schedule makes backups of it.")).to_be_visible()


def test_a_bucket_is_tried_added_and_backed_up_to(
    page: Page, context: BrowserContext, stage: Stage
) -> None:
    keys = stage.variables("of-s3")
    wrong = context.new_page()
    for opened, secret in ((wrong, "wrong"), (page, keys["S3_SECRET_KEY"])):
        visit(opened, "/server")
        opened.get_by_text("Add a bucket…").click()
        places = opened.locator(
            "section", has=opened.get_by_role("heading", name="Backup destinations")
        )
        places.get_by_label("Name", exact=True).fill("far")
        places.get_by_label("Bucket", exact=True).fill(keys["S3_BUCKET"])
        places.get_by_label("Endpoint").fill(keys["S3_ENDPOINT"])
        places.get_by_label("Access key").fill(keys["S3_ACCESS_KEY"])
        places.get_by_label("Secret key").fill(secret)
        places.get_by_label("The bucket is part of the path").check()
        places.get_by_label("Take it although it is this installation's own").check()
        places.get_by_role("button", name="Try it and add it").click()
        if secret == "wrong":
            expect(opened.get_by_role("alert")).to_be_visible()
            assert stage.call("GET", "/backups/s3-sources") == []
    wrong.close()
    expect(page.get_by_role("button", name="Forget far")).to_be_visible()
    visit(page, "/services/main/backups")
    page.locator("#b-place").select_option(label="far")
    page.get_by_role("button", name="Back up now").click()
    done(page)
    visit(page, "/services/main/backups")
    page.get_by_role("link", name="Restore…").first.click()
    number = (
        page.get_by_label("Type its id").locator("xpath=preceding-sibling::label").text_content()
        or ""
    )
    page.get_by_label("Type its id").fill(number.rpartition(" ")[2])
    before = len(stage.json("backup", "list"))
    page.get_by_role("button", name="Delete backup").click()
    done(page)
    assert len(stage.json("backup", "list")) == before - 1


def test_a_token_is_made_shown_once_and_revoked(page: Page, stage: Stage) -> None:
    visit(page, "/server")
    tokens = page.locator("section", has=page.get_by_role("heading", name="Tokens"))
    tokens.get_by_label("Name", exact=True).fill("robot")
    tokens.get_by_label("Scope").select_option(label="read only")
    tokens.get_by_role("button", name="Create token").click()
    made = page.locator("#token").text_content() or ""
    with stage.http(made) as client:
        assert client.get("/api/external-services/").status_code == 200
        visit(page, "/server")
        assert made not in page.content()
        page.get_by_role("button", name="Revoke robot").click()
        assert client.get("/api/external-services/").status_code == 200
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("button", name="Revoke robot")).to_have_count(0)
        assert client.get("/api/external-services/").status_code == 401


def test_a_user_is_made_works_by_name_and_is_out_once_disabled(
    page: Page, stage: Stage, browser: Browser
) -> None:
    visit(page, "/server")
    page.get_by_role("link", name="Users").click()
    page.get_by_label("New user").fill("ada@example.com")
    page.get_by_role("button", name="Create User").click()
    page.get_by_label("Name of a token of ada@example.com").fill("laptop")
    page.get_by_label("Scope of a token of ada@example.com").select_option(label="read only")
    page.get_by_role("button", name="Create token").click()
    made = page.locator("#token").text_content() or ""
    theirs = browser.new_context(base_url=stage.address)
    other = theirs.new_page()
    enter_page(other, made)
    visit(page, "/users")
    assert made not in page.content()
    visit(page, "/sessions")
    expect(page.locator("tbody")).to_contain_text("laptop of ada@example.com")
    visit(page, "/audit")
    expect(page.locator("tbody")).to_contain_text("ada@example.com")
    visit(other, "/users")
    expect(other.get_by_role("button", name="Create User")).to_have_count(0)
    visit(page, "/users")
    page.get_by_role("button", name="Disable ada@example.com").click()
    visit(other, "/services")
    expect(other.get_by_role("heading", name="Services", level=1)).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Enable ada@example.com")).to_be_visible()
    visit(other, "/services")
    expect(other.get_by_label("Token")).to_be_visible()
    page.get_by_role("button", name="Enable ada@example.com").click()
    page.get_by_role("button", name="Remove ada@example.com").click()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Remove ada@example.com")).to_have_count(0)
    assert "ada@example.com" not in stage.cli("user", "list")
    page.get_by_label("New user").fill("grace@example.com")
    page.get_by_role("button", name="Create User").click()
    expect(page.get_by_role("button", name="Disable grace@example.com")).to_be_visible()
    theirs.close()


def test_an_environment_is_made_deployed_to_and_removed(page: Page, stage: Stage) -> None:
    visit(page, "/projects/shop")
    page.get_by_label("New environment").fill("preview-7")
    page.get_by_role("button", name="Create environment").click()
    expect(page.locator("#variables").locator("xpath=ancestor::section")).to_contain_text(
        "shop_preview_7"
    )
    page.get_by_label("Image").fill(DEMO)
    page.get_by_label("Command").fill("python3 -c 'import time; time.sleep(600)'")
    page.get_by_role("button", name="Deploy to preview-7").click()
    done(page)
    assert stage.call("GET", "/projects/shop/deployments")[0]["environment"] == "preview-7"
    visit(page, "/projects/shop?environment=preview-7")
    page.get_by_label("Type its name: preview-7").fill("preview-7")
    page.get_by_role("button", name="Delete environment").click()
    done(page)
    assert [item["slug"] for item in stage.call("GET", "/projects/shop/environments")] == [
        "production"
    ]


# ---------------------------------------------------------------- for everybody

PATHS = (
    "/services", "/services/new", "/services/new?type=postgres", "/services/main",
    "/services/main/links", "/services/main/data",
    "/services/main/backups", "/services/main/logs", "/services/main/events",
    "/services/main/settings", "/projects",
    "/projects/shop", "/import", "/activity", "/audit", "/operations/1", "/kept", "/server",
    "/backups/1/restore?from=main", "/users",
)  # fmt: skip


def test_every_page_is_accessible_and_fits_at_both_widths_light_and_dark(
    share: Share,
    browser: Browser,
    context: BrowserContext,
    stage: Stage,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    axe = (npm.installed() / "node_modules/axe-core/axe.min.js").read_text()
    shots = Path(tmp_path_factory.getbasetemp()) / "screenshots"
    shots.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        own = browser.new_context(
            base_url=stage.address, color_scheme=scheme, storage_state=context.storage_state()
        )  # type: ignore[arg-type]
        same(own, context)
        page = own.new_page()
        said: list[str] = []
        page.on(
            "console",
            lambda message: said.append(message.text) if message.type == "error" else None,
        )
        for path, width in product(share.of(PATHS), WIDTHS):
            page.set_viewport_size({"width": width, "height": 900})
            visit(page, path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (
                f"{path} is wider than {width}"
            )
            page.screenshot(
                path=shots / f"{path.strip('/').replace('/', '-')}-{scheme}-{width}.png",
                full_page=True,
            )
            page.evaluate(axe)
            found: Any = page.evaluate(
                "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})"
            )
            wrong = [
                (item["id"], [node["html"][:200] for node in item["nodes"]])
                for item in found["violations"]
            ]
            assert wrong == [], f"{path} {scheme} {width}"
            assert said == [], f"{path} {scheme} {width}"
        own.close()


def test_it_can_be_worked_by_the_keyboard_alone(page: Page) -> None:
    visit(page, "/services")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("To the content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Create Service")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Create Service")).to_be_visible()


def test_it_reads_without_javascript(
    browser: Browser, context: BrowserContext, stage: Stage
) -> None:
    plain = browser.new_context(
        base_url=stage.address, java_script_enabled=False, storage_state=context.storage_state()
    )
    same(plain, context)
    page = plain.new_page()
    for path in ("/services", "/services/main", "/projects/shop", "/activity"):
        visit(page, path)
        assert "main" in (page.text_content("main") or "")
    plain.close()


def test_no_page_weighs_more_than_150_kb_or_asks_another_host(
    context: BrowserContext, stage: Stage
) -> None:
    for path in PATHS:
        page = context.new_page()
        answers: list[Any] = []
        page.on("response", lambda answer: answers.append(answer))
        visit(page, path)
        own = [answer for answer in answers if "stream" not in answer.url]
        assert {answer.url.partition("://")[2].partition("/")[0] for answer in own} == {
            stage.address.partition("://")[2]
        }
        assert 10_000 < sum(len(answer.body()) for answer in own) < 150_000, path
        page.close()


def test_signed_out_is_out(browser: Browser, stage: Stage, token: str) -> None:
    own = browser.new_context(base_url=stage.address)
    page = own.new_page()
    page.goto("/sign-in")
    enter_page(page, token)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    left = page.url
    page.goto("/services")
    assert urlsplit(page.url).path == "/sign-in"
    page.goto("/services")
    assert urlsplit(page.url).path == "/sign-in"
    assert urlsplit(left).path == "/sign-in"
    own.close()


def test_nothing_of_all_this_left_a_fault_in_the_log(stage: Stage) -> None:
    log = (stage.state / "daemon.log").read_text()
    found = re.search(r'Traceback|"level": "error"', log)
    assert found is None, log[max(0, found.start() - 1000) :][:8000]
