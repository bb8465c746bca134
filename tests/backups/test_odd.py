"""What is seldom and yet somebody's: a backup beside a writer makes a new service that holds the
same, told by the product's own contents and by the server's own words."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_contents import Sets, Subject

from data import psql
from support import Stage

pytestmark = pytest.mark.fortnightly

ODD = (Path(__file__).parents[1] / "everything/odd.sql").read_text()
LIBRARY = """#!lua name=odd
local function add(keys, args) return redis.call('INCRBY', keys[1], args[1]) end
local function peek(keys) return redis.call('GET', keys[1]) end
redis.register_function('add', add)
redis.register_function{
    function_name='peek', callback=peek, flags={'no-writes'}, description='only looks'}
"""
LONG_AGO = datetime.datetime(2001, 1, 1)


def fill_redis(client: Any) -> None:
    """Streams that lost what their groups still wait for, and functions with flags."""
    for number in range(1, 11):
        client.xadd("emptied", {"n": number}, id=f"{number}-0")
    client.xgroup_create("emptied", "readers", id="0")
    client.xreadgroup("readers", "ada", {"emptied": ">"}, count=7)
    client.xreadgroup("readers", "bob", {"emptied": ">"}, count=1)
    client.xgroup_createconsumer("emptied", "readers", "idle")
    client.xclaim("emptied", "readers", "bob", 0, ["2-0"], retrycount=5)
    client.xtrim("emptied", maxlen=0, approximate=False)
    client.execute_command("XSETID", "emptied", "40-0", "ENTRIESADDED", 100, "MAXDELETEDID", "39-0")
    client.xadd("binary", {b"\x00\xff": b"\r\n", b"": b""}, id="1-1")
    client.zadd("ties", {"b": 0, "a": 0, "c": float("inf"), "d": -0.0, "": 1e-300})
    client.setrange("sparse", 100_000, "end")
    client.set("for ever and a day", "x", pxat=4_000_000_000_000)
    client.sadd("mixed", 1, "1.0", "01", 2**63 - 1, "")
    client.function_load(LIBRARY)


def check_redis(stage: Stage, copy: str, before: Any) -> None:
    def ask(*words: str) -> str:
        return stage.cli("connect", copy, "--", "-n", "7", *words).strip()

    assert ask("FCALL", "add", "1", "counted", "5") == "5"
    assert "no-writes" in ask("FUNCTION", "LIST", "LIBRARYNAME", "odd")
    assert "only looks" in ask("FUNCTION", "LIST", "LIBRARYNAME", "odd")
    assert ask("XPENDING", "emptied", "readers").split() == before["XPENDING"]
    info = ask("XINFO", "STREAM", "emptied").split()
    for name, wanted in (
        ("length", "0"), ("last-generated-id", "40-0"), ("entries-added", "100"),
        ("max-deleted-entry-id", "39-0"),
    ):  # fmt: skip
        assert info[info.index(name) + 1] == wanted, info
    assert "idle" in ask("XINFO", "CONSUMERS", "emptied", "readers").split()
    assert ask("PEXPIRETIME", "for ever and a day") == "4000000000000"
    assert ask("ZRANGE", "ties", "0", "-1").split("\n") == before["ties"]


def look_at_redis(client: Any) -> Any:
    waiting = client.xpending("emptied", "readers")
    assert waiting["pending"] == 8
    consumers = [part for item in waiting["consumers"] for part in (item["name"].decode(),
                 str(item["pending"]))]  # fmt: skip
    return {
        "XPENDING": ["8", waiting["min"].decode(), waiting["max"].decode(), *consumers],
        "ties": [name.decode() for name in client.zrange("ties", 0, -1)],
    }


def fill_mongodb(client: Any) -> None:
    """A view over measurements, names that are the same in one collation, ids of every kind."""
    odd = client.odd
    odd.create_collection(
        "sensors",
        timeseries={"timeField": "at", "metaField": "where", "granularity": "minutes"},
    )
    odd.sensors.insert_many(
        [
            {"at": LONG_AGO + datetime.timedelta(minutes=n), "where": {"room": n % 3}, "deg": n}
            for n in range(50)
        ]
    )
    odd.create_collection("warm", viewOn="sensors", pipeline=[{"$match": {"deg": {"$gte": 40}}}])
    odd.create_collection(
        "names",
        clusteredIndex={"key": {"_id": 1}, "unique": True, "name": "in order"},
        collation={"locale": "de", "strength": 1},
    )
    odd.names.insert_many([{"_id": name, "n": n} for n, name in enumerate("zca")])
    odd.names.create_index("n", name="french", collation={"locale": "fr", "strength": 2})
    odd.create_collection("lenient")
    odd.lenient.insert_one({"_id": 1, "age": "old"})
    odd.command(
        "collMod", "lenient", validator={"$jsonSchema": {"required": ["age"]}},
        validationLevel="moderate", validationAction="warn",
    )  # fmt: skip
    odd.ids.insert_many(
        [{"_id": {"b": 1, "a": 2}}, {"_id": {"a": 2, "b": 1}}, {"_id": LONG_AGO}, {"_id": 1.5},
         {"_id": None}, {"_id": b"\x00"}, {"_id": ""}]
    )  # fmt: skip
    odd.create_collection("ring", capped=True, size=4096, max=3)
    odd.ring.insert_many([{"_id": number} for number in (9, 1, 5, 3)])
    odd["deep.er.name"].insert_one({"_id": 1, "z": 1, "a": {"$c": 1, "": {"": []}}})


def look_at_mongodb(client: Any) -> Any:
    return [[one["_id"] for one in client.odd[name].find()] for name in ("ring", "names")]


def check_mongodb(stage: Stage, copy: str, before: Any) -> None:
    code = (
        "odd = client.odd\n"
        "print('ring', [one['_id'] for one in odd.ring.find()])\n"
        "print('warm', odd.warm.count_documents({}))\n"
        "print('ids', odd.ids.count_documents({}))\n"
        "print('in order', odd.ids.count_documents({'_id': {'b': 1, 'a': 2}}))\n"
        "print('names', [one['_id'] for one in odd.names.find()])\n"
        "print('options', next(odd.list_collections(filter={'name': 'lenient'}))['options'])\n"
        "print('french', odd.names.index_information()['french']['collation']['locale'])\n"
    )
    said = stage.run("connect", copy, stdin=code).stdout
    assert f"ring {before[0]}" in said
    assert "warm 10" in said
    assert "ids 7" in said
    assert "in order 1" in said
    assert f"names {before[1]}" in said
    assert "'validationLevel': 'moderate'" in said
    assert "'validationAction': 'warn'" in said
    assert "french fr" in said


def fill_postgres(subject: Subject) -> None:
    subject.filled(ODD)


KEY = "k" * 1020 + "/end"
METADATA = {f"name-{number:02}": "v" * 95 for number in range(19)}  # 2 kB is what S3 takes
TAGS = "&".join(f"t{number}=%2B%20%3D{number}" for number in range(10))


def fill_s3(client: Any) -> None:
    """Nothing but metadata, versions of before there were versions, a bucket that is only rules."""
    client.create_bucket(Bucket="odd")
    client.put_object(
        Bucket="odd", Key="nothing", Body=b"", Metadata=METADATA, Tagging=TAGS,
        ContentType="application/x-nothing; charset=odd", CacheControl="no-store",
    )  # fmt: skip
    client.put_object(Bucket="odd", Key="long/" + "n" * 200 + "/end", Body=b"1")
    client.put_object(Bucket="odd", Key="same", Body=b"before versions", Metadata={"of": "old"})
    client.put_bucket_versioning(Bucket="odd", VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket="odd", Key="same", Body=b"")
    client.put_object(Bucket="odd", Key="same", Body=b"third", Metadata={"of": "new"})
    begun = client.create_multipart_upload(Bucket="odd", Key="parts", Metadata={"n": "3"})
    where = {"Bucket": "odd", "Key": "parts", "UploadId": begun["UploadId"]}
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(**where, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in ((2, b"a" * 5 * 2**20), (7, b"b" * 5 * 2**20), (900, b"c"))
    ]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    client.create_multipart_upload(Bucket="odd", Key="never finished")
    client.create_bucket(Bucket="only-rules")
    client.put_bucket_tagging(
        Bucket="only-rules", Tagging={"TagSet": [{"Key": "cost", "Value": "0"}]}
    )


def look_at_s3(client: Any) -> Any:
    listed = client.list_object_versions(Bucket="odd", Prefix="same")["Versions"]
    return len(listed)


def check_s3(stage: Stage, copy: str, before: Any) -> None:
    code = (
        "head = s3.head_object(Bucket='odd', Key='nothing')\n"
        "print('metadata', sorted(head['Metadata'].items()) == "
        f"sorted({METADATA!r}.items()), head['ContentLength'], head['ContentType'])\n"
        "print('tags', len(s3.get_object_tagging(Bucket='odd', Key='nothing')['TagSet']))\n"
        "same = s3.list_object_versions(Bucket='odd', Prefix='same')\n"
        "print('versions', len(same['Versions']))\n"
        "print('rules', s3.get_bucket_tagging(Bucket='only-rules')['TagSet'])\n"
        "print('parts', s3.head_object(Bucket='odd', Key='parts')['ContentLength'])\n"
    )
    said = stage.run("connect", copy, stdin=code).stdout
    assert "metadata True 0 application/x-nothing; charset=odd" in said, said
    assert "tags 10" in said
    assert f"versions {before}" in said
    assert "'Value': '0'" in said
    assert f"parts {10 * 2**20 + 1}" in said


OWNED = """
SELECT c.relname || ' ' || c.relowner::regrole FROM pg_class c
    WHERE c.relname ~ '^log' AND c.relkind IN ('r', 'p')
UNION ALL SELECT 'object ' || oid || ' ' || lomowner::regrole || ' ' || length(lo_get(oid))
    FROM pg_largeobject_metadata
UNION ALL SELECT 'price ' || coalesce(concat(gross, ' ', twice), '') FROM prices
UNION ALL SELECT 'log ' || what FROM log
UNION ALL SELECT 'next ' || last_value FROM elsewhere.numbers
UNION ALL SELECT concat_ws(' ', conname, convalidated, conenforced) FROM pg_constraint
    WHERE conname IN ('comes_first', 'meant', 'filled')
UNION ALL SELECT concat_ws(' ', 'trigger', tgname, tgenabled) FROM pg_trigger
    WHERE tgname IN ('loud', 'instead')
UNION ALL SELECT concat_ws(' ', 'stored', relreplident, reloptions) FROM pg_class
    WHERE relname = 'stored' ORDER BY 1
"""


def check_postgres(stage: Stage, copy: str, before: Any) -> None:
    told = psql(stage, copy, OWNED, "odd").splitlines()
    assert told == psql(stage, "postgres", OWNED, "odd").splitlines()
    for line in ("log_2026 ada", "log_2026_a bob", "object 77 bob 0", "log put back",
                 "price 119.00 200", "comes_first f t", "meant f f",
                 "trigger loud A"):  # fmt: skip
        assert line in told, told
    psql(stage, copy, "UPDATE per_hen SET name = 'Rosa' WHERE id = 1", "odd")
    assert psql(stage, copy, "SELECT name, p.best FROM per_hen p WHERE id = 1", "odd") == "Rosa|t"


SETS: Sets = {
    "postgres": lambda subject, _: fill_postgres(subject),
    "redis": lambda _, client: fill_redis(client),
    "mongodb": lambda _, client: fill_mongodb(client),
    "s3": lambda _, client: fill_s3(client),
}
WRITERS: Sets = {
    "postgres": lambda subject, _, number: subject.sql(
        "INSERT INTO busy (x) SELECT generate_series(1, 20); DELETE FROM busy WHERE id IN "
        "(SELECT min(id) FROM busy)",
        "odd",
    ),
    "redis": lambda _, client, number: client.set(f"live{number}", number),
    "mongodb": lambda _, client, number: client.odd.live.insert_one({"number": number}),
    "s3": lambda _, client, number: client.put_object(
        Bucket="only-rules", Key=f"live{number % 40}", Body=b"x" * number
    ),
}
LOOKS: dict[str, Callable[[Any], Any]] = {
    "postgres": lambda _: None, "redis": look_at_redis, "mongodb": look_at_mongodb,
    "s3": look_at_s3,
}  # fmt: skip
CHECKS: dict[str, Callable[[Stage, str, Any], None]] = {
    "postgres": check_postgres, "redis": check_redis, "mongodb": check_mongodb, "s3": check_s3,
}  # fmt: skip
# what no dump can bring back as it is, and is told
NAMED = {"postgres": ["trap: TABLE DATA public unqualified"]}


@pytest.mark.parametrize("kind", SETS)
def test_what_is_seldom_comes_back_beside_a_writer(kind: str, house: Stage, rustfs: str) -> None:
    given = {"docker_image": "purveyor-test/postgres:18"} if kind == "postgres" else {}
    subject = Subject(house, kind, sets=SETS, writers=WRITERS, **given)
    with subject.opened() as client:
        before = LOOKS[kind](client)
    with subject.written_to():
        made = house.json("backup", "run", kind)
    assert made["state"] == "ok", made
    copy = f"{kind}-copy"
    done = house.json("backup", "restore", str(made["id"]), "--new", copy)["outcome"] or {}
    found = [item for item in done.get("findings", []) if not item["notice"]]
    told = [f"{item['where']}: {item['what']}" for item in found]
    assert told == NAMED.get(kind, []), done
    again = house.json("backup", "run", copy)
    lost = [line for line in subject.differences(made, again) if "unqualified" not in line]
    assert lost == []
    CHECKS[kind](house, copy, before)
    house.cli("delete", copy, "--purge", "--yes")
