"""Signing in through an OpenID Connect provider that others wrote, npm's oidc-provider in a process
of its own, with a real browser: it is checked against the standard, and not against our reading."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

import npm
from browsing import base_of
from support import PATIENCE, Stage, free_port

if TYPE_CHECKING:  # what needs no browser runs where none is installed
    from playwright.sync_api import Browser, BrowserContext

pytestmark = pytest.mark.fortnightly

SECRET = "its own secret, with : and + in it"
# its pages take any name and any password; it demands PKCE and tells claims at userinfo alone
PROVIDER = """
import Provider from 'oidc-provider';
const {ISSUER, RETURN, SECRET} = process.env;
const provider = new Provider(ISSUER, {
  clients: [{client_id: 'purveyor', client_secret: SECRET, redirect_uris: [RETURN],
             grant_types: ['authorization_code'], response_types: ['code']}],
  pkce: {required: () => true},
  claims: {openid: ['sub'], email: ['email', 'email_verified'], profile: ['name']},
  findAccount: async (context, id) => ({accountId: id, claims: async () => (
    {sub: id, email: `${id}@example.com`, email_verified: id !== 'eve', name: id})}),
});
provider.listen(new URL(ISSUER).port, '127.0.0.1', () => console.log('serving'));
"""


@pytest.fixture(scope="module")
def stage(
    make_stage: Callable[..., Stage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("provider")
    secret = folder / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o600)
    # another site than the dashboard's: a browser treats the way back as one from elsewhere
    issuer, ours = f"http://localhost:{free_port()}", f"127.0.0.1:{free_port()}"
    settings = f"""
listen = "{ours}"
dashboard-url = "http://{ours}"
oidc-issuer = "{issuer}"
oidc-client-id = "purveyor"
oidc-client-secret-file = "{secret}"
oidc-admins = ["ada@example.com", "eve@example.com"]
"""
    variables = {"ISSUER": issuer, "RETURN": f"http://{ours}/sign-in/oidc/return", "SECRET": SECRET}
    with (
        npm.serving(PROVIDER, variables, folder / "log"),
        make_stage(settings).serving() as made,
    ):
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


@pytest.fixture
def context(stage: Stage, browser: "Browser") -> "Iterator[BrowserContext]":
    made = browser.new_context(base_url=stage.address)
    made.set_default_timeout(PATIENCE * 1000)
    yield made
    made.close()


def signed_in_there(context: "BrowserContext", name: str, wanted: str) -> None:
    """The way to the provider, through its own pages, and back."""
    page = context.pages[0] if context.pages else context.new_page()
    page.goto(wanted)
    page.get_by_role("link", name="Sign in with localhost").click()
    page.wait_for_url("http://localhost:*/interaction/**")
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    page.get_by_role("button", name="Continue").click()  # that purveyor may know who that is


def test_a_person_signs_in_is_named_in_sessions_and_audit_and_signs_out(
    stage: Stage, context: "BrowserContext"
) -> None:
    from playwright.sync_api import expect

    signed_in_there(context, "ada", "/projects")
    (page,) = context.pages
    page.wait_for_url(f"{stage.address}/~/*/projects")
    base = base_of(page.url)
    page.get_by_label("New project").fill("shop")
    page.get_by_role("button", name="Create Project").click()
    expect(page.get_by_role("heading", name="shop", level=1)).to_be_visible()

    page.get_by_role("link", name="Sessions").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("oidc of ada@example.com (this one)")
    page.get_by_role("link", name="Audit").click()
    entries = page.locator("tbody tr").filter(has_text="ada@example.com")
    expect(entries.filter(has_text="sign in")).to_contain_text("localhost")
    expect(entries.filter(has_text="POST /api/projects")).to_have_count(1)
    assert [item["name"] for item in stage.json("user", "list")] == ["ada@example.com"]

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert stage.json("token", "sessions") == []
    page.goto(f"{base}/services")
    expect(page.get_by_label("Token")).to_be_visible()


def test_an_address_that_the_provider_did_not_verify_opens_nothing(
    stage: Stage, context: "BrowserContext"
) -> None:
    from playwright.sync_api import expect

    signed_in_there(context, "eve", "/services")
    (page,) = context.pages
    page.wait_for_url(f"{stage.address}/sign-in/oidc/return?*")
    expect(page.get_by_role("alert")).to_contain_text("verified")
    assert "eve@example.com" not in {item["name"] for item in stage.json("user", "list")}
