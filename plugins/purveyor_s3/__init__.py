"""The service type ``s3``: one bucket, and an access key limited to it, for each project and
environment.

Three servers: RustFS, MinIO and SeaweedFS. They differ in how they are started and in how keys are
made; `flavours` holds the one, `keys` the other. The driver is imported when it is first needed: it
is big, and most installations have no S3.
"""

import base64
import secrets as random
from collections.abc import Mapping
from typing import Any

import msgspec

from purveyor_hooks import (
    Access,
    Binding,
    Client,
    Command,
    ContainerSpec,
    Exercise,
    Health,
    Image,
    Naming,
    Parameter,
    Probe,
    Service,
    ServiceType,
    Variable,
    bases,
    certificates,
    implemented_by,
)
from purveyor_s3 import encrypted, flavours, tls
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


class Server(
    bases.Type, bases.Links, bases.Backups, bases.Upgrades, bases.Retelling, bases.Browsing
):
    """What the servers do, whichever type they are of."""

    def data_major(self, image: Image, parameters: Mapping[str, Any]) -> str:
        """Each server has a format of its own; its versions read what earlier ones wrote."""
        return flavours.named(image.reference) or ""

    def secrets(self, service: Service) -> dict[str, str]:
        """SeaweedFS: a certificate for its parts that speak to each other. RustFS: the key with which
        it seals the keys of objects that are encrypted at rest; without it they cannot be read. An
        image of no known server is refused here."""
        flavour, made = flavours.of(service).name, service.secrets
        if flavour == flavours.SEAWEEDFS and "tls_key" not in made:
            return {**made, **tls.self_signed()}
        if flavour == flavours.RUSTFS and flavours.MASTER_KEY not in made:
            return {**made, flavours.MASTER_KEY: base64.b64encode(random.token_bytes(32)).decode()}
        return made

    def container(self, service: Service) -> ContainerSpec:
        return flavours.of(service).container(service)

    async def renew_certificate(self, service: Service, access: Access) -> None:
        """The servers see within some seconds that their files are others."""

    async def ready(self, service: Service, access: Access) -> Health:
        from purveyor_s3 import quota, server

        health = await server.ready(service, access)
        if health.healthy:
            return msgspec.structs.replace(health, detail=await quota.put_in_force(service, access))
        return health

    def client(self, service: Service) -> Client:
        """The servers' images hold no S3 client: boto3 on this host."""
        verifies = (
            {"AWS_CA_BUNDLE": service.tls.file} if encrypted.on(service) and service.tls else {}
        )
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

    def probes(self, service: Service, binding: Binding) -> list[Probe]:
        """Only the way is probed from inside: the images hold no S3 client. Login, query and write are
        what health asks."""
        return [Probe(name="tcp", command=Command(argv=flavours.reach(service)))]

    async def rotate_administrator(
        self, service: Service, access: Access, previous: Service
    ) -> None:
        """The servers take their administrator's keys from their container when they start."""

    # what asks the server, or is long: in a module of its own, imported when it is called
    identity = implemented_by("purveyor_s3.server:identity")
    retell = implemented_by("purveyor_s3.retold:retell")
    bind = implemented_by("purveyor_s3.buckets:bind")
    unbind = implemented_by("purveyor_s3.buckets:unbind")
    purge = implemented_by("purveyor_s3.buckets:purge")
    census = implemented_by("purveyor_s3.snapshot:census")
    backup = implemented_by("purveyor_s3.snapshot:backup")
    restore = implemented_by("purveyor_s3.refill:restore")
    extract = implemented_by("purveyor_s3.extraction:extract")
    contents = implemented_by("purveyor_s3.telling:contents")
    rotate = implemented_by("purveyor_s3.buckets:rotate")
    retire = implemented_by("purveyor_s3.buckets:retire")
    upgrade_plan = implemented_by("purveyor_s3.upgrades:upgrade_plan")
    browse = implemented_by("purveyor_s3.browsing:browse")
    download = implemented_by("purveyor_s3.browsing:download")


class S3(Server, bases.Import):
    """What the type does."""

    def service_type(self) -> ServiceType:
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

    def environment(self, service: Service, binding: Binding) -> list[Variable]:
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

    def exercise(self) -> Exercise:
        from purveyor_s3.apps import Objects

        return Objects()

    upgrade_check = implemented_by("purveyor_s3.elsewhere:upgrade_check")
    recognise = implemented_by("purveyor_s3.found:recognise")
    adopt = implemented_by("purveyor_s3.found:adopt")


plugin = S3()
