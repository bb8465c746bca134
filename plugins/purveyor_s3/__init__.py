"""The service type ``s3``: one bucket, and an access key limited to it, for each project and
environment.

Three servers: RustFS, MinIO and SeaweedFS. They differ in how they are started and in how keys are
made; `flavours` holds the one, `keys` the other. The driver is imported when it is first needed: it
is big, and most installations have no S3.
"""

import base64
import secrets as random
from datetime import datetime

import msgspec

from purveyor_hooks import (
    Access,
    Binding,
    Census,
    Client,
    Command,
    ContainerSpec,
    Contents,
    Exercise,
    Finding,
    FoundContainer,
    Health,
    Image,
    Listing,
    Naming,
    Parameter,
    Probe,
    Reader,
    Recognition,
    RestoreOptions,
    Retold,
    Service,
    ServiceType,
    Sink,
    Source,
    UpgradePlan,
    Variable,
    certificates,
    hookimpl,
)
from purveyor_s3 import encrypted, flavours, found, retold, tls, upgrades
from purveyor_s3.flavours import STORAGE

PORT, REGION = flavours.PORT, flavours.REGION
ACCOUNT_LENGTH = 20  # SeaweedFS takes letters and digits only
NAMING = Naming(separator="-", limit=63, minimum=3)
PARAMETERS = (
    Parameter(
        name="port",
        help="Port of the S3 API on 127.0.0.1.",
        kind="integer",
        generated="port",
        base=9000,
    ),
    Parameter(
        name="console_port",
        help="Port of the web console on 127.0.0.1.",
        kind="integer",
        generated="port",
        base=9001,
    ),
    Parameter(
        name="flavour",
        help=(
            "Which server the image holds: rustfs, minio or seaweedfs; auto reads it from the "
            "image's name."
        ),
        default=flavours.AUTO,
        choices=(flavours.AUTO, *flavours.FLAVOURS),
        editable=False,
    ),
    Parameter(
        name="access_key",
        help="The administrator's access key.",
        generated="key",
        length=20,
        editable=False,
        pattern=r"[A-Za-z0-9._-]{3,64}",
    ),
    Parameter(
        name="secret_key",
        help="The administrator's secret key; no app ever gets it.",
        generated="password",
        length=40,
        editable=False,
        secret=True,
        pattern=r"[A-Za-z0-9+/=._-]{8,128}",
    ),
    encrypted.TLS,
    STORAGE,
)


@hookimpl
def service_type() -> ServiceType:
    return ServiceType(
        name="s3",
        label="S3 storage",
        description="Object storage with the S3 API",
        default_image="rustfs/rustfs:1.0.1",
        color="#c7511f",
        icon_url="/static/icons/s3.svg",
        ports=flavours.PORTS,
        naming=NAMING,
        account_length=ACCOUNT_LENGTH,
        numbered_accounts=True,
        parameters=PARAMETERS,
    )


@hookimpl
def data_major(image: Image) -> str:
    """Each server has a format of its own; its versions read what earlier ones wrote."""
    return flavours.named(image.reference) or ""


@hookimpl
def secrets(service: Service) -> dict[str, str]:
    """SeaweedFS: a certificate for its parts that speak to each other. RustFS: the key with which
    it seals the keys of objects that are encrypted at rest; without it they cannot be read. An
    image of no known server is refused here."""
    flavour, made = flavours.of(service).name, service.secrets
    if flavour == flavours.SEAWEEDFS and "tls_key" not in made:
        return {**made, **tls.self_signed()}
    if flavour == flavours.RUSTFS and flavours.MASTER_KEY not in made:
        return {**made, flavours.MASTER_KEY: base64.b64encode(random.token_bytes(32)).decode()}
    return made


@hookimpl
def container(service: Service) -> ContainerSpec:
    return flavours.of(service).container(service)


@hookimpl
async def renew_certificate(service: Service, access: Access) -> None:
    """The servers see within some seconds that their files are others."""


@hookimpl
async def ready(service: Service, access: Access) -> Health:
    from purveyor_s3 import quota, server

    health = await server.ready(service, access)
    if health.healthy:
        return msgspec.structs.replace(health, detail=await quota.put_in_force(service, access))
    return health


@hookimpl
async def identity(service: Service, access: Access, create: bool) -> str:
    from purveyor_s3 import server

    return await server.identity(service, access, create)


@hookimpl
async def retell(container: FoundContainer, read: Reader) -> Retold:
    return await retold.retell(container, read)


@hookimpl
async def bind(service: Service, access: Access, binding: Binding) -> None:
    from purveyor_s3 import buckets

    await buckets.bind(service, access, binding)


@hookimpl
async def unbind(service: Service, access: Access, binding: Binding) -> None:
    from purveyor_s3 import buckets

    await buckets.unbind(service, access, binding)


@hookimpl
async def purge(service: Service, access: Access, binding: Binding) -> None:
    from purveyor_s3 import buckets

    await buckets.purge(service, access, binding)


@hookimpl
def environment(service: Service, binding: Binding) -> list[Variable]:
    port = service.port(PORT)
    endpoint = encrypted.url(service, service.host, port)
    return [
        Variable(name="S3_ENDPOINT", value=endpoint),
        Variable(name="S3_HOST", value=service.host),
        Variable(name="S3_PORT", value=str(port)),
        Variable(name="S3_BUCKET", value=binding.resource),
        Variable(name="S3_ACCESS_KEY", value=binding.account),
        Variable(name="S3_SECRET_KEY", value=binding.password, secret=True),
        Variable(name="S3_REGION", value=REGION),
        Variable(name="AWS_ACCESS_KEY_ID", value=binding.account),
        Variable(name="AWS_SECRET_ACCESS_KEY", value=binding.password, secret=True),
        Variable(name="AWS_DEFAULT_REGION", value=REGION),
        Variable(name="AWS_ENDPOINT_URL", value=endpoint),
        *(certificates.variables(service, "S3") if encrypted.on(service) else ()),
    ]


@hookimpl
def client(service: Service) -> Client:
    """The servers' images hold no S3 client: boto3 on this host."""
    verifies = {"AWS_CA_BUNDLE": service.tls.file} if encrypted.on(service) and service.tls else {}
    word = "" if verifies or not encrypted.on(service) else ", verify=False"
    return Client(
        python=(
            f"import boto3\ns3 = boto3.client('s3'{word})\nprint('s3 is connected; for example: "
            "s3.list_buckets()')"
        ),
        environment={
            "AWS_ENDPOINT_URL": encrypted.url(service, service.host, service.port(PORT)),
            "AWS_ACCESS_KEY_ID": service.parameters["access_key"],
            "AWS_SECRET_ACCESS_KEY": service.parameters["secret_key"],
            "AWS_DEFAULT_REGION": REGION,
            **verifies,
        },
    )


@hookimpl
def probes(service: Service, binding: Binding) -> list[Probe]:
    """Only the way is probed from inside: the images hold no S3 client. Login, query and write are
    what health asks."""
    return [Probe(name="tcp", command=Command(argv=flavours.reach(service)))]


@hookimpl
async def census(service: Service, access: Access, binding: Binding | None) -> Census:
    from purveyor_s3 import snapshot

    return await snapshot.census(service, access)


@hookimpl
async def backup(service: Service, access: Access, sink: Sink) -> Census:
    from purveyor_s3 import snapshot

    return await snapshot.backup(service, access, sink)


@hookimpl
async def restore(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    from purveyor_s3 import refill

    return await refill.restore(service, access, source, options)


@hookimpl
async def extract(source: Source, database: str, sink: Sink) -> None:
    from purveyor_s3 import extraction

    await extraction.extract(source, database, sink)


@hookimpl
async def contents(source: Source, into: Contents) -> None:
    from purveyor_s3 import telling

    await telling.contents(source, into)


@hookimpl
async def rotate(
    service: Service, access: Access, binding: Binding, former: str, until: datetime | None
) -> None:
    from purveyor_s3 import buckets

    await buckets.rotate(service, access, binding, former, until)


@hookimpl
async def retire(service: Service, access: Access, binding: Binding) -> None:
    from purveyor_s3 import buckets

    await buckets.retire(service, access, binding)


@hookimpl
async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    """The servers take their administrator's keys from their container when they start."""


@hookimpl
def upgrade_plan(service: Service, image: Image) -> UpgradePlan:
    return upgrades.plan(service, image)


@hookimpl
async def upgrade_check(service: Service, access: Access, image: Image) -> tuple[Finding, ...]:
    from purveyor_s3 import elsewhere

    return await elsewhere.check(service, access, image)


@hookimpl
def recognise(container: FoundContainer) -> Recognition | None:
    return found.recognise(container)


@hookimpl
async def adopt(service: Service, access: Access) -> Health:
    return await found.adopt(service, access)


@hookimpl
def exercise() -> Exercise:
    from purveyor_s3.apps import Objects

    return Objects()


@hookimpl
async def browse(
    service: Service, access: Access, path: tuple[str, ...], cursor: str, order: str
) -> Listing:
    from purveyor_s3 import browsing

    return await browsing.browse(service, access, path, cursor)


@hookimpl
async def download(service: Service, access: Access, path: tuple[str, ...], sink: Sink) -> None:
    from purveyor_s3 import browsing

    await browsing.download(service, access, path, sink)
