"""Import: a container that somebody else made is taken in, used, and left as it was found."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import data
from support import MONGODB, POSTGRES, REDIS, SEAWEEDFS, Stage, docker, eventually

pytestmark = pytest.mark.fortnightly

SECRET = 'it\'s a "secret" /:@%'
CONFIG = '{"identities":[{"name":"a","credentials":[{"accessKey":"seaweedkey","secretKey":"seaweedsecret"}],"actions":["Admin"]}]}'  # noqa: E501

# what to say of one
SEAWEED = ["-p", "access_key=seaweedkey", "-p", "secret_key=seaweedsecret", "-p", "port=8333"]


def run(stage: Stage, name: str, image: str, *command: str, **environment: str) -> str:
    """A container as its owner made it, on a network of its owner's."""
    full = f"{stage.namespace}-{name}"
    given = [part for key, value in environment.items() for part in ("-e", f"{key}={value}")]
    docker(
        "run",
        "-d",
        "--name",
        full,
        "--network",
        f"{stage.namespace}-theirs",
        *given,
        image,
        *command,
    )
    return full


def as_it_is(name: str) -> Any:
    """What the engine knows of a container, but for what its network gives it by chance."""
    shown = json.loads(docker("inspect", name))[0]
    networks = sorted(shown["NetworkSettings"]["Networks"])
    return (
        shown["Id"],
        shown["Config"],
        shown["HostConfig"],
        shown["State"]["StartedAt"],
        shown["Mounts"],
        networks,
    )


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    made = make_stage("health-interval = 1")
    docker("network", "create", f"{made.namespace}-theirs")
    try:
        with made.serving():
            yield made
    finally:
        made.clean()
        docker("network", "rm", f"{made.namespace}-theirs")


@pytest.fixture(scope="module")
def theirs(stage: Stage) -> str:
    """A PostgreSQL with an app's database and role, which nobody asked us for."""
    name = run(
        stage,
        "theirs",
        POSTGRES,
        POSTGRES_USER="owner",
        POSTGRES_PASSWORD=SECRET,
        POSTGRES_DB="shopdb",
    )
    eventually(
        lambda: (
            "1"
            in docker(
                "exec",
                name,
                "psql",
                "-h127.0.0.1",
                "-U",
                "owner",
                "shopdb",
                "-Atc",
                "SELECT 1",
                check=False,
            )
        )
    )
    docker(
        "exec", name, "psql", "-U", "owner", "shopdb", "-c",
        "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE TABLE orders AS SELECT g FROM generate_series(1, 1000) g; "
        "GRANT SELECT ON orders TO app;",
    )  # fmt: skip
    return name


def refused(stage: Stage, body: dict[str, Any]) -> Any:
    with stage.local() as client:
        answer = client.post("/api/external-services/import", json=body)
    assert not answer.is_success, answer.text
    return answer.status_code, answer.json()


def test_what_others_made_is_recognised_and_what_is_ours_is_not_listed(
    stage: Stage, theirs: str
) -> None:
    stage.cli("create", "redis", "own")
    other = run(stage, "demo", "purveyor-test/demo:1")
    names = {
        run(stage, "cache", REDIS, "redis-server", "--requirepass", "hunter22"): "redis",
        run(
            stage,
            "docs",
            MONGODB,
            MONGO_INITDB_ROOT_USERNAME="root",
            MONGO_INITDB_ROOT_PASSWORD="hunter22",
        ): "mongodb",
        f"{stage.namespace}-weed": "s3",
        theirs: "postgres",
    }
    seaweed(stage, f"{stage.namespace}-weed")
    answer = stage.call("GET", "/external-services/available-containers")
    found = {
        item["container_name"]: item
        for item in answer
        if item["container_name"].startswith(stage.namespace)
    }
    assert {name: item["service_type"] for name, item in found.items()} == names
    assert other not in found
    assert found[theirs]["suggested"] == {
        "username": "owner",
        "password": "***",
        "database": "shopdb",
    }
    assert found[theirs]["exposed_ports"] == [5432]
    assert found[theirs]["version"].startswith("17")
    assert "hunter22" not in json.dumps(answer)
    assert SECRET not in stage.cli("import")


@pytest.mark.parametrize(("change", "status", "says"), [
    ({"parameters": {"username": "owner", "password": "wrong", "database": "shopdb"}}, 400,
    "password"),
    ({"parameters": {"username": "app", "password": "app", "database": "shopdb"}}, 400,
    "may not make roles"),
    ({"parameters": {"username": "owner"}}, 400, "password"),
    ({"parameters": {"colour": "red"}}, 400, "colour"),
    ({"parameters": {"port": "six"}}, 400, "port"),
    ({"use_found": True, "parameters": {"port": 5999}}, 400, "does not accept connections"),
    ({"service_type": "redis"}, 400, ""),
    ({"service_type": "nothing"}, 400, "service type"),
    ({"service_type": "kv"}, 400, "does not offer imports"),
    ({"container_id": "no-such-container"}, 404, "no container"),
    ({"container_id": ""}, 404, "no container"),
    ({"name": "own", "use_found": True}, 409, "already"),
])  # fmt: skip
def test_what_cannot_be_imported_is_refused_and_nothing_is_registered(
    change: dict[str, Any], status: int, says: str, stage: Stage, theirs: str
) -> None:
    before, world = as_it_is(theirs), stage.world()
    body = {"container_id": theirs, "name": "taken-in", "service_type": "postgres"} | change
    code, said = refused(stage, body)
    assert code == status
    assert says in said["detail"]
    assert SECRET not in json.dumps(said)
    assert stage.world() == world
    assert as_it_is(theirs) == before


def test_containers_of_ours_and_containers_without_a_network_of_their_own_are_refused(
    stage: Stage,
) -> None:
    own = stage.json("show", "own")["service"]["container_name"]
    assert (
        "Purveyor's already"
        in refused(stage, {"container_id": own, "name": "x", "service_type": "redis"})[1]["detail"]
    )
    name = f"{stage.namespace}-host"
    docker("run", "-d", "--name", name, "--network", "none", REDIS, "redis-server")
    assert (
        "cannot join"
        in refused(stage, {"container_id": name, "name": "x", "service_type": "redis"})[1]["detail"]
    )


def test_an_imported_postgresql_is_used_like_one_of_ours_and_its_owner_notices_nothing(
    stage: Stage, theirs: str
) -> None:
    before = as_it_is(theirs)
    plan = stage.cli("import", theirs, "main", "--use-found", "--plan")
    assert "it goes on running" in plan
    stage.cli("import", theirs, "main", "--use-found")
    assert as_it_is(theirs)[:-1] == before[:-1]
    details = stage.json("show", "main")
    assert details["service"]["imported"]
    assert details["service"]["version"].startswith("17")
    assert details["current_parameters"]["password"] == "***"
    assert stage.json("health", "main")["healthy"]
    assert (
        "imported already"
        in refused(stage, {"container_id": theirs, "name": "x", "service_type": "postgres"})[1][
            "detail"
        ]
    )

    for project in ("alpha", "beta"):
        stage.cli("project", "create", project)
        stage.cli("link", "main", project)
    inside = stage.variables("alpha", host=False)
    assert inside["POSTGRES_HOST"] == theirs
    mine, other = stage.variables("alpha"), stage.variables("beta")
    data.ask(mine, "CREATE TABLE t AS SELECT 7 AS x")
    assert data.ask(mine, "SELECT x FROM t") == 7
    for database in ("shopdb", "postgres", "template1", other["POSTGRES_DATABASE"]):
        with pytest.raises(Exception, match="permission denied for database"):
            data.ask(
                {**mine, "DATABASE_URL": mine["DATABASE_URL"].rpartition("/")[0] + f"/{database}"},
                "SELECT 1",
            )
    # the owner's own role goes on as before
    assert data.ask({"DATABASE_URL": f"postgresql://app:app@{mine['POSTGRES_HOST']}:{mine['POSTGRES_PORT']}/shopdb"},
                   "SELECT count(*) FROM orders") == 1000  # fmt: skip


def test_an_imported_service_stops_and_starts_and_is_backed_up_and_copied(
    stage: Stage, theirs: str
) -> None:
    stage.cli("stop", "main")
    assert docker("inspect", "-f", "{{.State.Status}}", theirs) == "exited"
    assert stage.json("list")[-1]["status"] == "stopped"
    stage.cli("start", "main")
    assert stage.json("health", "main")["healthy"]
    assert data.ask(stage.variables("alpha"), "SELECT x FROM t") == 7
    backup = stage.json("backup", "run", "main")
    assert backup["state"] == "ok"
    stage.cli("backup", "verify", backup["backup_id"])
    stage.cli("clone", "main", "ours")
    answered = docker(
        "exec",
        f"{stage.namespace}-ours",
        "psql",
        "-U",
        "owner",
        "shopdb",
        "-Atc",
        "SELECT count(*) FROM orders",
    )
    assert answered == "1000"
    stage.cli("upgrade", "ours", "purveyor-test/postgres:18", "--plan")
    stage.cli("delete", "ours", "--purge", "--yes")


@pytest.mark.parametrize("arguments", [
    ("update", "main", "-p", "max_connections=50"),
    ("upgrade", "main", "purveyor-test/postgres:18"),
    ("upgrade", "main", "--undo"),
    ("delete", "main", "--purge", "--yes"),
])  # fmt: skip
def test_what_would_make_its_container_anew_or_delete_its_data_is_refused(
    arguments: tuple[str, ...], stage: Stage, theirs: str
) -> None:
    before, world = as_it_is(theirs), stage.world()
    done = stage.run(*arguments, "--yes")
    assert done.returncode
    assert "imported" in done.stderr + done.stdout
    assert stage.world() == world
    assert as_it_is(theirs) == before


def test_its_owner_restarts_it_and_it_goes_on(stage: Stage, theirs: str) -> None:
    docker("restart", theirs)
    eventually(lambda: stage.call("GET", "/external-services/main/health")["healthy"])
    assert data.ask(stage.variables("alpha"), "SELECT x FROM t") == 7


def test_when_its_owner_removes_it_that_is_said_and_nothing_is_made_in_its_place(
    stage: Stage,
) -> None:
    name = run(stage, "gone", REDIS, "redis-server", "--protected-mode", "no")
    eventually(lambda: stage.run("import", name, "gone", "--type", "redis").returncode == 0)
    docker("rm", "-f", "-v", name)
    listed = {item["slug"]: item for item in stage.json("list")}
    assert listed["gone"]["status"] == "missing"
    assert "managed externally" in listed["gone"]["status_reason"]
    done = stage.run("start", "gone")
    assert done.returncode
    assert "did not make it" in done.stderr
    assert name not in docker("ps", "-a", "--format", "{{.Names}}").split()
    # another one of that name, with other data
    run(stage, "gone", REDIS, "redis-server", "--protected-mode", "no")
    eventually(
        lambda: {item["slug"]: item for item in stage.json("list")}["gone"]["status"] == "refused"
    )
    assert docker("inspect", "-f", "{{.State.Status}}", name) == "running"
    stage.cli("start", "gone", "--accept-data")
    assert stage.json("health", "gone")["healthy"]
    stage.cli("delete", "gone")
    assert docker("inspect", "-f", "{{.State.Status}}", name) == "running"


def test_an_imported_redis_keeps_its_owners_keys_out_of_every_projects_reach(stage: Stage) -> None:
    name = f"{stage.namespace}-cache"
    stage.cli("import", name, "cache", "--use-found")
    docker("exec", name, "redis-cli", "-a", "hunter22", "SET", "theirs", "1")
    stage.cli("project", "create", "gamma")
    done = stage.run("link", "cache", "gamma")
    assert done.returncode
    assert "Database 0" in done.stderr
    docker("exec", name, "redis-cli", "-a", "hunter22", "SWAPDB", "0", "9")
    stage.cli("link", "cache", "gamma")
    variables = stage.variables("gamma")
    with redis.Redis.from_url(variables["REDIS_URL"], decode_responses=True) as client:
        client.set("mine", "1")
        with pytest.raises(redis.ResponseError, match="permission"):
            client.execute_command("SELECT", 9)
    # this one keeps its users in memory alone, and is started anew by its owner
    docker("exec", name, "redis-cli", "-a", "hunter22", "SAVE")
    docker("restart", name)

    def works() -> bool:
        try:
            with redis.Redis.from_url(
                stage.variables("gamma")["REDIS_URL"], decode_responses=True
            ) as again:
                return again.get("mine") == "1"
        except redis.RedisError:
            return False

    eventually(works)
    backup = stage.json("backup", "run", "cache")
    assert backup["state"] == "ok"
    stage.cli("backup", "verify", backup["backup_id"])


def seaweed(stage: Stage, name: str, listen: str = "-ip.bind=0.0.0.0") -> None:
    """A SeaweedFS on its own usual port."""
    script = (
        'echo "$C" > /s3.json; exec weed server -dir=/data -s3 -s3.port=8333 '
        "-s3.config=/s3.json -s3.iam.readOnly=false"
    )
    docker(
        "run", "-d", "--name", name, "--network", f"{stage.namespace}-theirs", "-e", f"C={CONFIG}",
        "--entrypoint", "sh",
        SEAWEEDFS, "-c", f"{script} -master.electionTimeout=1s {listen}",
    )  # fmt: skip


def test_a_server_that_listens_on_its_own_network_only_is_told_so(stage: Stage) -> None:
    name = f"{stage.namespace}-shy"
    seaweed(stage, name, listen="")
    before = as_it_is(name)
    eventually(
        lambda: "listen on all addresses" in stage.run("import", name, "shy", *SEAWEED).stderr
    )
    assert as_it_is(name) == before
    docker("rm", "-f", "-v", name)


@pytest.mark.parametrize(
    "kind", ["docs", "weed", "rustfs", pytest.param("minio", marks=pytest.mark.nightly)]
)
def test_the_other_types_are_imported_linked_and_let_go(
    kind: str, stage: Stage, request: pytest.FixtureRequest
) -> None:
    name = f"{stage.namespace}-{kind}"
    service_type = "mongodb" if kind == "docs" else "s3"
    extra = SEAWEED if kind == "weed" else []
    if kind == "minio":
        image = request.getfixturevalue("minio")
        run(
            stage,
            kind,
            image,
            "server",
            "/data",
            MINIO_ROOT_USER="minioroot",
            MINIO_ROOT_PASSWORD="hunter22222",
        )
    if kind == "rustfs":
        run(
            stage,
            kind,
            request.getfixturevalue("rustfs"),
            RUSTFS_ACCESS_KEY="rustfsroot",
            RUSTFS_SECRET_KEY="hunter22222",
        )
    before = as_it_is(name)

    def taken() -> bool:
        return (
            stage.run(
                "import", name, kind, "--type", service_type, "--use-found", *extra
            ).returncode
            == 0
        )

    eventually(taken)
    stage.cli("project", "create", f"of-{kind}")
    stage.cli("link", kind, f"of-{kind}")
    assert (
        stage.variables(f"of-{kind}", host=False)[f"{'MONGODB' if kind == 'docs' else 'S3'}_HOST"]
        == name
    )
    assert stage.json("health", kind)["healthy"]
    assert stage.json("backup", "run", kind)["state"] in ("ok", "suspect")
    assert "linked" in stage.run("delete", kind, "--yes").stderr
    stage.cli("unlink", kind, f"of-{kind}")
    stage.cli("delete", kind)
    assert as_it_is(name) == before


def test_released_it_is_as_it_was(stage: Stage, theirs: str) -> None:
    for project in ("alpha", "beta"):
        stage.cli("unlink", "main", project)
    stage.cli("delete", "main")
    assert as_it_is(theirs)[-1] == [f"{stage.namespace}-theirs"]
    assert docker("inspect", "-f", "{{.State.Status}}", theirs) == "running"
    assert theirs not in stage.cli("list", "--deleted")
    assert (
        docker(
            "exec", theirs, "psql", "-U", "owner", "shopdb", "-Atc", "SELECT count(*) FROM orders"
        )
        == "1000"
    )
