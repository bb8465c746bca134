"""The measurements of `contrib/bench` that go through the HTTP API of a daemon: KV and Blob."""

from __future__ import annotations

import asyncio
import io
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aioboto3
import aiohttp
import redis
from bench_stage import MIB, Row, Sizes, empty_ports, stage
from botocore.config import Config

CONNECTIONS = 16
EMPTY = '''
"""A handler that does nothing, behind the same authentication, with a body of the same shape."""

import msgspec
from litestar import Router, post

from purveyor_hooks import hookimpl


class Body(msgspec.Struct):
    key: str


@post("/", status_code=200, opt={"audit": "data"})  # as KV is: else each call is written down
async def empty(data: Body) -> dict[str, str]:
    return {}


@hookimpl
def http_routes(app):
    return [Router("/api/empty", route_handlers=[empty], middleware=[app.authentication])]
'''


def plugin(folder: Path) -> dict[str, str]:
    """Lay out the empty handler's plugin; the answer is the environment that finds it."""
    folder.mkdir(exist_ok=True)
    (folder / "purveyor_bench_empty.py").write_text(EMPTY)
    info = folder / "purveyor_bench_empty-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: purveyor-bench-empty\nVersion: 1\n"
    )
    (info / "entry_points.txt").write_text("[purveyor]\nbench-empty = purveyor_bench_empty\n")
    return {"PYTHONPATH": str(folder)}


@contextmanager
def serving(kind: str) -> Iterator[dict[str, str]]:
    """A daemon with one service of a type and, for Blob, an S3 beside it; the answer is a linked
    project's variables."""
    with stage() as made:
        made.environment |= plugin(made.state / "site")
        with made.serving():
            ports = empty_ports()
            made.cli("project", "create", "bench")
            for name in (kind, *(["s3"] if kind == "blob" else [])):
                made.cli("create", name, name, "-p", f"port={next(ports)}")
                made.cli("link", name, "bench")
            yield made.variables("bench")


async def _rate(port: int, token: str, path: str, body: str, requests: int) -> float:
    """Requests in a second over some connections that are kept open; the client is as lean as can
    be."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer "
        f"{token}\r\nContent-Type: application/json\r\n"
    )
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    left = requests

    async def one() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left > 0:
            left -= 1
            writer.write(request)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 " in answer[:16], answer
            await reader.readexactly(int(answer.partition(b"content-length: ")[2].split(b"\r")[0]))
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return requests / (time.perf_counter() - started)


def kv(sizes: Sizes) -> list[Row]:
    with serving("kv") as values:
        port, token = int(values["PURVEYOR_API_URL"].rpartition(":")[2]), values["PURVEYOR_TOKEN"]
        calls = {
            "empty": ("/api/empty", '{"key": "a"}'),
            "get": ("/api/kv/get", '{"key": "a"}'),
            "set": ("/api/kv/set", '{"key": "a", "value": {"name": "Ada"}}'),
        }
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(sizes.rounds + sizes.warm_up):
            for name, (path, body) in calls.items():
                rate = asyncio.run(_rate(port, token, path, body, sizes.requests))
                if number >= sizes.warm_up:
                    rates[name].append(rate)
        latency = _latency(values, sizes.calls)
    empty = statistics.median(rates["empty"])
    rows = []
    for name in ("get", "set"):
        ours = statistics.median(rates[name])
        rows.append(
            Row(
                what=f"KV {name} over HTTP, median of {sizes.rounds}",
                ours=f"{ours:.0f}/s",
                beside="an empty handler",
                peer=f"{empty:.0f}/s",
                ratio=ours / empty,
                goal="≥ 0.6",
            )
        )
    return [*rows, latency]


def _latency(values: dict[str, str], calls: int) -> Row:
    """One after the other: the SDK over HTTP against redis-py straight to Redis."""
    from purveyor_kv import KV

    def median(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(calls):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1e6

    with (
        KV(values["PURVEYOR_API_URL"], values["PURVEYOR_TOKEN"]) as client,
        redis.from_url(values["KV_URL"]) as direct,
    ):
        ours, theirs = median(lambda: client.get("a")), median(lambda: direct.get("a"))
    return Row(
        what="KV get, one at a time, SDK over HTTP",
        ours=f"{ours:.0f} µs",
        beside="redis-py",
        peer=f"{theirs:.0f} µs",
        ratio=ours / theirs,
        goal="told, not set",
    )


class Noise(io.RawIOBase):
    """A file of noise that is nowhere."""

    def __init__(self, size: int) -> None:
        self.block = random.Random(1).randbytes(MIB)
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = min(self.left, size if size > 0 else MIB)
        self.left -= size
        return (self.block * (size // MIB + 1))[:size]


async def _straight(values: dict[str, str], size: int) -> tuple[float, float]:
    """aioboto3 straight to the server: seconds up and down."""
    client = aioboto3.Session().client(
        "s3",
        endpoint_url=values["S3_ENDPOINT"],
        aws_access_key_id=values["S3_ACCESS_KEY"],
        aws_secret_access_key=values["S3_SECRET_KEY"],
        region_name=values["S3_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )
    async with client as s3:
        started = time.perf_counter()
        await s3.upload_fileobj(Noise(size), values["S3_BUCKET"], "noise")
        up = time.perf_counter() - started
        started, came = time.perf_counter(), 0
        async for chunk in (await s3.get_object(Bucket=values["S3_BUCKET"], Key="noise"))[
            "Body"
        ].iter_chunks(MIB):
            came += len(chunk)
        assert came == size
        return up, time.perf_counter() - started


async def _through(values: dict[str, str], size: int) -> tuple[float, float]:
    """aiohttp, which aioboto3 is built on too, through our API: seconds up and down."""

    async def blocks() -> Any:
        noise = Noise(size)
        while block := noise.read(MIB):
            yield block

    url, headers = (
        f"{values['PURVEYOR_API_URL']}/api/blob",
        {"Authorization": f"Bearer {values['PURVEYOR_TOKEN']}"},
    )
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(600)) as http:
        started = time.perf_counter()
        async with http.post(url, params={"pathname": "noise"}, data=blocks()) as answer:
            assert answer.status == 201, await answer.text()
        up = time.perf_counter() - started
        started, came = time.perf_counter(), 0
        async with http.get(f"{url}/noise") as answer:
            async for chunk in answer.content.iter_chunked(MIB):
                came += len(chunk)
        assert came == size
        return up, time.perf_counter() - started


def blob(sizes: Sizes) -> list[Row]:
    size = sizes.blob * MIB
    ours, peer = [], []
    with serving("blob") as values:
        for number in range(sizes.blob_rounds + sizes.warm_up):
            straight, through = (
                asyncio.run(_straight(values, size)),
                asyncio.run(_through(values, size)),
            )
            if number >= sizes.warm_up:
                peer.append(straight)
                ours.append(through)
    rows = []
    for index, way in enumerate(("up", "down")):
        mine = sizes.blob / statistics.median(took[index] for took in ours)
        theirs = sizes.blob / statistics.median(took[index] for took in peer)
        rows.append(
            Row(
                what=f"Blob {sizes.blob} MiB {way}, median of {sizes.blob_rounds}",
                ours=f"{mine:.0f} MB/s",
                beside="aioboto3",
                peer=f"{theirs:.0f} MB/s",
                ratio=mine / theirs,
                goal="≥ 0.8",
            )
        )
    return rows
