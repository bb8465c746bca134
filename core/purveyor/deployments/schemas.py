"""Deployments as the API tells them."""

from datetime import datetime

import msgspec


class DeploymentView(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment: `state` is deploying, active, retired or failed; `url` is where it answers on
    this host.

    `status` is what is seen: for an active one whose app does not run as it should down, unhealthy,
    restarting, paused, missing or unknown, and `status_reason` why; else the state. `image_digest`
    is what the image's registry called it, "" where none is known; `cap_add` are the capabilities
    that it was given, `memory` (MB) and `pids` the limits that were asked for.
    """

    id: int
    project_id: int
    environment: str
    image: str | None
    image_digest: str
    cap_add: list[str]
    memory: int | None
    pids: int | None
    state: str
    status: str
    status_reason: str
    container: str
    url: str
    error: str
    created_at: datetime
    ended_at: datetime | None
