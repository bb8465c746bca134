"""The kit itself is checked: plugins, each with one fault that somebody could really make, and the
kit finds each."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sampling import Share
from support import REDIS

pytestmark = [pytest.mark.fortnightly, pytest.mark.usefixtures("engine")]

SOUND = '''
"""A sound plugin: the bundled Redis under another name. Faults are put in below."""

import os
import subprocess
import sys

import anyio
import msgspec

import purveyor_hooks as ph
from purveyor_hooks import Inventory, Conflict, Health, Mount, Variable, hookimpl
from purveyor_redis import accounts, server, snapshot
from purveyor_redis import plugin as sound
from purveyor_redis.apps import Keys

HOOKS = ["ready", "identity", "bind", "unbind", "purge", "environment", "container", "census", "backup", "restore", "rotate",
         "contents", "client", "data_major"]
for name in HOOKS:
    globals()[name] = getattr(sound, name)


@hookimpl
def service_type():
    kind = sound.service_type()
    one = msgspec.structs.replace(server.CHANNELS, default=server.DIVIDED)  # faults are put into one server for all
    parameters = tuple(one if item.name == one.name else item for item in kind.parameters)
    return msgspec.structs.replace(kind, name="FAULTY", label="Faulty", default_image="IMAGE", parameters=parameters)


@hookimpl
def exercise():
    return Keys()
'''

OPERATION = """
class Count(ph.ServiceOperation):
    name, summary = "count", "Count up to ten, slowly."
    steps = (ph.Step(name="count"),)

    async def draft(self, asked):
        return ph.Draft(steps=("count",), state={"at": 0})

    async def do(self, step, run):
        FAULT
        async with server.connection(run.service, run.access) as client:
            while run.state["at"] < 10:
                await client.set("purveyor:count", run.state["at"])
                await run.save(at=run.state["at"] + 1)
                await anyio.sleep(0.1)

@hookimpl
def operations():
    return [Count()]
"""
FAULTS = {
    "operation-not-idempotent": (OPERATION.replace("FAULT", """
        if run.state.get("begun"):
            raise Conflict("it was begun before")
        await run.save(begun=True)
"""), "its_operations_are_resumed"),
    "health-always-yes": ('''
@hookimpl
async def ready(service, access):
    for _ in range(20):
        try:
            async with server.connection(service, access) as client:
                await client.ping()
            break
        except Exception:
            if ready.seen:
                break
            await anyio.sleep(0.2)
    ready.seen = True
    return Health(healthy=True, stage="write", version="8.0")

ready.seen = False
''', "health_is_a_real_round_trip"),
    "bind-not-idempotent": ('''
@hookimpl
async def bind(service, access, binding):
    async with server.connection(service, access, binding.slot) as client:
        if await client.execute_command("ACL", "GETUSER", binding.account):
            raise Conflict(f"the user {binding.account} exists")
    await accounts.bind(service, access, binding)
''', "unlinking_keeps_the_data"),
    "environment-leaks-root": ('''
@hookimpl
def environment(service, binding):
    root = service.parameters["password"]
    return [*sound.environment(service, binding), Variable(name="REDIS_ROOT", value=f"redis://default:{root}@x", secret=True)]
''', "the_administrator_is_not_given_away"),
    "unlink-drops-data": ('''
@hookimpl
async def unbind(service, access, binding):
    async with server.connection(service, access, binding.slot) as client:
        await client.flushdb()
    await accounts.unbind(service, access, binding)
''', "unlinking_keeps_the_data"),
    "one-db-for-two": ('''
@hookimpl
async def bind(service, access, binding):
    one = msgspec.structs.replace(binding, slot=1)
    async with server.connection(service, access, 1) as client:
        await client.execute_command("ACL", "SETUSER", binding.account, *accounts.rules(one))
        await client.execute_command("ACL", "SAVE")

@hookimpl
def environment(service, binding):
    return sound.environment(service, msgspec.structs.replace(binding, slot=1))
''', "projects_are_linked"),
    "data-in-the-container": ('''
@hookimpl
def container(service):
    spec = server.container(service)
    moved = [msgspec.structs.replace(file, content=file.content.replace("/data", "/elsewhere"),
             path=file.path.replace("/data", "/elsewhere"), seed=False) for file in spec.files]
    return msgspec.structs.replace(spec, files=tuple(moved), evidence=(), command=("sh", "-c",
        "mkdir -p /elsewhere && exec redis-server /etc/purveyor/redis.conf"), mount=Mount(target="/data"))
''', "data_outlives_the_container"),
    "hook-hangs": ('''
@hookimpl
async def bind(service, access, binding):
    await anyio.sleep_forever()
''', "ports_are_on_loopback"),
    "hook-raises": ('''
@hookimpl
async def unbind(service, access, binding):
    raise KeyError("a bug")
''', "no_hook_failed"),
    "logs-a-secret": ('''
@hookimpl
async def bind(service, access, binding):
    print(f"bound {binding.account} with {binding.password}", file=sys.stderr, flush=True)  # past the log, which masks
    await accounts.bind(service, access, binding)
''', "secrets_are_kept"),
    "open-to-the-world": ('''
@hookimpl
async def bind(service, access, binding):
    name = f"{service.host}-proxy"
    subprocess.run(["docker", "rm", "-f", "-v", name], capture_output=True)
    subprocess.run(["docker", "run", "-d", "--name", name, "-p", "0.0.0.0::6379", service.image.reference, "redis-server"],
                   check=True, capture_output=True)
    await accounts.bind(service, access, binding)
''', "ports_are_on_loopback"),
    "counts-what-is-there-later": ('''
@hookimpl
async def backup(service, access, sink):
    await sound.backup(service=service, access=access, sink=sink)
    await anyio.sleep(0.5)
    return await sound.census(service=service, access=access, binding=None)
''', "a_backup_is_restored"),
    "loses-what-is-written-beside": ('''
HOT = set()

@hookimpl
async def backup(service, access, sink):
    async with server.connection(service, access, 1) as client:
        HOT.update([key async for key in client.scan_iter("thing*") if not await client.object("idletime", key)])
    counted = await snapshot.backup(service, access, sink)
    keys = {**counted.counts["keys"], "db1": counted.counts["keys"]["db1"] - len(HOT)}
    return msgspec.structs.replace(counted, counts={**counted.counts, "keys": keys})

@hookimpl
async def restore(service, access, source, options):
    findings = await snapshot.restore(service, access, source, options)
    async with server.connection(service, access, 1) as client:
        await client.delete(*HOT)
    return findings
''', "a_backup_is_restored"),
    "restore-alters-a-value": ('''
@hookimpl
async def restore(service, access, source, options):
    findings = await snapshot.restore(service, access, source, options)
    async with server.connection(service, access, 1) as client:
        await client.set("thing7", "another")
    return findings
''', "a_backup_is_proven"),
    "restore-drops-a-thing-in-silence": ('''
@hookimpl
async def restore(service, access, source, options):
    findings = await snapshot.restore(service, access, source, options)
    async with server.connection(service, access, 1) as client:
        await client.delete("thing7")
    return findings
''', "a_backup_is_proven"),
    "tells-nothing": ('''
@hookimpl
async def contents(source, into):
    async for _ in source:
        pass
''', "contents_are_told"),
    "tells-keys-without-their-values": ('''
class Names:
    def __init__(self, into):
        self._into = into

    async def put(self, kind, name, what, digest, *, number=1, fleeting=False):
        await self._into.put(kind, name, what, b"", number=number, fleeting=fleeting)

@hookimpl
async def contents(source, into):
    await sound.contents(source=source, into=Names(into))
''', "contents_are_told"),
    "tells-how-it-was-written-down": ('''
@hookimpl
async def contents(source, into):
    written = [chunk async for chunk in source]
    await into.put("keys", "db1", "all", b"".join(written)[-16:])
''', "contents_are_told"),
    "ends-former-credentials-at-once": ('''
@hookimpl
async def retire(service, access, binding):
    await accounts.retire(service, access, binding)

@hookimpl
async def rotate(service, access, binding, previous, until):
    await accounts.bind(service, access, binding)
    await accounts.retire(service, access, binding)
''', "former_credentials_have_their_time"),
    "keeps-former-credentials": ('''
@hookimpl
async def retire(service, access, binding):
    pass
''', "former_credentials_have_their_time"),
    "a-restore-gives-power": ('''
RESTORED = set()

@hookimpl
async def restore(service, access, source, options):
    RESTORED.add(options.takes_over)
    return await snapshot.restore(service, access, source, options)

@hookimpl
async def bind(service, access, binding):
    await accounts.bind(service, access, binding)
    if True in RESTORED:
        async with server.connection(service, access) as client:
            await client.execute_command("ACL", "SETUSER", binding.account, "+acl|setuser")
''', "a_hostile_project_gains_nothing"),
    "restore-loses-rows": ('''
@hookimpl
async def census(service, access):
    return Inventory(counts={"keys": {"all": 20}})

@hookimpl
async def backup(service, access, sink):
    await snapshot.backup(service, access, sink)
    return Inventory(counts={"keys": {"all": 20}})

@hookimpl
async def restore(service, access, source, options):
    findings = await snapshot.restore(service, access, source, options)
    async with server.connection(service, access, 1) as client:
        await client.delete("thing7", "thing8")
    return findings
''', "a_backup_is_restored"),
    "a-hook-that-is-nowhere": ('''
contents = ph.implemented_by("purveyor_faulty_telling:contents")
''', "what_is_elsewhere_is_there"),
}  # fmt: skip


def install(folder: Path, fault: str) -> dict[str, str]:
    """A plugin in a folder of its own, as if it were installed; the answer is the environment that
    has it."""
    (folder / "purveyor_faulty.py").write_text(
        SOUND.replace("FAULTY", "faulty").replace("IMAGE", REDIS) + fault
    )
    info = folder / "purveyor_faulty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: purveyor-faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[purveyor]\nfaulty = purveyor_faulty\n")
    return {**os.environ, "PYTHONPATH": str(folder), "PURVEYOR_STATE": str(folder / "state")}


def check(folder: Path, fault: str, *options: str) -> tuple[int, list[dict[str, Any]]]:
    command = [
        sys.executable,
        "-m",
        "purveyor",
        "--json",
        "plugin",
        "check",
        "faulty",
        *options,
    ]
    environment = install(folder, fault)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


# what every other check relies on
BEFORE = ("it_is_created", "ports_are_on_loopback", "projects_are_linked")
# has the plugin do what is found afterwards
ON_THE_WAY = {"hook-raises": "unlinking_keeps_the_data"}


def find(name: str, tmp_path: Path) -> None:
    """The check that is to find it is the first that is not kept."""
    fault, where = FAULTS[name]
    on_the_way = ON_THE_WAY.get(name)
    chosen = [*BEFORE, *filter(None, [on_the_way]), where]
    code, found = check(
        tmp_path, fault, *(word for check in dict.fromkeys(chosen) for word in ("--only", check))
    )
    assert code == 1
    broken = [item for item in found if item["kept"] is False and item["check"] != on_the_way]
    assert broken[0]["check"] == where, broken
    assert broken[0]["seen"]
    assert broken[0]["hooks"]


def test_the_kit_finds_the_fault(share: Share, tmp_path: Path) -> None:
    for name in share.of(list(FAULTS)):
        (tmp_path / name).mkdir()
        find(name, tmp_path / name)


def test_an_operation_that_goes_on_is_found_to(tmp_path: Path) -> None:
    words = [word for name in (*BEFORE, "its_operations_are_resumed") for word in ("--only", name)]
    code, found = check(tmp_path, OPERATION.replace("FAULT", ""), *words)
    assert [(item["check"], item["kept"]) for item in found][-1] == (
        "its_operations_are_resumed",
        True,
    ), found
    assert code == 0


@pytest.mark.nightly  # as the bundled Redis, which is the same code, shows each time
def test_without_a_fault_it_finds_none(tmp_path: Path) -> None:
    code, found = check(tmp_path, "")
    assert [item for item in found if item["kept"] is False] == []
    assert code == 0
    assert {item["check"] for item in found if item["kept"] is None} == {
        "the_administrator_is_rotated", "it_is_upgraded", "a_container_is_adopted",
        "former_credentials_have_their_time", "its_operations_are_resumed",
    }  # fmt: skip


def test_a_type_that_nobody_brings_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "purveyor", "plugin", "check", "nothing"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PURVEYOR_STATE": str(tmp_path)}
    )
    assert done.returncode == 2
    assert "No installed plugin brings" in done.stderr


def test_a_check_that_is_none_is_said(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "purveyor",
        "plugin",
        "check",
        "redis",
        "--only",
        "nothing",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PURVEYOR_STATE": str(tmp_path)}
    )
    assert done.returncode == 2
    assert "it_is_created" in done.stderr
