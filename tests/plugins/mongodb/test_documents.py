"""MongoDB: what a project may do in its own database; stop, start and delete keep the data.
Attacks: `tests/attacks`.

The server is SecantusDB, by MongoDB's own protocol and driver; mongod itself cannot be had where
this is tested.
"""

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from support import Stage

pytestmark = pytest.mark.fortnightly

BETA = "beta_production"


@pytest.fixture(scope="module")
def docs(house: Stage) -> Stage:
    house.furnish({"docs": "mongodb"}, ["alpha", "beta"])
    with connect(house, "beta") as client:
        client[BETA].secrets.insert_one({"_id": 1, "secret": "beta's"})
    return house


def connect(
    stage: Stage, project: str, variables: dict[str, str] | None = None
) -> pymongo.MongoClient[Any]:
    url = (variables or stage.variables(project))["MONGODB_URL"]
    return pymongo.MongoClient(url, serverSelectionTimeoutMS=5000)


def test_a_project_may_do_everything_in_its_own_database(docs: Stage) -> None:
    with connect(docs, "alpha") as client:
        own = client.get_default_database()
        assert own.name == "alpha_production"
        own.orders.insert_many([{"n": number} for number in range(10)])
        own.orders.create_index("n", unique=True)
        assert own.orders.count_documents({"n": {"$gte": 5}}) == 5
        assert (
            next(own.orders.aggregate([{"$group": {"_id": None, "sum": {"$sum": "$n"}}}]))["sum"]
            == 45
        )
        own.orders.drop()


def test_the_variables_name_the_container_and_its_own_port(docs: Stage) -> None:
    found = docs.variables("alpha", host=False)
    assert found["MONGODB_HOST"] == f"{docs.namespace}-docs"
    assert found["MONGODB_PORT"] == "27017"
    assert set(found) == {
        f"MONGODB_{name}"
        for name in ("URL", "HOST", "PORT", "DATABASE", "USERNAME", "PASSWORD", "CA_CERT", "CA_PEM")
    }
    names = docs.call("GET", "/external-services/docs/preview-environment-names")
    masked = docs.call("GET", "/external-services/docs/preview-environment-masked")
    assert set(names) == set(masked) == set(found)
    assert masked["MONGODB_PASSWORD"] == "***"
    assert ":***@" in masked["MONGODB_URL"]


def test_health_is_a_round_trip_and_the_doctor_walks_the_way(docs: Stage) -> None:
    seen = docs.json("health", "docs")
    assert (seen["healthy"], seen["stage"]) == (True, "write")
    said = docs.cli("doctor", "alpha")
    for step in ("tcp", "login", "query", "write"):
        assert f"✓ docs: {step}" in said


def test_unlinking_ends_access_and_keeps_the_data_and_linking_brings_it_back(docs: Stage) -> None:
    docs.cli("project", "create", "back")
    docs.cli("link", "docs", "back")
    before = docs.variables("back")
    with connect(docs, "back", before) as client:
        client.get_default_database().kept.insert_one({"_id": 1})
    docs.cli("unlink", "docs", "back")
    with connect(docs, "back", before) as client, pytest.raises(OperationFailure):
        client.get_default_database().kept.find_one()
    docs.cli("link", "docs", "back")
    with connect(docs, "back") as client:
        assert client.get_default_database().kept.count_documents({}) == 1
    docs.cli("unlink", "docs", "back", "--purge")
    assert "back_production" not in administrator(docs, "client.list_database_names()")


def administrator(stage: Stage, code: str) -> str:
    """What pymongo answers the administrator: the image has no mongosh, so a Python prompt
    opens."""
    done = stage.run("connect", "docs", stdin=f"print({code})\n")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_foreign_user_or_database_of_the_same_name_is_not_taken_over(docs: Stage) -> None:
    administrator(docs, "client.intruder_production.notes.insert_one({'a': 1})")
    docs.cli("project", "create", "intruder")
    assert "no recorded owner" in docs.cli("link", "docs", "intruder", code=5)
    assert "intruder_production" in administrator(docs, "client.list_database_names()")


def test_stopping_and_starting_keeps_the_data_and_delete_keeps_the_volume(docs: Stage) -> None:
    docs.cli("create", "mongodb", "short")
    docs.cli("project", "create", "gamma")
    docs.cli("link", "short", "gamma")
    with connect(docs, "gamma") as client:
        client.get_default_database().notes.insert_one({"_id": 1})
    docs.cli("stop", "short")
    docs.cli("start", "short")
    with connect(docs, "gamma") as client:
        assert client.get_default_database().notes.count_documents({}) == 1
    docs.cli("unlink", "short", "gamma")
    volume = docs.json("show", "short")["service"]["volume"]
    docs.cli("delete", "short", "--yes")
    assert (docs.state / "volumes" / volume / "WiredTiger").exists()


@pytest.fixture(scope="module")
def with_shell(make_stage: Any) -> Iterator[Stage]:
    with make_stage(images={"mongodb": "purveyor-test/mongodb:8.0-mongosh"}).serving() as stage:
        stage.cli("create", "mongodb", "docs", "-p", "replica_set=secantus")
        yield stage


def test_connect_opens_mongosh_where_the_image_has_it(with_shell: Stage) -> None:
    said = with_shell.cli(
        "connect", "docs", "--", "--eval", "print('users: ' + db.getUsers().users.length)"
    )
    assert "users: 1" in said


def test_a_replica_set_of_one_gives_change_streams(with_shell: Stage) -> None:
    with_shell.cli("project", "create", "shop")
    with_shell.cli("link", "docs", "shop")
    assert "replicaSet=secantus" in with_shell.variables("shop", host=False)["MONGODB_URL"]
    with connect(with_shell, "shop") as client:
        orders = client.get_default_database().orders
        with orders.watch(max_await_time_ms=200) as stream:
            orders.insert_one({"_id": 7})
            assert next(stream)["documentKey"] == {"_id": 7}
