"""One of everything that a MongoDB can hold, and all of it told again, by the administrator's eyes.

The stand-in has no text, hashed and geospatial indexes of old; what it takes is what is here.
"""

import datetime
from typing import Any

import bson
from bson import json_util

LONG_AGO = datetime.datetime(2001, 1, 1)
FAR = datetime.datetime(2090, 1, 1)
UNREAD = ("config", "local", "purveyor")


def fill(client: Any) -> None:
    """Into databases of the administrator's, and into `admin` itself."""
    client.admin.customers.insert_many([{"_id": number, "n": number} for number in range(3)])
    kinds = client.kinds
    kinds.create_collection("old_and_new")
    kinds.old_and_new.insert_many([{"_id": 1, "age": 1}, {"_id": 2, "age": "old"}])
    kinds.command(
        "collMod", "old_and_new", validator={"age": {"$type": "int"}}, validationAction="error"
    )
    kinds.create_collection("capped", capped=True, size=8192, max=5)
    kinds.capped.insert_many([{"_id": number} for number in range(5)])
    kinds.create_collection("sensors", timeseries={"timeField": "at", "metaField": "where"})
    kinds.sensors.insert_many(
        [{"_id": n, "at": LONG_AGO, "where": {"room": n % 2}, "degrees": n / 2} for n in range(10)]
    )
    kinds.create_collection("german", collation={"locale": "de", "strength": 2})
    kinds.german.insert_one({"_id": "ä"})
    kinds.create_collection("watched", changeStreamPreAndPostImages={"enabled": True})
    kinds.create_collection(
        "clustered", clusteredIndex={"key": {"_id": 1}, "unique": True, "name": "by id"}
    )
    kinds.clustered.insert_many([{"_id": number} for number in (3, 1, 2)])
    kinds.create_collection(
        "adults", viewOn="old_and_new", pipeline=[{"$match": {"age": {"$gt": 0}}}]
    )
    kinds.create_collection("a view of a view", viewOn="adults", pipeline=[{"$limit": 1}])
    kinds.create_collection("empty")
    kinds["odd.name % ünd"].insert_one({"_id": 1, "": "an empty key", "a.b": {"$c": 1}})
    kinds.expiring.insert_many([{"_id": number, "at": FAR} for number in range(4)])
    kinds.expiring.create_index("at", expireAfterSeconds=10)
    kinds.indexed.insert_many([{"_id": n, "a": n, "b": str(n), "where": [n, n]} for n in range(20)])
    kinds.indexed.create_index([("a", 1), ("b", -1)], name="both ways", unique=True)
    kinds.indexed.create_index("a", name="some", partialFilterExpression={"a": {"$gt": 5}})
    kinds.indexed.create_index("b", name="hidden", hidden=True, sparse=True)
    kinds.indexed.create_index("$**", name="wild")
    kinds.values.insert_one(
        {
            "_id": bson.ObjectId("6567c0ffee6567c0ffee6567"),
            "decimal": bson.Decimal128("1.10"), "long": bson.Int64(2**40), "int": 1, "double": 1.0,
            "nan": float("inf"),
            "binary": b"\x00\xff", "uuid": bson.Binary(b"x" * 16, 4),
            "regex": bson.Regex("a.*b", "i"),
            "code": bson.Code("1 + 1"),
            "stamp": bson.Timestamp(7, 8), "least": bson.MinKey(), "most": bson.MaxKey(),
            "date": LONG_AGO, "null": None,
            "deep": {"er": [{"est": [1, [2, [3]]]}]}, "text": "grün 💚 \u0000 end",
        }
    )  # fmt: skip
    kinds.large.insert_many([{"_id": number, "text": "x" * 1_000_000} for number in range(12)])
    people = client.people
    people.command(
        "createRole",
        "clerk",
        privileges=[{"resource": {"db": "people", "collection": "x"}, "actions": ["find"]}],
        roles=[],
    )
    people.command(
        "createUser",
        "report",
        pwd="not told",
        roles=[{"role": "read", "db": "people"}, {"role": "clerk", "db": "people"}],
    )
    client.admin.command("createUser", "second", pwd="not told", roles=["readWriteAnyDatabase"])


def told(client: Any) -> str:
    """All of it as text: options, indexes, documents in their order, users and roles without
    passwords."""
    found: dict[str, Any] = {}
    for database in sorted({*client.list_database_names(), "admin", "people"} - {*UNREAD}):
        for item in client[database].list_collections():
            name = item["name"]
            if name.startswith("system."):
                continue
            view = item["type"] == "view"
            indexes = (
                []
                if view
                else sorted(
                    (dict(index) for index in client[database][name].list_indexes()), key=repr
                )
            )
            documents = list(client[database][name].find().sort("_id"))
            found[f"{database}.{name}"] = [item["type"], item["options"], indexes, documents]
        users = client[database].command("usersInfo", 1)["users"]
        roles = client[database].command("rolesInfo", 1, showPrivileges=True)["roles"]
        found[f"{database} users"] = sorted(
            (user["user"], sorted(map(repr, user["roles"]))) for user in users
        )
        found[f"{database} roles"] = sorted(
            (role["role"], repr(role["privileges"])) for role in roles if not role.get("isBuiltin")
        )
    return json_util.dumps(found, sort_keys=True)
