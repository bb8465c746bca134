"""What waits for a person or for the next deploy, as lines of the doctor."""

from purveyor.app import App
from purveyor.store import Tx, operations, projects, services


async def stuck(app: App) -> list[tuple[str, str, str]]:
    """Operations that cannot be ended now: what each is, why it waits, and what to do."""
    found = await app.house.store.read(operations.unfinished)
    waiting = [(item, app.runner.waiting(item.id)) for item in found]
    return [
        (
            f"{item.id} {item.verb}",
            f"It cannot be ended, and is tried again: {reason}",
            f"See: purveyor operations {item.id}; if it can never be ended: purveyor operations abandon {item.id}",
        )
        for item, reason in waiting
        if reason
    ]


async def newer(app: App) -> list[tuple[str, str]]:
    """Services whose image's name means another image now: what runs goes on until somebody takes the newer one."""
    found = []
    for record in await app.house.store.read(services.every):
        if await app.provision.newer_image(record):
            take = f"purveyor update {record.slug} --image {record.image}"
            found.append((record.name, f"{record.image} means another image now than the one that runs. Take it: {take}"))
    return found


async def endings(app: App) -> list[tuple[str, str]]:
    """Accounts that outlived their link: whose service, and until when."""

    def work(tx: Tx) -> list[tuple[str, str]]:
        found = []
        for item in projects.ending(tx):
            until = "it serves" if projects.due(tx, item) else f"its next deploy (deployment {item.ends_after} uses it)"
            text = f"{item.project}/{item.environment} is not linked any more, and has its account until {until}."
            found.append((services.get(tx, item.service_id).name, text))
        return found

    return await app.house.store.read(work)
