"""What another image means for the data: MongoDB goes from one major to the next, and skips
none."""

from purveyor_hooks import Image, Service, UpgradePlan
from purveyor_hooks.versions import image_version


def version(image: Image) -> int | None:
    """The major version, from the image's own environment or its tag."""
    found = image_version(image, "MONGO_VERSION")
    return found.major if found else None


def upgrade_plan(service: Service, image: Image) -> UpgradePlan:
    before, after = version(service.image), version(image)
    if before is None or after is None:
        unknown = image.reference if after is None else service.image.reference
        return UpgradePlan(action="refuse", reason=f"Could not determine the version of {unknown}.")
    if after < before:
        return UpgradePlan(
            action="refuse",
            reason=f"MongoDB {after} cannot read what MongoDB {before} wrote: no way back.",
        )
    if after > before + 1:
        reason = f"MongoDB goes from one major to the next: from {before} to {before + 1} first."
        return UpgradePlan(action="refuse", reason=reason)
    return UpgradePlan(
        action="restart", reason=f"MongoDB {after} reads what MongoDB {before} wrote."
    )
