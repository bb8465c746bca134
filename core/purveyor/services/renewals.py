"""Certificates that end soon: renewed while their servers run, by an operation each."""

from collections.abc import Callable, Mapping
from datetime import datetime

from purveyor.context import Context
from purveyor.kernel.alarm import Alarm
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import OperationType, Runner
from purveyor.services import certificates
from purveyor.services import store as services
from purveyor.services.operations.lifecycle import ServiceArguments
from purveyor_hooks import PurveyorError

PAUSE = 6 * 3600.0  # seconds; a certificate is renewed months before its end


class Renewals:
    """Renews what is due, for as long as the daemon serves."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        operation_types: Mapping[str, OperationType],
        now: Callable[[], datetime],
    ) -> None:
        self._context = context
        self._runner = runner
        self._operation_types = operation_types
        self.alarm = Alarm(now, resync=PAUSE, glance=PAUSE)

    async def run(self) -> None:
        """Look now and then, and when another authority signs."""
        while True:
            try:
                await self.turn()
            except Exception as error:  # a store that cannot be read now is tried again
                self._context.logger.warning("renewals.fault", exc_info=error)
            await self.alarm.wait()

    async def turn(self) -> None:
        """Renew what is due of every service that serves and can show another one without a
        restart."""

        def look(tx: Tx) -> list[int]:
            found = []
            for item in services.list_all(tx):
                serves = item.state == "active" and item.desired == "running" and not item.refusal
                if (
                    serves
                    and item.authorities
                    and certificates.is_due(tx, item.id, certificates.names_of(item.container_name))
                ):
                    provider = self._context.registry.find(item.service_type)
                    if provider is not None and provider.offers("renew_certificate"):
                        found.append(item.id)
            return found

        for number in await self._context.store.read(look):
            if self._runner.busy(number):
                continue
            try:
                given = ServiceArguments(service=str(number))
                await (
                    await self._runner.submit(
                        self._operation_types["renew-certificate"], given, "sweep"
                    )
                ).wait()
            except PurveyorError as error:
                self._context.logger.warning("renewals", service=number, error=error.detail)
        await self._context.store.write(self._let_go)
        await certificates.publish(self._context)

    def _let_go(self, tx: Tx) -> None:
        for number in certificates.let_go(tx):
            tx.emit("authority.removed", data={"id": number, "actor": "purveyor"})
