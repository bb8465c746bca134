"""A process that runs one verb and is killed at a chosen transaction: ``killer.py STATE COUNT WHEN VERB JSON``.

COUNT counts the durable writes of the verb from 1. WHEN is "before" (the act is done, its record is not) or
"after" (it is recorded, the next act has not begun). Ends with 0 when the verb came to its end first.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec

from purveyor.app import open_app
from purveyor.store import Store, Tx
from purveyor.store.vault import Vault
from purveyor_hooks import PurveyorError


class KillingStore(Store):
    """A store that kills its process at one of its writes, once it is armed."""

    armed = 0
    when = ""

    async def write(self, work: Callable[[Tx], Any]) -> Any:
        if not self.armed:
            return await super().write(work)
        self.armed -= 1
        last = not self.armed

        def kill_before(tx: Tx) -> Any:
            work(tx)
            os.kill(os.getpid(), signal.SIGKILL)

        answer = await super().write(kill_before if last and self.when == "before" else work)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


async def main(state: str, count: str, when: str, verb: str, arguments: str) -> None:
    stores: list[KillingStore] = []

    def make(folder: Path, vault: Vault) -> Store:
        stores.append(KillingStore(folder, vault))
        return stores[-1]

    async with open_app(Path(state), make_store=make) as app:
        given = msgspec.json.decode(arguments, type=app.verb(verb).arguments)
        stores[0].when = when
        stores[0].armed = int(count)
        try:
            await app.run(verb, given, "killer")
        except PurveyorError as error:
            sys.exit(f"{verb} failed: {error}")


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
