"""Deploy hooks: executables of this host and webhooks, for deploys and for every other lifecycle
event.

Executables lie in folders of the state directory's `hooks`, named for what they are run at:
``before-deploy`` (may refuse it), ``after-deploy``, or a type of event, such as
``service.create.succeeded``. Webhooks are signed, kept in a durable outbox, tried again, and
dead-lettered in the end.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from purveyor_deployhooks import scripts
from purveyor_deployhooks.outbox import Outbox
from purveyor_hooks import Application, Core, Deployment, DeployResult, Event, bases

if TYPE_CHECKING:
    import click

FOLDER = "hooks"
BEFORE, AFTER = "before-deploy", "after-deploy"


class DeployHooks(bases.Everyones):
    """Runs executables and sends webhooks, and holds the outbox while the core runs."""

    def __init__(self) -> None:
        self._core: Core | None = None
        self._outbox: Outbox | None = None

    async def startup(self, core: Core) -> None:
        self._core = core
        self._outbox = Outbox(core)
        try:
            await self._outbox.open()
        except Exception as error:  # on a full disk for one; what is started now tries again
            core.logger.warning("webhooks.closed", error=type(error).__name__)
        core.start(self._outbox.collect)
        core.start(self._outbox.deliver)
        core.start(self._outbox.forget)

    async def shutdown(self) -> None:
        if self._outbox is not None:
            await self._outbox.close()

    async def before_deploy(self, deployment: Deployment) -> str | None:
        """The first executable that ends badly refuses the deploy, with what it said last."""
        assert self._core is not None
        for path in await scripts.list_scripts(self._core.folder(FOLDER) / BEFORE):
            ended = await scripts.run(path, BEFORE, scripts.about(deployment))
            if ended.refusal:
                return f"{path.name}: {ended.refusal}"
        return None

    async def after_deploy(self, deployment: Deployment, result: DeployResult | None) -> None:
        assert self._core is not None
        facts = {
            **scripts.about(deployment),
            "container": result.container if result else None,
            "url": result.url if result else None,
        }
        await scripts.run_all(self._core, self._core.folder(FOLDER) / AFTER, AFTER, facts)

    async def on_event(self, event: Event) -> None:
        if self._core is not None:
            folder = self._core.folder(FOLDER) / event.type
            # most have none, and a look is cheaper than a thread that looks
            if not folder.is_dir():
                return
            await scripts.run_all(self._core, folder, event.type, scripts.plain(event))

    def http_routes(self, app: Application) -> Sequence[Any]:
        from purveyor_deployhooks.routes import routers

        return routers(app, lambda: self._outbox)

    def cli_commands(self) -> "Sequence[click.Command]":
        from purveyor_deployhooks.cli import webhook

        return [webhook]


plugin = DeployHooks()
