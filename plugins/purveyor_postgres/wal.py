"""Continuous archiving: a base copy, and everything that is written after it, by the tools of the
service's own image.

The helper shares the network of the server's container: the official image lets replication in from
its own loopback only. Its slot keeps the server from dropping what was not written down yet.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import anyio

from purveyor_hooks import (
    Access,
    Command,
    ContainerSpec,
    Failed,
    File,
    Finding,
    Mount,
    Recovery,
    Service,
    Sink,
    certificates,
)
from purveyor_postgres.server import PORT, ROOT, connection, maintenance, major, options, pins
from purveyor_postgres.sql import quote, verifier

SLOT, SPOOL, PASSFILE = "purveyor", "/archive", "/etc/purveyor/pgpass"
BEAT_PATIENCE = 20.0
SEGMENT = re.compile(r"[0-9A-F]{24}")
LEAST, USUAL, MOST = 4, 256, 4096  # segments of a log: each is from 1 MB to 1 GB
OF_THE_RECOVERY = (
    "restore_command",
    "recovery_target_timeline",
    "recovery_target_time",
    "recovery_target_action",
    "recovery_target_inclusive",
    "max_logical_replication_workers",
)
SUBSCRIPTIONS = """
SELECT json_build_array(d.datname, s.subname) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE s.subenabled OR s.subslotname IS NOT NULL
"""
SWITCHED_OFF = """
SELECT d.datname AS database, s.subname AS name FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE NOT s.subenabled AND s.subslotname IS NULL ORDER BY 1, 2
"""
OFF = (
    "it is off in a copy, and has no slot: ALTER SUBSCRIPTION … SET (slot_name = …), then ENABLE, "
    "where the original no longer follows"
)
LOGIN = ("-h", "127.0.0.1", "-w")
RECEIVE = f"""
pg_receivewal "$@" -D {SPOOL} -S {SLOT} --create-slot --if-not-exists || exit 1
exec pg_receivewal "$@" -D {SPOOL} -S {SLOT} --synchronous -s 2
"""
BEAT = "SELECT clock_timestamp() AS at, pg_logical_emit_message(true, 'purveyor', 'archive')"
WRITTEN = """
SELECT count(*) FROM pg_stat_replication JOIN pg_replication_slots ON pid = active_pid
WHERE slot_name = $1 AND flush_lsn >= $2::text::pg_lsn
"""


def _environment(service: Service) -> dict[str, str]:
    mode = "require" if certificates.demanded(service) else "prefer"
    return {
        "PGPASSFILE": PASSFILE,
        "PGUSER": service.parameters["username"],
        "PGPORT": str(service.port(PORT)),
        "PGSSLMODE": mode,
        "PGAPPNAME": "purveyor",
    }


def archive_helper(service: Service) -> ContainerSpec:
    """What writes down all changes: full segments by their names, the one being written as
    NAME.partial."""
    secret = service.parameters["password"].replace("\\", "\\\\").replace(":", "\\:")
    return ContainerSpec(
        image=service.image.reference,
        entrypoint=("/bin/sh", "-c", RECEIVE, "archive"),
        command=LOGIN,
        environment=_environment(service),
        mount=Mount(target=SPOOL),
        files=(File(path=PASSFILE, content=f"*:*:*:*:{secret}\n", mode=0o600),),
        user="0",
        stop_timeout=10,
        read_only=True,
    )


async def archive_base(service: Service, access: Access, helper: Access, sink: Sink) -> str:
    """A copy of all files while the server goes on; the answer is the first segment that it
    needs."""
    async with connection(service, access, "postgres") as opened:
        first = str(await opened.fetchval("SELECT pg_walfile_name(pg_current_wal_insert_lsn())"))
    argv = (
        "pg_basebackup",
        *LOGIN,
        "-D",
        "-",
        "-Ft",
        "-X",
        "fetch",
        "--checkpoint=fast",
        "--no-manifest",
    )
    async with helper.process(Command(argv=argv, environment=_environment(service))) as process:
        async for chunk in process.output():
            await sink.write(chunk)
        await process.finish()
    return first


async def archive_beat(service: Service, access: Access) -> datetime:
    """Commit something, and wait until the helper has it on its disk: until then everything can be
    told."""
    async with connection(service, access, "postgres") as opened:
        row = await opened.fetchrow(BEAT)
        position = str(await opened.fetchval("SELECT pg_current_wal_flush_lsn()::text"))
        with anyio.move_on_after(BEAT_PATIENCE):
            while not await opened.fetchval(WRITTEN, SLOT, position):  # noqa: ASYNC110 - the server offers no event
                await anyio.sleep(0.05)
            found: datetime = row["at"]
            return found.astimezone(UTC)
    raise Failed(
        "The helper that writes down the changes does not keep up.",
        remedy=f"See: purveyor logs {service.slug}",
    )


async def archive_end(service: Service, access: Access) -> None:
    """Without its slot the server keeps nothing for us any more."""
    async with connection(service, access, "postgres") as opened:
        await opened.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = "
            "$1 AND active_pid IS NOT NULL",
            SLOT,
        )
        for _ in range(50):
            if not await opened.fetchval(
                "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active", SLOT
            ):
                break
            await anyio.sleep(0.1)
        await opened.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name "
            "= $1 AND NOT active",
            SLOT,
        )


def archive_gap(names: Sequence[str]) -> str:
    """The first segment that is missing.

    A name is timeline, log and segment, eight digits each; a log of 4 GB has 256 segments of the
    usual 16 MB. Of what size these are, no name says: one that is followed by the first of the next
    log may be the last wherever none has a higher number.
    """
    segments = [name for name in names if SEGMENT.fullmatch(name)]
    highest = max((int(name[16:], 16) for name in segments), default=0)
    for before, after in pairwise(segments):
        timeline, log, number = before[:8], int(before[8:16], 16), int(before[16:], 16)
        place, following = (int(after[8:16], 16), int(after[16:], 16)), (log, number + 1)
        ends = number == highest and (number + 1).bit_count() == 1 and LEAST <= number + 1 <= MOST
        if place == following or (ends and place == (log + 1, 0)):
            continue
        if after[:8] != timeline and place <= following:  # it branched off in what there was
            continue
        if number + 1 > max(highest, USUAL - 1):
            following = (log + 1, 0)
        return f"{timeline}{following[0]:08X}{following[1]:08X}"
    return ""


def recovery(service: Service, at: datetime | None) -> Recovery:
    """Base and segments into the volume; the server reads on from there when it starts, up to the
    moment."""
    data, segments = f"{ROOT}/{service.major}/docker", f"{ROOT}/{service.major}/segments"
    settings = [f"restore_command = 'cp {segments}/%f %p'", "recovery_target_timeline = 'latest'"]
    # a copy must not take what the original subscribes to
    settings.append("max_logical_replication_workers = 0")
    if at is not None:
        moment = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
        settings += [f"recovery_target_time = '{moment}'", "recovery_target_inclusive = on"]
        settings.append("recovery_target_action = 'promote'")
    lines = " ".join(f'"{line}"' for line in settings)
    script = f"""
set -e
touch {data}/recovery.signal
rm -f {data}/postmaster.pid {data}/standby.signal
printf '%s\\n' {lines} >> {data}/postgresql.auto.conf
chown -R "$(stat -c %u:%g {data}/PG_VERSION)" {ROOT}/{service.major}
chmod 700 {data}
"""
    return Recovery(base=data, changes=segments, finish=Command(argv=("sh", "-c", script)))


async def recover(service: Service, access: Access) -> str:
    """Ask over the container's own socket, for the data brings the password of whoever it was; then
    give it ours."""
    role = service.parameters["username"]

    async def ask(statement: str, database: str = "postgres") -> str:
        argv = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", role)
        settings = pins(major(service), session_replication_role="replica")
        variables = {"PGDATABASE": database, "PGOPTIONS": options(settings)}
        ended = await access.exec(
            Command(argv=argv, environment=variables), stdin=f"{statement};\n\\q\n".encode()
        )
        if ended.exit_code:
            said = ended.stderr.strip()
            if (
                "starting up" in said
                or "not yet accepting" in said
                or "No such file" in said
                or "recovery" in said
            ):
                return f"starting: {said.splitlines()[-1]}"
            raise Failed(f"The restored server does not let its own container in: {said}")
        return ended.stdout.strip()

    state = await ask(
        "SELECT CASE WHEN pg_is_in_recovery() THEN 'at ' || "
        "coalesce(pg_last_wal_replay_lsn()::text, '?') END"
    )
    if state:
        return state
    await ask(f"ALTER ROLE {quote(role)} PASSWORD '{verifier(service.parameters['password'])}'")
    if "." not in service.slug:  # a copy: what was replaced in place goes on as it was
        for line in (await ask(SUBSCRIPTIONS)).splitlines():
            subscribed, subscription = (str(part) for part in json.loads(line))
            switched = f"ALTER SUBSCRIPTION {quote(subscription)}"
            await ask(f"{switched} DISABLE", subscribed)
            await ask(f"{switched} SET (slot_name = NONE)", subscribed)
    for name in OF_THE_RECOVERY:
        await ask(f"ALTER SYSTEM RESET {name}")
    await access.exec(Command(argv=("rm", "-rf", f"{ROOT}/{service.major}/segments")))
    return ""


async def recovered(service: Service, access: Access) -> tuple[Finding, ...]:
    """Subscriptions of a copy: what was replaced in place goes on as it was."""
    if "." in service.slug:
        return ()
    async with maintenance(service, access) as opened:
        found = await opened.fetch(SWITCHED_OFF)
    return tuple(
        Finding(where=row["database"], what=f"subscription {row['name']}", why=OFF, notice=True)
        for row in found
    )
