"""One database out of a backup, as mongodump would have written it: a tar of BSON and metadata
files for mongorestore."""

import json
import tarfile
import tempfile
from typing import Any
from urllib.parse import quote

import anyio.to_thread
from bson import json_util

from purveyor_hooks import NotFound, Sink, Source
from purveyor_hooks.parts import Part, read_parts
from purveyor_mongodb import inventory
from purveyor_mongodb.inventory import Holding
from purveyor_mongodb.snapshot import COLLECTION

SPOOLED, CHUNK = 16 * 1024 * 1024, 1024 * 1024


async def extract(source: Source, database: str, sink: Sink) -> None:
    """``tar x``, then ``mongorestore FOLDER``. Measurements of a time series come as a plain
    collection: mongorestore wants the server's own buckets for one."""
    found, seen = False, set()
    async for part in read_parts(source):
        if part.name != COLLECTION or not inventory.is_carried(
            part.facts["database"], part.facts["collection"]
        ):
            continue
        seen.add(str(part.facts["database"]))
        if part.facts["database"] == database:
            found = True
            await _write(
                inventory.decode(database, part.facts["collection"], part.facts["about"]),
                part,
                sink,
            )
    if not found:
        raise NotFound(
            f"The backup has no database {database}.",
            remedy=f"It has {', '.join(sorted(seen)) or 'none'}.",
        )
    await sink.write(b"\0" * 1024)


async def _write(holding: Holding, part: Part, sink: Sink) -> None:
    name = f"{_escaped(holding.database)}/{_escaped(holding.name)}"
    if holding.kind != "view":
        # a tar says each size beforehand
        with tempfile.SpooledTemporaryFile(max_size=SPOOLED) as file:
            async for chunk in part:
                await anyio.to_thread.run_sync(file.write, chunk)
            await sink.write(_head(f"{name}.bson", file.tell()))
            size = file.tell()
            file.seek(0)
            while chunk := await anyio.to_thread.run_sync(file.read, CHUNK):
                await sink.write(chunk)
            await sink.write(_padding(size))
    about = _metadata(holding)
    await sink.write(_head(f"{name}.metadata.json", len(about)) + about + _padding(len(about)))


def _metadata(holding: Holding) -> bytes:
    plain = {name: value for name, value in holding.options.items() if name != "timeseries"}
    described: dict[str, Any] = {
        "options": plain,
        "indexes": holding.indexes if "timeseries" not in holding.options else [],
        "collectionName": holding.name,
        "type": "view" if holding.kind == "view" else "collection",
    }
    return json.dumps(
        json.loads(json_util.dumps(described, json_options=json_util.CANONICAL_JSON_OPTIONS))
    ).encode()


def _escaped(name: str) -> str:
    """As mongodump names its files."""
    return quote(name, safe="$&+=@")


def _head(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return b"\0" * (-size % tarfile.BLOCKSIZE)
