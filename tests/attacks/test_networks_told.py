"""What the Redis launcher makes of the file that says whose networks its container is on: whatever
it holds, servers run on, and none comes to another environment's network."""

import json
from collections.abc import Iterator
from hashlib import sha256
from time import sleep

import pytest

from attacks.told import attack
from support import DEMO, MakeStage, Stage, docker, eventually

FILE = "/etc/purveyor/networks"
ASK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
    print("open")
except OSError as error:
    print(type(error).__name__)
"""
ODD = {
    "words": "none of it\nat all",
    "no numbers": "one 10.0.0.0/26\n1 ten.0.0.0/26\n1 10.0.0.0/many",
    "half a line": "1 10.",
    "too much of one": "1 10.0.0.0/26 and more\n1 2 3 4",
    "a program": "1 a[$(touch /tmp/run)].0.0.0/26\na[$(touch /tmp/run)] 10.0.0.0/26\n`id` $(id)/26",
    "numbers that are none": "08 10.0.0.0/26\n1 10.09.0.0/26\n1 10.0.0.0/99\n1 1..2.3/4\n1 /26",
    "another family": "1 fd00::/64\n2 ::ffff:10.0.0.0/96",
}


class Place:
    """Two projects with an app each, on one Redis."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.container = f"{stage.namespace}-cache"
        self.apps = {name: self.deploy(name) for name in ("alpha", "beta")}
        self.ports = {name: self.port(name) for name in self.apps}

    def deploy(self, project: str, *more: str) -> str:
        words = ("--port", "8000", "--health-path", "/healthz", *more)
        return str(self.stage.json("deploy", project, DEMO, *words)["container"])

    def port(self, project: str, environment: str = "production") -> int:
        return int(self.stage.variables(project, environment, host=False)["REDIS_PORT"])

    def told(self) -> str:
        return docker("exec", self.container, "cat", FILE)

    def launcher(self, *words: str) -> str:
        return docker("exec", self.container, "redis-launcher", *words, check=False)

    def settled(self) -> bool:
        """Whether the launcher has acted by what there is now."""
        now = f"cat /proc/net/fib_trie /proc/net/route {FILE} {FILE}.sum 2>/dev/null"
        same = f'[ "$({now})" = "$(cat /run/redis-projects/located)" ] && echo yes'
        return docker("exec", self.container, "sh", "-c", same, check=False) == "yes"

    def look(self) -> None:
        """Each reaches its own server and no other."""
        for name, app in self.apps.items():
            eventually(lambda: reaches(app, self.container, self.ports[name]))
            others = [port for other, port in self.ports.items() if other != name]
            for port in (6379, *others):
                assert not reaches(app, self.container, port), (name, port)


def reaches(container: str, host: str, port: int) -> bool:
    return docker("exec", container, "python3", "-c", ASK, host, str(port)) == "open"


@pytest.fixture(scope="module")
def kept(make_stage: MakeStage) -> Place:
    """Their daemon has ended."""
    stage = make_stage()
    with stage.serving():
        stage.furnish({"cache": "redis"}, ["alpha", "beta"])
        place = Place(stage)
        place.look()
    return place


@pytest.fixture
def place(kept: Place) -> Iterator[Place]:
    before = kept.told()
    yield kept
    write(kept, before + "\n")


def write(place: Place, text: str) -> None:
    total = sha256(text.rstrip("\n").encode()).hexdigest()
    script = f'printf %s "$TEXT" > {FILE}; echo "$SUM" > {FILE}.sum'
    given = ("-e", f"TEXT={text}", "-e", f"SUM={total}")
    docker("exec", *given, place.container, "sh", "-c", script)


@attack(
    "the network",
    "reach another's Redis server once the container was started again, or put on another network "
    "and taken off, without a daemon",
    honest="each environment reaches its own all the time",
)
def test_without_a_daemon_restarts_and_networks_that_come_and_go_open_nothing(
    place: Place,
) -> None:
    docker("restart", place.container)
    place.look()
    extra = f"{place.stage.namespace}-extra"
    docker("network", "create", extra)
    try:
        docker("network", "connect", extra, place.container)
        eventually(place.settled)
        place.look()
        docker("network", "disconnect", extra, place.container)
        eventually(place.settled)
        place.look()
    finally:
        docker("network", "disconnect", "-f", extra, place.container, check=False)
        docker("network", "rm", extra)


@attack(
    "the network",
    "have the launcher run, or end by, what the file of networks holds",
    "get to another's server by a line that is none",
    honest="lines that are right count, whatever stands beside them",
)
def test_lines_that_are_none_are_passed_over_and_no_server_ends(place: Place) -> None:
    right = place.told()
    for name, text in ODD.items():
        write(place, f"{text}\n{right}")  # the last line without an end
        eventually(place.settled)
        place.look()
        for port in place.ports.values():
            place.launcher("restart", str(port))
        place.look()
        assert docker("exec", place.container, "ls", "/tmp") == "", name
    docker("restart", place.container)
    place.look()


@attack(
    "the network",
    "reach another's server, or that of the service, while the file of networks is written",
    honest="each environment reaches its own meanwhile",
)
def test_what_is_there_in_part_only_is_not_taken(place: Place) -> None:
    right = place.told()
    for text in ("", right[: len(right) // 2], right.splitlines()[0] + "\n"):
        script = f'rm {FILE}; printf %s "$TEXT" > {FILE}'
        docker("exec", "-e", f"TEXT={text}", place.container, "sh", "-c", script)
        sleep(2.5)  # the launcher looks once a second
        place.look()
        place.launcher("restart", str(place.ports["alpha"]))
        place.look()
    docker("exec", place.container, "rm", FILE)
    sleep(2.5)
    place.look()
    # the engine starts it with a part, and nothing else that is known: nobody reaches anything
    for script in (f'printf "1 10." > {FILE}', f": > {FILE}; : > {FILE}.sum", f"rm {FILE}"):
        docker("exec", place.container, "sh", "-c", script)
        docker("restart", place.container)
        sleep(2.5)
        for app in place.apps.values():
            for port in (6379, *place.ports.values()):
                assert not reaches(app, place.container, port), (script, port)
    write(place, right + "\n")
    eventually(place.settled)
    place.look()


@attack(
    "the network",
    "reach the server that all of them stand beside where ranges overlap, or none is said",
    honest="the own service's server serves its administrator meanwhile",
)
def test_of_ranges_that_overlap_each_environment_keeps_its_own_server(place: Place) -> None:
    first, second = place.told().splitlines()
    wide = f"{first.split()[0]} {second.split()[1].rpartition('.')[0]}.0/16"
    for text in (f"{first}\n{second}\n{wide}\n", f"{wide}\n{first}\n{second}\n", ""):
        write(place, text)
        eventually(place.settled)
        for name, app in place.apps.items():
            eventually(lambda: reaches(app, place.container, place.ports[name]))
            assert not reaches(app, place.container, 6379)
        assert place.launcher("ask", str(place.ports["alpha"]), "PING") == "PONG"


@attack(
    "the network",
    "reach a Redis server by an address of IPv6",
    honest="its own is reached by the other family",
)
def test_no_server_listens_on_ipv6(place: Place) -> None:
    extra = f"{place.stage.namespace}-six"
    docker("network", "create", "--ipv6", "--subnet", "fd00:9:9::/64", extra)
    try:
        docker("network", "connect", extra, place.container)
        eventually(place.settled)
        shown = docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", place.container)
        address = json.loads(shown)[extra]["GlobalIPv6Address"]
        assert address
        for port in (6379, 6380, *place.ports.values()):
            ask = (
                "run",
                "--rm",
                "--network",
                extra,
                DEMO,
                "python3",
                "-c",
                ASK,
                address,
                str(port),
            )
            assert docker(*ask) != "open", port
        place.look()
    finally:
        docker("network", "disconnect", "-f", extra, place.container, check=False)
        docker("network", "rm", extra)


@attack(
    "the network",
    "reach the server of an environment that is gone by the range that it had",
    honest="the environment that has the range now reaches its own",
)
def test_a_range_that_was_another_environments_is_its_own(
    place: Place,
) -> None:
    stage = place.stage
    with stage.serving():
        stage.cli("project", "add-environment", "beta", "brief")
        place.deploy("beta", "-e", "brief")
        before, port = place.told(), place.port("beta", "brief")
        (line,) = {*before.splitlines()} - {
            item for item in before.splitlines() if int(item.split()[0]) + 7000 != port
        }
        stage.cli("project", "remove-environment", "beta", "brief", "--yes")
        docker("restart", place.container)  # with what it was told before
        stage.cli("project", "add-environment", "alpha", "next")
        app = place.deploy("alpha", "-e", "next")
        own = place.port("alpha", "next")
        (now,) = [item for item in place.told().splitlines() if int(item.split()[0]) + 7000 == own]
        assert now.split()[1] == line.split()[1], "it has the range of the one that is gone"
        eventually(lambda: reaches(app, place.container, own))
        for other in {6379, port, *place.ports.values()} - {own}:
            assert not reaches(app, place.container, other), other
        place.look()
        stage.cli("project", "remove-environment", "alpha", "next", "--yes")
