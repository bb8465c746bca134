"""A hostile image: what is written into it about its containers is not believed, reaches nothing of
others, and an honest image's own words go on being heeded.

Images are made by `docker build`, as their authors would.
"""

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from attacks.told import attack
from of_before import shown
from support import DEMO, MakeStage, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

Build = Callable[[str], str]
SERVE = 'CMD ["python3", "-m", "http.server", "8000"]'
# the engine's own limits of a log, and what the container prints over them
PRINTS = "import sys, time; [sys.stdout.write('x' * 1_000_000) for _ in range(45)]; sys.stdout.flush(); print('done', flush=True); time.sleep(600)"  # noqa: E501


@pytest.fixture(scope="module")
def stage(make_stage: MakeStage) -> Iterator[Stage]:
    with make_stage("health-interval = 1").serving() as made:
        made.furnish({"cache": "redis"}, ["alpha", "beta"])
        yield made


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """Makes an image of what is below a first line."""
    made: list[str] = []

    def work(text: str) -> str:
        name = f"pvt-{secrets.token_hex(4)}:1"
        # the builder that each engine has
        subprocess.run(
            ["docker", "build", "-q", "-t", name, "-"],
            input=f"FROM {DEMO}\n{text}\n".encode(),
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
            check=True,
            capture_output=True,
        )
        made.append(name)
        return name

    yield work
    for name in made:
        docker("rmi", "-f", name, check=False)


@pytest.fixture(scope="module")
def token(stage: Stage) -> str:
    return stage.cli("token", "create", "t", "--scope", "project", "--project", "alpha").strip()


def deployed(stage: Stage, token: str, image: str, **given: Any) -> dict[str, Any]:
    with stage.http(token) as client:
        answer = client.post(
            "/api/projects/alpha/deployments",
            json={"image": image, "port": 8000, "health_path": "/", **given},
        )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


@attack(
    "the engine",
    "be taken for a service by a label of one's image",
    "be taken for another project's app by one",
    "be taken for a container that may be removed by one",
    "be taken for what is up to date by one",
    honest="has labels of its own",
)
def test_labels_of_an_image_that_look_like_ours_are_not_believed(
    stage: Stage, token: str, build: Build
) -> None:
    (service,) = stage.rows("SELECT id FROM services WHERE slug = 'cache'")[0]
    (other,) = stage.rows("SELECT id FROM projects WHERE slug = 'beta'")[0]
    ours = {
        "installation": stage.installation, "service": service, "type": "redis", "volume": "1",
        "project": other, "environment": "1", "deployment": "1", "purpose": "proof", "spec": "x",
        "files": f"{stage.installation}/{stage.namespace}-cache",
    }  # fmt: skip
    labels = " ".join(f'dev.purveyor.{name}="{value}"' for name, value in ours.items())
    app = deployed(stage, token, build(f'LABEL {labels} com.example.own="mine"\n{SERVE}'))
    before = shown(f"{stage.namespace}-cache")["Id"]
    stage.cli("restart", "cache")
    stage.cli("rotate", "beta")
    doctor = stage.run("doctor").stdout
    held = shown(app["container"])
    found = {
        name.removeprefix("dev.purveyor."): value
        for name, value in held["Config"]["Labels"].items()
    }
    assert (found["com.example.own"], found["installation"]) == ("mine", stage.installation)
    assert (found["service"], found["type"], found["purpose"]) == ("", "", "")
    (alpha,) = stage.rows("SELECT id FROM projects WHERE slug = 'alpha'")[0]
    assert (found["project"], found["deployment"]) == (str(alpha), str(app["id"]))
    assert found["spec"] != "x"
    assert held["State"]["Running"]
    assert app["container"] not in doctor
    assert shown(f"{stage.namespace}-cache")["Id"] == before
    assert stage.json("health", "cache")["healthy"]
    assert httpx.get(app["url"]).status_code == 200


@attack(
    "the engine",
    "have its own variables in the place of the injected ones",
    "hide the authority's certificate under a volume of one's image",
    "have the engine's socket by a volume of one's image",
    "leave volumes behind",
    honest="an image's other variables, volumes and user are what its author wrote",
)
def test_variables_and_volumes_of_an_image_change_nothing_of_ours(
    stage: Stage, token: str, build: Build
) -> None:
    volumes = set(docker("volume", "ls", "-q").split())
    image = build(
        "ENV REDIS_PASSWORD=evil REDIS_HOST=evil.example OWN=mine\nUSER 0\n"
        "VOLUME /run/docker.sock\nVOLUME /etc/purveyor\nVOLUME /kept\nUSER 1234:1234\n" + SERVE
    )
    app = deployed(stage, token, image, environment="production")
    variables = stage.variables("alpha", host=False)
    seen = docker("exec", app["container"], "env").splitlines()
    assert f"REDIS_PASSWORD={variables['REDIS_PASSWORD']}" in seen
    assert f"REDIS_HOST={variables['REDIS_HOST']}" in seen
    assert "OWN=mine" in seen
    inside = docker(
        "exec", app["container"], "sh", "-c",
        "id -u; ls -A /run/docker.sock | wc -l; cat /etc/purveyor/ca.crt; ls -d /kept",
    )  # fmt: skip
    user, held, *text, kept = inside.splitlines()
    assert (user, held, kept) == ("1234", "0", "/kept")
    assert "\n".join(text) == variables["REDIS_CA_PEM"].strip()
    deployed(stage, token, build(SERVE))
    eventually(lambda: set(docker("volume", "ls", "-q").split()) & named(app) == set())
    ours = {
        name
        for name in set(docker("volume", "ls", "-q").split()) - volumes
        if stage.namespace in docker("volume", "inspect", name, check=False)
    }
    assert ours == set()


@attack(
    "the engine",
    "have a file of ours put elsewhere by a link in one's image",
    "keep one's app from starting by what is in that place",
    honest="an app reads the authority's certificate where it belongs",
)
@pytest.mark.parametrize(
    "there",
    ["ln -s /tmp/{mark} /etc/purveyor", "ln -s /tmp/{mark} /etc/purveyor && mkdir /tmp/{mark}",
     "ln -s ../../../../../tmp /etc/purveyor", "ln -s purveyor /etc/purveyor", "touch /etc/purveyor",
     "mkdir /etc/purveyor && ln -s /tmp/{mark} /etc/purveyor/ca.crt", "mkdir -p /etc/purveyor/ca.crt/x"],
)  # fmt: skip
def test_what_an_image_has_in_the_place_of_ours_leads_nowhere_else(
    there: str, stage: Stage, token: str, build: Build
) -> None:
    mark = secrets.token_hex(6)
    before = os.path.lexists("/tmp/ca.crt")
    app = deployed(stage, token, build(f"USER 0\nRUN {there.format(mark=mark)}\n{SERVE}"))
    told = docker("exec", app["container"], "cat", "/etc/purveyor/ca.crt")
    assert told == stage.variables("alpha", host=False)["REDIS_CA_PEM"].strip()
    assert not os.path.lexists(f"/tmp/{mark}"), "that of this host"
    assert os.path.lexists("/tmp/ca.crt") == before


def named(app: dict[str, Any]) -> set[str]:
    """The volumes of a container, none once it is gone."""
    text = docker("inspect", "-f", "{{json .Mounts}}", app["container"], check=False)
    return {item.get("Name", "") for item in json.loads(text)} if text else set()


@attack(
    "the engine",
    "have the engine run a check a thousand times a second",
    honest="an image's health check is heeded, as often as it says up to once a second",
)
def test_the_engine_is_not_kept_busy_by_an_images_health_check(
    stage: Stage, token: str, build: Build
) -> None:
    check = "CMD [\"python3\", \"-c\", \"open('/tmp/asked', 'a').write('x')\"]"
    app = deployed(stage, token, build(f"USER 0\nHEALTHCHECK --interval=1ms {check}\n{SERVE}"))
    held = shown(app["container"])["Config"]["Healthcheck"]
    assert held["Interval"] == 1_000_000_000
    assert "asked" in " ".join(held["Test"])
    eventually(lambda: docker("exec", app["container"], "cat", "/tmp/asked"))
    slow = deployed(
        stage, token, build(f"USER 0\nHEALTHCHECK --interval=7s --retries=9 {check}\n{SERVE}")
    )
    held = shown(slow["container"])["Config"]["Healthcheck"]
    assert (held["Interval"], held["Retries"]) == (7_000_000_000, 9)
    without = deployed(stage, token, build(f"HEALTHCHECK NONE\n{SERVE}"))
    assert "Health" not in shown(without["container"])["State"]


@attack(
    "the engine",
    "fill this host's disk with what it prints",
    "have the daemon hold a line without end",
    honest="the last that an app printed is read",
)
def test_what_an_app_prints_has_an_end(stage: Stage, token: str) -> None:
    app = deployed(
        stage, token, DEMO, port=None, health_path=None, command=["python3", "-c", PRINTS]
    )
    eventually(lambda: "done" in docker("logs", "--tail", "1", app["container"]))
    options = shown(app["container"])["HostConfig"]["LogConfig"]["Config"]
    assert options == {"max-size": "10m", "max-file": "3"}
    kept = len(docker("logs", app["container"]))
    assert kept < 32_000_000
    with stage.http(token) as client:
        answer = client.get(f"/api/projects/alpha/deployments/{app['id']}/log")
    assert answer.status_code == 200
    assert answer.text.rstrip().endswith("done")
    assert len(answer.content) < 8_000_000
