"""The values that the core and its plugins exchange. All are frozen: nobody changes another's
copy."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Literal

import msgspec

from purveyor_hooks.errors import Forbidden
from purveyor_hooks.references import Reference, parts_of


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """What every value of the contract is: immutable, compared by content, built by keyword."""


# ---------------------------------------------------------------- what a service type is


class Parameter(Value, frozen=True):
    """One setting of a service type, as the API, the CLI and the dashboard's form show it.

    `kind` is the JSON type. A `generated` parameter that is not given is made by the core: "port"
    (the lowest free one from `base` up), "password" (`length` characters) or "key" (the same,
    lower-case letters and digits). `editable` means that it may change later; a secret is stored
    encrypted and shown as ``***``. `former`, unless None, is what a service has that does not say:
    one from before there was the parameter, or that somebody else made; a new one gets `default`.
    """

    name: str
    help: str
    kind: Literal["string", "integer", "boolean"] = "string"
    default: str | int | bool | None = None
    former: str | int | bool | None = None
    editable: bool = True
    secret: bool = False
    generated: Literal["port", "password", "key"] | None = None
    base: int = 0
    length: int = 16
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None


class Port(Value, frozen=True):
    """A port of the container, published on 127.0.0.1 at the number that the parameter `parameter`
    holds."""

    container: int
    parameter: str = "port"


class Naming(Value, frozen=True):
    """How resources are named: `separator` for other characters, at most `limit` characters, from
    `minimum`."""

    separator: str = "_"
    limit: int = 63
    minimum: int = 1


class ServiceType(Value, frozen=True):
    """What a plugin brings. `name` is what people write: ``purveyor create <name> main``.

    `slots` is the inclusive range of numbers of which each binding gets one of its own (Redis
    databases). Accounts bear the resource's name, or are random lower-case letters and digits where
    `account_length` says how many (access keys). With `numbered_accounts` each new credential has
    an account of its own, named like the resource with a number that none had before, or with
    other letters and digits, so that nothing of an ended one can come back. With `extra_resources`
    a link may ask for further ones, see `Binding`. `uses_api` means that its variables carry the
    address of the HTTP API and the environment's token: each `Binding` then has an `api`, and a
    rotation gives the environment another token. With `told_networks` a container has the file
    /etc/purveyor/networks, a line for each environment's network before it is joined: the binding's
    slot and the range of addresses. `notes` are sentences that a person should know
    before relying on this type: limits of isolation, say.
    """

    name: str
    label: str
    description: str
    default_image: str
    parameters: tuple[Parameter, ...]
    ports: tuple[Port, ...]
    naming: Naming = Naming()
    slots: tuple[int, int] | None = None
    account_length: int = 0
    numbered_accounts: bool = False
    extra_resources: bool = False
    uses_api: bool = False
    told_networks: bool = False
    icon_url: str = ""
    color: str = "#64748b"
    notes: tuple[str, ...] = ()


class Image(Value, frozen=True):
    """An image on the engine: its reference, id, environment and labels. `id` is empty while it is
    not there.

    `digest` is what its registry calls it, ``repository@sha256:…``, "" for one that came from none;
    `user` is whom it starts as, "" for root.
    """

    reference: str
    id: str = ""
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}
    digest: str = ""
    user: str = ""

    @property
    def parts(self) -> Reference:
        """Registry, path, tag and digest of the reference."""
        return parts_of(self.reference)


class Address(Value, frozen=True):
    """A host name or address, and a TCP port."""

    host: str
    port: int


class Tls(Value, frozen=True):
    """Who vouches for a server: the certificates of the installation's own authorities as PEM text,
    and the file with them that the reader of the variables has."""

    authorities: str
    file: str


class Service(Value, frozen=True):
    """One provisioned instance, as plugins see it.

    `parameters` are complete and typed, secrets in clear. `secrets` is what the hook `secrets`
    made. `major` is the recorded version of the data's format ("" while nothing is recorded).
    `desired` is what its owner wants: "running" or "stopped". `host` and `port()` say how the
    reader of the variables reaches it: by the container's name and its own port for apps on the
    network, by 127.0.0.1 and the published port for commands on this host. Ports that are not
    published answer those at the container's own `address`, see `host_of`. `imported` means that
    its container was made by somebody else and holds what its owner keeps there: change nothing of
    that. Secrets that its owner did not give are "". `tls` is there once its server has a
    certificate (`ContainerSpec`).
    """

    id: int
    name: str
    slug: str
    service_type: str
    parameters: dict[str, Any]
    secrets: dict[str, str]
    image: Image
    host: str
    major: str = ""
    desired: str = "running"
    ports: dict[int, int] = {}
    address: str = ""
    imported: bool = False
    tls: Tls | None = None

    def port(self, container_port: int) -> int:
        """The port at which `host` answers for this port of the container."""
        return self.ports.get(container_port, container_port)

    def host_of(self, container_port: int) -> str:
        """The host at which this port of the container answers, published or not."""
        published = not self.ports or container_port in self.ports
        return self.host if published else self.address or self.host


# ---------------------------------------------------------------- what runs


class Mount(Value, frozen=True):
    """The service's one data volume, mounted at `target`."""

    target: str


class File(Value, frozen=True):
    """A file put into the container before it starts, owned by root; a `seed` only while the volume
    is new."""

    path: str
    content: str
    mode: int = 0o644
    seed: bool = False


class Certificate(Value, frozen=True):
    """Where the server wants its certificate: in `file` its key and the certificate, as PEM, or
    where it does not read both from one, the key alone there and the certificate in `chain`. They
    are for the first of the `owners` that the image has as a user, alone; for everybody in the container where it has
    none of them. What vouches for it is in /etc/purveyor/ca.crt.

    `port` is where the server shows it, for `purveyor doctor` to look; 0 is nowhere. Where TLS does
    not begin at once, a client first says what `asks` has, and goes on when the server answers with
    `granted`."""

    file: str
    chain: str = ""
    owners: tuple[str, ...] = ()
    port: int = 0
    asks: bytes = b""
    granted: bytes = b""


class HealthCheck(Value, frozen=True):
    """Docker's own health check: argv run in the container; times in seconds."""

    command: tuple[str, ...]
    interval: float = 10.0
    timeout: float = 5.0
    retries: int = 3
    start_period: float = 5.0


class Limits(Value, frozen=True):
    """Memory in bytes, CPUs as a number of cores; None is no limit. `pids` is how many processes
    and threads there may be at once: a server that has one for each connection needs more than its
    connections."""

    memory: int | None = None
    cpus: float | None = None
    pids: int = 4096


OF_ENTRY_POINTS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")


class ContainerSpec(Value, frozen=True):
    """The container to run, complete: the core does all of the Docker work from this.

    It starts without any of Linux's capabilities but the `capabilities` that are named here, and
    can never gain more. The default is what the entry points of the official images need, which
    begin as root, give the volume to the server's user and go on as that user: after that step
    there are none. Name fewer where fewer will do.

    With a `certificate` the core has one of the installation's own authority for the server, puts
    it there before each start, and renews it: then, and while it runs where the type has the hook
    `renew_certificate`. It is nothing that the container is made anew for.

    `evidence` are paths that must exist in the volume once it holds data; the core looks for them
    before each start, so that a server never comes up empty on a volume that was emptied.
    `shared_memory` is the size of /dev/shm in bytes, `stop_timeout` the seconds that the server is
    given to stop in peace.

    With `read_only` nothing in the container changes its root file system: written to are the
    volume and `scratch`, folders in memory for files that are small (64 MB in each), may be made by
    everybody and are gone at the next start; and, by root alone, the folders that `files` and the
    certificate are in, which hide nothing when that is /etc/purveyor. Not every server does with
    that, so that it is asked for.
    """

    image: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    mount: Mount | None = None
    ports: tuple[Port, ...] = ()
    files: tuple[File, ...] = ()
    evidence: tuple[str, ...] = ()
    health_check: HealthCheck | None = None
    limits: Limits = Limits()
    shared_memory: int = 64 * 1024 * 1024
    stop_timeout: int = 30
    user: str = ""
    capabilities: tuple[str, ...] = OF_ENTRY_POINTS
    certificate: Certificate | None = None
    read_only: bool = False
    scratch: tuple[str, ...] = ()


class Command(Value, frozen=True):
    """A command in the service's own image; secrets go into `environment`, never into `argv`."""

    argv: tuple[str, ...]
    environment: dict[str, str] = {}


class Probe(Value, frozen=True):
    """One step of `purveyor doctor`: a command run from inside the network, and what it proves."""

    name: str
    command: Command


class Client(Value, frozen=True):
    """How to talk to a service as its administrator, on a terminal.

    `argv` is run in the service's container. Where its image has no such program, or none is named,
    the code `python` is run on this host and a Python prompt follows. Secrets go into
    `environment`, which both get.
    """

    argv: tuple[str, ...] = ()
    python: str = ""
    environment: dict[str, str] = {}


class ExecResult(Value, frozen=True):
    """What a command ended with; output is text, at most 64 KiB of each stream."""

    exit_code: int
    stdout: str
    stderr: str


# ---------------------------------------------------------------- who uses it


class Scope(Value, frozen=True):
    """Whom a binding is for: the slugs of the project and of its environment."""

    project: str
    environment: str


class Api(Value, frozen=True):
    """Where an app reaches the HTTP API: `url` is the root, without ``/api``; `token` is its
    environment's own."""

    url: str
    token: str
    project_id: int

    def variables(self) -> list["Variable"]:
        """What every type that uses the API injects, under our names and those of published
        SDKs."""
        values = (
            ("API_URL", self.url, False),
            ("TOKEN", self.token, True),
            ("PROJECT_ID", str(self.project_id), False),
        )
        return [
            Variable(name=f"{prefix}_{name}", value=value, secret=secret)
            for prefix in ("PURVEYOR", "TEMPS")
            for name, value, secret in values
        ]


class Binding(Value, frozen=True):
    """What a link gives one environment. The core chooses and records all of it before `bind` is
    called.

    `resource` is the database or bucket, named by the type's `Naming`; `account` the user;
    `password` its credential (32 characters, letters and digits); `slot` the number out of the
    type's `slots`. `mark` is unique to this binding: put it where the server keeps comments, to
    tell your own objects from others. `api` is there for the variables of types that use the API.
    `extras` are further resources by the names that a person gave them: the same account reaches
    them, and they are made, kept and purged with the first.
    """

    id: int
    scope: Scope
    resource: str
    account: str
    password: str
    slot: int | None = None
    api: Api | None = None
    origin: int = 0
    extras: dict[str, str] = {}

    @property
    def number(self) -> int:
        """What its objects are marked with: its own id, or that of the binding whose backup it was
        restored from."""
        return self.origin or self.id

    @property
    def mark(self) -> str:
        return f"purveyor binding {self.number}"


class Variable(Value, frozen=True):
    """One environment variable; the value of a secret is shown as ``***`` in previews."""

    name: str
    value: str
    secret: bool = False


class Actor(Value, frozen=True):
    """Who asks: `name` for the journal, a user's own where there is one; `scope` is admin, read or
    project.

    `token_id` is the token that was shown, None for whoever works on the host itself: names of
    tokens are not unique. A project's token has its `project_id`; one of an environment has its
    `environment` as well.
    """

    name: str
    scope: Literal["admin", "read", "project"]
    project_id: int | None = None
    environment: str | None = None
    token_id: int | None = None

    def require(self, *scopes: str) -> None:
        """Raise `Forbidden` unless the scope is one of these."""
        if self.scope not in scopes:
            raise Forbidden(
                f"A token of the scope {self.scope} may not do this.",
                remedy=f"Use one of the scope {' or '.join(scopes)}.",
            )


class OpenSession(Value, frozen=True):
    """Somebody's session in a browser, opened with a token. `admin` may change things; the others
    only look.

    `credential` opens it: two halves with a dot between them, of which neither opens anything by
    itself. To the API of `Application.api` it is what the token is.
    """

    id: int
    credential: str
    admin: bool


class Departure(Value, frozen=True):
    """Somebody goes to sign in elsewhere: the address, and a secret that only this browser keeps
    until it is back."""

    address: str
    secret: str


class Arrival(Value, frozen=True):
    """Somebody is back, signed in: the session, and the page that was wanted."""

    session: OpenSession
    wanted: str


class Bound(Value, frozen=True):
    """A service and one environment's binding on it, as this host reaches it (`service.host`,
    `service.port()`).

    `api_url` is the API's root where the settings say it, "" where it is whatever host a request
    was sent to.
    """

    service: Service
    binding: Binding
    project_id: int
    api_url: str = ""


class Account(Value, frozen=True):
    """What one project's app logs in with, and where: `resource` is the database, number or bucket
    that is its own."""

    host: str
    port: int
    user: str
    password: str
    resource: str


# ---------------------------------------------------------------- what is observed


class Health(Value, frozen=True):
    """The outcome of a real round trip.

    `stage` is the last one reached: "container", "tcp", "login", "query", "write"; healthy means
    that all were passed. `version` is the server's own, `detail` the reason when not healthy.
    """

    healthy: bool
    stage: str
    version: str = ""
    detail: str = ""


class Finding(Value, frozen=True):
    """One thing that is not carried, or not as it was, told to a person.

    `where` is the database, bucket or other holder, "" for the server itself; `what` the object in
    it, "" for all of it; `why` a sentence's end: "its index is invalid", "the new version has no
    such setting". A `notice` is told and no loss: what is not one stops an upgrade or a restore in
    place until a person says to go on.
    """

    where: str
    what: str
    why: str
    notice: bool = False

    def __str__(self) -> str:
        named = ": ".join(part for part in (self.where, self.what) if part)
        return f"{named}: {self.why}" if named else self.why


class Inventory(Value, frozen=True):
    """What a data set holds, countable: kind of thing -> name -> number, as ``{"rows":
    {"shop.orders": 12}}``.

    `counts` must be the same later. `fleeting` are entries with a TTL, which expire: there are
    at most so many later. `growing` only ever moves on, sequences: it is at least so much
    later. `digests` are of what has no number, normalised: the schema of a database, the settings
    of a server; name -> digest.

    A backup's census is of what was written into the stream. `left_out` names what exists and is
    not carried, found by a list without a filter; `failed` the databases or buckets that could not
    be read and are missing. `elsewhere` tells, by another `data_major` of the type, what its
    servers would not take: a restore into one names it before it begins.
    """

    counts: dict[str, dict[str, int]]
    fleeting: dict[str, dict[str, int]] = {}
    growing: dict[str, dict[str, int]] = {}
    digests: dict[str, str] = {}
    left_out: tuple[Finding, ...] = ()
    failed: tuple[Finding, ...] = ()
    elsewhere: dict[str, tuple[Finding, ...]] = {}

    def differences(self, later: "Inventory") -> list[str]:
        """What is not the same later, in words; empty when nothing is missing or too much. A
        database or bucket that failed is told as that, and not counted."""
        if lost := {item.where for item in self.failed if item.where}:
            return self._without(lost).differences(later._without(lost))
        said = _differences(self.counts, later.counts, lambda before, after: before != after)
        said += _differences(self.fleeting, later.fleeting, lambda before, after: after > before)
        said += _differences(self.growing, later.growing, lambda before, after: after < before)
        for name in sorted({*self.digests} & {*later.digests}):
            if self.digests[name] != later.digests[name]:
                said.append(f"{name} is not as it was")
        return said

    def only(self, names: Collection[str]) -> "Inventory":
        """The part of it that is in these databases or buckets: counts are named ``database`` or
        ``database.thing``."""

        every = {*names, *(name for kind in HOLDERS for name in self.counts.get(kind, {}))}

        def chosen(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
            kept = {
                kind: {
                    name: number
                    for name, number in found.items()
                    if (holder_of(name, every) or name) in names
                }
                for kind, found in counts.items()
            }
            return {kind: found for kind, found in kept.items() if found}

        return Inventory(
            counts=chosen(self.counts),
            fleeting=chosen(self.fleeting),
            growing=chosen(self.growing),
            digests={
                name: digest
                for name, digest in self.digests.items()
                if (holder_of(name, every) or name) in names
            },
            left_out=tuple(item for item in self.left_out if item.where in names),
            failed=tuple(item for item in self.failed if item.where in names),
        )

    def _without(self, names: Collection[str]) -> "Inventory":
        every = {*names, *(name for kind in HOLDERS for name in self.counts.get(kind, {}))}
        named = {
            name
            for part in (self.counts, self.fleeting, self.growing)
            for found in part.values()
            for name in found
        }
        kept = {holder_of(name, every) or name for name in {*named, *self.digests}} - {*names}
        return msgspec.structs.replace(self.only(kept), failed=())

    @property
    def total(self) -> int:
        return sum(sum(names.values()) for names in self.counts.values())


# its former name, which the next version of the contract will not have
Census = Inventory


# kinds of a census whose names the other counts' names begin with
HOLDERS = ("databases", "buckets")


def holder_of(name: str, holders: Collection[str]) -> str:
    """The database or bucket that a count's name is in, "" for none: the longest, for ``a.b`` may
    be one beside ``a``."""
    return max(
        (item for item in holders if name == item or name.startswith(f"{item}.")),
        key=len,
        default="",
    )


def _differences(
    before: dict[str, dict[str, int]],
    later: dict[str, dict[str, int]],
    differ: Callable[[int, int], bool],
) -> list[str]:
    said = []
    for kind in sorted({*before, *later}):
        one, other = before.get(kind, {}), later.get(kind, {})
        for name in sorted({*one, *other}):
            if differ(one.get(name, 0), other.get(name, 0)):
                said.append(
                    f"{kind} of {name}: {one.get(name, 0)} before, {other.get(name, 0)} after"
                )
    return said


class RestoreOptions(Value, frozen=True):
    """How a backup is read in.

    `only` names the databases or buckets to restore, none are all. `takes_over` is true where the
    restored service goes on in place of the one that was saved (an upgrade, a restore in place): a
    copy must come up with everything off that acts on the world by itself, subscriptions, jobs,
    workers. `skip_settings` are names of server settings that are not set again.
    """

    only: tuple[str, ...] = ()
    takes_over: bool = False
    skip_settings: tuple[str, ...] = ()


class Listing(Value, frozen=True):
    """One page of what a service holds: texts, in columns.

    `opens`: the first column of a row is the next part of the path. `downloads`: so it is, of
    something to take. `cursor` is where the next page begins, "" after the last; `sortable` means
    that a column may be named to sort by.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    opens: bool = False
    downloads: bool = False
    sortable: bool = False
    cursor: str = ""


class Event(Value, frozen=True):
    """A fact: something happened. Numbered without gaps in publishing order, never changed."""

    id: int
    type: str
    at: datetime
    operation: int | None = None
    service: int | None = None
    project: int | None = None
    data: dict[str, Any] = {}


class Operation(Value, frozen=True):
    """One durable operation, as plugins see it: what is about to be done, to what."""

    id: int
    verb: str
    service: int | None
    project: int | None
    arguments: dict[str, Any]


class Step(Value, frozen=True):
    """A step of an operation that a plugin brings. `undo` says that what it did, or began, is taken
    back when the operation fails; `deadline` is in seconds without any sign of progress."""

    name: str
    undo: bool = False
    deadline: float = 60.0


class Draft(Value, frozen=True):
    """What an operation of a plugin will do, decided once and stored with it.

    `steps` are the names of those that are done; `state` is what they begin with, encrypted, at
    most 64 KiB as JSON. The rest is for whoever asks for a plan: `resources` are made, changed or
    removed, `downtime` is a sentence, "none" when nothing stops serving.
    """

    steps: tuple[str, ...]
    state: dict[str, Any] = {}
    resources: tuple[str, ...] = ()
    downtime: str = "none"
    warnings: tuple[str, ...] = ()


# ---------------------------------------------------------------- deploying


class AppSpec(Value, frozen=True):
    """An app's container: `port` is what it listens on (None: it listens on nothing).

    `health_path` is asked for over HTTP until it answers below 500; without it a TCP connection is
    enough. `capabilities` are those of Linux that it gets beside the installation's; `memory` in
    bytes and `pids`, processes and threads at once, are its limits, None for the installation's.
    """

    image: str
    command: tuple[str, ...] = ()
    port: int | None = None
    health_path: str | None = None
    timeout: float = 60.0
    capabilities: tuple[str, ...] = ()
    memory: int | None = None
    pids: int | None = None


class Deployment(Value, frozen=True):
    """One deploy of a project's environment. Without an `app` only the hooks run: another tool
    deploys."""

    id: int
    scope: Scope
    app: AppSpec | None
    variables: tuple[Variable, ...]


class DeployResult(Value, frozen=True):
    """What a deploy hook brought up: the container's name, and where it answers on this host."""

    container: str
    url: str = ""


# ---------------------------------------------------------------- import and upgrade


class FoundContainer(Value, frozen=True):
    """A container on the engine that we do not manage. Its environment and command are there to be
    recognised, not used."""

    id: str
    name: str
    image: Image
    running: bool
    ports: tuple[int, ...]
    labels: dict[str, str] = {}
    environment: dict[str, str] = {}
    command: tuple[str, ...] = ()

    @property
    def image_name(self) -> str:
        """The last part of the image's name, without tag and digest: ``postgres`` of
        ``registry.example/acme/postgres:17``."""
        return self.image.parts.name.lower()

    @property
    def tag(self) -> str:
        """The image's tag, "" when it has none."""
        return self.image.parts.tag


class Recognition(Value, frozen=True):
    """A plugin's word that a found container is of its type.

    `suggested` are parameters that its environment tells, credentials among them: they are used
    only when whoever imports it says so. `port` is where the server listens inside the container,
    when that is not the type's usual one.
    """

    service_type: str
    version: str = ""
    suggested: dict[str, Any] = {}
    port: int | None = None


class Retold(Value, frozen=True):
    """What a container of ours says of the service that it was made for: its parameters, and its
    secrets by name, as far as it holds them."""

    parameters: dict[str, Any] = {}
    secrets: dict[str, str] = {}


class HeldAccount(Value, frozen=True):
    """An account of a project that a server holds. `number` is that of its mark, see `Binding`."""

    number: int
    resource: str
    account: str
    slot: int | None = None
    extras: dict[str, str] = {}


class Recovery(Value, frozen=True):
    """How a server comes up at a moment of its past.

    `base` and `changes` are folders below the volume's mount: the base copy is unpacked into the
    one, and every file that the helper wrote put into the other. `finish` is run as root when both
    are there; then the server is started.
    """

    base: str
    changes: str
    finish: Command


class UpgradePlan(Value, frozen=True):
    """What changing the image means: "restart" (same data), "migrate" (data is carried over) or
    "refuse"."""

    action: Literal["restart", "migrate", "refuse"]
    reason: str
