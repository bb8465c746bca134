"""SIGKILL on the way of a verb, and the proof that after the next start nothing is orphaned or
lost.

Here real engines and servers have done something that is not recorded yet: a kill after each such
act. Every write of every verb is killed on the fake engine (`kernel/test_killed.py`), and on the
real one by ``contrib/test --nightly``. The ordinary run takes every third of the acts, and other
ones on other days.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

import forkserver
from sampling import DAYS, turn
from support import PATIENCE, Stage, docker, eventually

KILLER = Path(__file__).parent / "killer.py"
MOST_POINTS = 240
SHARES = 3  # of the acts, of which an ordinary run takes one
NIGHTLY = [pytest.param(when, marks=pytest.mark.nightly) for when in ("act", "before", "after")]
EVERY_WHEN = ["some", *NIGHTLY]  # as `killer.py` says, and "some" of the acts


def kill_at(stage: Stage, count: int, when: str, verb: str, **arguments: Any) -> bool:
    """Run a verb and kill it at its point of this number; False when it ended before that."""
    command = [
        sys.executable,
        str(KILLER),
        str(stage.state),
        str(count),
        when,
        verb,
        json.dumps(arguments),
    ]
    done = forkserver.run(command, env=stage.environment)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


def assert_consistent(stage: Stage) -> None:
    """The daemon that started has finished or undone everything, and world and record agree."""
    unfinished = "SELECT id FROM operations WHERE state IN ('running', 'undoing')"
    try:
        eventually(lambda: stage.rows(unfinished) == [])
    except AssertionError:
        steps = stage.rows(
            f"SELECT operation_id, name, state FROM steps WHERE operation_id IN ({unfinished})"
        )
        log = (stage.state / "daemon.log").read_text().splitlines()[-20:]
        raise AssertionError(f"unfinished: {steps}\n" + "\n".join(log)) from None
    services = stage.rows(
        "SELECT id, container_name, volume_id, state, imported FROM services WHERE state != "
        "'deleted'"
    )
    assert all(row[3] == "active" for row in services), services
    services = [row[:4] for row in services if row[4] is None]
    apps = {
        row[0]
        for row in stage.rows(
            "SELECT container FROM deployments WHERE state = 'active' AND container != ''"
        )
    }
    archived = stage.rows(
        "SELECT container_name FROM services JOIN archives ON service_id = services.id"
    )
    helpers = {f"{row[0]}.archive" for row in archived}
    eventually(lambda: stage.containers() == {name for _, name, *_ in services} | apps | helpers)
    volumes = {
        row[0]: row[1] for row in stage.rows("SELECT id, name FROM volumes WHERE state != 'purged'")
    }
    folder = stage.state / "volumes"
    assert (
        {path.name for path in folder.iterdir()} == set(volumes) if folder.exists() else not volumes
    )
    held = {volume for _, _, volume, _ in services}
    spools = {f"{row[0]}-archive" for row in archived}
    assert stage.volumes() == {name for volume, name in volumes.items() if volume in held} | spools
    claimed = stage.rows("SELECT service_id, deployment_id FROM ports")
    assert {service for service, _ in claimed if service} == {row[0] for row in services}
    current = {row[0] for row in stage.rows("SELECT id FROM deployments WHERE state = 'active'")}
    assert {deployment for _, deployment in claimed if deployment} <= current
    assert stage.rows("SELECT id FROM links WHERE state != 'linked'") == []
    assert stage.rows("SELECT id FROM bindings WHERE state = 'intended'") == []


def recorded(stage: Stage, service: str, what: str = "resource", which: str = "") -> set[str]:
    join = "bindings JOIN services ON services.id = bindings.service_id"
    return {
        row[0]
        for row in stage.rows(
            f"SELECT {what} FROM {join} WHERE services.slug = '{service}' {which}"
        )
    }


def ask_redis(stage: Stage, *command: str) -> str:
    """What the service cache answers its administrator, asked behind Purveyor's back."""
    client = stage.call("GET", "/external-services/cache/client")
    password = client["client"]["environment"]["REDISCLI_AUTH"]
    return docker(
        "exec", "-e", f"REDISCLI_AUTH={password}", client["container"], "redis-cli", *command
    )


def assert_accounts(stage: Stage) -> None:
    """Each server has the accounts and resources that are recorded, and no others: no login of the
    manager's is left, either."""
    ours = "('purveyor_databases', 'purveyor_heir')"  # own databases, and what superusers owned
    theirs = f"rolname !~ '^pg_' AND NOT rolsuper AND rolname NOT IN {ours}"
    login = "coalesce(shobj_description(oid, 'pg_authid'), '') ~ ' login '"
    owners = set(stage.sql("main", f"SELECT rolname FROM pg_roles WHERE {theirs} AND NOT {login}"))
    logins = set(stage.sql("main", f"SELECT rolname FROM pg_roles WHERE {theirs} AND {login}"))
    databases = set(
        stage.sql("main", "SELECT datname FROM pg_database WHERE datname !~ '^template|^postgres$'")
    )
    assert owners == databases == recorded(stage, "main")
    assert logins == recorded(stage, "main", "account", "AND bindings.state = 'bound'")
    assert set(ask_redis(stage, "ACL", "USERS").split()) == {"default"}
    said = docker("exec", f"{stage.namespace}-cache", "redis-launcher", "accounts")
    assert set(re.findall(r"^# purveyor-binding-\S+ \S+ (\S+)$", said, re.MULTILINE)) == recorded(
        stage, "cache"
    )
    assert len(re.findall("^@", said, re.MULTILINE)) == len(recorded(stage, "cache"))


async def reaches(variables: dict[str, str]) -> None:
    """The injected variables really work, from this host."""
    if "DATABASE_URL" in variables:
        connection = await asyncpg.connect(variables["DATABASE_URL"], timeout=PATIENCE)
        await connection.execute("CREATE TABLE IF NOT EXISTS t (id int); INSERT INTO t VALUES (1)")
        await connection.close()
    if "REDIS_URL" in variables:
        with redis.from_url(variables["REDIS_URL"]) as client:
            assert client.set("k", "v")


def variables(stage: Stage, project: str, environment: str = "production") -> dict[str, str]:
    path = f"/projects/{project}/environments/{environment}/variables"
    found: dict[str, str] = stage.call("GET", path, params={"reach": "host"})["variables"]
    return found


Arguments = Callable[[Stage, int], dict[str, Any]]
Check = Callable[[Stage, int], None]


def at_every_point(
    stage: Stage, when: str, verb: str, arguments: Arguments, check: Check, step: int = 1
) -> None:
    """Kill at the first point, the second (or the `step`-th after it), and so on until the verb
    comes through.

    `arguments` and `check` are given the number of the kill. Of "some" of the acts, the day says
    which is the first.
    """
    points = [*range(1, MOST_POINTS, step)]
    if when == "some":
        when, step = "act", step * SHARES
        # the first as well: a verb of one command has fewer acts than a day's first is
        points = [1, *range(1 + (turn() * step // DAYS or step), MOST_POINTS, step)]
    with stage.serving():
        given = arguments(stage, 1)
    for number, count in enumerate(points, 1):
        killed = kill_at(stage, count, when, verb, **given)
        with stage.serving():
            assert_consistent(stage)
            check(stage, number)
            if not killed:
                assert number > 1, f"the verb was not killed at {count}"
                return
            given = arguments(stage, number + 1)
    raise AssertionError(f"{verb} has more than {MOST_POINTS} points")
