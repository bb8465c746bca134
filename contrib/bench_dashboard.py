"""The measurement of `contrib/bench` on the dashboard: its list of services, until a browser has
painted it."""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import time

from bench_stage import NotToBeHad, Row, Sizes, Stage, empty_ports, stage
from playwright.sync_api import Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]"


def fill(made: Stage, services: int) -> None:
    """Records of stopped services like the one that is there."""
    with sqlite3.connect(made.state / "purveyor.db") as db:
        db.row_factory = sqlite3.Row
        one = dict(db.execute("SELECT * FROM services").fetchone())
        for number in range(1, services):
            name = f"service-{number}"
            values = {
                **one,
                "id": None,
                "name": name,
                "slug": name,
                "container_name": f"{made.namespace}-{name}",
            }
            values |= {"volume_id": None, "desired": "stopped"}
            db.execute(
                f"INSERT INTO services ({', '.join(values)}) VALUES "
                f"({', '.join('?' * len(values))})",
                [*values.values()],
            )


def sign_in(page: Page, token: str) -> None:
    page.goto("/")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/services")


def dashboard(sizes: Sizes) -> list[Row]:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise NotToBeHad("chromium is not installed")
    painted, answered = [], []
    with stage("health-interval = 3000") as made:
        made.cli("create", "redis", "one", "-p", f"port={next(empty_ports())}")
        token = made.cli("token", "create", "bench").strip()
        fill(made, sizes.listed)
        with made.serving(), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            page = browser.new_context(base_url=made.address).new_page()
            sign_in(page, token)
            services = page.url
            for _ in range(sizes.rounds):
                page.goto(services, wait_until="load")
                while not page.evaluate(
                    f"Boolean({PAINT})"
                ):  # it may come after the load; the page's policy forbids Playwright's own wait
                    time.sleep(0.005)
                painted.append(float(page.evaluate(f"{PAINT}.startTime")) / 1000)
                begun = time.monotonic()
                made.call("GET", "/external-services?limit=1000")
                answered.append(time.monotonic() - begun)
            browser.close()
    ours, peer = statistics.median(painted), statistics.median(answered)
    row = Row(
        what=f"first paint, {sizes.listed} services, median of {sizes.rounds}",
        ours=f"{ours * 1000:.0f} ms",
        beside="the API's answer",
        peer=f"{peer * 1000:.0f} ms",
        ratio=ours / peer,
        goal="≤ 300 ms",
    )
    return [row]
