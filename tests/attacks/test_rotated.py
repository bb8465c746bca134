"""What a rotation leaves of somebody who had the old credentials of MongoDB, KV or Blob: nothing, or
what its grace says."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pymongo
import pytest
import redis
from pymongo.errors import OperationFailure

from purveyor_hooks import Access, Address, Binding, Image, Scope, Service
from purveyor_mongodb import accounts
from purveyor_mongodb.server import OWN_DATABASE
from purveyor_mongodb.users import roles
from servers import awaited
from support import Stage

OLD = Binding(
    id=901,
    scope=Scope(project="old", environment="production"),
    resource="old_production",
    account="old_production",
    password="p1",
)
SECOND = Binding(
    id=901, scope=OLD.scope, resource="old_production", account="old_production_2", password="p2"
)


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage().serving() as made:
        made.furnish({"docs": "mongodb"}, ["alpha"])
        for kind in ("kv", "blob"):
            made.cli(kind, "enable")
            made.cli("link", kind, "alpha")
        yield made


def mongo(url: str) -> Any:
    return pymongo.MongoClient(url, serverSelectionTimeoutMS=5000)


def test_the_user_of_before_logs_in_no_more(stage: Stage) -> None:
    """The server of the tests looks a user up when it logs in alone; MongoDB's own takes the rights
    from open connections too."""
    before = stage.variables("alpha")
    with mongo(before["MONGODB_URL"]) as client:
        client[before["MONGODB_DATABASE"]].notes.insert_one({"_id": 1})
    stage.cli("rotate", "alpha", "--service", "docs", "--yes")
    after = stage.variables("alpha")
    assert after["MONGODB_USERNAME"] == "alpha_production_2"
    with mongo(before["MONGODB_URL"]) as thief, pytest.raises(OperationFailure):
        thief[before["MONGODB_DATABASE"]].notes.find_one()
    with mongo(after["MONGODB_URL"]) as client:
        assert client[after["MONGODB_DATABASE"]].notes.find_one() == {"_id": 1}


def reached(stage: Stage, token: str) -> list[int]:
    with stage.http(token) as client:
        answers = (
            client.post("/api/kv/set", json={"key": "kept", "value": 1}),
            client.post("/api/blob?pathname=kept", content=b"x"),
        )
        return [answer.status_code for answer in answers]


def test_a_rotation_of_kv_replaces_the_token_that_blob_has_too(stage: Stage) -> None:
    before = stage.variables("alpha")
    plan = stage.json("rotate", "alpha", "--service", "kv", "--plan")
    assert "new token of the API, for blob, kv" in plan["resources"]
    assert stage.variables("alpha") == before
    stage.cli("rotate", "alpha", "--service", "kv", "--grace", "1h")
    after = stage.variables("alpha")
    assert after["BLOB_READ_WRITE_TOKEN"] == after["PURVEYOR_TOKEN"] != before["PURVEYOR_TOKEN"]
    for variables in (before, after):
        assert reached(stage, variables["PURVEYOR_TOKEN"]) == [200, 201]
        with redis.from_url(variables["KV_URL"]) as client:
            assert client.get("kept") == b"1"
    stage.cli("rotate", "alpha", "--service", "kv", "--yes")
    now = stage.variables("alpha")
    assert reached(stage, now["PURVEYOR_TOKEN"]) == [200, 201]
    for variables in (before, after):
        assert reached(stage, variables["PURVEYOR_TOKEN"]) == [401, 401]
        with (
            redis.from_url(variables["KV_URL"]) as client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            client.ping()


def test_a_service_that_no_app_reaches_over_the_api_leaves_the_token(stage: Stage) -> None:
    before = stage.variables("alpha")
    stage.cli("rotate", "alpha", "--service", "docs", "--yes")
    assert stage.variables("alpha")["PURVEYOR_TOKEN"] == before["PURVEYOR_TOKEN"]


def logs_in(stage: Stage, binding: Binding) -> bool:
    port = stage.json("show", "docs")["service"]["port"]
    where = f"127.0.0.1:{port}/{binding.resource}?directConnection=true"
    with mongo(f"mongodb://{binding.account}:{binding.password}@{where}") as client:
        try:
            client[binding.resource].notes.count_documents({})
        except OperationFailure:
            return False
        return True


@awaited
async def test_a_user_of_before_has_its_time_and_no_other_is_taken_for_it(stage: Stage) -> None:
    """An earlier version named it like its database, and wrote nothing beside it."""
    shown = stage.json("show", "docs")["service"]
    login = stage.call("GET", "/external-services/docs/client")["client"]["environment"]
    password = httpx.URL(login["PURVEYOR_HERE"].replace("mongodb://", "http://")).password
    service = Service(
        id=1, name="docs", slug="docs", service_type="mongodb", secrets={}, host="docs", major="8.0",
        image=Image(reference="mongo:8.0"),
        parameters={"username": "admin", "password": password, "replica_set": "", "ssl_mode": "disable"},
    )  # fmt: skip
    address = Address(host="127.0.0.1", port=shown["port"])
    access = cast(Access, SimpleNamespace(address=lambda _: address))
    with mongo(login["PURVEYOR_HERE"]) as admin:
        admin[OWN_DATABASE].bindings.insert_one({"_id": OLD.mark, "database": OLD.resource})
        for name in (OLD.account, "theirs"):
            admin[OLD.resource].command(
                "createUser", name, pwd=OLD.password, roles=roles(OLD.resource, full=False)
            )
        await accounts.bind(service, access, OLD)
        now = datetime.now(UTC)
        await accounts.rotate(service, access, SECOND, now + timedelta(hours=1))
        await accounts.bind(service, access, SECOND)
        assert logs_in(stage, OLD)
        assert logs_in(stage, SECOND)
        await accounts.rotate(service, access, SECOND, now - timedelta(hours=1))
        await accounts.bind(service, access, SECOND)  # as a restore does: what is over is over
        assert not logs_in(stage, OLD)
        await accounts.rotate(service, access, OLD, None)  # as a rotation that is taken back
        assert (logs_in(stage, OLD), logs_in(stage, SECOND)) == (True, False)
        await accounts.rotate(service, access, SECOND, now + timedelta(hours=1))
        for _ in range(2):
            await accounts.retire(service, access, SECOND)
        assert (logs_in(stage, OLD), logs_in(stage, SECOND)) == (False, True)
        await accounts.unbind(service, access, SECOND)
        left = admin[OLD.resource].command("usersInfo", 1)["users"]
        assert [user["user"] for user in left] == ["theirs"]
