"""What strangers send to the dashboard, on the fake engine: no fault of ours, and no way to another
place."""

import re

import pytest

from fake.pages import signed_in
from fake.scene import Scene
from purveyor.kernel.api.refusals import Buckets

pytestmark = pytest.mark.anyio


async def test_every_address_on_a_page_is_below_the_key_of_the_session(scene: Scene) -> None:
    """One that is not would ask to sign in."""
    async with signed_in(scene) as client:
        base = client.base_url.path
        pages = (
            "/services", "/services/new", "/services/new?type=fake", "/services/main",
            "/services/main/links",
            "/services/main/data", "/services/main/backups", "/services/main/logs",
            "/services/main/events", "/services/main/operations",
            "/services/main/settings", "/projects", "/projects/shop",
            "/projects/shop/deployments/1", "/import", "/activity",
            "/operations/1", "/kept", "/server", "/sessions", "/backups/1/restore?from=main",
            "/services/tracked/backups",
            "/services/tracked/moment", "/services/nothing",
        )  # fmt: skip
        for path in pages:
            answer = await client.get(path)
            assert answer.status_code in (200, 404), path
            addresses = re.findall(
                r'(?:href|src|action|hx-get|hx-post|data-[a-z]+)="([^"]*/[^"]*)"', answer.text
            )
            assert addresses
            outside = [item for item in addresses if not f"{item}/".startswith(base)]
            assert {
                item for item in outside if not item.startswith(("/static/", "http://127.0.0.1:"))
            } == set(), path


async def test_the_way_back_leads_to_no_other_host(scene: Scene) -> None:
    async with signed_in(scene) as client:
        for back in ("//evil.example", "/\\evil.example", "https://evil.example", "\\evil.example"):
            page = await client.get("/operations/1", params={"back": back})
            assert page.status_code == 200
            assert "evil.example" not in page.text
        home = f'href="{client.base_url.path}projects"'
        assert home in (await client.get("/operations/1", params={"back": "/projects"})).text


async def test_a_number_that_is_too_long_is_said_at_its_field(scene: Scene) -> None:
    async with signed_in(scene) as client:
        found = re.search(r'name="csrf" value="([^"]+)"', (await client.get("/server")).text)
        assert found is not None
        csrf, long = {"csrf": found[1]}, "9" * 5000
        answer = await client.post("/server/tokens", data={**csrf, "name": "x", "days": long})
        assert (answer.status_code, "expires_in is out of range" in answer.text) == (400, True)
        answer = await client.post(
            "/projects/shop/deploy", data={**csrf, "image": "app:1", "port": long}
        )
        assert (answer.status_code, "Invalid port" in answer.text) == (400, True)


async def test_however_often_somebody_failed_to_sign_in_he_waits_and_no_longer() -> None:
    now = 0.0
    tries = Buckets(10, 30.0, clock=lambda: now)
    used = [tries.take("10.0.0.1") for _ in range(3000)]
    assert used[:10] == [*range(10)]
    assert set(used[10:]) == {None}
    now = 30.0
    assert [tries.take("10.0.0.1") for _ in range(2)] == [9, None]
    now = 3600.0
    assert tries.take("10.0.0.1") == 0
    assert tries.take("10.0.0.2") == 0, "it is somebody else"
