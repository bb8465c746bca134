"""Looks at a server's health by different parts of the core, at the same time: one does not take
the other's mark for a loss."""

from typing import Any

import anyio
import pytest

from purveyor_hooks import Address, Health, Image, Service
from purveyor_hooks.conformance import Bench
from support import Stage

SECRETS: dict[str, dict[str, Any]] = {
    "redis": {"password": "hunter2hunter2"},
    "mongodb": {"username": "admin", "password": "hunter2hunter2", "replica_set": False},
    "s3": {"access_key": "administratorskey000", "secret_key": "s" * 40, "flavour": "auto"},
}
AT_ONCE = 6

pytestmark = pytest.mark.fortnightly


class Reach:
    """The `Access` of a service, from beside the core."""

    def __init__(self, port: int) -> None:
        self.port = port

    def address(self, container_port: int) -> Address:
        return Address(host="127.0.0.1", port=self.port)

    def beat(self) -> None:
        """Nobody watches."""


@pytest.mark.parametrize("kind", SECRETS)
def test_looks_at_the_same_time_are_all_right(kind: str, house: Stage, rustfs: str) -> None:
    given = {
        key: value for key, value in SECRETS[kind].items() if key not in ("replica_set", "flavour")
    }
    house.call(
        "POST",
        "/external-services",
        json={"name": kind, "service_type": kind, "parameters": given},
    )
    shown = house.json("show", kind)["service"]
    service = Service(
        id=1, name=kind, slug=kind, service_type=kind, parameters=SECRETS[kind], secrets={},
        image=Image(reference=shown["docker_image"]), host=kind,
    )  # fmt: skip
    plugin, access = Bench.plugin_of(kind), Reach(shown["port"])
    found: list[Health] = []

    async def look() -> None:
        for _ in range(5):
            found.append(await plugin.ready(service=service, access=access))

    async def work() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(look)

    anyio.run(work)
    assert [item.detail for item in found if not item.healthy] == []
