"""Images: one that is on the engine is never pulled."""

from collections.abc import Awaitable, Callable
from typing import Any

import aiodocker
import anyio

from purveyor.engine.client import UNREACHABLE, Engine, unavailable
from purveyor_hooks import Image, ImageMissing

Progress = Callable[[str], Awaitable[None]]


async def inspect(engine: Engine, reference: str) -> Image | None:
    """The image as it is on the engine, None when it is not there."""
    with engine.errors(f"look for the image {reference}"):
        try:
            found = await engine.docker.images.inspect(reference)
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            return None
    return _image(reference, found)


def _image(reference: str, found: dict[str, Any]) -> Image:
    config = found.get("Config") or {}
    environment = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    return Image(reference=reference, id=found["Id"], environment=environment, labels=config.get("Labels") or {})


async def ensure(engine: Engine, reference: str, progress: Progress, stall: float) -> Image:
    """The image, pulled when it is not there; given up after `stall` seconds without progress.

    Raises `ImageMissing` that says why.
    """
    image = await inspect(engine, reference)
    if image is None:
        await _pull(engine, reference, progress, stall)
        image = await inspect(engine, reference)
    if image is None:
        raise ImageMissing(f"The image {reference} was pulled and is not there.", remedy=_remedy(reference))
    return image


async def _pull(engine: Engine, reference: str, progress: Progress, stall: float) -> None:
    await progress(f"pulling {reference}")
    layers: dict[str, tuple[int, int]] = {}
    told = -1
    stream = engine.docker.images.pull(reference, stream=True)
    try:
        while True:
            with anyio.fail_after(stall):
                line = await anext(stream, None)
            if line is None:
                return
            if "error" in line:
                raise ImageMissing(f"The image {reference} cannot be pulled: {line['error']}.", remedy=_remedy(reference))
            detail = line.get("progressDetail") or {}
            if detail.get("total"):
                layers[line.get("id", "")] = (detail.get("current", 0), detail["total"])
                share = 100 * sum(now for now, _ in layers.values()) // sum(total for _, total in layers.values())
                if share // 10 != told:
                    told = share // 10
                    await progress(f"pulling {reference}: {share} %")
    except TimeoutError:
        message = f"Pulling {reference} made no progress for {stall:.0f} s."
        raise ImageMissing(message, remedy=_remedy(reference)) from None
    except aiodocker.DockerError as error:
        if error.status == UNREACHABLE:
            raise unavailable(str(error.message)) from error
        message = f"The image {reference} is not on this machine and cannot be pulled: {str(error.message).strip()}."
        raise ImageMissing(message, remedy=_remedy(reference), errors={"docker_image": "cannot be had"}) from error


def _remedy(reference: str) -> str:
    return f"Check the name and the network, or bring the image yourself: docker pull {reference}"
