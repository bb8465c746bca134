"""The measurement of `contrib/bench` of a host with many environments: each has an app, and so a
network that the service which all of them use is joined to."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable

from bench_stage import Row, Sizes, Stage, docker, empty_ports, resident, stage

DEMO = "purveyor-test/demo:1"
SERVICE, PROJECT = "shared", "many"
FEW = 10  # environments that the first and the last figures are of, at most
TOLD = "told, not set"


def environments(sizes: Sizes) -> list[Row]:
    with stage("project-environments = 0") as made, made.serving():
        port = {"port": next(empty_ports())}
        made.call(
            "POST", "/external-services", name=SERVICE, service_type="postgres", parameters=port
        )
        project = made.call("POST", "/projects", name=PROJECT)["id"]
        link = f"/external-services/{SERVICE}/projects"
        made.call("POST", link, project_id=project)
        rules, begun = _rules(), resident(made.pid)
        alone = _median(sizes.fleet_rounds, lambda: _restart(made))
        joins: list[float] = []
        deploys = [_deploy(made, number, joins) for number in range(sizes.environments)]
        few = max(1, min(FEW, sizes.environments // 2))
        links = [_link(made, link, number) for number in range(sizes.rounds)]
        many = _median(sizes.fleet_rounds, lambda: _restart(made))
        by_hand = _median(
            sizes.fleet_rounds,
            lambda: _timed(lambda: docker("restart", f"{made.namespace}-{SERVICE}")),
        )
        memory = resident(made.pid)
        bridges = len(docker("network", "ls", "-q", "--filter", f"name={made.namespace}").split())
        added = _rules() - rules
    number = sizes.environments
    first, last = (statistics.median(deploys[part]) for part in (slice(few), slice(-few, None)))
    first_join, last_join = (
        statistics.median(joins[part]) for part in (slice(few), slice(-few, None))
    )
    return [
        Row(what=f"deploy, environments {number - few + 1} to {number}", ours=f"{last:.2f} s",
            beside=f"the first {few}", peer=f"{first:.2f} s", ratio=last / first, goal=TOLD),
        Row(what="link of one more project", ours=f"{statistics.median(links):.3f} s", goal=TOLD),
        Row(what="environment with its account", ours=f"{last_join:.3f} s",
            beside=f"the first {few}", peer=f"{first_join:.3f} s", ratio=last_join / first_join,
            goal=TOLD),
        Row(what=f"restart of a service on {number} networks", ours=f"{many:.2f} s",
            beside="docker restart", peer=f"{by_hand:.2f} s", ratio=many / by_hand, goal=TOLD),
        Row(what="restart of it on none", ours=f"{alone:.2f} s", goal=TOLD),
        Row(what="daemon's memory", ours=f"{memory:.0f} MB", beside="with none",
            peer=f"{begun:.0f} MB", ratio=memory / begun, goal="≤ 150 MB"),
        Row(what="bridges", ours=f"{bridges}", goal=f"{number + 1}"),
        Row(what="rules of iptables that they add", ours=f"{added}", goal="some 8 each"),
    ]  # fmt: skip


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _median(rounds: int, work: Callable[[], float]) -> float:
    return statistics.median(work() for _ in range(rounds))


def _restart(made: Stage) -> float:
    return _timed(lambda: made.call("POST", f"/external-services/{SERVICE}/restart"))


def _deploy(made: Stage, number: int, joins: list[float]) -> float:
    """One more environment with an account on the service, whose seconds go to `joins`, and its
    app: from nothing but the image until it runs."""
    name = f"preview-{number}"
    root = f"/projects/{PROJECT}/environments"
    joins.append(_timed(lambda: made.call("POST", root, name=name)))
    joins[-1] += _timed(lambda: made.call("GET", f"{root}/{name}/variables"))
    command = ["sleep", "infinity"]
    return _timed(
        lambda: made.call(
            "POST",
            f"/projects/{PROJECT}/deployments",
            image=DEMO,
            environment=name,
            command=command,
        )
    )


def _link(made: Stage, path: str, number: int) -> float:
    other = made.call("POST", "/projects", name=f"other-{number}")["id"]
    return _timed(lambda: made.call("POST", path, project_id=other))


def _rules() -> int:
    """The rules of iptables of every table that the engine writes; 0 for who may not read them."""
    found = 0
    for table in ("filter", "nat", "raw"):
        command = ["iptables", "-w", "60", "-t", table, "-S"]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError:
            return 0
        found += sum(line.startswith("-A") for line in done.stdout.splitlines())
    return found
