"""The service type ``fake``: a server that is one JSON file in its volume, and a plugin that
answers at once.

It keeps what every service type promises: accounts that reach their own resource, a mark of the
data set, an administrator whose password is checked at each call, backups, changes written down for
an archive. A server serves while its container runs. What it holds is read and changed through
`Server`, by tests too.
"""

import io
import tarfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import msgspec

import purveyor_hooks as ph
from fake.engine import Container, FakeEngine
from purveyor_hooks import (
    Access,
    AppRuntime,
    Arguments,
    Asking,
    Binding,
    Certificate,
    Client,
    Command,
    Conflict,
    ContainerSpec,
    Contents,
    DeadlineExceeded,
    Deployment,
    DeployResult,
    Draft,
    EngineUnavailable,
    Failed,
    File,
    Finding,
    FoundContainer,
    Health,
    HeldAccount,
    Image,
    Inventory,
    Mount,
    Parameter,
    Port,
    Reader,
    Recognition,
    Recovery,
    RestoreOptions,
    Retold,
    Running,
    Service,
    ServiceOperation,
    ServiceType,
    Sink,
    Source,
    Step,
    UpgradePlan,
    Variable,
    hookimpl,
)

DATA, SPOOL = "/data", "/spool"
FILE = "server.json"
PORT = 7000
PAIR = "/etc/purveyor/server.pem"
OF_BEFORE = 1999  # a size at which it says that its accounts are of before
CLIENTLESS = 2001  # a size of which the image has no client
ENCRYPTED = 443  # a size with which it speaks TLS, where somebody has put a listener


class Held(msgspec.Struct, kw_only=True):
    """What a server holds. `accounts` maps a name to its password and mark; `slot` says that it
    keeps changes for a helper."""

    major: str
    admin: str
    identity: str = ""
    accounts: dict[str, tuple[str, str]] = {}
    former: dict[str, str] = {}
    resources: dict[str, dict[str, str]] = {}
    slot: bool = False
    wal: int = 0


class Server:
    """A server's data, as the process in its container has it."""

    def __init__(self, engine: FakeEngine, path: Path) -> None:
        self._engine = engine
        self._file = path / FILE
        self.held = msgspec.json.decode(self._file.read_bytes(), type=Held)

    def save(self) -> None:
        self._file.write_bytes(msgspec.json.encode(self.held))
        self._engine.changed()

    @classmethod
    def of(cls, engine: FakeEngine, container: str) -> "Server":
        """The one in a container, whether that runs or not."""
        return cls(engine, engine.folder(engine.require(container).mounts[DATA]))


def run(engine: FakeEngine, container: Container) -> None:
    """What happens when a container of the image is started: it comes up empty on an empty volume,
    as servers do."""
    if DATA not in container.mounts or container.entrypoint:
        return
    path = engine.folder(container.mounts[DATA])
    if not path.is_dir():
        raise Failed(f"Could not start {container.name}: {path} does not exist.")
    major = container.environment["FAKE_MAJOR"]
    if not (path / FILE).exists():
        held = Held(major=major, admin=container.environment.get("ADMIN", ""))
        (path / FILE).write_bytes(msgspec.json.encode(held))
    elif (found := Server(engine, path).held.major) != major:
        container.log = [f"the data is of version {found}, this is {major}"]
        container.state, container.exit_code = "exited", 1


def _serving(service: Service, access: Any, hook: str) -> Server:
    """The server of a service, logged in as its administrator. Raises what a driver would make of
    it."""
    engine: FakeEngine = access.engine
    engine.act(hook)
    container = engine.find(service.host)
    if container is None or container.state != "running":
        raise Failed(f"connection refused by {service.host}")
    if container.hangs:
        raise Failed(f"no answer from {service.host}")
    server = Server.of(engine, container.name)
    if server.held.admin != service.parameters["password"]:
        raise Failed("the administrator's password is refused")
    return server


# ---------------------------------------------------------------- what it is


@hookimpl
def service_type() -> ServiceType:
    return ServiceType(
        name="fake",
        label="Fake",
        extra_resources=True,
        description="A server for tests of the core",
        default_image="fake:1",
        ports=(Port(container=PORT),),
        parameters=(
            Parameter(
                name="port", help="Port on 127.0.0.1.", kind="integer", generated="port", base=PORT
            ),
            Parameter(
                name="size",
                help="Anything that makes another container.",
                kind="integer",
                default=1,
            ),
            Parameter(
                name="password",
                help="The administrator's.",
                generated="password",
                editable=False,
                secret=True,
            ),
        ),
    )


@hookimpl
def data_major(image: Image) -> str:
    return image.environment.get("FAKE_MAJOR") or image.parts.tag.partition("-")[0]


@hookimpl
def container(service: Service) -> ContainerSpec:
    return ContainerSpec(
        image=service.image.reference,
        command=("serve", str(service.parameters["size"])),
        environment={"ADMIN": service.parameters["password"]},
        mount=Mount(target=DATA),
        ports=(Port(container=PORT),),
        files=(File(path="/etc/fake.conf", content="size"),),
        evidence=(f"{DATA}/{FILE}",),
        stop_timeout=1,
        certificate=Certificate(
            file=PAIR,
            owners=("fake",),
            port=PORT if service.parameters["size"] == ENCRYPTED else 0,
            asks=b"tls?",
            granted=b"yes",
        ),
        read_only=True,
    )


# ---------------------------------------------------------------- is it serving


@hookimpl
async def ready(service: Service, access: Access) -> Health:
    try:
        server = _serving(service, access, "ready")
    except Failed as error:
        if error.code != "failed" or "injected" in error.detail:
            raise
        return Health(healthy=False, stage="tcp", detail=error.detail)
    return Health(healthy=True, stage="write", version=server.held.major)


@hookimpl
async def adopt(service: Service, access: Access) -> Health:
    return await ready(service, access)


@hookimpl
def recognise(container: FoundContainer) -> Recognition | None:
    if not container.image.reference.startswith("fake:"):
        return None
    return Recognition(
        service_type="fake", suggested={"password": container.environment.get("ADMIN", "")}
    )


@hookimpl
async def retell(container: FoundContainer, read: Reader) -> Retold:
    known = {"password": found} if (found := container.environment.get("ADMIN")) else {}
    return Retold(parameters={**known, "size": int(container.command[1])})


@hookimpl
async def regain(service: Service, access: Access) -> None:
    engine: FakeEngine = access.engine  # type: ignore[attr-defined]
    engine.act("regain")
    server = Server.of(engine, service.host)
    server.held.admin = service.parameters["password"]
    server.save()


@hookimpl
async def held(service: Service, access: Access) -> list[HeldAccount]:
    accounts = _serving(service, access, "held").held.accounts
    return [
        HeldAccount(number=int(mark.rpartition(" ")[2]), resource=name, account=name)
        for name, (_, mark) in accounts.items()
    ]


@hookimpl
async def identity(service: Service, access: Access, create: bool) -> str:
    server = _serving(service, access, "identity")
    if create and not server.held.identity:
        server.held.identity = uuid.uuid4().hex
        server.save()
    return server.held.identity


# ---------------------------------------------------------------- links


@hookimpl
async def bind(service: Service, access: Access, binding: Binding) -> None:
    server = _serving(service, access, "bind")
    known = server.held.accounts.get(binding.account)
    if known is not None and known[1] != binding.mark:
        raise Conflict(f"The account {binding.account} is there and not Purveyor's.")
    if binding.resource not in server.held.resources:
        server.held.resources[binding.resource] = {}
        server.save()
        access.engine.act("bind the account")  # type: ignore[attr-defined]
    for name in binding.extras.values():
        server.held.resources.setdefault(name, {})
    server.held.accounts[binding.account] = (binding.password, binding.mark)
    server.save()


@hookimpl
def environment(service: Service, binding: Binding) -> list[Variable]:
    return [
        Variable(name="FAKE_HOST", value=service.host),
        Variable(name="FAKE_USER", value=binding.account),
        Variable(name="FAKE_PASSWORD", value=binding.password, secret=True),
        *(
            Variable(name=f"FAKE_{key.upper()}_RESOURCE", value=name)
            for key, name in binding.extras.items()
        ),
    ]


@hookimpl
def client(service: Service) -> Client:
    """One that says what it is told."""
    if service.parameters["size"] == CLIENTLESS:
        python = "import os, sys; print(os.environ['GREETING'], *sys.argv[1:])"
        return Client(argv=("no-such-client",), python=python, environment={"GREETING": "hello"})
    return Client(argv=("cat",), environment={"GREETING": "hello"})


@hookimpl
def outdated(service: Service, binding: Binding) -> str:
    return "logs in as before" if service.parameters["size"] == OF_BEFORE else ""


@hookimpl
async def rotate(
    service: Service, access: Access, binding: Binding, previous: str, until: datetime | None
) -> None:
    server = _serving(service, access, "rotate")
    password, mark = server.held.accounts[binding.account]
    if password not in (previous, binding.password):
        raise Failed("neither password is right")
    server.held.accounts[binding.account] = (binding.password, mark)
    server.held.former.pop(binding.account, None)
    if until is not None:
        server.held.former[binding.account] = previous
    server.save()


@hookimpl
async def renew_certificate(service: Service, access: Access) -> None:
    _serving(service, access, "renew_certificate")


@hookimpl
async def retire(service: Service, access: Access, binding: Binding) -> None:
    server = _serving(service, access, "retire")
    if server.held.former.pop(binding.account, None):
        server.save()


@hookimpl
async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    try:
        server = _serving(previous, access, "rotate administrator")
    except Failed:
        server = _serving(service, access, "rotate administrator")
    server.held.admin = service.parameters["password"]
    server.save()


@hookimpl
async def unbind(service: Service, access: Access, binding: Binding) -> None:
    server = _serving(service, access, "unbind")
    server.held.former.pop(binding.account, None)
    if server.held.accounts.pop(binding.account, None):
        server.save()


@hookimpl
async def purge(service: Service, access: Access, binding: Binding) -> None:
    server = _serving(service, access, "purge")
    server.held.former.pop(binding.account, None)
    server.held.accounts.pop(binding.account, None)
    for name in (binding.resource, *binding.extras.values()):
        server.held.resources.pop(name, None)
    server.save()


@hookimpl
async def purge_extra(service: Service, access: Access, binding: Binding, extra: str) -> None:
    server = _serving(service, access, "purge_extra")
    if server.held.resources.pop(binding.extras[extra], None) is not None:
        server.save()


# ---------------------------------------------------------------- the life of data


def _count(resources: dict[str, dict[str, str]]) -> Inventory:
    return Inventory(
        counts={
            "databases": dict.fromkeys(resources, 1),
            "keys": {name: len(keys) for name, keys in resources.items()},
        }
    )


@hookimpl
async def census(service: Service, access: Access) -> Inventory:
    return _count(_serving(service, access, "census").held.resources)


CLOSED = "closed"  # a resource of this name cannot be read
SECRET = "secret"  # a key of this name is in no backup
MINOR = "minor"  # a key of this name comes back otherwise, which matters to nobody
FRAGILE = "fragile"  # a key of this name is lost on its way in
TWISTED = "twisted"  # the value of a key of this name comes back as another
TROUBLE = "trouble"  # what a restore of a key of this name meets: its value says it
PASSING = "passing"  # a key of this name may go, or change, by itself
JOB = "job"  # a key of this name acts on the world: in a copy it is off


TROUBLES: dict[str, Exception] = {
    "engine": EngineUnavailable("the engine is away"),
    "disk": Failed("pg_restore ended with 1: could not extend file: No space left on device"),
    "time": DeadlineExceeded("it made no progress"),
    "bug": KeyError("a bug"),
    "died": Failed("the connection was closed"),
    "refused": Failed("line 3 of the dump is refused"),
}


@hookimpl
async def backup(service: Service, access: Access, sink: Sink) -> Inventory:
    held = _serving(service, access, "backup").held
    failed = tuple(
        Finding(where=name, what="", why="it is closed")
        for name in held.resources
        if name == CLOSED
    )
    left_out = tuple(
        Finding(where=name, what=SECRET, why="it is not carried")
        for name, keys in held.resources.items()
        if SECRET in keys
    )
    written = {
        name: {key: value for key, value in keys.items() if key != SECRET}
        for name, keys in held.resources.items()
        if name != CLOSED
    }
    await sink.write(msgspec.json.encode(msgspec.structs.replace(held, resources=written)))
    return msgspec.structs.replace(_count(written), failed=failed, left_out=left_out)


@hookimpl
async def restore(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    server = _serving(service, access, "restore")
    if server.held.resources:
        raise Failed("it is not empty")
    held = msgspec.json.decode(b"".join([chunk async for chunk in source]), type=Held)
    for keys in held.resources.values():
        if (met := keys.get(TROUBLE)) == "died":
            access.engine.require(service.host).state = "exited"  # type: ignore[attr-defined]
        if met:
            raise TROUBLES[met]
    findings = []
    for name, keys in held.resources.items():
        if options.only and name not in options.only:
            continue
        server.held.resources[name] = {
            key: value[::-1] if key in (TWISTED, PASSING) else value
            for key, value in keys.items()
            if key != FRAGILE
        }
        server.save()
        access.engine.act("restore")  # type: ignore[attr-defined]
        findings += [
            Finding(where=name, what=key, why="it is another", notice=True)
            for key in keys
            if key == MINOR
        ]
        if JOB in keys and not options.takes_over:
            server.held.resources[name][JOB] = "off"
            findings.append(Finding(where=name, what=JOB, why="it is off in a copy", notice=True))
    server.held.accounts, server.held.former = held.accounts, held.former
    server.save()
    return tuple(findings)


@hookimpl
async def extract(source: Source, database: str, sink: Sink) -> None:
    held = msgspec.json.decode(b"".join([chunk async for chunk in source]), type=Held)
    await sink.write(msgspec.json.encode(held.resources[database]))


@hookimpl
async def contents(source: Source, into: Contents) -> None:
    held = msgspec.json.decode(b"".join([chunk async for chunk in source]), type=Held)
    for name, keys in held.resources.items():
        for key, value in keys.items():
            await into.put("keys", name, key, value.encode(), fleeting=key == PASSING)


@hookimpl
async def upgrade_check(service: Service, access: Access, image: Image) -> tuple[Finding, ...]:
    resources = _serving(service, access, "upgrade check").held.resources
    return tuple(
        Finding(where=name, what=FRAGILE, why="the new version has it not")
        for name in resources
        if FRAGILE in resources[name]
    )


@hookimpl
def upgrade_plan(service: Service, image: Image) -> UpgradePlan:
    if data_major(image) == service.major:
        return UpgradePlan(action="restart", reason="the same version of the data")
    return UpgradePlan(action="migrate", reason="another version of the data")


# ---------------------------------------------------------------- an operation of its own

LABEL = "tidied"  # the key that says so


class TidyArguments(Arguments, frozen=True, kw_only=True):
    """What `Tidy` is asked with."""

    label: Annotated[str, msgspec.Meta(min_length=1, max_length=20, description="What to write.")]
    key: Annotated[str, ph.SECRET] = ""
    among: tuple[str, ...] = ()
    pause: Literal["none", "long"] = "none"
    times: int | None = None


class Tidy(ServiceOperation[TidyArguments]):
    """Writes a label into each resource, one after the other, and goes on where it was killed."""

    name = "tidy"
    summary = "Write a label into each resource."
    arguments = TidyArguments
    steps = (Step(name="write", undo=True), Step(name="note", undo=True), Step(name="rest"))

    async def draft(self, asked: Asking[TidyArguments]) -> Draft:
        resources = sorted(_serving(asked.service, asked.access, "draft").held.resources)
        wanted = [name for name in resources if not asked.given.among or name in asked.given.among]
        steps = ("write", "note") if asked.given.pause == "none" else ("write", "note", "rest")
        return Draft(steps=steps, state={"left": wanted}, resources=tuple(wanted))

    async def do(self, step: str, run: Running[TidyArguments]) -> None:
        if step == "rest":
            await run.progress(f"resting with {run.given.key}")
            await anyio.sleep_forever()
        if step == "note":
            await run.documents.write({"label": run.given.label}, sealed=True)
            return
        left = list(run.state["left"])
        while left:
            server = _serving(run.service, run.access, "tidy")
            server.held.resources[left[0]][LABEL] = run.given.label
            server.save()
            left.pop(0)
            await run.save(left=left, done=[*run.state.get("done", []), "one"])
            await run.progress(f"{len(left)} left")

    async def undo(self, step: str, run: Running[TidyArguments]) -> None:
        if step == "note":
            await run.documents.write({"label": None})
            return
        server = _serving(run.service, run.access, "untidy")
        for keys in server.held.resources.values():
            keys.pop(LABEL, None)
        server.save()


@hookimpl
def operations() -> list[ServiceOperation[Any]]:
    return [Tidy()]


# ---------------------------------------------------------------- every moment of the past


@hookimpl
def archive_helper(service: Service) -> ContainerSpec:
    return ContainerSpec(
        image=service.image.reference,
        command=("receive",),
        mount=Mount(target=SPOOL),
        stop_timeout=1,
    )


def _write_down(server: Server, engine: FakeEngine, helper: str) -> str:
    """The helper gets a file that says what the server holds now."""
    found = engine.find(helper)
    if found is None or found.state != "running":
        raise Failed("the helper does not follow")
    server.held.slot, server.held.wal = True, server.held.wal + 1
    server.save()
    name = f"{server.held.wal:08d}"
    (engine.folder(found.mounts[SPOOL]) / name).write_bytes(
        msgspec.json.encode(server.held.resources)
    )
    engine.changed()
    return name


@hookimpl
async def archive_beat(service: Service, access: Access) -> datetime:
    _write_down(_serving(service, access, "archive beat"), access.engine, f"{service.host}.archive")  # type: ignore[attr-defined]
    return datetime.now(UTC)


@hookimpl
async def archive_base(service: Service, access: Access, helper: Access, sink: Sink) -> str:
    server = _serving(service, access, "archive base")
    name = _write_down(server, access.engine, f"{service.host}.archive")  # type: ignore[attr-defined]
    content = msgspec.json.encode(server.held)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(FILE)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    await sink.write(buffer.getvalue())
    return name


@hookimpl
async def archive_end(service: Service, access: Access) -> None:
    server = _serving(service, access, "archive end")
    if server.held.slot:
        server.held.slot = False
        server.save()


@hookimpl
def recovery(service: Service, at: datetime | None) -> Recovery:
    finish = Command(argv=("cp", f"{DATA}/base/{FILE}", f"{DATA}/{FILE}"))
    return Recovery(base=f"{DATA}/base", changes=f"{DATA}/changes", finish=finish)


@hookimpl
async def recover(service: Service, access: Access) -> str:
    engine: FakeEngine = access.engine  # type: ignore[attr-defined]
    engine.act("recover")
    path = engine.folder(engine.require(service.host).mounts[DATA])
    server = Server(engine, path)
    if changes := sorted((path / "changes").glob("*")):
        server.held.resources = msgspec.json.decode(changes[-1].read_bytes())
    server.held.admin, server.held.slot = service.parameters["password"], False
    server.save()
    return ""


# ---------------------------------------------------------------- apps


@hookimpl
async def deploy(deployment: Deployment, runtime: AppRuntime) -> DeployResult | None:
    if deployment.app is None:
        return None
    name = await runtime.run(deployment, deployment.app)
    state, _ = await runtime.state(deployment)
    if state != "running":
        raise Failed(f"{name} is {state}")
    return DeployResult(container=name)
