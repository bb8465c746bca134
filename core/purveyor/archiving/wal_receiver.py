"""The containers that write down changes: one beside each archived service."""

import anyio

from purveyor.context import Context
from purveyor.docker.exec import HelperAccess
from purveyor.docker.labels import SPEC
from purveyor.docker.models import digest
from purveyor.services.handle import handle_of
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Failed

BEATS, PAUSE = 30, 0.5


class WalReceiver:
    """Each has a volume of its own, in which there is what was not shipped yet."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def name(self, service: ServiceRecord) -> str:
        return f"{service.container_name}.archive"

    def access(self, service: ServiceRecord) -> HelperAccess:
        return HelperAccess(self._context.engine, self.name(service), self._context.logger)

    def folder(self, service: ServiceRecord) -> str:
        """Where the helper writes, inside its container."""
        spec = handle_of(self._context, service).archive_helper()
        assert spec.mount is not None
        return spec.mount.target

    def _volume(self, service: ServiceRecord) -> tuple[str, str]:
        return f"{service.container_name}-archive", str(
            self._context.state / "archives" / str(service.id)
        )

    async def ensure(self, service: ServiceRecord, *, fresh: bool = False) -> None:
        """Have it running in the network of the service's container as that is now; `fresh`: with
        nothing in its folder."""
        engine, name = self._context.engine, self.name(service)
        main = await engine.containers.require_running(
            service.container_name, foreign=service.imported is not None
        )
        spec = handle_of(self._context, service).archive_helper()
        found = await engine.containers.inspect(name)
        volume, path = self._volume(service)
        same = found is not None and found.labels.get(SPEC) == digest(spec, {}, main.id)
        if fresh:
            await self.remove(service)
        elif found and same and found.state == "running" and found.started_at and main.started_at:
            if found.started_at < main.started_at:  # the network that it shared is gone
                await engine.containers.stop(name)
                await engine.containers.start(name)
            return
        # never started: its files may not be in it
        if found and (fresh or not same or found.state == "created"):
            await engine.containers.remove(name)
            found = None
        if found is None:
            await engine.volumes.create(volume, path, f"archive-{service.id}")
            labels = engine.labels.of(purpose="archive")
            await engine.containers.create(
                name,
                spec,
                labels=labels,
                ports={},
                volume=volume,
                seed=True,
                network=None,
                inside=main.id,
            )
        await engine.containers.start(name)

    async def remove(self, service: ServiceRecord) -> None:
        """Remove it and what it wrote."""
        volume, path = self._volume(service)
        await self._context.engine.containers.remove(self.name(service))
        await self._context.engine.volumes.destroy(volume, path, service.image)

    async def end(self, service: ServiceRecord) -> None:
        """Remove it, and have the server keep nothing for it any more, if it can be asked."""
        await self.remove(service)
        found = await self._context.engine.containers.inspect(
            service.container_name, foreign=service.imported is not None
        )
        if found is not None and found.state == "running":
            await handle_of(self._context, service).archive_end()

    async def first_beat(self, service: ServiceRecord) -> None:
        """Wait until a helper that was just started follows. Raises what keeps it from that, with
        its own last words."""
        server = handle_of(self._context, service)
        engine, name = self._context.engine, self.name(service)
        for _ in range(BEATS):
            found = await engine.containers.inspect(name)
            if found is None or found.state != "running" or found.restarting:
                lines = await engine.containers.log(name, lines=3) if found else []
                raise Failed(
                    f"The helper that writes down the changes of {service.name} ended: "
                    f"{' / '.join(lines) or 'it printed nothing'}",
                    remedy=(
                        "Its server has to let replication in from its own loopback (pg_hba.conf)."
                    ),
                )
            try:
                await server.archive_beat()
                return
            except Failed:
                await anyio.sleep(PAUSE)
        raise Failed(f"The helper that writes down the changes of {service.name} gets none.")
