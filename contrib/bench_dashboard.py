"""How long the dashboard's list of 200 services takes to be painted, and how long the API takes to answer the same list."""

import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from playwright.sync_api import sync_playwright

from support import Stage

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
SERVICES, RUNS = 200, 7
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def fill(stage: Stage) -> None:
    """Records of stopped services like the one that is there."""
    with sqlite3.connect(stage.state / "purveyor.db") as db:
        db.row_factory = sqlite3.Row
        one = dict(db.execute("SELECT * FROM services").fetchone())
        for number in range(1, SERVICES):
            name = f"service-{number}"
            values = {**one, "id": None, "name": name, "slug": name, "container_name": f"{stage.namespace}-{name}"}
            values |= {"volume_id": None, "desired": "stopped"}
            db.execute(f"INSERT INTO services ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", [*values.values()])


def main() -> None:
    stage = Stage(Path(tempfile.mkdtemp(prefix="bench-")), "pvb-dashboard", "health-interval = 3000")
    try:
        stage.cli("create", "redis", "one")
        token = stage.cli("token", "create", "bench").strip()
        fill(stage)
        with stage.serving(), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
            page = browser.new_context(base_url=stage.address).new_page()
            page.goto("/")
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/services")
            painted, answered = [], []
            for _ in range(RUNS):
                page.goto("/services", wait_until="load")
                painted.append(float(page.evaluate(PAINT)) / 1000)
                begun = time.monotonic()
                stage.call("GET", "/external-services?limit=1000")
                answered.append(time.monotonic() - begun)
            browser.close()
        ours, peer = statistics.median(painted), statistics.median(answered)
        print(f"first paint of {SERVICES} services, median of {RUNS}: {ours * 1000:.0f} ms (goal 300 ms); the API's own answer: "
              f"{peer * 1000:.0f} ms; ratio {ours / peer:.1f}")  # fmt: skip
    finally:
        stage.clean()
        shutil.rmtree(stage.state, ignore_errors=True)


if __name__ == "__main__":
    main()
