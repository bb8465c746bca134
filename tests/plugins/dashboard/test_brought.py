"""The operations that a service's plugin brings, in the dashboard: a form for each, made from the
schema of what it takes, and its plan before it is run."""

import re
from html import unescape
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import httpx
import msgspec
import pytest

import purveyor_hooks as ph
from fake import server
from fake.pages import Desk, dashboard, signed_in
from fake.scene import Scene
from fake.server import LABEL, Tidy
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord

pytestmark = pytest.mark.anyio
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
PAGE = "/services/main/operations"
KEY = "s3cr3t-of-every-kind"
SENT = {
    "a.word": "good",
    "a.count": "3",
    "a.ratio": "2.5",
    "a.sure": "true",
    "a.speed": "fast",
    "a.many": "one\r\n  two \r\n\r\n",
    "a.numbers": "1\r\n2",
    "a.key": KEY,
    "a.keys": f"{KEY}-1\r\n{KEY}-2",
    "a.maybe": "",
    "a.choice": "",
    "a.items": "",
}


class Given(ph.Arguments, frozen=True, kw_only=True):
    """All kinds that there are."""

    word: Annotated[str, msgspec.Meta(min_length=2, max_length=20, description="Any word.")]
    count: Annotated[int, msgspec.Meta(ge=1, le=9)]
    ratio: float
    sure: bool
    speed: Literal["slow", "fast"] = "slow"
    many: tuple[str, ...] = ("zero",)
    numbers: tuple[int, ...] = ()
    key: Annotated[str, ph.SECRET]
    keys: Annotated[tuple[str, ...], ph.SECRET] = ()
    maybe: int | None = 7
    choice: Literal["left", "right"] | None = None
    items: str = "as before"


SEEN: list[Given] = []


class Every(ph.ServiceOperation[Given]):
    name = "every-kind"
    summary = "Take an argument of every kind."
    arguments = Given
    steps = (ph.Step(name="look"),)

    async def draft(self, asked: ph.Asking[Given]) -> ph.Draft:
        if asked.given.word == "wrong":
            raise ph.BadInput(
                f"The key {asked.given.key} does not fit.", errors={"word": "no good word"}
            )
        return ph.Draft(
            steps=("look",), resources=("all of it",), downtime="a second", warnings=("It is new.",)
        )

    async def do(self, step: str, run: ph.Running[Given]) -> None:
        SEEN.append(run.given)


def bringing(*operations: ph.ServiceOperation[Any]) -> Any:
    def brings() -> list[ph.ServiceOperation[Any]]:
        return list(operations)

    return ph.hookimpl(brings)


@pytest.fixture(autouse=True)
def brought(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    monkeypatch.setattr(server, "operations", bringing(Tidy(), Every()))


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of the first form of the page's content."""
    form = re.search(r"<form[^>]*>(.*?)</form>", page[page.index('<main id="main"') :], re.DOTALL)
    assert form is not None, page
    found = re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form[1])
    return {name: unescape(value) for name, value in found}


async def token_of(client: httpx.AsyncClient) -> dict[str, str]:
    return {"csrf": hidden((await client.get(PAGE)).text)["csrf"]}


async def last(desk: Desk) -> OperationRecord:
    def look(tx: Any) -> OperationRecord:
        return operations.get(tx, tx.value("SELECT max(id) FROM operations"))

    return await desk.app.context.store.read(look)


async def ended(desk: Desk) -> OperationRecord:
    with anyio.fail_after(10):
        while desk.app.runner.running:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return await last(desk)


async def test_the_tab_is_there_only_when_the_plugin_brings_something(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_in(scene) as client:
        assert "/services/main/operations" in (await client.get("/services/main")).text
    monkeypatch.setattr(server, "operations", bringing())
    async with signed_in(scene) as client:
        assert "/services/main/operations" not in (await client.get("/services/main")).text


async def test_the_form_asks_for_each_kind_in_its_own_way(scene: Scene) -> None:
    async with signed_in(scene) as client:
        answer = await client.get(PAGE)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        for part in (
            r'name="a\.word" type="text"[^>]*minlength="2" maxlength="20" required',
            r'name="a\.count" type="number"[^>]*min="1" max="9" step="1" required',
            r'name="a\.ratio" type="number"[^>]*step="any" required',
            r'<select[^>]*name="a\.sure"[^>]* required><option selected value="">',
            r'<option value="fast">fast</option><option selected value="slow">',
            r'<textarea[^>]*name="a\.many"[^>]*>\s*zero</textarea>',
            r'name="a\.key" type="password" value=""[^>]*autocomplete="off"[^>]* required',
            r'<textarea[^>]*name="a\.keys"[^>]*class="unseen"',
            r'name="a\.maybe" type="number" value="7"',
            r'<select[^>]*name="a\.choice"[^>]*><option selected value="">',
            r'name="a\.items" type="text" value="as before"',
            "Any word.",
        ):
            assert re.search(part, answer.text), part


async def test_its_plan_is_shown_and_then_it_runs_with_what_was_given(scene: Scene) -> None:
    async with dashboard(scene) as desk:
        client = await desk.enter("ada")
        before = (await last(desk)).id
        path, csrf = f"{PAGE}/fake.every-kind", await token_of(client)
        asked = await client.post(path, data=csrf | SENT)
        assert asked.status_code == 200
        for told in ("Every kind main?", "a second", "all of it", "It is new.", "look"):
            assert told in asked.text
        assert KEY not in asked.text
        assert (await last(desk)).id == before
        begun = await client.post(path, data=hidden(asked.text))
        assert "/operations/" in begun.headers["location"], begun.text
        done = await ended(desk)
        assert (done.verb, done.state, done.actor) == ("fake.every-kind", "succeeded", "token:ada")
        shown = await client.get(f"/operations/{done.id}")
        assert "Every kind main" in shown.text
        assert KEY not in shown.text
    assert [
        Given(
            word="good", count=3, ratio=2.5, sure=True, speed="fast", many=("one", "  two "),
            numbers=(1, 2), key=KEY, keys=(f"{KEY}-1", f"{KEY}-2"), maybe=None, items="",
        )
    ] == SEEN  # fmt: skip


WRONG: tuple[tuple[dict[str, str], str], ...] = (
    ({"a.count": "many"}, "not integer"),
    ({"a.count": "9" * 5000}, "not integer"),
    ({"a.count": "12"}, "&lt;= 9"),
    ({"a.ratio": "nan"}, "not number"),
    ({"a.sure": "perhaps"}, "not boolean"),
    ({"a.sure": ""}, "needed"),
    ({"a.word": "x"}, "length &gt;= 2"),
    ({"a.word": "wrong"}, "no good word"),
    ({"a.numbers": "1\r\ntwo"}, "not array"),
    ({"a.speed": "furious"}, "Invalid enum value"),
)


async def test_what_is_wrong_is_said_at_its_field_and_no_secret_comes_back(scene: Scene) -> None:
    async with signed_in(scene) as client:
        csrf = await token_of(client)
        for sent, told in WRONG:
            answer = await client.post(f"{PAGE}/fake.every-kind", data=csrf | SENT | sent)
            assert answer.status_code == 400
            field = re.search(r'<p class="field-error">([^<]*)</p>', answer.text)
            assert field, answer.text
            assert told in field[1]
            assert KEY not in answer.text
            assert 'value="2.5"' in answer.text or "a.ratio" in sent, "what was given is there"


async def test_a_reader_sees_what_there_is_and_no_button_and_begins_nothing(scene: Scene) -> None:
    async with dashboard(scene) as desk:
        reader = await desk.enter("eve", "read")
        page = (await reader.get(PAGE)).text
        assert "Take an argument of every kind." in page
        assert "a.word" not in page
        assert "Show the plan" not in page
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        assert found is not None
        csrf = {"csrf": found[1]}
        for data in (SENT, csrf | SENT, csrf | SENT | {"agreed": "yes"}):
            assert (await reader.post(f"{PAGE}/fake.every-kind", data=data)).status_code == 403
        admin = await desk.enter("ada")
        for data in (SENT, SENT | {"csrf": "x", "agreed": "yes"}, csrf | SENT):
            assert (await admin.post(f"{PAGE}/fake.every-kind", data=data)).status_code == 403
        headers = {"Origin": "https://evil.example"}
        own = await token_of(admin) | SENT | {"agreed": "yes"}
        refused = await admin.post(f"{PAGE}/fake.every-kind", data=own, headers=headers)
        assert refused.status_code == 403
        assert SEEN == []


async def test_what_is_sealed_for_one_form_opens_at_no_other(scene: Scene) -> None:
    async with dashboard(scene) as desk:
        ada, bob = await desk.enter("ada"), await desk.enter("bob")
        path = f"{PAGE}/fake.every-kind"
        form = hidden((await ada.post(path, data=await token_of(ada) | SENT)).text)
        assert KEY not in str(form)
        sealed = {"sealed": form["sealed"], "agreed": "yes"}
        plain = {name: value for name, value in SENT.items() if "key" not in name}
        for client, where in (
            (bob, path),
            (ada, "/services/idle/operations/fake.every-kind"),
            (ada, f"{PAGE}/fake.tidy"),
        ):
            data = await token_of(client) | plain | sealed | {"a.label": "neat"}
            answer = await client.post(where, data=data)
            assert (answer.status_code, "too old" in answer.text) == (400, True)
        altered = form | {"sealed": form["sealed"][:-4] + "AAAA"}
        assert "too old" in (await ada.post(path, data=altered)).text
        assert SEEN == []


async def test_an_operation_that_is_not_there_is_told(scene: Scene) -> None:
    async with signed_in(scene) as client:
        data = await token_of(client)
        assert (await client.post(f"{PAGE}/fake.none", data=data)).status_code == 404
        assert (await client.post(f"{PAGE}/restart", data=data)).status_code == 404
        gone = await client.post("/services/nobody/operations/fake.tidy", data=data)
        assert gone.status_code == 404


@pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium here")
async def test_somebody_runs_one_in_a_browser(scene: Scene, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.async_api")
    async with dashboard(scene) as desk, playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        for width, scheme in ((1440, "light"), (360, "dark")):
            context = await browser.new_context(
                base_url=desk.address,
                color_scheme=scheme,
                viewport={"width": width, "height": 900},
            )
            page, said = await context.new_page(), []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            await page.goto("/")
            await page.get_by_label("Token").fill(await desk.token(f"somebody-{width}"))
            await page.get_by_role("button", name="Sign in").click()
            await page.get_by_role("link", name="main", exact=True).click()
            await page.get_by_role("link", name="Operations").click()
            await page.get_by_role("heading", name="Every kind").wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            await page.screenshot(path=tmp_path / f"form-{scheme}-{width}.png", full_page=True)
            form = page.get_by_role("region", name="Tidy")
            await form.get_by_label("Label").fill(f"neat-{width}")
            await form.get_by_label("Key").fill(KEY)
            await form.get_by_role("button", name="Show the plan").click()
            await page.get_by_role("heading", name="Tidy main?").wait_for()
            await page.screenshot(path=tmp_path / f"plan-{scheme}-{width}.png", full_page=True)
            assert KEY not in await page.content()
            await page.get_by_role("button", name="Go on").click()
            await page.locator("#operation .head", has_text="succeeded").wait_for()
            await page.screenshot(path=tmp_path / f"done-{scheme}-{width}.png", full_page=True)
            assert said == []
            await context.close()
            labels = {keys[LABEL] for keys in scene.server("main").held.resources.values()}
            assert labels == {f"neat-{width}"}
        await browser.close()
