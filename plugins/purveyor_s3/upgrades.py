"""What another image means for the data: each server has a format of its own, and its versions read
the earlier ones'."""

from purveyor_hooks import Image, Service, UpgradePlan
from purveyor_s3 import flavours


def upgrade_plan(service: Service, image: Image) -> UpgradePlan:
    before, after = flavours.of(service).name, flavours.named(image.reference)
    if after is None:
        return UpgradePlan(
            action="refuse", reason=f"Could not determine the S3 server of image {image.reference}."
        )
    if after != before:
        reason = (
            f"{after} does not read what {before} wrote: restore a backup into a new service "
            "instead."
        )
        return UpgradePlan(action="refuse", reason=reason)
    return UpgradePlan(
        action="restart", reason=f"Both are {before}: the new server reads the same files."
    )
