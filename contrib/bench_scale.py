"""The measurement of `contrib/bench` at the size of a whole host: a daemon over a store that is
full of rows."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from bench_rows import put
from bench_stage import Row, Sizes, Stage, resident, stage

SERVICES = "/api/external-services"
VARIABLES = "/api/projects/project-7/environments/production/variables"
LISTS = (
    f"{SERVICES}/",
    f"{SERVICES}/?sort=name",
    f"{SERVICES}/?sort=status",
    f"{SERVICES}/?sort=memory_bytes",
    f"{SERVICES}/service-1",
    f"{SERVICES}/service-1/history",
    f"{SERVICES}/service-1/projects",
    "/api/projects",
    "/api/projects/project-7/deployments",
    VARIABLES,
    "/api/operations",
    "/api/operations?service=service-7",
    "/api/operations?state=failed",
    "/api/events?limit=50",
    "/api/events?service=service-7",
    "/api/events?type=service.create",
    "/api/backups",
    "/api/backups?service=service-7",
    "/api/backups/archives",
    "/api/volumes",
    "/api/tokens",
    "/api/audit",
)
PAGES = (
    "/services",
    "/services/service-1",
    "/services/service-1/links",
    "/services/service-1/backups",
    "/services/service-1/events",
    "/services/service-1/settings",
    "/projects",
    "/projects/project-7",
    "/activity",
    "/audit",
    "/operations/100",
    "/kept",
    "/server",
    "/backups/100/restore",
)
HEAVY = ("/api/backups?limit=1000", "/api/operations?limit=1000", "/api/doctor")
GOAL = "≤ 50 ms"


def scale(sizes: Sizes) -> list[Row]:
    with stage() as made:
        put(made.state, sizes.rows, namespace=made.namespace)
        begun = time.monotonic()
        with made.serving():
            made.call("GET", "/version")
            ready = time.monotonic() - begun
            token = made.call("POST", "/tokens", name="bench")["token"]
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            with (
                httpx.Client(base_url=made.address, headers=headers, timeout=60) as api,
                httpx.Client(base_url=made.address, timeout=60) as browser,
            ):
                signed = browser.post(
                    "/sign-in", data={"token": token}
                )  # without it every page would be a redirect, and an error
                browser.base_url = browser.base_url.join(
                    signed.headers["location"].removesuffix("services")
                )
                rows = [_row(made, api, path, sizes) for path in LISTS]
                rows += [_row(made, browser, path, sizes) for path in PAGES]
                with _read(made.address, headers):
                    rows.append(
                        _row(
                            made,
                            api,
                            VARIABLES,
                            sizes,
                            f"variables beside {len(HEAVY)} heavy readers",
                        )
                    )
            memory = resident(made.pid, "VmHWM")
    much = f"{sizes.rows.services} services, {sizes.rows.events} events"
    return [
        Row(what=f"ready, {much}", ours=f"{ready:.2f} s", goal="≤ 3 s"),
        Row(what="memory at most", ours=f"{memory:.0f} MB", goal="≤ 150 MB"),
        *rows,
    ]


def _row(made: Stage, client: httpx.Client, path: str, sizes: Sizes, what: str = "") -> Row:
    """The time that 99 of 100 answers need at most, beside what one of them takes of the daemon's
    processor."""

    def get() -> float:
        begun = time.perf_counter()
        answer = client.get(path)
        took = time.perf_counter() - begun
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")
        return took

    for _ in range(sizes.warm_up * 3):
        get()
    before = _processor(made.pid)
    times = [get() for _ in range(sizes.asked)]
    cpu = (_processor(made.pid) - before) / len(times)
    worst = (
        statistics.quantiles(times, n=100, method="inclusive")[98] if len(times) > 1 else times[0]
    )
    return Row(
        what=what or path.removeprefix("/api/"),
        ours=f"{worst * 1000:.1f} ms",
        beside="its processor time",
        peer=f"{cpu * 1000:.1f} ms",
        ratio=worst / max(cpu, 1e-6),
        goal=GOAL,
    )


def _processor(pid: int) -> float:
    """The seconds of processor time that a process has had, by its clock: see
    clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


@contextmanager
def _read(address: str, headers: dict[str, str]) -> Iterator[None]:
    """Readers of long lists, for as long as the block runs."""
    over = threading.Event()

    def reader(path: str) -> Callable[[], None]:
        def run() -> None:
            with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
                while not over.is_set():
                    client.get(path).raise_for_status()

        return run

    threads = [threading.Thread(target=reader(path)) for path in HEAVY]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
