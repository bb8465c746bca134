"""What a Redis holds, to be looked at: databases, keys by SCAN, values."""

from typing import Any

import msgspec

from purveyor_hooks import Access, Listing, NotFound, Service
from purveyor_redis import division
from purveyor_redis.server import OWN_DATABASE, connection, is_divided

PAGE, LONGEST, MOST = 100, 2000, 200


async def browse(service: Service, access: Access, path: tuple[str, ...], cursor: str) -> Listing:
    if path and not path[0].removeprefix("db").isdecimal():
        raise NotFound(f"There is no database {path[0]!r}.")
    number = int(path[0].removeprefix("db")) if path else 0
    if is_divided(service) and (number or not path):
        return await _server(access, number, path, cursor)
    async with connection(service, access, number if path else None) as client:
        if not path:
            found = await client.info("keyspace")
            shown = {name: facts for name, facts in found.items() if name != f"db{OWN_DATABASE}"}
            rows = tuple(
                (name, str(facts["keys"]), str(facts["expires"])) for name, facts in shown.items()
            )
            return Listing(columns=("database", "keys", "that expire"), rows=rows, opens=True)
        if len(path) == 1:
            after, keys = await client.scan(cursor=int(cursor or 0), count=PAGE)
            rows = tuple([(key, await client.type(key), await _lives(client, key)) for key in keys])
            return Listing(
                columns=("key", "type", "lives"),
                rows=rows,
                opens=True,
                cursor=str(after) if after else "",
            )
        return await _value(client, path[1])


# A page of a server that is asked by commands in its container: all of it at once, for each takes a
# tenth of a second.
KEYS = f"""
local found = redis.call('SCAN', ARGV[1], 'COUNT', {PAGE})
local rows = {{}}
for place, key in ipairs(found[2]) do
  rows[place] = {{key, redis.call('TYPE', key).ok, redis.call('TTL', key)}}
end
return {{found[1], rows}}
"""
VALUE = f"""
local kind, key = redis.call('TYPE', KEYS[1]).ok, KEYS[1]
local found = {{}}
if kind == 'string' then found = {{'value', redis.call('GETRANGE', key, 0, {LONGEST})}}
elseif kind == 'hash' then found = redis.call('HSCAN', key, 0, 'COUNT', {MOST})[2]
elseif kind == 'zset' then
  for place, item in ipairs(redis.call('ZRANGE', key, 0, {MOST}, 'WITHSCORES')) do
    found[place % 2 == 1 and place + 1 or place - 1] = item
  end
elseif kind == 'list' or kind == 'set' then
  local items = kind == 'list' and redis.call('LRANGE', key, 0, {MOST}) or redis.call('SSCAN', key, 0, 'COUNT', {MOST})[2]
  for place, item in ipairs(items) do
    found[2 * place - 1], found[2 * place] = kind == 'list' and tostring(place - 1) or '', item
  end
end
return {{kind, found}}
"""


async def _server(access: Access, number: int, path: tuple[str, ...], cursor: str) -> Listing:
    """What the servers of environments hold; of one, what is in its database 0."""
    held = await division.keys(access)
    if not path:
        rows = tuple(
            (f"db{number}", str(item.lasting + item.fleeting), str(item.fleeting))
            for number, item in held.items()
        )
        return Listing(columns=("database", "keys", "that expire"), rows=rows, opens=True)
    if number not in held:
        raise NotFound(f"There is no database {path[0]!r}.")
    if len(path) == 1:
        told = await division.ask(
            access, number, "--json", "EVAL", KEYS, "0", str(int(cursor or 0))
        )
        after, found = msgspec.json.decode(told, type=tuple[str, list[tuple[str, str, int]]])
        lives = [
            (key, kind, "for ever" if seconds < 0 else f"{seconds} s")
            for key, kind, seconds in found
        ]
        return Listing(
            columns=("key", "type", "lives"),
            rows=tuple(lives),
            opens=True,
            cursor="" if after == "0" else after,
        )
    told = await division.ask(access, number, "--json", "EVAL", VALUE, "1", path[1])
    kind, items = msgspec.json.decode(told, type=tuple[str, list[str]])
    if kind == "none":
        raise NotFound(f"There is no key {path[1]!r}.")
    if not items:
        items = [kind, "is not shown here"]
    pairs = tuple(
        (name, value[:LONGEST]) for name, value in zip(items[::2], items[1::2], strict=False)
    )
    return Listing(columns=("field" if kind == "hash" else "", kind), rows=pairs[:MOST])


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
            pairs = [
                (str(place), item) for place, item in enumerate(await client.lrange(key, 0, MOST))
            ]
        case "set":
            pairs = [("", item) for item in (await client.sscan(key, count=MOST))[1]]
        case "zset":
            pairs = [
                (str(score), item)
                for item, score in await client.zrange(key, 0, MOST, withscores=True)
            ]
        case _:
            pairs = [(kind, "is not shown here")]
    rows = tuple((str(name), str(value)[:LONGEST]) for name, value in pairs[:MOST])
    return Listing(columns=("field" if kind == "hash" else "", kind), rows=rows)
