"""Retention: what happened is forgotten when its time is over, a little at a time."""

from collections.abc import Callable
from datetime import datetime, timedelta

import anyio

from purveyor.context import Context
from purveyor.services import retention_store

FIRST = 60.0  # seconds until the first sweep: a start has other things to do
EVERY = 3600.0
BREATH = 0.05  # seconds between two batches, in which others write


class Retention:
    """Forgets for as long as the daemon serves."""

    def __init__(self, context: Context, now: Callable[[], datetime]) -> None:
        self._context = context
        self._now = now

    async def run(self) -> None:
        await anyio.sleep(FIRST)
        while True:
            await self.sweep()
            await anyio.sleep(EVERY)

    async def sweep(self) -> int:
        """Forget all that may be forgotten now; the answer is how many rows."""
        settings = self._context.settings
        before = self._now() - timedelta(days=settings.history_days)
        whole = 0
        while forgotten := await self._context.store.write(
            lambda tx: retention_store.forget(tx, before, settings.history_events)
        ):
            whole += forgotten
            await anyio.sleep(BREATH)
        if whole:
            self._context.logger.info("retention", rows=whole)
        return whole
