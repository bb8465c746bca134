"""A hostile app gets nothing in the engine: no raw socket, no capability, no end of processes or
memory. Honest apps work.

The attacker is root in its own container, in an image that starts as root: as far as an app can
get.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attacks.told import attack
from support import (
    DEMO,
    MINIO,
    MONGODB,
    POSTGRES,
    REDIS,
    RUSTFS,
    SEAWEEDFS,
    MakeStage,
    Stage,
    docker,
    eventually,
)

ROOTS = REDIS  # its entry point runs any other command as root; it holds a Python
# a container's first process has to ask for it
ENDS = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(0))"
SLEEP = "import time; time.sleep(600)"
REPORT = """
import errno, json, os, socket, sys, threading, time
found = {}
def tried(name, what):
    try:
        what()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))
def status(name):
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name + ":"))
def serve():
    with socket.socket() as door:
        door.bind(("0.0.0.0", 80))
        door.listen()
        with socket.create_connection(("127.0.0.1", 80)):
            pass
def write():
    open("/tmp/mine", "w").write("mine")
found["uid"] = os.getuid()
for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp"):
    found[name] = int(status(name), 16)
tried("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
tried("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
tried("write a file", write)
tried("give it away", lambda: os.chown("/tmp/mine", 12, 12))
tried("become another", lambda: os.setuid(1234))
tried("take a group", lambda: os.setgid(1234))
tried("chroot", lambda: os.chroot("/tmp"))
tried("device", lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(8, 0)))
tried("nice", lambda: os.nice(-5))
tried("host name", lambda: socket.sethostname("db"))
tried("forward", lambda: open("/proc/sys/net/ipv4/ip_forward", "w").write("1"))
tried("signal", lambda: os.kill(1, 0))
tried("another's file", lambda: open("/tmp/foreign"))
tried("port 80", serve)
found["forwards"] = open("/proc/sys/net/ipv4/ip_forward").read().strip()
print(json.dumps(found), flush=True)
time.sleep(600)
"""
FORKS = """
import os, sys, time
made = []
for _ in range(500):
    try:
        pid = os.fork()
    except OSError as error:
        print("refused", error.errno, len(made), flush=True)
        break
    if not pid:
        time.sleep(600)
        os._exit(0)
    made.append(pid)
else:
    print("all", len(made), flush=True)
for pid in made:
    os.kill(pid, 9)
time.sleep(600)
"""
FILLS = """
import os, time
pid = os.fork()
if not pid:
    held = []
    while len(held) < 400:
        held.append(bytearray(os.urandom(1)) * 1048576)
    os._exit(0)
_, status = os.waitpid(pid, 0)
print("killed" if os.WIFSIGNALED(status) else "held it all", flush=True)
time.sleep(600)
"""
KEPT = {
    "packet socket", "raw socket", "give it away", "become another", "take a group", "chroot",
    "device", "nice", "host name",
    "forward",
}  # fmt: skip


@pytest.fixture(scope="module")
def stage(make_stage: MakeStage) -> Iterator[Stage]:
    with make_stage('project-environments = 4\nself-repair = "off"').serving() as stage:
        stage.furnish({}, ["alpha", "beta"])
        yield stage


@pytest.fixture(scope="module")
def token(stage: Stage) -> str:
    return stage.cli("token", "create", "t", "--scope", "project", "--project", "alpha").strip()


Deploy = Callable[..., Any]


@pytest.fixture
def deploy(stage: Stage, token: str) -> Deploy:
    """Deploy as the project's own token, or as an administrator; the answer is the HTTP answer."""

    def work(
        image: str, script: str = "", *, by: str = token, project: str = "alpha", **given: Any
    ) -> Any:
        body = {
            "image": image,
            "command": ["python3", "-c", f"{ENDS}\n{script}"] if script else [],
            **given,
        }
        with stage.http(by) as client:
            return client.post(f"/api/projects/{project}/deployments", json=body)

    return work


@pytest.fixture(scope="module")
def admin(stage: Stage) -> str:
    return stage.cli("token", "create", "a", "--scope", "admin").strip()


def printed(answer: Any) -> str:
    assert answer.status_code == 201, answer.text
    name = answer.json()["container"]
    return str(eventually(lambda: docker("logs", name)))


@attack(
    "the engine",
    "open a packet socket",
    "open a raw socket",
    "give a file away",
    "become another user",
    "take a group",
    "leave its root folder",
    "make a device",
    "take priority over others",
    "change the name of its host",
    "pass packets on between networks",
    honest="writes files, signals its processes, serves on port 80",
)
def test_an_app_that_is_root_can_do_nothing_that_root_can(deploy: Deploy) -> None:
    found = json.loads(printed(deploy(ROOTS, REPORT)))
    assert found["uid"] == 0
    assert {
        name: found[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")
    } == dict.fromkeys(("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"), 0)
    assert (found["NoNewPrivs"], found["Seccomp"], found["forwards"]) == (1, 2, "0")
    assert {name for name in KEPT if found[name] not in ("EPERM", "EACCES", "EROFS")} == set()
    assert (found["write a file"], found["signal"], found["port 80"]) == ("done", "done", "done"), (
        "what an honest app does"
    )


def test_an_app_runs_as_the_user_of_its_image(deploy: Deploy) -> None:
    found = json.loads(printed(deploy(DEMO, REPORT)))
    assert found["uid"] == int(docker("run", "--rm", "--entrypoint", "id", DEMO, "-u"))
    assert found["uid"] != 0
    assert found["CapEff"] == found["CapBnd"] == 0


def test_control_what_docker_gives_by_itself_lets_an_app_read_the_network(engine: None) -> None:
    found = json.loads(
        docker("run", "--rm", ROOTS, "python3", "-c", REPORT.replace("time.sleep(600)", ""))
    )
    assert (found["packet socket"], found["NoNewPrivs"]) == ("done", 0)


@attack(
    "the engine",
    "start processes without end",
    honest="starts as many as it may",
)
def test_the_number_of_an_apps_processes_ends(deploy: Deploy) -> None:
    assert printed(deploy(DEMO, FORKS, pids=40)).startswith("refused 11 ")
    assert printed(deploy(DEMO, FORKS)) == "all 500"


@attack(
    "the engine",
    "take memory without end",
    honest="holds what fits",
)
def test_an_apps_memory_ends_and_it_is_told_apart_from_one_that_fits(deploy: Deploy) -> None:
    assert printed(deploy(DEMO, FILLS, memory=100)) == "killed"
    assert printed(deploy(DEMO, FILLS, memory=1000)) == "held it all"
    held = json.loads(docker("inspect", deploy(DEMO, SLEEP).json()["container"]))[0]["HostConfig"]
    assert (held["Memory"], held["PidsLimit"]) == (2048 * 1024 * 1024, 1024)
    assert (held["CapDrop"], held["CapAdd"] or [], held["SecurityOpt"], held["Privileged"]) == (
        ["ALL"], [], ["no-new-privileges"], False,
    )  # fmt: skip


@attack(
    "the engine",
    "ask for a capability with a project's token",
    honest="an administrator gives one, and that one alone",
)
def test_capabilities_are_an_administrators_to_give(deploy: Deploy, admin: str) -> None:
    refused = deploy(ROOTS, REPORT, cap_add=["NET_RAW"])
    assert (refused.status_code, refused.json()["errors"]) == (
        403,
        {"cap_add": "for admin tokens only"},
    )
    found = json.loads(printed(deploy(ROOTS, REPORT, by=admin, cap_add=["CAP_CHOWN"])))
    assert (found["give it away"], found["packet socket"]) == ("done", "EPERM")
    assert found["CapEff"] == 1


@attack(
    "the engine",
    "ask to be privileged",
    "ask for another user",
    "ask for a folder of the host",
    "ask for the host's network",
    "ask to keep its capabilities",
    "ask for other rules of security",
    "ask for a device of the host",
    "say who deploys",
    honest="chooses its limits, command and port",
)
@pytest.mark.parametrize(
    "field",
    [
        "privileged",
        "user",
        "mounts",
        "network",
        "cap_drop",
        "security_opt",
        "devices",
        "by_project",
    ],
)
def test_there_is_no_other_option_to_ask_for(field: str, deploy: Deploy, admin: str) -> None:
    for by in (admin, None):
        answer = deploy(DEMO, **({"by": by} if by else {}), **{field: True})
        assert (answer.status_code, field in answer.text) == (400, True)


STEPS_DOWN = "import os; os.chown('/tmp', 12, 12); os.setgid(12); os.setuid(12); " + SLEEP


def test_an_image_that_steps_down_from_root_is_told_the_way(deploy: Deploy, admin: str) -> None:
    failed = deploy(ROOTS, STEPS_DOWN)
    assert failed.status_code == 502
    assert "Operation not permitted" in failed.json()["detail"]
    assert "--cap-add CHOWN --cap-add SETGID --cap-add SETUID" in failed.json()["remedy"]
    done = deploy(ROOTS, STEPS_DOWN, by=admin, cap_add=["CHOWN", "SETGID", "SETUID"])
    assert done.status_code == 201, done.text


# ---------------------------------------------------------------- images, environments, names


@attack(
    "the engine",
    "have the engine ask the API for an image",
    "have it ask a port of this host",
    "have it ask this host's SSH",
    "have it ask an address of the network",
    "have it ask an address of IPv6",
    "have it ask another port of a registry",
    honest="deploys an image that is there",
)
@pytest.mark.parametrize(
    "image",
    [
        "{api}/x:1",
        "127.0.0.1:1/x",
        "localhost:22/x",
        "10.0.0.1/x",
        "[::1]:5000/x",
        "x.example:22/x",
    ],
)
def test_images_are_no_port_scanner(image: str, stage: Stage, deploy: Deploy) -> None:
    refused = deploy(image.format(api=stage.address.removeprefix("http://")))
    assert refused.status_code == 403
    assert set(refused.json()["errors"]) == {"image"}


@attack(
    "the engine",
    "read what the engine says of a pull",
    "read what the engine says of a start",
    honest="is told what failed; an administrator is told why",
)
def test_what_the_engine_says_is_for_administrators(
    deploy: Deploy, admin: str, stage: Stage
) -> None:
    name = f"registry.invalid/{secrets.token_hex(4)}:1"
    plain = deploy(name)
    assert (plain.status_code, plain.json()["detail"]) == (
        409,
        f"The image {name} is not available.",
    )
    told = deploy(name, by=admin)
    assert "pulling it failed: " in told.json()["detail"]
    assert "pulling it failed: " in (stage.state / "daemon.log").read_text()
    gone = deploy(DEMO, command=["/no/such/program"])
    assert (gone.status_code, gone.json()["detail"]) == (
        502,
        "The app's container could not be started.",
    )
    assert "no such file" in deploy(DEMO, by=admin, command=["/no/such/program"]).json()["detail"]


@attack(
    "the engine",
    "run another project's image by its name",
    "run it without its tag",
    "run it by its registry's name",
    "run it by its id",
    "run it by the beginning of its id",
    "learn whether another project runs an image",
    honest="its own project runs it",
)
def test_files_of_another_projects_image_are_not_read(
    deploy: Deploy, admin: str, stage: Stage
) -> None:
    name = f"pvt-{secrets.token_hex(4)}:1"
    docker("tag", POSTGRES, name)
    try:
        assert deploy(name, SLEEP, by=admin, project="beta").status_code == 201
        number = docker("image", "inspect", "--format", "{{.Id}}", name)
        nobodys = f"pvt-{secrets.token_hex(4)}:1"
        told = {}
        for image in (name, name.removesuffix(":1"), f"docker.io/library/{name}", nobodys):
            answer = deploy(image, command=["cat", "/etc/passwd"])
            assert answer.status_code == 409, image
            told[image] = [answer.json()["detail"].replace(image, ""), answer.json()["remedy"]]
        assert told[name] == told[nobodys]
        assert deploy(number, command=["cat", "/etc/passwd"]).status_code == 403
        short = number.removeprefix("sha256:")[:12]
        assert deploy(short, command=["cat", "/etc/passwd"]).status_code == 409
    finally:
        # the image has other names, and others use it
        ours = f"label=dev.purveyor.installation={stage.installation}"
        with_it = docker("ps", "-aq", "--filter", f"ancestor={name}", "--filter", ours).split()
        if with_it:
            docker("rm", "-f", "-v", *with_it)
        docker("rmi", name)


@attack(
    "names",
    "make environments without end",
    "make an environment that answers as another project's app",
    "make a project that answers as a service",
    honest="makes as many as it may",
)
def test_environments_end_and_names_are_nobody_elses(deploy: Deploy, stage: Stage) -> None:
    made = [
        deploy(DEMO, SLEEP, environment=f"e{number}", create=True).status_code
        for number in range(4)
    ]
    assert made == [201, 201, 201, 409]
    stage.call("POST", "/projects", json={"name": "alpha-x"})
    with stage.local() as client:
        taken = client.post("/api/projects/alpha/environments", json={"name": "x-production"})
        assert (taken.status_code, "alpha-x/production" in taken.json()["detail"]) == (409, True)
        reserved = client.post("/api/projects", json={"name": stage.namespace})
        assert (reserved.status_code, "name" in reserved.json()["errors"]) == (400, True)


# ---------------------------------------------------------------- services

# name: type, image, parameters; every server and every way of beginning that there is
SERVERS = {
    **{
        f"postgres-{major}": ("postgres", f"purveyor-test/postgres:{major}", [])
        for major in (15, 16, 17, 18)
    },
    "postgres-tls": ("postgres", POSTGRES, ["-p", "ssl_mode=require"]),
    "redis-7": ("redis", "purveyor-test/redis:7.0", []),
    "redis-8": ("redis", REDIS, []),
    "valkey": ("redis", "purveyor-test/valkey:8.1", []),
    "redis-one": ("redis", REDIS, ["-p", "channels=divided"]),
    "mongodb": ("mongodb", MONGODB, []),
    "mongodb-set": ("mongodb", MONGODB, ["-p", "replica_set=rs0"]),
    "rustfs": ("s3", RUSTFS, []),
    "minio": ("s3", MINIO, []),
    "seaweedfs": ("s3", SEAWEEDFS, []),
}
LAUNCHED = ("redis-7", "redis-8", "valkey")
STAY_ROOT = ("minio", "seaweedfs", *LAUNCHED)  # with what their entry points may do
OFFICIAL = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
SNIFF = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)"
# a way in that would be there after the next start: a program, a library's list, a folder, the root
CHANGED = ("/usr/bin/own", "/usr/bin/env", "/etc/ld.so.preload", "/etc/passwd", "/root/own", "/own")


@pytest.mark.fortnightly
@attack(
    "the engine",
    "open a packet socket as root of a server's container",
    "open one as another user there",
    "change a program there as root",
    "have the root file system written to again",
    "change the server's configuration as another user",
    "run what one has written to a folder for all",
    honest="serves, stops, starts and is made anew, each server that there is",
)
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_was_taken_over_reads_nobodys_traffic_and_changes_nothing_of_its_image(
    name: str, stage: Stage
) -> None:
    kind, image, options = SERVERS[name]
    if not docker("images", "-q", image):
        pytest.skip(f"there is no {image} here")
    container = f"{stage.namespace}-{name}"
    stage.cli("create", kind, name, "--image", image, *options)
    held = json.loads(docker("inspect", container))[0]["HostConfig"]
    assert (held["CapDrop"], held["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    given = {item.removeprefix("CAP_") for item in held["CapAdd"]}
    beside = {"KILL"} if name in LAUNCHED else {"SETPCAP"} if kind == "redis" else set()
    assert given == OFFICIAL | beside
    assert held["PidsLimit"] >= 1124
    assert held["Sysctls"] == {"net.ipv4.ip_forward": "0"}
    lines = docker("exec", container, "cat", "/proc/1/status").splitlines()
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    assert status["NoNewPrivs"] == "1"
    assert (int(status["CapEff"], 16) != 0) == (name in STAY_ROOT)
    for user in ("0", "1000"):
        said = docker(
            "exec", "-u", user, container, "sh", "-c", f"python3 -c '{SNIFF}' 2>&1 || true"
        )
        assert "Operation not permitted" in said

    def tried(script: str, user: str = "0") -> str:
        return docker("exec", "-u", user, container, "sh", "-c", f"{{ {script}; }} 2>&1 || true")

    assert held["ReadonlyRootfs"]
    for path in CHANGED:
        assert "Read-only file system" in tried(f"echo >>{path}"), path
    assert "mounted" not in tried("mount -o remount,rw / && echo mounted")
    assert "denied" in tried("echo >/etc/purveyor/mine", "1000")
    assert "denied" in tried("cp /bin/sh /tmp/own && chmod 755 /tmp/own && /tmp/own -c true")
    # on its own data, made by its own user, and once more in a container made anew
    stage.cli("stop", name)
    stage.cli("start", name)
    mounts = json.loads(docker("inspect", container))[0]["Mounts"]
    docker("rm", "-f", container)  # without -v: its secrets are in a volume that nobody uses
    stage.cli("restart", name)
    assert stage.json("health", name)["healthy"]
    mark = f"label=dev.purveyor.files={stage.installation}/{container}"
    assert len(docker("volume", "ls", "-q", "--filter", mark).split()) >= 1
    assert docker("volume", "ls", "-q", "--filter", mark, "--filter", "dangling=true") == ""
    stage.cli("delete", name, "--purge")
    assert docker("volume", "ls", "-q", "--filter", mark) == ""
    for item in mounts:  # those that the image declares are left by whoever removes without -v
        if item["Type"] == "volume":
            docker("volume", "rm", item["Name"], check=False)


def test_the_doctor_tells_of_no_container_that_is_contained(stage: Stage, deploy: Deploy) -> None:
    stage.cli("create", "redis", "plain")
    assert deploy(DEMO, SLEEP).status_code == 201
    said = stage.run("doctor").stdout  # it has other things to tell here
    assert "engine: answers" in said
    assert "older Purveyor" not in said
    name = f"{stage.namespace}-plain"
    labels = json.loads(docker("inspect", name))[0]["Config"]["Labels"]
    docker("rm", "-f", "-v", name)
    given = [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
    docker("run", "-d", "--name", name, "--network", stage.namespace, *given, REDIS)
    assert "purveyor restart plain" in stage.run("doctor").stdout


def test_the_official_entry_point_of_redis_8_can_drop_what_it_drops(stage: Stage) -> None:
    stage.cli("create", "redis", "eight", "-p", "channels=divided")
    drops = (
        "--reuid",
        "redis",
        "--regid",
        "redis",
        "--clear-groups",
        "--nnp",
        "--inh-caps=-all",
        "--bounding-set=-all",
    )
    said = docker("exec", "-u", "0", f"{stage.namespace}-eight", "setpriv", *drops, "id", "-un")
    assert said == "redis"
