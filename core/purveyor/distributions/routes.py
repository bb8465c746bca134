"""/api/plugins: those of this process, and what was installed for them."""

import anyio.to_thread
import msgspec
from litestar import Router, delete, get, post

from purveyor.distributions import files
from purveyor.distributions import store as installed
from purveyor.distributions.models import InstalledRecord
from purveyor.distributions.schemas import InstalledRequest, PluginView
from purveyor.kernel.actors import actor_fields
from purveyor.kernel.api.auth import admin, reader
from purveyor.kernel.api.notes import note
from purveyor.kernel.api.responses import Req
from purveyor.kernel.core import Core
from purveyor.kernel.db import Tx
from purveyor.kernel.plugins.registry import Plugin


@get("/plugins", guards=[reader])
async def list_plugins(core: Core) -> list[PluginView]:
    noted = {item.distribution: item for item in await core.context.store.read(installed.list_all)}

    def work() -> list[PluginView]:
        return [
            _plugin_view(plugin, noted.get(files.canonical(plugin.distribution)))
            for plugin in core.context.registry.plugins
        ]

    return await anyio.to_thread.run_sync(work)


def _plugin_view(plugin: Plugin, noted: InstalledRecord | None) -> PluginView:
    known = {name: getattr(plugin, name) for name in plugin.__struct_fields__}
    if noted is None:
        return PluginView(**known)
    return PluginView(
        **known,
        sha256=noted.sha256,
        size_bytes=noted.size_bytes,
        installed_at=noted.installed_at,
        installed_by=noted.actor,
        differs=files.differs(noted),
    )


@post("/plugins/installed", guards=[admin])
async def note_installed(request: Req, core: Core, data: InstalledRequest) -> InstalledRecord:
    """Note what was installed on this host, and from which wheel: whoever installs it does that
    without the API."""
    note(request, target=data.distribution, detail=f"{data.version}, sha256:{data.sha256}")
    shown = {"distribution": data.distribution, "version": data.version, "sha256": data.sha256}

    def work(tx: Tx) -> InstalledRecord:
        tx.emit("plugin.installed", data={**shown, **actor_fields(request.user)})
        return installed.note(tx, actor=request.user.name, **msgspec.structs.asdict(data))

    return await core.context.store.write(work)


@delete("/plugins/installed/{distribution:str}", guards=[admin])
async def note_removed(request: Req, core: Core, distribution: str) -> None:
    """Forget what was noted of a distribution that is not installed any more."""

    def work(tx: Tx) -> None:
        found = installed.find(tx, distribution)
        if found is not None:
            shown = {
                "distribution": found.distribution,
                "version": found.version,
                "sha256": found.sha256,
            }
            tx.emit("plugin.removed", data={**shown, **actor_fields(request.user)})
            installed.forget(tx, distribution)

    await core.context.store.write(work)


router = Router(
    "/", route_handlers=[list_plugins, note_installed, note_removed], tags=["installation"]
)
