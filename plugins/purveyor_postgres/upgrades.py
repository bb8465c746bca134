"""What another image means for the data: PostgreSQL's majors do not read each other's files."""

from purveyor_hooks import Service, UpgradePlan


def plan(service: Service, image: str, major: str) -> UpgradePlan:
    if not major:
        reason = f"The tag of {image} tells no version, and the image is not here to be asked: docker pull {image}"
        return UpgradePlan(action="refuse", reason=reason)
    wanted, held = int(major), int(service.major)
    if wanted < held:
        return UpgradePlan(action="refuse", reason=f"PostgreSQL {wanted} cannot read the data of PostgreSQL {held}: no way back.")
    if wanted == held:
        return UpgradePlan(action="restart", reason=f"Both are PostgreSQL {held}: the new server reads the same files.")
    return UpgradePlan(
        action="migrate",
        reason=f"PostgreSQL {wanted} does not read the files of PostgreSQL {held}: everything is dumped from the old server and "
        "restored into the new one beside it, counted on both sides, and then switched. (pg_upgrade would need the programs "
        "of both majors in one container, which no official image has.)",
    )
