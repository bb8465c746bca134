"""A moment of the past: a base copy and the changes after it into a new volume, and a server that
reads on from there."""

from datetime import datetime

import anyio

from purveyor.archiving import wal
from purveyor.backups.manifest import Verified
from purveyor.backups.models import BackupRecord
from purveyor.backups.repository import BackupRepository
from purveyor.context import Context
from purveyor.docker.exec import HelperAccess
from purveyor.docker.protocols import UNPACKING
from purveyor.kernel.operations.models import Outcome
from purveyor.kernel.watchdog import Heartbeat, run_with_stall_timeout
from purveyor.services.handle import handle_of, hooks_of
from purveyor.services.models import ServiceRecord, VolumeRecord
from purveyor.services.provisioning import Provisioner
from purveyor.services.shadow import unpacker
from purveyor.services.transfer import Tell
from purveyor_hooks import BadInput, Command, ContainerSpec, Failed, Mount

WAIT = "trap exit TERM; while :; do sleep 3600 & wait; done"
PAUSE = 0.5
LAST_LINES = 6


async def require_whole(context: Context, backup: BackupRecord, verified: Verified) -> None:
    """Raise `BadInput` that names the first file which the changes after a base copy lack: the
    server would serve without what came after it, or end, when all is unpacked already."""
    manifest, keeper = verified.manifest, context.part(BackupRepository)
    place, signing = await keeper.place_of(backup), await _signing(keeper, verified)
    hooks = hooks_of(context, backup.service_type)
    gap = ""
    # what is shipped while a place is listed may be told without what came before it
    for _ in range(2):
        names = await wal.whole(place, manifest.changes, manifest.first, signing)
        gap = hooks.archive_gap(names) if names[0] == manifest.first else manifest.first
        if not gap:
            return
    why = f"the archive lacks {gap}"
    raise BadInput(
        f"What was written down after this base copy is not whole: {why}.",
        remedy=(
            "Choose another base copy: purveyor backup list. To come as far as that file: "
            "--keep-going"
        ),
        errors={"at": why},
    )


async def _signing(keeper: BackupRepository, verified: Verified) -> bytes | None:
    """The key that the changes have to be signed with, if they are to be."""
    return (
        await keeper.key(create=True)
        if verified.signed and verified.manifest.changes_signed
        else None
    )


async def unpack(
    context: Context,
    backup: BackupRecord,
    verified: Verified,
    record: ServiceRecord,
    volume: VolumeRecord,
    at: datetime | None,
    tell: Tell,
) -> None:
    """Fill the volume of a service that was never started. What an earlier try left is removed
    first."""
    manifest = verified.manifest
    if record.major != manifest.major:
        why = (
            f"the base copy is of version {manifest.major}, the image {record.image} of "
            f"version {record.major}"
        )
        raise BadInput(f"The data would not be read: {why}.", errors={"docker_image": why})
    keeper, service = context.part(BackupRepository), handle_of(context, record)
    place, key = await keeper.place_of(backup), await keeper.opening_key(manifest)
    mount = service.container().mount
    assert mount is not None
    plan = service.recovery(at)
    name = unpacker(record)
    spec = ContainerSpec(
        image=record.image,
        entrypoint=("/bin/sh", "-c", WAIT),
        mount=Mount(target=mount.target),
        user="0",
        stop_timeout=2,
        capabilities=UNPACKING,
    )
    access = HelperAccess(context.engine, name, context.logger)

    async def pour(pulse: Heartbeat) -> None:
        script = 'rm -rf "$0" "$1" && mkdir -p "$0" "$1"'
        await _run(access, Command(argv=("sh", "-c", script, plan.base, plan.changes)))
        async with access.process(
            Command(argv=("tar", "-x", "-f", "-", "-C", plan.base))
        ) as process:
            async for chunk in await keeper.stored(backup, verified):
                await process.write(chunk)
                pulse.beat(len(chunk))
            await process.end_input()
            await process.finish()
        signing = await _signing(keeper, verified)
        async for size in wal.fetch(
            place, manifest.changes, manifest.first, access, plan.changes, key, signing
        ):
            pulse.beat(size)
        await _run(access, plan.finish)

    await context.engine.containers.remove(name)
    try:
        labels = context.engine.labels.of(purpose="once")
        await context.engine.containers.create(
            name,
            spec,
            labels=labels,
            ports={},
            volume=volume.name,
            seed=False,
            network=None,
            restart=False,
        )
        await context.engine.containers.start(name)
        await run_with_stall_timeout(
            pour, context.settings.stall_timeout, f"Unpacking into {record.name}", tell
        )
    finally:
        with anyio.CancelScope(shield=True):
            await context.engine.containers.remove(name)


async def _run(access: HelperAccess, command: Command) -> None:
    ended = await access.exec(command, timeout=600.0)
    if ended.exit_code:
        raise Failed(
            f"The data could not be put in place: {(ended.stderr or ended.stdout).strip()[-300:]}"
        )


async def arrive(context: Context, record: ServiceRecord, tell: Tell) -> Outcome:
    """Wait until the server has come to the moment; what is off in it. Raises `Failed` when it
    gives up, with its own words."""
    service, provision = handle_of(context, record), context.part(Provisioner)

    async def watch(pulse: Heartbeat) -> None:
        last = "?"
        while True:
            found = await provision.found(record)
            if found is None or found.restarting or found.state != "running":
                raise Failed(
                    f"The server did not come to that moment: {await _last_words(context, record)}",
                    remedy="The archive may end before it. Choose an earlier one.",
                )
            said = await service.recover()
            if not said:
                return
            if said != last:
                last = said
                pulse.beat()
            await anyio.sleep(PAUSE)

    await run_with_stall_timeout(
        watch, context.settings.stall_timeout, f"The recovery of {record.name}", tell
    )
    return Outcome(findings=await service.recovered())


async def _last_words(context: Context, record: ServiceRecord) -> str:
    lines = await context.engine.containers.log(record.container_name, lines=LAST_LINES)
    return " / ".join(
        line.strip() for line in lines if "FATAL" in line or "PANIC" in line
    ) or " / ".join(lines[-2:])
