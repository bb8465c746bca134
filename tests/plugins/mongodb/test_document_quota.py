"""What one project may store in MongoDB: it is told before it is full, then writes of every way are
refused, reading and deleting go on, and nobody else notices."""

from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from support import Stage, eventually

DATABASE = "alpha_production"
UNAUTHORIZED = 13


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage("health-interval = 1").serving() as made:
        made.furnish({"docs": "mongodb"}, ["alpha", "beta"])
        made.cli("update", "docs", "-p", "project_storage=2mb", "--yes")
        yield made


def logged_in(variables: dict[str, str]) -> Any:
    client: Any = pymongo.MongoClient(variables["MONGODB_URL"], serverSelectionTimeoutMS=5000)
    return client[variables["MONGODB_DATABASE"]]


def connect(stage: Stage, project: str = "alpha") -> Any:
    return logged_in(stage.variables(project))


def told(stage: Stage) -> str:
    checked = stage.json("health", "docs")
    assert checked["healthy"], checked
    return checked["detail"] or ""


def refused(work: Callable[[], Any]) -> bool:
    """A connection that was ended is made anew, once."""
    for _ in range(2):
        try:
            work()
        except AutoReconnect:
            continue
        except OperationFailure as error:
            return error.code == UNAUTHORIZED
        return False
    return False


def fill(database: Any, bytes_: int, **named: Any) -> None:
    database.notes.insert_many([named | {"text": "x" * 1000} for _ in range(bytes_ // 1000)])


FULL = f"{DATABASE} has filled its storage (2mb): writes are refused."


def ways(database: Any) -> dict[str, Callable[[], Any]]:
    """To write more, each of which is there on a day like any other."""
    return {
        "insert": lambda: database.notes.insert_one({"n": 1}),
        "update": lambda: database.notes.update_many({}, {"$set": {"more": "x"}}),
        "replace": lambda: database.notes.find_one_and_replace({}, {"n": 1}, upsert=True),
        "several": lambda: database.notes.bulk_write([pymongo.InsertOne({"n": 1})]),
        "out": lambda: list(database.notes.aggregate([{"$out": "copy"}])),
        "merge": lambda: list(database.notes.aggregate([{"$merge": {"into": "copy"}}])),
        "collection": lambda: database.create_collection("another"),
        "index": lambda: database.notes.create_index("text"),
        "view": lambda: database.create_collection("seen", viewOn="notes", pipeline=[]),
        "rights": lambda: database.command("updateUser", "alpha_production_1", roles=["readWrite"]),
        "the role": lambda: database.command(
            "grantRolesToRole", "purveyor_full", roles=["readWrite"]
        ),
    }


def test_it_is_told_then_refused_and_freed_by_deleting(stage: Stage) -> None:
    database = connect(stage)
    fill(database, 1_700_000, kept=1)
    eventually(lambda: f"{DATABASE} has filled more than 80% of its storage" in told(stage))
    database.notes.create_index("kept")
    held = database.notes.find(batch_size=2)
    next(held)
    fill(database, 600_000, kept=0)
    eventually(lambda: FULL in told(stage))
    for name, write in ways(database).items():
        assert refused(write), name
    assert database.notes.count_documents({"kept": 1}) == 1700
    assert [item["name"] for item in database.list_collections()] == ["notes"]
    assert connect(stage, "beta").notes.insert_one({"n": 1}).inserted_id
    events = "SELECT data ->> 'reason' FROM events WHERE type = 'service.healthy'"
    eventually(lambda: any("writes are refused" in (row[0] or "") for row in stage.rows(events)))
    stage.cli("rotate", "alpha")  # no way round it
    database = connect(stage)
    assert refused(lambda: database.notes.insert_one({"n": 1}))
    before = stage.variables("alpha")
    stage.cli("rotate", "alpha", "--grace", "1h")
    given = before, stage.variables("alpha")
    for variables in given:
        opened = logged_in(variables)
        assert refused(lambda: opened.notes.insert_one({"n": 1}))
        assert opened.notes.find_one({"kept": 1})
    stage.cli("backup", "run", "docs")
    stage.cli("backup", "verify", str(stage.json("backup", "list")[0]["id"]))
    logged_in(given[1]).notes.delete_many({"kept": 0})
    eventually(lambda: "writes are refused" not in told(stage))
    for variables in given:
        assert logged_in(variables).notes.insert_one({"kept": 2}).inserted_id


@pytest.mark.fortnightly
def test_a_session_that_was_open_writes_no_more_and_unlinking_lifts_nothing(stage: Stage) -> None:
    stage.cli("update", "docs", "-p", "project_storage=2mb", "--yes")
    database = connect(stage)
    database.notes.drop()
    eventually(lambda: told(stage) == "")
    held, database = connect(stage), connect(stage)
    held.notes.insert_one({"n": 1})
    fill(database, 2_300_000)
    eventually(lambda: FULL in told(stage))
    assert refused(lambda: held.notes.insert_one({"n": 2}))
    stage.cli("unlink", "docs", "alpha", "--now")
    stage.cli("link", "docs", "alpha")
    again = connect(stage)
    assert refused(lambda: again.notes.insert_one({"n": 1}))
    stage.cli("update", "docs", "-p", "project_storage=0", "--yes")
    eventually(lambda: told(stage) == "")
    assert connect(stage).notes.insert_one({"n": 1}).inserted_id
    stage.cli("update", "docs", "-p", "project_storage=2mb", "--yes")
    eventually(lambda: FULL in told(stage))
    again = connect(stage)
    again.notes.drop()
    eventually(lambda: told(stage) == "")
    assert connect(stage).notes.insert_one({"n": 1}).inserted_id
    stage.cli("unlink", "docs", "alpha", "--now", "--purge")
    stage.cli("link", "docs", "alpha")
    assert connect(stage).notes.insert_one({"n": 1}).inserted_id
