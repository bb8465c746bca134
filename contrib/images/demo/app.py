"""A small web app that shows its injected services at work.

GET /         write a row and bump a counter, answer what is in both stores
GET /healthz  200 once both stores have answered
"""

import json
import os
from typing import Any

import asyncpg
import redis.asyncio as redis
import uvicorn

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS visits (id bigserial PRIMARY KEY, at timestamptz NOT NULL "
    "DEFAULT now())"
)


class App:
    def __init__(self) -> None:
        self.pool: Any = None
        self.cache: Any = None

    async def connect(self) -> None:
        if "DATABASE_URL" in os.environ:
            self.pool = await asyncpg.create_pool(
                os.environ["DATABASE_URL"], min_size=1, max_size=4
            )
            await self.pool.execute(SCHEMA)
        if "REDIS_URL" in os.environ:
            self.cache = redis.from_url(os.environ["REDIS_URL"])
            await self.cache.ping()

    async def visit(self) -> dict[str, object]:
        answer: dict[str, object] = {"release": os.environ.get("RELEASE", "1")}
        if self.pool:
            await self.pool.execute("INSERT INTO visits DEFAULT VALUES")
            answer["rows"] = await self.pool.fetchval("SELECT count(*) FROM visits")
            answer["database"] = await self.pool.fetchval("SELECT current_database()")
        if self.cache:
            answer["hits"] = await self.cache.incr("hits")
        return answer

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self.connect()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = {"ok": True} if scope["path"] == "/healthz" else await self.visit()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode() + b"\n"})


if __name__ == "__main__":
    uvicorn.run(
        App(),
        host="0.0.0.0",
        port=int(os.environ.get("PORT", "8000")),
        log_level="warning",
        lifespan="on",
    )
