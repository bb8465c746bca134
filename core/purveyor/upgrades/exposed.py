"""Upgrades and their undoing, as people come to them."""

from functools import partial

from purveyor.exposed import Exposed
from purveyor.services.exposed import SERVICE

_of_service = partial(Exposed, tag="services", answers="purveyor.services.routes:service_answer")

UPGRADE = _of_service(
    "upgrade",
    f"POST {SERVICE}/upgrade",
    "upgrade_service",
    body="purveyor.upgrades.schemas:UpgradeRequest",
)
UNDO_UPGRADE = _of_service("undo-upgrade", f"POST {SERVICE}/undo-upgrade", "undo_upgrade")
