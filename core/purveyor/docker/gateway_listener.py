"""The API's door on the containers' network: apps reach the daemon at the host's own address
there."""

import anyio

from purveyor.docker.protocols import Engine
from purveyor.kernel.api import address
from purveyor.kernel.api.server import Servers, listen_tcp
from purveyor.kernel.core import Core
from purveyor_hooks import PurveyorError

LOOK = 5.0  # seconds between two looks; the network is seldom made anew


async def keep(app: Core, engine: Engine, servers: Servers, host: str, port: int) -> None:
    """Listen on the network's gateway for as long as this runs, also when the network, or the
    engine, comes later."""
    known = noted = ""
    complained = False
    end = _nothing
    neighbours = servers.neighbours
    try:
        while True:
            try:
                gateway = await engine.gateway()
                if gateway and gateway != known:
                    end()
                    end = _nothing
                    if host not in (*address.EVERYWHERE, gateway):
                        end = await servers.open(listen_tcp(gateway, port), at_gateway=True)
                    neighbours.gateway = gateway
                    known, complained = gateway, False
                    app.context.logger.info(
                        "serving.containers", address=f"http://{gateway}:{port}"
                    )
                await neighbours.look()
                servers.door_guard.together(await app.homes())
                if known != noted:
                    await app.context.store.write(lambda tx: address.note_gateway(tx, known))  # noqa: B023
                    noted = known
            except PurveyorError as error:
                if not complained:
                    app.context.logger.warning("serving.containers", error=error.detail)
                complained = True
            await anyio.sleep(LOOK)
    finally:
        end()


def _nothing() -> None:
    """No door is open yet."""
