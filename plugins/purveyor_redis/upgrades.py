"""What another image means for the data: later servers read what earlier ones wrote, and not the
other way."""

from collections.abc import Mapping
from typing import Any

from purveyor_hooks import Image, Service, UpgradePlan
from purveyor_hooks.versions import image_version
from purveyor_redis.server import LAYOUT, opens

VERSIONS = ("REDIS_VERSION", "VALKEY_VERSION")


def layout(parameters: Mapping[str, Any]) -> str:
    """How data is divided that is made with these parameters."""
    return LAYOUT if opens(parameters) else ""


def version(image: Image) -> tuple[int, ...] | None:
    """The server's version, from the image's own environment or its tag."""
    found = image_version(image, *VERSIONS)
    return found.release[:2] if found else None


def flavour(image: Image) -> str:
    return (
        "valkey"
        if "valkey" in image.parts.path or "VALKEY_VERSION" in image.environment
        else "redis"
    )


def upgrade_plan(service: Service, image: Image) -> UpgradePlan:
    before, after = version(service.image), version(image)
    if before is None or after is None:
        reason = (
            "Could not determine which version "
            f"{image.reference if after is None else service.image.reference} is."
        )
        return UpgradePlan(action="refuse", reason=reason)
    if flavour(image) != flavour(service.image):
        return UpgradePlan(
            action="refuse",
            reason="Redis and Valkey do not read each other's files: restore a backup instead.",
        )
    if after < before:
        return UpgradePlan(
            action="refuse",
            reason=f"Version {_text(after)} cannot read what {_text(before)} wrote: no way back.",
        )
    if service.major != layout(service.parameters):
        reason = (
            "Each environment gets a server of its own, with its data; REDIS_PORT and REDIS_URL "
            "are others from then on, and "
            "those of before are refused: deploy its projects again."
        )
        if not layout(service.parameters):
            reason = (
                "Servers of environments are not put together again: restore a backup of before."
            )
        return UpgradePlan(
            action="migrate" if layout(service.parameters) else "refuse", reason=reason
        )
    return UpgradePlan(
        action="restart", reason=f"Version {_text(after)} reads what {_text(before)} wrote."
    )


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
