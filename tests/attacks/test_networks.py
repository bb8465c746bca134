"""On the network an app reaches what is linked to it, and nothing of others; and what it reaches it
goes on reaching."""

import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from attacks.told import attack
from support import DEMO, MakeStage, Stage, docker, eventually

pytestmark = pytest.mark.every_engine

ASK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
    print("open")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def stage(make_stage: MakeStage) -> Iterator[Stage]:
    with make_stage("health-interval = 2").serving() as made:
        made.furnish({"main": "postgres", "cache": "redis", "words": "kv"}, ["alpha", "beta"])
        made.furnish({"spare": "redis"})
        made.cli("project", "add-environment", "alpha", "preview")
        yield made


def deploy(stage: Stage, project: str, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = stage.json(
        "deploy", project, DEMO, "--port", "8000", "--health-path", "/healthz", *more
    )
    return found


@pytest.fixture(scope="module")
def apps(stage: Stage) -> dict[str, str]:
    """The containers of three apps."""
    return {
        "alpha": deploy(stage, "alpha")["container"],
        "beta": deploy(stage, "beta")["container"],
        "preview": deploy(stage, "alpha", "-e", "preview")["container"],
    }


def reaches(container: str, host: str, port: int) -> bool:
    return docker("exec", container, "python3", "-c", ASK, host, str(port)) == "open"


CALL = """
import os, sys, urllib.error, urllib.request
asked = urllib.request.Request(os.environ["KV_REST_API_URL"], b'["GET", "x"]', {"Authorization": "Bearer " + sys.argv[1]})
try:
    print(urllib.request.urlopen(asked, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def networks_of(container: str) -> dict[str, str]:
    """Network -> address."""
    shown = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", container))
    return {name: item["IPAddress"] for name, item in shown.items()}


@attack(
    "the network",
    "reach another project's app by its name",
    "reach another project's app by its address",
    "reach an app of another environment by its name",
    "reach an app of another environment by its address",
    honest="is reached from its own network",
)
@pytest.mark.parametrize("by", ["name", "address"])
@pytest.mark.parametrize("whom", ["beta", "preview"])
def test_an_app_does_not_reach_the_apps_of_another_environment(
    stage: Stage, apps: dict[str, str], whom: str, by: str
) -> None:
    """And each answers where it is asked rightly: from its own network."""
    other = apps[whom]
    (network, address), *_ = networks_of(other).items()
    alias = "beta-production" if whom == "beta" else "alpha-preview"
    assert not reaches(apps["alpha"], alias if by == "name" else address, 8000)
    ask = (
        "run",
        "--rm",
        "--network",
        network,
        DEMO,
        "python3",
        "-c",
        ASK,
        alias if by == "name" else address,
        "8000",
    )
    assert docker(*ask) == "open"


def redis_port(stage: Stage, project: str, environment: str = "production") -> int:
    """That of the server of an environment."""
    return int(stage.variables(project, environment, host=False)["REDIS_PORT"])


def test_an_app_reaches_what_is_linked_to_it_by_the_name_in_its_variables(
    stage: Stage, apps: dict[str, str]
) -> None:
    for name, app in apps.items():
        where = ("alpha", name) if name == "preview" else (name, "production")
        assert reaches(app, f"{stage.namespace}-main", 5432)
        port = redis_port(stage, *where)
        eventually(lambda: reaches(app, f"{stage.namespace}-cache", port))


@attack(
    "the network",
    "reach the Redis server of another environment, plain or with TLS",
    "reach the one that all of them stand beside",
    "reach them after the engine has started the container again, and nobody else is there",
    "reach them when the container has come to a network by hand",
    honest="reaches its own all the time, and so does this host",
)
def test_a_redis_server_is_reached_from_the_network_of_its_environment_alone(
    stage: Stage, apps: dict[str, str]
) -> None:
    container = f"{stage.namespace}-cache"
    ports = {
        "alpha": redis_port(stage, "alpha"),
        "beta": redis_port(stage, "beta"),
        "preview": redis_port(stage, "alpha", "preview"),
    }

    def look() -> None:
        for name, app in apps.items():
            eventually(lambda: reaches(app, container, ports[name]))
            assert reaches(app, container, ports[name] + 10_000)
            others = [port for other, port in ports.items() if other != name]
            for port in (6379, 6380, *others, *(port + 10_000 for port in others)):
                assert not reaches(app, container, port), (name, port)
        for project in ("alpha", "beta"):
            with redis.from_url(stage.variables(project)["REDIS_URL"]) as client:
                assert client.ping()

    look()
    docker("restart", container)
    look()
    network = f"{stage.namespace}.alpha.production"
    docker("network", "disconnect", network, container)
    docker("network", "connect", network, container, check=False)  # unless it was put there again
    look()


@attack(
    "the network",
    "reach a service that is not linked by its name",
    "reach a service that is not linked by its address",
    honest="reaches what is linked to it; what a person put on the network reaches all services",
)
def test_an_app_does_not_reach_a_service_that_is_not_linked_to_it(
    stage: Stage, apps: dict[str, str]
) -> None:
    name = f"{stage.namespace}-spare"
    (address,) = networks_of(name).values()
    assert not reaches(apps["alpha"], name, 6379)
    assert not reaches(apps["alpha"], address, 6379)
    ask = ("run", "--rm", "--network", stage.namespace, DEMO, "python3", "-c", ASK, name, "6379")
    assert docker(*ask) == "open"


@attack(
    "the network",
    "reach a service by the address that it has for another environment",
    honest="reaches it by its own",
)
def test_a_service_is_not_reached_by_the_address_that_it_has_for_another_environment(
    stage: Stage, apps: dict[str, str]
) -> None:
    ours = next(iter(networks_of(apps["alpha"])))
    for network, address in networks_of(f"{stage.namespace}-main").items():
        assert reaches(apps["alpha"], address, 5432) == (network == ours), network


def test_an_app_reaches_the_api_of_its_variables(stage: Stage, apps: dict[str, str]) -> None:
    gateway = docker(
        "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", stage.namespace
    )
    port = int(stage.address.rpartition(":")[2])
    for host in ("purveyor-api", gateway):
        eventually(lambda host=host: reaches(apps["alpha"], host, port))


LOOK = """
import errno, fcntl, json, os, socket, struct, sys
given = json.loads(sys.argv[1])
found = {}
def tried(name, what):
    try:
        found[name] = str(what() or "done")
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, type(error).__name__)
def reach(host, port, before=lambda opened: None):
    with socket.socket() as opened:
        opened.settimeout(1)
        before(opened)
        opened.connect((host, port))
def speak(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
        opened.bind((address, 0))
        opened.sendto(b"x", (given["door"][0], 9))
def asked(number, address=""):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        packed = socket.inet_aton(address or "0.0.0.0")
        fcntl.ioctl(opened, number, struct.pack("16sH2s4s8s", b"eth0", socket.AF_INET, b"", packed, b""))
def by_way_of(service):
    route = bytes([131, 7, 4]) + socket.inet_aton(given["other"][0]) + b"\\0"  # loose source route
    return lambda opened: opened.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, route)
for name in given["names"]:
    tried("name " + name, lambda: socket.gethostbyname(name))
tried("whose", lambda: socket.gethostbyaddr(given["other"][0])[0])
for host, port in given["doors"]:
    tried(f"door {host} {port}", lambda: reach(host, port))
tried("routed", lambda: reach(given["service"][0], given["other"][1], by_way_of(given["service"][0])))
for address in (given["other"][0], given["service"][0], given["door"][0]):
    tried("speak as " + address, lambda: speak(address))
tried("oneself", lambda: speak(given["own"]))
tried("address", lambda: asked(0x8916, given["service"][0]))  # SIOCSIFADDR
tried("hardware address", lambda: asked(0x8924))  # SIOCSIFHWADDR
tried("flags", lambda: asked(0x8914))  # SIOCSIFFLAGS
tried("route", lambda: asked(0x890B))  # SIOCADDRT
tried("neighbour", lambda: asked(0x8955, given["service"][0]))  # SIOCSARP
tried("ipv6", lambda: open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w").write("0"))
tried("redirects", lambda: open("/proc/sys/net/ipv4/conf/all/accept_redirects", "w").write("1"))
tried("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 3))
tried("netfilter", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
tried("own service", lambda: reach(*given["service"]))
tried("own door", lambda: reach(*given["door"]))
has = os.path.exists("/proc/net/if_inet6")
found["ipv6 addresses"] = [line.split()[-1] for line in open("/proc/net/if_inet6")] if has else []
print(json.dumps(found))
"""
WITHHELD = ("address", "hardware address", "flags", "route", "neighbour", "packets", "netfilter")


@attack(
    "the network",
    "find another's app or service by its container's name",
    "find it by a name with its network",
    "ask who has an address",
    "reach a port that is published on this host by any of the host's addresses",
    "reach it by a name that stands for the host",
    "reach another's app by a source route through a service",
    "speak as another's address",
    "speak as a service",
    "take a neighbour's address",
    "take another hardware address",
    "set a route",
    "say who has an address",
    "turn on IPv6",
    "have itself led elsewhere",
    honest="reaches its service and the API, each by its name",
)
def test_an_app_makes_itself_no_other_way_and_is_nobody_else(
    stage: Stage, apps: dict[str, str]
) -> None:
    """As root in its container. What is published is reached from the host, by its port."""
    ns, beta = stage.namespace, apps["beta"]
    (other,) = networks_of(beta).values()
    service = networks_of(f"{ns}-main")[f"{ns}.alpha.production"]
    published = [
        int(docker("port", name).splitlines()[0].rpartition(":")[2])
        for name in (beta, f"{ns}-main", f"{ns}-spare")
    ]
    for port in published:
        socket.create_connection(("127.0.0.1", port), 5).close()
    gateways = docker(
        "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", ns,
        f"{ns}.alpha.production", f"{ns}.beta.production", "bridge",
    ).splitlines()  # fmt: skip
    hosts = [*gateways, "127.0.0.1", "localhost", "host.docker.internal", "gateway.docker.internal",
             "purveyor-api", socket.gethostname()]  # fmt: skip
    names = [beta, docker("inspect", "-f", "{{.Id}}", beta)[:12], "beta-production",
             f"beta-production.{ns}.beta.production", f"{beta}.{ns}.beta.production",
             f"{ns}-spare", f"{ns}-spare.{ns}", "alpha-preview"]  # fmt: skip
    given = {
        "names": names,
        "doors": [[host, port] for host in hosts for port in published],
        "other": [other, 8000],
        "service": [service, 5432],
        "own": next(iter(networks_of(apps["alpha"]).values())),
        "door": ["purveyor-api", int(stage.address.rpartition(":")[2])],
    }
    given["door"][0] = docker("exec", apps["alpha"], "getent", "hosts", "purveyor-api").split()[0]
    found = json.loads(
        docker("exec", "-u", "0", apps["alpha"], "python3", "-c", LOOK, json.dumps(given))
    )
    reached = [
        name
        for name, said in found.items()
        if name.startswith(("name ", "whose", "door ", "routed")) and said in ("done", other)
    ]
    assert reached == []
    assert [found[f"name {name}"] for name in names if found[f"name {name}"][0].isdigit()] == []
    assert {name: found[name] for name in WITHHELD if found[name] not in ("EPERM", "EACCES")} == {}
    spoke = {found[name] for name in found if name.startswith("speak as ")}
    assert spoke <= {"EINVAL", "ENETUNREACH", "EPERM"}
    assert found["oneself"] == "done"
    assert found["ipv6"] in ("EROFS", "EACCES", "ENOENT")
    assert found["redirects"] in ("EROFS", "EACCES")
    assert set(found["ipv6 addresses"]) <= {"lo"}
    assert (found["own service"], found["own door"]) == ("done", "done")


@attack(
    "tokens and sign-in",
    "send the token of another project's app",
    "send the token of an app of another environment",
    honest="sends its own; so does what a person put on the network",
)
def test_a_token_that_another_app_got_hold_of_works_from_its_own_apps_alone(
    stage: Stage, apps: dict[str, str]
) -> None:
    variables = {name: stage.variables(name, host=False) for name in ("alpha", "beta")}
    token = variables["alpha"]["KV_REST_API_TOKEN"]

    def answers(container: str, with_: str) -> str:
        return docker("exec", container, "python3", "-c", CALL, with_)

    eventually(lambda: answers(apps["alpha"], token) == "200")
    assert answers(apps["beta"], token) == answers(apps["preview"], token) == "403"
    assert answers(apps["beta"], variables["beta"]["KV_REST_API_TOKEN"]) == "200"
    given = (
        "-e",
        f"KV_REST_API_URL={variables['alpha']['KV_REST_API_URL']}",
        DEMO,
        "python3",
        "-c",
        CALL,
        token,
    )
    assert docker("run", "--rm", "--network", stage.namespace, *given) == "200", (
        "what a person puts on the network"
    )


@attack(
    "the network",
    "reach a service that was unlinked",
    honest="reaches what is linked later; others go on",
)
def test_what_is_linked_later_is_reached_and_what_is_unlinked_is_not(
    stage: Stage, apps: dict[str, str]
) -> None:
    ports = {name: redis_port(stage, name) for name in ("alpha", "beta")}
    stage.cli("unlink", "cache", "beta", "--now", "--yes")
    name = f"{stage.namespace}-cache"
    assert not reaches(apps["beta"], name, ports["beta"])
    assert reaches(apps["alpha"], name, ports["alpha"]), "others go on"
    stage.cli("link", "cache", "beta")
    eventually(lambda: reaches(apps["beta"], name, ports["beta"]))
    started = docker("inspect", "-f", "{{.State.StartedAt}}", name)
    assert started == docker("inspect", "-f", "{{.State.StartedAt}}", name)


def test_networks_that_were_pruned_while_a_service_was_stopped_are_there_when_it_starts(
    stage: Stage, apps: dict[str, str]
) -> None:
    """Docker itself starts no container whose network is gone, for ever."""
    stage.cli("create", "redis", "lone")
    stage.cli("project", "create", "gamma")
    stage.cli("link", "lone", "gamma")
    container = deploy(stage, "gamma")["container"]
    stage.cli("stop", "lone", "--yes")
    network = f"{stage.namespace}.gamma.production"
    before = docker("network", "inspect", "-f", "{{.Id}}", network)

    def pruned() -> bool:
        """The app may be brought back between the two."""
        docker("kill", container, check=False)
        docker("network", "rm", before, check=False)
        return before not in docker("network", "ls", "-q", "--no-trunc").split()

    eventually(pruned)
    eventually(lambda: network in stage.networks())
    stage.cli("start", "lone")
    eventually(
        lambda: docker("inspect", "-f", "{{.State.Running}}", container, check=False) == "true"
    )
    eventually(lambda: reaches(container, f"{stage.namespace}-lone", redis_port(stage, "gamma")))


def test_a_network_goes_with_its_last_app_and_with_nothing_else(
    stage: Stage, apps: dict[str, str]
) -> None:
    deploy(stage, "alpha", "-e", "short", "--create")
    network = f"{stage.namespace}.alpha.short"
    assert network in stage.networks()
    assert network in networks_of(f"{stage.namespace}-main")
    stage.cli("project", "remove-environment", "alpha", "short", "--yes")
    assert network not in stage.networks()
    assert network not in networks_of(f"{stage.namespace}-main")
    assert {
        f"{stage.namespace}.alpha.production",
        f"{stage.namespace}.beta.production",
    } <= stage.networks()
    assert stage.rows("SELECT 1 FROM networks WHERE name LIKE '%.short'") == []


def test_what_a_person_put_on_a_network_keeps_it_and_is_not_cut_off(
    stage: Stage, apps: dict[str, str]
) -> None:
    deploy(stage, "alpha", "-e", "kept", "--create")
    network = f"{stage.namespace}.alpha.kept"
    other = docker("run", "-d", "--network", network, DEMO, "sleep", "600")
    try:
        stage.cli("project", "remove-environment", "alpha", "kept", "--yes")
        assert network in stage.networks()
        assert network in networks_of(other)
    finally:
        docker("rm", "-f", "-v", other)
    eventually(lambda: network not in stage.networks(), 60)


def test_a_published_port_and_an_open_connection_survive_a_new_network(
    stage: Stage, apps: dict[str, str]
) -> None:
    port = int(docker("port", f"{stage.namespace}-cache").splitlines()[0].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 5) as line:
        deploy(stage, "alpha", "-e", "another", "--create")
        line.sendall(b"PING\r\n")
        assert line.recv(100)
        stage.cli("project", "remove-environment", "alpha", "another", "--yes")
        line.sendall(b"PING\r\n")
        assert line.recv(100)


def test_an_app_of_before_there_were_networks_joins_its_own_without_a_break(
    make_stage: MakeStage,
) -> None:
    """As an older version left it: on the installation's own network, under its name there."""
    stage = make_stage("health-interval = 2")
    network, service = f"{stage.namespace}.beta.old", f"{stage.namespace}-cache"
    with stage.serving():
        stage.furnish({"cache": "redis"}, ["beta"])
        container = deploy(stage, "beta", "-e", "old", "--create")["container"]
    with sqlite3.connect(f"file:{Path(stage.state)}/purveyor.db", uri=True) as db:
        db.execute("DELETE FROM networks")
    docker("network", "connect", "--alias", "beta-old", stage.namespace, container)
    for name in (service, container):
        docker("network", "disconnect", network, name)
    docker("network", "rm", network)
    started = docker("inspect", "-f", "{{.State.StartedAt}}", container)
    with stage.serving():
        eventually(lambda: {network, stage.namespace} <= networks_of(container).keys())
        port = redis_port(stage, "beta", "old")
        eventually(lambda: reaches(container, service, port))
        assert docker("inspect", "-f", "{{.State.StartedAt}}", container) == started
        assert (
            docker(
                "run", "--rm", "--network", network, DEMO, "python3", "-c", ASK, "beta-old", "8000"
            )
            == "open"
        )
        assert (
            f"on the network {stage.namespace} too"
            in stage.run("doctor", "beta", "-e", "old").stdout
        )
        again = deploy(stage, "beta", "-e", "old")
        assert set(networks_of(again["container"])) == {network}
        assert httpx.get(again["url"]).status_code == 200
