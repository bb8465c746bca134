"""Every hook, top to bottom the plugin author's manual.

*Type hooks* are called for the one plugin that owns the service's type, one at a time, in a
journalled step with a deadline. Each is idempotent: after a crash it is called again with the same
arguments. *Everyone's hooks* go to all plugins, each call guarded: what one raises is logged and
listed, and stops nobody else. "Pure" hooks do no I/O; all others are ``async def``. Any hook may
raise an error of `purveyor_hooks.errors`; anything else is reported as a fault of the plugin.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from purveyor_hooks.markers import deprecated, hookspec
from purveyor_hooks.operations import ServiceOperation
from purveyor_hooks.protocols import (
    Access,
    Application,
    AppRuntime,
    Contents,
    Core,
    Exercise,
    Reader,
    Sink,
    Source,
)
from purveyor_hooks.types import (
    Binding,
    Client,
    ContainerSpec,
    Deployment,
    DeployResult,
    Event,
    Finding,
    FoundContainer,
    Health,
    HeldAccount,
    Image,
    Inventory,
    Listing,
    Operation,
    Probe,
    Recognition,
    Recovery,
    RestoreOptions,
    Retold,
    Service,
    ServiceType,
    UpgradePlan,
    Variable,
)

if TYPE_CHECKING:
    import click

# ---------------------------------------------------------------- type hooks: what it is


@hookspec
def service_type() -> ServiceType:  # type: ignore[empty-body]
    """Say what this plugin brings: its name, parameters, ports and default image. Pure; asked once
    at load."""


@hookspec
def data_major(image: Image, parameters: Mapping[str, Any]) -> str:  # type: ignore[empty-body]
    """Say which version of the on-disk format an image writes, "" when all versions share one.
    Pure.

    - image: the image, with its environment when it is on the engine, else by its reference alone.
    - parameters: the service's.

    The core records it with the volume and refuses to start a volume with an image of another
    major. Raise `BadInput` on the field ``docker_image`` when it cannot be told.
    """


@hookspec
def secrets(service: Service) -> dict[str, str]:  # type: ignore[empty-body]
    """Make what the service needs for itself and no parameter holds: keys, certificates. Optional.

    - service: the service about to be created or changed; `service.secrets` is what was made
      before.

    Answer all that shall be kept, encrypted, as `service.secrets`. Does no I/O but may use
    randomness.
    """


@hookspec
def container(service: Service) -> ContainerSpec:  # type: ignore[empty-body]
    """Describe the container to run. Pure: the same service gives the same container.

    - service: with complete parameters, secrets, image and recorded major.
    """


@hookspec
def notes(service: Service) -> Sequence[str]:  # type: ignore[empty-body]
    """Say what a person should know of a service as it is made, beside the notes of its type.
    Optional. Pure.

    - service: the service, or one that is about to be: its major is "" then.
    """


@hookspec
def exercise() -> Exercise:  # type: ignore[empty-body]
    """Say how an app uses a service of this type, for the conformance kit (`purveyor plugin
    check`). Pure."""


# ---------------------------------------------------------------- type hooks: is it serving


@hookspec
async def ready(service: Service, access: Access) -> Health:  # type: ignore[empty-body]
    """Say whether it serves: connect with the driver, log in, do a round trip that writes.

    - service: the service.
    - access: how to reach it.

    Asked again and again after a start until healthy; never sleeps or retries itself. Also asked
    for health.
    """


@hookspec
async def identity(service: Service, access: Access, create: bool) -> str:  # type: ignore[empty-body]
    """Read the mark that the data set itself carries, "" when there is none.

    - service: the service, ready.
    - access: how to reach it.
    - create: the data set is new; make the mark, durably, unless it is there.

    The core records it and compares it at every start; another mark means another data set.
    """


@deprecated(binding="it is always None; leave it out.")
@hookspec
async def census(service: Service, access: Access, binding: Binding | None) -> Inventory:  # type: ignore[empty-body]
    """Count what is in it: proves restores and upgrades.

    - service: the service, ready.
    - access: how to reach it.
    - binding: count only this binding's resource; None counts all.
    """


@hookspec
async def renew_certificate(service: Service, access: Access) -> None:
    """Have the running server show the certificate that has just been put into its container
    (`ContainerSpec.certificate`).

    - service: the service, ready.
    - access: how to reach it.

    Connections that are open go on. Without this hook, and where it raises, the server shows it
    from its next start on.
    """


# ---------------------------------------------------------------- type hooks: links


@hookspec
async def bind(service: Service, access: Access, binding: Binding) -> None:
    """Make the resource and an account that reaches it and nothing else.

    - service: the service, ready.
    - access: how to reach it.
    - binding: names, number and password, recorded by the core before this call.

    Also called to bring an unbound binding back: same resource, same data, new password. Raise
    `Conflict` when a resource or account of that name exists and does not carry `binding.mark`.
    """


@hookspec
def environment(service: Service, binding: Binding) -> Sequence[Variable]:  # type: ignore[empty-body]
    """List the variables that say how to reach the resource: host is `service.host`. Pure.

    - service: the service.
    - binding: the binding; for previews one whose names are placeholders.
    """


@hookspec
def outdated(service: Service, binding: Binding) -> str:  # type: ignore[empty-body]
    """Say what is amiss with the account that an earlier version of the plugin gave a binding, ""
    when nothing is. Optional. Pure.

    - service: the service.
    - binding: the binding as it is.

    The answer goes on after the account's name: "logs in as the owner of its data". A person is
    told to rotate it, which gives it another.
    """


@hookspec
async def rotate(
    service: Service,
    access: Access,
    binding: Binding,
    previous: str,
    former: str,
    until: datetime | None,
) -> None:
    """Make the binding's new credential work, and end the old one.

    - service: the service, ready.
    - access: how to reach it.
    - binding: with the new password, and the new account where the type has `numbered_accounts`.
    - previous: the password that is valid until now.
    - former: the account that is valid until now: another one where the type has
      `numbered_accounts`.
    - until: only ever given to a type that has `retire`: leave the old credential working until
      then. Where the server can end it by itself, have it do so.
    """


@hookspec
async def retire(service: Service, access: Access, binding: Binding) -> None:
    """End every credential of a binding but the one it has, and the sessions that these opened: the
    time of a rotation is over.

    - service: the service, ready.
    - access: how to reach it.
    - binding: the binding; there may be nothing to end.
    """


@hookspec
async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    """Make the administrator's new credentials work and end the old ones; its container is made
    anew afterwards.

    - service: with the new ones.
    - access: how to reach it.
    - previous: the same service with those that are valid until now.

    After a crash the new ones may work already. A server that takes its credentials from its
    container has nothing to do.
    """


@hookspec
async def unbind(service: Service, access: Access, binding: Binding) -> None:
    """End the account's access and its connections; keep the data.

    - service: the service, ready.
    - access: how to reach it.
    - binding: the binding; its resource may never have been made.
    """


@hookspec
async def purge(service: Service, access: Access, binding: Binding) -> None:
    """Drop the account and the resource with all its data. Only ever called when asked for in so
    many words.

    - service: the service, ready.
    - access: how to reach it.
    - binding: the binding; its resource may be gone already.
    """


@hookspec
async def purge_extra(service: Service, access: Access, binding: Binding, extra: str) -> None:
    """Drop one further resource with all its data, and nothing else of the binding. Called
    on explicit request only, and for a type that has `extra_resources`.

    - service: the service, ready.
    - access: how to reach it.
    - binding: the binding, bound or not; its resource is ``binding.extras[extra]``, and may be gone
      already.
    - extra: the name that a person gave it.
    """


@hookspec
def client(service: Service) -> Client:  # type: ignore[empty-body]
    """Name the interactive client of the service, logged in as its administrator. Pure.

    - service: the service, as this host reaches it.
    """


@hookspec
def probes(service: Service, binding: Binding) -> Sequence[Probe]:  # type: ignore[empty-body]
    """List the steps of `purveyor doctor` after name resolution: tcp, login, query, write. Pure.

    - service: the service.
    - binding: the binding whose account the probes log in as.

    Each command runs in a throw-away container of the service's image on the project's network.
    """


# ---------------------------------------------------------------- type hooks: the life of data


@hookspec
def recognise(container: FoundContainer) -> Recognition | None:
    """Say whether a container that we do not manage is of this type, None when it is not. Pure.

    - container: a container found on the engine.
    """


@hookspec
async def adopt(service: Service, access: Access) -> Health:  # type: ignore[empty-body]
    """Check that the given credentials work on a container that is about to be imported, and
    suffice for links.

    - service: the service as it would be registered.
    - access: how to reach it.

    Nothing may be changed. Not healthy means that nothing is registered, and `detail` says why.
    """


@hookspec
async def retell(container: FoundContainer, read: Reader) -> Retold:  # type: ignore[empty-body]
    """Read back what a container of this type was made with, after the record of its service was
    lost.

    - container: one that was made from `container()`; its ports are told to the core by the engine.
    - read: the text of a file in it, None when there is none; it need not run.

    Nothing may be changed. A password that it does not hold is left out: the core chooses another
    and asks `regain`.
    """


@hookspec
async def regain(service: Service, access: Access) -> None:
    """Have the running server take the administrator's credentials of `service` with its next
    start, knowing no others.

    - service: the service with new credentials.
    - access: how to reach it; commands are run as root. The core starts it anew afterwards.

    May be called again with others. Only asked when `retell` did not tell them.
    """


@hookspec
async def held(service: Service, access: Access) -> Sequence[HeldAccount]:  # type: ignore[empty-body]
    """List the accounts of projects that the server holds, by the marks that `bind` has left.
    Changes nothing.

    - service: a service whose record was lost.
    - access: how to reach it.
    """


@hookspec
async def examine(  # type: ignore[empty-body]
    service: Service, access: Access, bindings: Sequence[Binding]
) -> tuple[Finding, ...]:
    """Name what keeps projects out of the server, or lets others in, which a look at the server as
    a whole does not tell. Changes nothing. Optional.

    - service: the service, which serves.
    - access: how to reach it.
    - bindings: those that are bound; `where` of what is found is the account of one.

    Asked by `purveyor doctor`.
    """


@hookspec
def upgrade_plan(service: Service, image: Image) -> UpgradePlan:  # type: ignore[empty-body]
    """Say what changing to another image means, and why. Pure.

    - service: the service as it is.
    - image: the wanted image.
    """


@hookspec
async def backup(service: Service, access: Access, sink: Sink, tools: Access | None) -> Inventory:  # type: ignore[empty-body]
    """Stream everything out, in constant memory, and count what is written; `parts` helps to keep
    several things in one stream.

    - service: the service, ready. It is written to meanwhile.
    - access: how to reach it.
    - sink: takes the bytes.
    - tools: the container of the newer server that the stream is for, in an upgrade: its programs
      write what it can read, and reach the service at `service.container_name`. None: the service's
      own programs are right.

    The answer counts what went into the stream, never what the server says beside it; it names what
    exists and is not carried (`left_out`), and what could not be read (`failed`): one database that
    fails does not end the others.
    """


@hookspec
async def restore(  # type: ignore[empty-body]
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    """Stream everything in, in constant memory, into an empty service. Called again after a crash,
    it begins anew.

    - service: the service, ready.
    - access: how to reach it.
    - source: gives the bytes that `backup` wrote. They may be hostile: nothing in them runs with
      the administrator's power.
    - options: what of it, and whether the service goes on in place of the one that was saved.

    The data set keeps the mark of the service that it is restored into. What could not be restored
    as it was, or comes up switched off, is answered by name; the rest is restored.
    """


@hookspec
async def extract(source: Source, database: str, sink: Sink) -> None:
    """Take one database or bucket out of a backup, in the form that the server's own tools read. No
    server is needed.

    - source: gives the bytes that `backup` wrote.
    - database: its name, as the census has it.
    - sink: takes the bytes.

    Raise `NotFound` for one that is not in it.
    """


@hookspec
async def contents(source: Source, into: Contents) -> None:
    """Tell digests of all that is in a backup: `backup verify --deep` compares those of a backup
    with those of a second one, made of the service that it was restored into. No server is needed.
    Optional.

    - source: gives the bytes that `backup` wrote.
    - into: takes each thing.

    Two backups of the same data tell the same, in whatever order and form their servers wrote them
    down. What a census counts of a kind that is told here is told whole: the numbers are compared
    as well.
    """


@hookspec
async def upgrade_check(service: Service, access: Access, image: Image) -> tuple[Finding, ...]:  # type: ignore[empty-body]
    """What the new version will refuse of what is there, asked before anything is done: for the
    plan.

    - service: the service, ready. Nothing in it may change.
    - access: how to reach it.
    - image: what it is to run.
    """


@hookspec
async def browse(  # type: ignore[empty-body]
    service: Service, access: Access, path: tuple[str, ...], cursor: str, order: str
) -> Listing:
    """Show one page of what it holds, with administrator privileges. Changes nothing, and ends within
    seconds.

    - service: the service, ready.
    - access: how to reach it.
    - path: what was opened so far: nothing, a database, a table of it, …
    - cursor: where the page begins, as an earlier answer said; "" is the first.
    - order: the column to sort by, with "-" before it the other way round; "" is as it comes.

    Raise `NotFound` for what is not there.
    """


@hookspec
async def download(service: Service, access: Access, path: tuple[str, ...], sink: Sink) -> None:
    """Stream one thing out that a listing offered.

    - service: the service, ready.
    - access: how to reach it.
    - path: what it is.
    - sink: takes the bytes.
    """


# ------------------------------------------------------------- type hooks: every moment of the past


@hookspec
def archive_helper(service: Service) -> ContainerSpec:  # type: ignore[empty-body]
    """Describe the container that writes down every change of the data: continuous archiving. Pure.

    - service: the service.

    It shares the network of the service's container and has a volume of its own. Below its mount it
    writes files whose names sort in the order of what is in them; one that is not full yet ends in
    ``.partial``. Full ones are taken away from it, but for the newest.
    """


@hookspec
async def archive_base(service: Service, access: Access, helper: Access, sink: Sink) -> str:  # type: ignore[empty-body]
    """Stream a copy of the whole data set out, as a tar, which the changes are added to later.

    - service: the service, ready.
    - access: how to reach it.
    - helper: runs commands in the helper's container; it has no address.
    - sink: takes the bytes.

    Answer the name of the first of the helper's files that may be needed with it.
    """


@hookspec
async def archive_beat(service: Service, access: Access) -> datetime:  # type: ignore[empty-body]
    """Write something, and answer its time as soon as the helper has it: everything up to then can
    be told.

    - service: the service, ready.
    - access: how to reach it.

    Raise `Failed` when the helper does not get it.
    """


@hookspec
def archive_gap(names: Sequence[str]) -> str:  # type: ignore[empty-body]
    """Name the first file that is missing between the first and the last of the helper's; "" when
    none is. Pure.

    - names: those that are kept, sorted, without ``.partial``.

    Nothing is restored over such a gap: a server would stop before it, and serve.
    """


@hookspec
async def archive_end(service: Service, access: Access) -> None:
    """Take back what the server was asked to keep for the helper, which is gone. May be called
    again.

    - service: the service, ready.
    - access: how to reach it.
    """


@hookspec
def recovery(service: Service, at: datetime | None) -> Recovery:  # type: ignore[empty-body]
    """Say where a base copy and the helper's files go in a new volume, and what else makes the
    server stop at a moment. Pure.

    - service: the service that is about to be started on that volume.
    - at: the moment; None is the end of what was written down.
    """


@hookspec
async def recover(service: Service, access: Access) -> str:  # type: ignore[empty-body]
    """Report how far a server that was started on such a volume has recovered; "" when that is
    complete, and the server is the service's own.

    - service: the service; its administrator's credentials are to work from then on.
    - access: how to reach it; the data may still have the credentials of another service.

    Asked again and again; an answer that stays the same for too long ends the restore.
    """


@hookspec
async def recovered(service: Service, access: Access) -> tuple[Finding, ...]:  # type: ignore[empty-body]
    """Name what is switched off in a server that has arrived, for it would act in the original's
    place. Optional.

    - service: the service, its own since `recover` said so.
    - access: how to reach it.

    Asked after `recover`, and again after a crash.
    """


# ---------------------------------------------------------------- type hooks: further operations


@hookspec
def operations() -> "Sequence[ServiceOperation[Any]]":  # type: ignore[empty-body]
    """List the operations that this plugin brings on services of its type. Optional. Pure; asked
    once at load.

    Each gets its route, ``POST /api/external-services/SERVICE/operations/TYPE.NAME``, and is run
    by ``purveyor service run SERVICE NAME``, planned by ``--plan``.
    """


# ---------------------------------------------------------------- everyone's hooks

EVERYONES = {
    "before_operation",
    "on_event",
    "before_deploy",
    "deploy",
    "after_deploy",
    "startup",
    "shutdown",
    "cli_commands",
    "http_routes",
}


@hookspec
async def before_operation(operation: Operation) -> str | None:
    """Refuse an operation by answering a reason; None lets it pass.

    - operation: what is about to be done; nothing has been changed yet.
    """


@hookspec
async def on_event(event: Event) -> None:
    """Take note of an event. Called in order and without gaps, ten seconds each; a slow plugin lags
    behind and holds nobody up, for it reads on from the journal.

    - event: what happened.
    """


@hookspec
async def before_deploy(deployment: Deployment) -> str | None:
    """Refuse a deploy by answering a reason, or get things ready for it.

    - deployment: what is about to be deployed, with its variables.
    """


@deprecated(workshop="it is named `runtime`.")
@hookspec
async def deploy(
    deployment: Deployment, runtime: AppRuntime, workshop: AppRuntime
) -> DeployResult | None:
    """Bring the app up and make it the current one; None leaves it to other plugins.

    - deployment: what to deploy.
    - runtime: runs the app's containers.
    - workshop: the same, by its former name.

    Raise when it does not come up: the core removes what this deployment started and the old one
    keeps serving.
    """


@hookspec
async def after_deploy(deployment: Deployment, result: DeployResult | None) -> None:
    """Take note of a deploy that succeeded.

    - deployment: what was deployed.
    - result: what the deploy hook answered.
    """


@hookspec
async def startup(core: Core) -> None:
    """Get ready: called once, when the core serves.

    - core: operations and events; keep it.
    """


@hookspec
async def shutdown() -> None:
    """Release resources acquired in `startup`."""


@hookspec
def cli_commands() -> "Sequence[click.Command]":  # type: ignore[empty-body]
    """List the commands that this plugin adds to ``purveyor``. Pure.

    With ``@click.pass_obj`` they get a `CommandLine`.
    """


@hookspec
def http_routes(app: Application) -> Sequence[Any]:  # type: ignore[empty-body]
    """List the Litestar route handlers and routers that this plugin adds under its own path. Pure.

    - app: `app.core` is the `Core` handed to `startup`, `app.authentication` the middleware for its
      routers.

    What apps are to reach from their containers is marked: ``opt={FOR_APPS: True}`` on a route or
    router. The rest is refused there.
    """
