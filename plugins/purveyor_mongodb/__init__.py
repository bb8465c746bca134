"""The service type ``mongodb``: one database and one user for each project and environment.

MongoDB 6 and later, by the conventions of its official image, and servers whose images follow them.
The driver is imported when it is first needed: most installations have no MongoDB.
"""

import re
import secrets as random
from datetime import datetime
from urllib.parse import quote

from purveyor_hooks import (
    Access,
    BadInput,
    Binding,
    Census,
    Client,
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
    Port,
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
from purveyor_mongodb import found, image, probing, tls, upgrades

PORT = 27017
IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]{0,62}"


@hookimpl
def service_type() -> ServiceType:
    return ServiceType(
        name="mongodb",
        label="MongoDB",
        description="Document database",
        default_image="gotempsh/mongodb-walg:8.0",
        color="#00684a",
        icon_url="/static/icons/mongodb.svg",
        ports=(Port(container=PORT),),
        naming=Naming(separator="_", limit=63),
        numbered_accounts=True,
        parameters=(
            Parameter(
                name="port", help="Port on 127.0.0.1.", kind="integer", generated="port", base=PORT
            ),
            Parameter(
                name="replica_set",
                help=(
                    "The name of a replica set of this one server, for change streams and "
                    "transactions; empty is none."
                ),
                default="",
                editable=False,
                pattern=r"[A-Za-z][A-Za-z0-9_-]{0,39}",
            ),
            certificates.SSL_MODE,
            Parameter(
                name="database",
                help="The database made at first start.",
                default="admin",
                editable=False,
                pattern=IDENTIFIER,
            ),
            Parameter(
                name="username",
                help="The administrator.",
                default="admin",
                editable=False,
                pattern=IDENTIFIER,
            ),
            Parameter(
                name="password",
                help="The administrator's password; no app ever gets it.",
                generated="password",
                length=24,
                editable=False,
                secret=True,
            ),
        ),
    )


@hookimpl
def data_major(image: Image) -> str:
    """The image's own MONGO_MAJOR, else the first two numbers of its tag."""
    if major := image.environment.get("MONGO_MAJOR"):
        return major
    tag = re.match(r"v?(\d+\.\d+)(?!\d)", image.parts.tag)
    if tag:
        return tag[1]
    if image.id:
        why = "it sets no MONGO_MAJOR and its tag begins with no version"
        raise BadInput(
            f"The MongoDB version of the image {image.reference} cannot be told: {why}.",
            remedy="Use an image whose tag begins with the version, such as mongo:8.0.",
            errors={"docker_image": why},
        )
    return ""


@hookimpl
def secrets(service: Service) -> dict[str, str]:
    """The key that the members of a replica set prove themselves with."""
    if not service.parameters["replica_set"] or "key" in service.secrets:
        return service.secrets
    return {**service.secrets, "key": random.token_hex(256)}


@hookimpl
def container(service: Service) -> ContainerSpec:
    return image.container(service)


@hookimpl
async def renew_certificate(service: Service, access: Access) -> None:
    from purveyor_mongodb import server

    await server.renew_certificate(service, access)


@hookimpl
async def ready(service: Service, access: Access) -> Health:
    from purveyor_mongodb import server

    return await server.ready(service, access)


@hookimpl
async def identity(service: Service, access: Access, create: bool) -> str:
    from purveyor_mongodb import server

    return await server.identity(service, access, create)


@hookimpl
async def retell(container: FoundContainer, read: Reader) -> Retold:
    return await found.retell(container, read)


@hookimpl
async def bind(service: Service, access: Access, binding: Binding) -> None:
    from purveyor_mongodb import accounts

    await accounts.bind(service, access, binding)


@hookimpl
async def unbind(service: Service, access: Access, binding: Binding) -> None:
    from purveyor_mongodb import accounts

    await accounts.unbind(service, access, binding)


@hookimpl
async def purge(service: Service, access: Access, binding: Binding) -> None:
    from purveyor_mongodb import accounts

    await accounts.purge(service, access, binding)


@hookimpl
def environment(service: Service, binding: Binding) -> list[Variable]:
    account, password, database = (
        quote(text, safe="") for text in (binding.account, binding.password, binding.resource)
    )
    port = service.port(PORT)
    # a user lives in the database that it may use; members of a replica set know each other by the
    # container's name
    options = f"authSource={database}"
    if service.parameters["replica_set"] and not service.ports:
        options += f"&replicaSet={service.parameters['replica_set']}"
    elif service.parameters["replica_set"]:
        options += "&directConnection=true"
    options += tls.asked(service)
    url = f"mongodb://{account}:{password}@{service.host}:{port}/{database}?{options}"
    return [
        Variable(name="MONGODB_URL", value=url, secret=True),
        Variable(name="MONGODB_HOST", value=service.host),
        Variable(name="MONGODB_PORT", value=str(port)),
        Variable(name="MONGODB_DATABASE", value=binding.resource),
        Variable(name="MONGODB_USERNAME", value=binding.account),
        Variable(name="MONGODB_PASSWORD", value=binding.password, secret=True),
        *certificates.variables(service, "MONGODB"),
    ]


@hookimpl
def client(service: Service) -> Client:
    """mongosh inside the container, else pymongo on this host. No password is an argument of any
    process."""
    account, password = (
        quote(service.parameters[name], safe="") for name in ("username", "password")
    )

    def url(host: str, port: int, encrypted: str) -> str:
        return (
            f"mongodb://{account}:{password}@{host}:{port}/admin?directConnection=true{encrypted}"
        )

    return Client(
        argv=(
            "mongosh",
            "--quiet",
            "--nodb",
            "--shell",
            "--eval",
            "db = connect(process.env.PURVEYOR_INSIDE)",
        ),
        python="import os, pymongo\nclient = pymongo.MongoClient(os.environ['PURVEYOR_HERE'])\ndb = client.admin\n"
        "print('client and db are connected; for example: client.list_database_names()')",
        environment={
            "PURVEYOR_INSIDE": url("127.0.0.1", PORT, tls.asked(service, certificates.AUTHORITIES)),
            "PURVEYOR_HERE": url(service.host, service.port(PORT), tls.unverified(service)),
        },
    )


@hookimpl
def probes(service: Service, binding: Binding) -> list[Probe]:
    return probing.probes(service, binding)


@hookimpl
async def census(service: Service, access: Access, binding: Binding | None) -> Census:
    from purveyor_mongodb import snapshot

    return await snapshot.census(service, access)


@hookimpl
async def backup(service: Service, access: Access, sink: Sink) -> Census:
    from purveyor_mongodb import snapshot

    return await snapshot.backup(service, access, sink)


@hookimpl
async def restore(
    service: Service, access: Access, source: Source, options: RestoreOptions
) -> tuple[Finding, ...]:
    from purveyor_mongodb import refill

    return await refill.restore(service, access, source, options)


@hookimpl
async def extract(source: Source, database: str, sink: Sink) -> None:
    from purveyor_mongodb import extraction

    await extraction.extract(source, database, sink)


@hookimpl
async def contents(source: Source, into: Contents) -> None:
    from purveyor_mongodb import telling

    await telling.contents(source, into)


@hookimpl
async def rotate(
    service: Service, access: Access, binding: Binding, until: datetime | None
) -> None:
    from purveyor_mongodb import accounts

    await accounts.rotate(service, access, binding, until)


@hookimpl
async def retire(service: Service, access: Access, binding: Binding) -> None:
    from purveyor_mongodb import accounts

    await accounts.retire(service, access, binding)


@hookimpl
async def rotate_administrator(service: Service, access: Access, previous: Service) -> None:
    from purveyor_mongodb import accounts

    await accounts.rotate_administrator(service, access, previous)


@hookimpl
def upgrade_plan(service: Service, image: Image) -> UpgradePlan:
    return upgrades.plan(service, image)


@hookimpl
def recognise(container: FoundContainer) -> Recognition | None:
    return found.recognise(container)


@hookimpl
async def adopt(service: Service, access: Access) -> Health:
    return await found.adopt(service, access)


@hookimpl
def exercise() -> Exercise:
    from purveyor_mongodb.apps import Documents

    return Documents()


@hookimpl
async def browse(
    service: Service, access: Access, path: tuple[str, ...], cursor: str, order: str
) -> Listing:
    from purveyor_mongodb import browsing

    return await browsing.browse(service, access, path, cursor)
