"""Images of a real engine, through aiodocker."""

from contextlib import closing
from typing import TYPE_CHECKING, Any

import aiodocker
import aiohttp
import anyio
import msgspec

from purveyor.docker.errors import UNREACHABLE, unavailable
from purveyor.docker.protocols import Images, Progress, pull_remedy
from purveyor_hooks import Image, ImageMissing, references

if TYPE_CHECKING:
    from purveyor.docker.client import DockerEngine


class DockerImages(Images):
    """`Images` of a Docker Engine."""

    def __init__(self, engine: "DockerEngine") -> None:
        self._engine = engine

    async def inspect(self, reference: str) -> Image | None:
        with self._engine.errors(f"look for the image {reference}"):
            try:
                found = await self._engine.docker.images.inspect(reference)
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return None
        return _image(reference, found)

    async def pull(self, reference: str, progress: Progress, stall: float) -> None:
        await progress(f"pulling {reference}")
        layers: dict[str, tuple[int, int]] = {}
        told = -1
        parts = references.parts_of(reference)
        params = {"fromImage": reference} | ({} if parts.tag or parts.digest else {"tag": "latest"})
        try:
            # not by `pull` of the library: it leaves the connection open when it is not read to its
            # end
            with anyio.fail_after(stall):
                answer = await self._engine.ask("images/create", params, "POST")
            with closing(answer):
                while True:
                    with anyio.fail_after(stall):
                        text = await answer.content.readline()
                    if not text:
                        return
                    line = msgspec.json.decode(text)
                    if "error" in line:
                        raise aiodocker.DockerError(answer.status, line["error"])
                    detail = line.get("progressDetail") or {}
                    if detail.get("total"):
                        layers[line.get("id", "")] = (detail.get("current", 0), detail["total"])
                        share = (
                            100
                            * sum(now for now, _ in layers.values())
                            // sum(total for _, total in layers.values())
                        )
                        if share // 10 != told:
                            told = share // 10
                            await progress(f"pulling {reference}: {share} %")
        except TimeoutError:
            message = f"Pulling {reference} made no progress for {stall:.0f} s."
            raise ImageMissing(message, remedy=pull_remedy(reference)) from None
        except aiodocker.DockerError as error:
            if error.status == UNREACHABLE:
                raise unavailable(str(error.message)) from error
            message = (
                f"The image {reference} was not found locally, and pulling it failed: "
                f"{str(error.message).strip()}."
            )
            raise ImageMissing(
                message, remedy=pull_remedy(reference), errors={"docker_image": "not available"}
            ) from error
        except aiohttp.ClientError as error:
            raise unavailable(str(error)) from error


def _image(reference: str, found: dict[str, Any]) -> Image:
    config = found.get("Config") or {}
    environment = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    return Image(
        reference=reference,
        id=found["Id"],
        environment=environment,
        labels=config.get("Labels") or {},
        digest=_digest(reference, found.get("RepoDigests") or []),
        user=config.get("User") or "",
    )


def _digest(reference: str, known: list[str]) -> str:
    """What the image's registry calls it: in the repository that it was asked for by, where it is
    known in several."""
    own = references.parts_of(reference).repository
    return next(
        (item for item in known if item.partition("@")[0] == own), known[0] if known else ""
    )
