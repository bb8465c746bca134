"""What is in the documents of a backup, as digests. No server is needed."""

from collections.abc import AsyncIterator
from hashlib import blake2b

from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from purveyor_hooks import BadInput, Contents, Source
from purveyor_hooks.parts import Part, read_parts
from purveyor_mongodb import inventory
from purveyor_mongodb.inventory import RAW
from purveyor_mongodb.snapshot import COLLECTION

SIZE = 16  # bytes of a digest
SMALLEST, LARGEST = 5, 64 * 1024 * 1024  # bytes of a document


async def contents(source: Source, into: Contents) -> None:
    """Of a collection that is there twice the later counts."""
    seen = set()
    async for part in read_parts(source):
        if part.name != COLLECTION or not inventory.is_carried(
            part.facts["database"], part.facts["collection"]
        ):
            continue
        holding = inventory.decode(
            part.facts["database"], part.facts["collection"], part.facts["about"]
        )
        name = f"{holding.database}.{holding.name}"
        if name in seen:
            await into.forget("documents", name)
        seen.add(name)
        if holding.counted and holding.kind != "view":
            fleeting = holding.expires or holding.capped
            async for document in _documents(part):
                digest = blake2b(document, digest_size=SIZE).digest()
                await into.put("documents", name, _called(document), digest, fleeting=fleeting)


def _called(document: bytes) -> str:
    try:
        return repr(RawBSONDocument(document, RAW).get("_id"))
    except BSONError:
        raise BadInput(
            "The backup's documents cannot be read.", remedy="Choose another backup."
        ) from None


async def _documents(part: Part) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for chunk in part:
        buffer += chunk
        at = 0
        while len(buffer) - at >= SMALLEST:
            size = int.from_bytes(buffer[at : at + 4], "little")
            if not SMALLEST <= size <= LARGEST:
                raise BadInput(
                    "The backup's documents cannot be read.", remedy="Choose another backup."
                )
            if len(buffer) - at < size:
                break
            yield bytes(memoryview(buffer)[at : at + size])
            at += size
        del buffer[:at]
    if buffer:
        raise BadInput("The backup's documents were cut off.", remedy="Choose another backup.")
