"""What a Redis holds, to be looked at: databases, keys by SCAN, values."""

from typing import Any

from purveyor_hooks import Access, Listing, NotFound, Service
from purveyor_redis.server import OWN_DATABASE, connection

PAGE, LONGEST, MOST = 100, 2000, 200


async def browse(service: Service, access: Access, path: tuple[str, ...], cursor: str) -> Listing:
    if path and not path[0].removeprefix("db").isdecimal():
        raise NotFound(f"There is no database {path[0]!r}.")
    async with connection(service, access, int(path[0].removeprefix("db")) if path else None) as client:
        if not path:
            found = await client.info("keyspace")
            shown = {name: facts for name, facts in found.items() if name != f"db{OWN_DATABASE}"}
            rows = tuple((name, str(facts["keys"]), str(facts["expires"])) for name, facts in shown.items())
            return Listing(columns=("database", "keys", "that expire"), rows=rows, opens=True)
        if len(path) == 1:
            after, keys = await client.scan(cursor=int(cursor or 0), count=PAGE)
            rows = tuple([(key, await client.type(key), await _lives(client, key)) for key in keys])
            return Listing(columns=("key", "type", "lives"), rows=rows, opens=True, cursor=str(after) if after else "")
        return await _value(client, path[1])


async def _lives(client: Any, key: str) -> str:
    seconds = await client.ttl(key)
    return "for ever" if seconds < 0 else f"{seconds} s"


async def _value(client: Any, key: str) -> Listing:
    kind = await client.type(key)
    match kind:
        case "none":
            raise NotFound(f"There is no key {key!r}.")
        case "string":
            pairs = [("value", await client.getrange(key, 0, LONGEST))]
        case "hash":
            pairs = list((await client.hscan(key, count=MOST))[1].items())
        case "list":
            pairs = [(str(place), item) for place, item in enumerate(await client.lrange(key, 0, MOST))]
        case "set":
            pairs = [("", item) for item in (await client.sscan(key, count=MOST))[1]]
        case "zset":
            pairs = [(str(score), item) for item, score in await client.zrange(key, 0, MOST, withscores=True)]
        case _:
            pairs = [(kind, "is not shown here")]
    rows = tuple((str(name), str(value)[:LONGEST]) for name, value in pairs[:MOST])
    return Listing(columns=("field" if kind == "hash" else "", kind), rows=rows)
