"""The measurements of `contrib/bench` that go through the HTTP API of a daemon: KV and Blob."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aioboto3
import aiohttp
import redis
from botocore.config import Config

Row = dict[str, Any]
MIB = 1024 * 1024
SIZE = 1024  # MiB
ROUNDS = 5
REQUESTS, CONNECTIONS = 5000, 16
EMPTY = '''
"""A handler that does nothing, behind the same authentication, with a body of the same shape."""

import msgspec
from litestar import Router, post

from purveyor_hooks import hookimpl


class Body(msgspec.Struct):
    key: str


@post("/", status_code=200)
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
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: purveyor-bench-empty\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[purveyor]\nbench-empty = purveyor_bench_empty\n")
    return {"PYTHONPATH": str(folder)}


@contextmanager
def serving(state: Path, kind: str) -> Iterator[dict[str, str]]:
    """A daemon with one service of a type and, for Blob, an S3 beside it; the answer is a linked project's variables."""
    command = [sys.executable, "-m", "purveyor.cli.main"]
    environment = {**os.environ, "PURVEYOR_STATE": str(state), **plugin(state / "site")}

    def cli(*arguments: str) -> str:
        return subprocess.run([*command, *arguments], env=environment, check=True, capture_output=True, text=True).stdout

    with open(state / "daemon.log", "wb") as log:
        daemon = subprocess.Popen([*command, "serve"], env=environment, stdout=log, stderr=log)
    names = [kind, *(["s3"] if kind == "blob" else [])]
    try:
        while not (state / "purveyor.sock").exists():
            time.sleep(0.1)
        cli("project", "create", "bench")
        for name in names:
            cli("create", name, name)
            cli("link", name, "bench")
        yield json.loads(cli("--json", "env", "bench", "--host"))
        for name in names:
            cli("unlink", name, "bench")
            cli("delete", name, "--purge", "--yes")
    finally:
        daemon.terminate()
        daemon.wait(30)


async def _rate(port: int, token: str, path: str, body: str) -> float:
    """Requests in a second over some connections that are kept open; the client is as lean as can be."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    left = REQUESTS

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
    return REQUESTS / (time.perf_counter() - started)


def kv(state: Path) -> list[Row]:
    with serving(state, "kv") as values:
        port, token = int(values["PURVEYOR_API_URL"].rpartition(":")[2]), values["PURVEYOR_TOKEN"]
        calls = {
            "empty": ("/api/empty", '{"key": "a"}'),
            "get": ("/api/kv/get", '{"key": "a"}'),
            "set": ("/api/kv/set", '{"key": "a", "value": {"name": "Ada"}}'),
        }
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(ROUNDS + 1):
            for name, (path, body) in calls.items():
                rate = asyncio.run(_rate(port, token, path, body))
                if number:
                    rates[name].append(rate)
        empty = statistics.median(rates["empty"])
        rows = []
        for name in ("get", "set"):
            ours = statistics.median(rates[name])
            rows.append({
                "what": f"KV {name} over HTTP, median of {ROUNDS}", "ours": f"{ours:.0f}/s", "peer": f"{empty:.0f}/s",
                "ratio": ours / empty, "goal": "≥ 0.6 of an empty handler",
            })  # fmt: skip
        rows.append(_latency(values))
        return rows


def _latency(values: dict[str, str]) -> Row:
    """One after the other: the SDK over HTTP against redis-py straight to Redis."""
    from purveyor_kv import KV

    direct = redis.from_url(values["KV_URL"])

    def median(call: Any) -> float:
        times = []
        for _ in range(1000):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1e6

    with KV(values["PURVEYOR_API_URL"], values["PURVEYOR_TOKEN"]) as client:
        ours, theirs = median(lambda: client.get("a")), median(lambda: direct.get("a"))
    return {
        "what": "KV get, one at a time, SDK over HTTP", "ours": f"{ours:.0f} µs", "peer": f"{theirs:.0f} µs",
        "ratio": ours / theirs, "goal": "told, not set",
    }  # fmt: skip


class Noise(io.RawIOBase):
    """A file of noise that is nowhere."""

    def __init__(self) -> None:
        self.block = random.Random(1).randbytes(MIB)
        self.left = SIZE * MIB

    def read(self, size: int = -1) -> bytes:
        size = min(self.left, size if size > 0 else MIB)
        self.left -= size
        return (self.block * (size // MIB + 1))[:size]


async def _straight(values: dict[str, str]) -> tuple[float, float]:
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
        await s3.upload_fileobj(Noise(), values["S3_BUCKET"], "noise")
        up = time.perf_counter() - started
        started, came = time.perf_counter(), 0
        async for chunk in (await s3.get_object(Bucket=values["S3_BUCKET"], Key="noise"))["Body"].iter_chunks(MIB):
            came += len(chunk)
        assert came == SIZE * MIB
        return up, time.perf_counter() - started


async def _through(values: dict[str, str]) -> tuple[float, float]:
    """aiohttp, which aioboto3 is built on too, through our API: seconds up and down."""

    async def blocks() -> Any:
        noise = Noise()
        while block := noise.read(MIB):
            yield block

    url, headers = f"{values['PURVEYOR_API_URL']}/api/blob", {"Authorization": f"Bearer {values['PURVEYOR_TOKEN']}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(600)) as http:
        started = time.perf_counter()
        async with http.post(url, params={"pathname": "noise"}, data=blocks()) as answer:
            assert answer.status == 201, await answer.text()
        up = time.perf_counter() - started
        started, came = time.perf_counter(), 0
        async with http.get(f"{url}/noise") as answer:
            async for chunk in answer.content.iter_chunked(MIB):
                came += len(chunk)
        assert came == SIZE * MIB
        return up, time.perf_counter() - started


def blob(state: Path) -> list[Row]:
    with serving(state, "blob") as values:
        ours, peer = [], []
        for number in range(ROUNDS + 1):
            straight, through = asyncio.run(_straight(values)), asyncio.run(_through(values))
            if number:
                peer.append(straight)
                ours.append(through)
    rows = []
    for index, way in enumerate(("up", "down")):
        mine = SIZE / statistics.median(took[index] for took in ours)
        theirs = SIZE / statistics.median(took[index] for took in peer)
        rows.append({
            "what": f"Blob 1 GiB {way}, median of {ROUNDS}", "ours": f"{mine:.0f} MB/s", "peer": f"{theirs:.0f} MB/s",
            "ratio": mine / theirs, "goal": "≥ 0.8 of aioboto3",
        })  # fmt: skip
    return rows
