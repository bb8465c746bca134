"""Where backups are kept: a folder of this host, or a bucket. A file appears whole or not at
all."""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread

from purveyor.backups import s3
from purveyor.backups.models import SourceRecord
from purveyor.kernel.db.secrets import write_new
from purveyor_hooks import BadInput, Failed, NotFound

CHUNK = 1024 * 1024
MANIFEST = "manifest.json"
DATA = "data.zst"
SUMS = "data.sums"


class Writer(Protocol):
    """Takes a file's bytes in order; `commit` makes it appear, `discard` leaves nothing of it."""

    async def write(self, chunk: bytes) -> None: ...

    async def commit(self) -> None: ...

    async def discard(self) -> None: ...


class Storage(ABC):
    """Files by path below one root."""

    label: str

    @property
    def address(self) -> str:
        """What tells it from every other place: two buckets of one name may be at two endpoints."""
        return self.label

    @abstractmethod
    async def begin(self, path: str) -> Writer: ...

    @abstractmethod
    def read(self, path: str) -> AsyncIterator[bytes]:
        """A file's bytes. Raises `NotFound`."""

    @abstractmethod
    async def size(self, path: str) -> int:
        """How many bytes a file has. Raises `NotFound`."""

    @abstractmethod
    async def list(self) -> list[str]:
        """The paths of all manifests."""

    @abstractmethod
    async def names(self, folder: str) -> Sequence[str]:
        """The names of the files in a folder, in their order; none when there is no such folder."""

    @abstractmethod
    async def delete(self, path: str) -> None:
        """Delete one file; one that is gone is fine."""

    @abstractmethod
    async def remove(self, folder: str) -> None:
        """Remove a backup's folder, its manifest first; one that is gone is fine."""

    @abstractmethod
    async def claim(self, path: str, content: bytes) -> bool:
        """Put a small file where there is none; whether it is this one that is there then."""

    @abstractmethod
    async def below(self, folder: str, after: str = "") -> Sequence[str]:
        """The paths of all files below a folder that come after a path, in their order."""

    def held(self) -> "AbstractAsyncContextManager[Storage]":
        """The same place for many calls one after the other: what leads there is kept open
        meanwhile."""
        return nullcontext(self)

    async def put(self, path: str, content: bytes) -> None:
        """A small file."""

        async def whole() -> AsyncIterator[bytes]:
            yield content

        await self.put_all(path, whole())

    async def put_all(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """A file, as its bytes come: whole, or not at all."""
        writer = await self.begin(path)
        try:
            async for chunk in chunks:
                await writer.write(chunk)
            await writer.commit()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await writer.discard()
            raise

    async def get(self, path: str) -> bytes:
        """A small file."""
        return b"".join([chunk async for chunk in self.read(path)])


class _FileWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._handle: Any = None

    async def open(self) -> None:
        def make() -> Any:
            _make_folder(self._path.parent)
            return os.fdopen(
                os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
            )

        self._handle = await _disk(make)

    async def write(self, chunk: bytes) -> None:
        await _disk(lambda: self._handle.write(chunk))

    async def commit(self) -> None:
        def finish() -> None:
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._handle.close()
            self._part.replace(self._path)
            _keep(self._path.parent)

        await _disk(finish)

    async def discard(self) -> None:
        def drop() -> None:
            with suppress(OSError):  # what was still buffered does not fit on the disk either
                self._handle.close()
            self._part.unlink(missing_ok=True)

        await anyio.to_thread.run_sync(drop)


def _make_folder(path: Path) -> None:
    """Make a folder, and those that it is in, so that they are there after a loss of power."""
    missing = [path, *path.parents]
    missing = missing[: next(place for place, folder in enumerate(missing) if folder.exists())]
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in reversed(missing):
        _keep(folder.parent)


def _keep(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


async def _disk(work: Any, done: str = "written") -> Any:
    try:
        return await anyio.to_thread.run_sync(work)
    except OSError as error:
        raise Failed(
            f"The backup cannot be {done}: {error.strerror or error}.",
            remedy="Is the disk full, or read-only?",
        ) from None


class LocalStorage(Storage):
    """A folder of this host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.label = str(root)

    async def begin(self, path: str) -> Writer:
        writer = _FileWriter(self.root / path)
        await writer.open()
        return writer

    async def read(self, path: str) -> AsyncIterator[bytes]:
        try:
            async with await anyio.open_file(self.root / path, "rb") as opened:
                while chunk := await opened.read(CHUNK):
                    yield chunk
        except FileNotFoundError:
            raise NotFound(f"The backup's file {self.root / path} is gone.") from None
        except OSError as error:
            raise Failed(
                f"The backup's file {self.root / path} cannot be read: {error.strerror}."
            ) from None

    async def size(self, path: str) -> int:
        try:
            return int((await anyio.to_thread.run_sync((self.root / path).stat)).st_size)
        except OSError as error:
            raise NotFound(
                f"The backup's file {self.root / path} is not there: {error.strerror}."
            ) from None

    async def list(self) -> list[str]:
        def look() -> list[str]:
            return sorted(
                str(path.relative_to(self.root)) for path in self.root.glob(f"*/*/{MANIFEST}")
            )

        return await anyio.to_thread.run_sync(look)

    async def names(self, folder: str) -> Sequence[str]:
        def look() -> Sequence[str]:
            path = self.root / folder
            return (
                sorted(item.name for item in path.iterdir() if item.suffix != ".part")
                if path.is_dir()
                else []
            )

        return await anyio.to_thread.run_sync(look)

    async def claim(self, path: str, content: bytes) -> bool:
        def link() -> None:
            _make_folder(self.root.joinpath(path).parent)
            write_new(self.root / path, content)

        await _disk(link)
        return await self.get(path) == content

    async def below(self, folder: str, after: str = "") -> Sequence[str]:
        def look() -> Sequence[str]:
            every = (
                item
                for item in (self.root / folder).rglob("*")
                if item.suffix != ".part" and item.is_file()
            )
            return sorted(
                path for item in every if (path := str(item.relative_to(self.root))) > after
            )

        found: list[str] = await _disk(look, "looked for")
        return found

    async def delete(self, path: str) -> None:
        await _disk(lambda: (self.root / path).unlink(missing_ok=True), "deleted")

    async def remove(self, folder: str) -> None:
        def drop() -> None:
            path = self.root / folder
            (path / MANIFEST).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.rmtree(path)

        await _disk(drop, "deleted")


class S3Storage(Storage):
    """A bucket of any S3 server."""

    def __init__(self, source: SourceRecord, secret_key: str) -> None:
        self._source = source
        self._secret = secret_key
        self._prefix = f"{source.bucket_path.strip('/')}/" if source.bucket_path.strip("/") else ""
        self.label = f"s3://{source.bucket_name}/{self._prefix}"
        self._held: Any = None

    @property
    def address(self) -> str:
        return f"{self._source.endpoint.rstrip('/') or 's3:/'}/{self._source.bucket_name}/{self._prefix}"

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Storage]:
        async with s3.client(self._source, self._secret) as opened:
            place = S3Storage(self._source, self._secret)
            place._held = opened
            yield place

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        if self._held is not None:
            yield self._held
            return
        async with s3.client(self._source, self._secret) as opened:
            yield opened

    async def begin(self, path: str) -> Writer:
        writer = s3.Upload(self._client, self._source.bucket_name, self._prefix + path)
        await writer.open()
        return writer

    async def read(self, path: str) -> AsyncIterator[bytes]:
        async with self._client() as client:
            async for chunk in s3.read(client, self._source.bucket_name, self._prefix + path):
                yield chunk

    async def size(self, path: str) -> int:
        async with self._client() as client:
            return await s3.size(client, self._source.bucket_name, self._prefix + path)

    async def list(self) -> list[str]:
        async with self._client() as client:
            keys = await s3.keys(client, self._source.bucket_name, self._prefix)
        return sorted(
            key.removeprefix(self._prefix) for key in keys if key.endswith(f"/{MANIFEST}")
        )

    async def names(self, folder: str) -> Sequence[str]:
        prefix = f"{self._prefix}{folder}/"
        async with self._client() as client:
            return sorted(
                key.removeprefix(prefix)
                for key in await s3.keys(client, self._source.bucket_name, prefix)
            )

    async def claim(self, path: str, content: bytes) -> bool:
        async with self._client() as client:
            await s3.put_new(client, self._source.bucket_name, self._prefix + path, content)
        try:
            # a server that does not know the condition has overwritten: the last stays
            return await self.get(path) == content
        except NotFound:
            return False

    async def below(self, folder: str, after: str = "") -> Sequence[str]:
        prefix = f"{self._prefix}{folder}/"
        async with self._client() as client:
            found = await s3.keys(
                client, self._source.bucket_name, prefix, self._prefix + after if after else ""
            )
        return sorted(key.removeprefix(self._prefix) for key in found)

    async def delete(self, path: str) -> None:
        async with self._client() as client:
            await s3.delete(client, self._source.bucket_name, self._prefix + path)

    async def remove(self, folder: str) -> None:
        async with self._client() as client:
            keys = await s3.keys(client, self._source.bucket_name, f"{self._prefix}{folder}/")
            for key in sorted(keys, key=lambda key: not key.endswith(MANIFEST)):
                await s3.delete(client, self._source.bucket_name, key)

    async def check(self) -> None:
        """Write, read and delete. Raises `BadInput` that says what does not work."""
        name = "purveyor-check"
        try:
            await self.put(name, b"purveyor")
            if await self.get(name) != b"purveyor":
                raise BadInput("What is written to the bucket does not come back.")
            async with self._client() as client:
                await s3.delete(client, self._source.bucket_name, self._prefix + name)
        except (Failed, NotFound) as error:
            raise BadInput(
                f"The bucket cannot be used: {error.detail}",
                remedy="Check endpoint, region, keys and the bucket's name.",
                errors={"bucket_name": error.detail},
            ) from None
