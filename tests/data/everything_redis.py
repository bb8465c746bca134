"""One of everything that a Redis can hold: every type in every way that the server writes it
down."""

import random
from typing import Any

import redis

LIBRARY = """#!lua name=shop
redis.register_function('double', function(keys, args) return args[1] * 2 end)
"""
FIELDS = 200
# what was read, and the lag, each version reckons anew
GROUP = ("name", "consumers", "pending", "last-delivered-id")


def _call(client: Any, *words: Any) -> Any:
    return client.execute_command(*words)


def has_field_ttl(client: Any) -> bool:
    """Redis from 7.4 on, and Valkey from 9 on."""
    info = client.info("server")
    if "valkey_version" in info:
        return int(info["valkey_version"].split(".")[0]) >= 9
    return tuple(map(int, info["redis_version"].split(".")[:2])) >= (7, 4)


def fill(client: Any, large: int = 3_000_000) -> tuple[int, int]:
    """Fill one database; how many keys last, and how many may go by themselves. `large` are the
    bytes of the largest string."""
    made = random.Random(4711)
    lasting = {
        "text": lambda key: client.set(key, "value"),
        "empty": lambda key: client.set(key, ""),
        "number": lambda key: client.set(key, 7),
        "number16": lambda key: client.set(key, -30_000),
        "number32": lambda key: client.set(key, 2_000_000_000),
        "number64": lambda key: client.set(key, 2**60),
        "compressible": lambda key: client.set(key, "abcdefgh" * 5000),
        "binary": lambda key: client.set(key, made.randbytes(large // 40)),
        "big": lambda key: client.set(key, made.randbytes(large)),
        b"odd\x00\xff\r\n key": lambda key: client.set(key, "odd"),
        "k" * 300: lambda key: client.set(key, "a long key"),
        "list": lambda key: client.rpush(key, *range(1000)),
        "list:large": lambda key: client.rpush(key, made.randbytes(large // 150), "small",
        made.randbytes(large // 300)),
        "set:numbers": lambda key: client.sadd(key, *range(100)),
        "set:small": lambda key: client.sadd(key, "x", "y"),
        "set:large": lambda key: client.sadd(key, *[f"member {n}" for n in range(1000)]),
        "zset:small": lambda key: client.zadd(key, {"one": 1, "two": 2.5, "least": float("-inf")}),
        "zset:large": lambda key: client.zadd(key, {f"m{n}": n / 7 for n in range(1000)}),
        "hash:small": lambda key: client.hset(key, mapping={"a": 1, "b": "zwei"}),
        "hash:large": lambda key: client.hset(key, mapping={f"f{n}": n for n in range(1000)}),
        "hash:wide": lambda key: client.hset(key, "field", "x" * 70_000),
        "bits": lambda key: client.setbit(key, 1_000_000, 1),
        "hyperloglog": lambda key: client.pfadd(key, *range(large // 600)),
        "places": lambda key: client.geoadd(key, (13.4, 52.5, "Berlin", 2.35, 48.85, "Paris")),
        "stream": lambda key: _stream(client, key),
        "stream:empty": lambda key: client.xgroup_create(key, "readers", mkstream=True),
    }  # fmt: skip
    for key, make in lasting.items():
        make(key)
    fleeting = ["ends", "ends:hash", "ends:list"]
    client.set("ends", "soon", ex=10_000)
    client.hset("ends:hash", mapping={"a": 1})
    client.expire("ends:hash", 10_000)
    client.rpush("ends:list", *range(300))
    client.pexpire("ends:list", 10_000_000)
    count = len(lasting)
    if has_field_ttl(client):
        for name, fields in (("fields:small", 3), ("fields:large", FIELDS * 4)):
            mapping = {f"f{n}": n for n in range(fields)}
            client.hset(name, mapping=mapping)  # all but one of its fields end
            _call(
                client,
                "HEXPIRE",
                name,
                10_000,
                "FIELDS",
                fields - 1,
                *[f"f{n}" for n in range(1, fields)],
            )
            client.hset(f"{name}:all", mapping=mapping)
            _call(client, "HEXPIRE", f"{name}:all", 10_000, "FIELDS", fields, *mapping)
            count += 1
            fleeting.append(f"{name}:all")
    return count, len(fleeting)


def _stream(client: Any, key: str) -> None:
    for number in range(1, 400):
        client.xadd(key, {"field": f"value {number}", "n": number}, id=f"{number}-1")
    client.xgroup_create(key, "readers", id="0")
    client.xgroup_create(key, "others", id="$")
    client.xreadgroup("readers", "ada", {key: ">"}, count=50)
    client.xreadgroup("readers", "bob", {key: ">"}, count=3)
    client.xack(key, "readers", "1-1")
    client.xdel(key, "5-1")


def contents(client: Any, besides: bytes = b"\0") -> dict[bytes, Any]:
    """Every key with its value by type, and when it ends; streams with their groups. Those that
    begin with `besides` are somebody else's. `client` answers bytes."""
    found: dict[bytes, Any] = {}
    for key in sorted({key for key in client.scan_iter(count=1000) if not key.startswith(besides)}):
        kind = client.type(key)
        match kind:
            case b"string":
                value: Any = client.get(key)
            case b"hash":
                value = client.hgetall(key)
            case b"list":
                value = client.lrange(key, 0, -1)
            case b"set":
                value = sorted(client.smembers(key))
            case b"zset":
                value = client.zrange(key, 0, -1, withscores=True)
            case b"stream":
                groups = [
                    {name: group[name] for name in GROUP} for group in client.xinfo_groups(key)
                ]
                value = (
                    client.xrange(key),
                    groups,
                    [client.xpending(key, group["name"]) for group in groups],
                )
            case _:
                raise AssertionError(kind)
        found[key] = (kind, value, client.pexpiretime(key))
    return found


def opened(host: str, port: int, database: int = 0, **options: Any) -> Any:
    return redis.Redis(host=host, port=port, db=database, socket_timeout=30, **options)
