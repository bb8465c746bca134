"""The service type ``mongodb``: one database and one user for each project and environment.

MongoDB 6 and later, by the conventions of its official image, and servers whose images follow them.
The driver is imported when it is first needed: most installations have no MongoDB.
"""

import re
import secrets as random
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from purveyor_hooks import (
    BadInput,
    Binding,
    Client,
    Exercise,
    Image,
    Naming,
    Parameter,
    Port,
    Service,
    ServiceType,
    Variable,
    bases,
    certificates,
    implemented_by,
)
from purveyor_mongodb import tls
from purveyor_mongodb.limits import STORAGE

PORT = 27017
IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]{0,62}"


class MongoDB(
    bases.Type,
    bases.Links,
    bases.Backups,
    bases.Upgrades,
    bases.Import,
    bases.Retelling,
    bases.Browsing,
):
    """What the type does."""

    def service_type(self) -> ServiceType:
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
                    name="port",
                    help="Port on 127.0.0.1.",
                    kind="integer",
                    generated="port",
                    base=PORT,
                ),
                Parameter(
                    name="replica_set",
                    help=(
                        "The name of a replica set of this one server, for change streams and "
                        "transactions. Leave it empty for a standalone server."
                    ),
                    default="",
                    editable=False,
                    pattern=r"[A-Za-z][A-Za-z0-9_-]{0,39}",
                ),
                certificates.SSL_MODE,
                STORAGE,
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

    def data_major(self, image: Image, parameters: Mapping[str, Any]) -> str:
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

    def secrets(self, service: Service) -> dict[str, str]:
        """The key that the members of a replica set prove themselves with."""
        if not service.parameters["replica_set"] or "key" in service.secrets:
            return service.secrets
        return {**service.secrets, "key": random.token_hex(256)}

    def environment(self, service: Service, binding: Binding) -> list[Variable]:
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

    def client(self, service: Service) -> Client:
        """mongosh inside the container, else pymongo on this host. No password is an argument of any
        process."""
        account, password = (
            quote(service.parameters[name], safe="") for name in ("username", "password")
        )

        def url(host: str, port: int, encrypted: str) -> str:
            return f"mongodb://{account}:{password}@{host}:{port}/admin?directConnection=true{encrypted}"

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
                "PURVEYOR_INSIDE": url(
                    "127.0.0.1", PORT, tls.asked(service, certificates.AUTHORITIES)
                ),
                "PURVEYOR_HERE": url(service.host, service.port(PORT), tls.unverified(service)),
            },
        )

    def exercise(self) -> Exercise:
        from purveyor_mongodb.apps import Documents

        return Documents()

    # what asks the server, or is long: in a module of its own, imported when it is called
    container = implemented_by("purveyor_mongodb.image:container")
    renew_certificate = implemented_by("purveyor_mongodb.server:renew_certificate")
    ready = implemented_by("purveyor_mongodb.server:ready")
    identity = implemented_by("purveyor_mongodb.server:identity")
    retell = implemented_by("purveyor_mongodb.found:retell")
    bind = implemented_by("purveyor_mongodb.accounts:bind")
    unbind = implemented_by("purveyor_mongodb.accounts:unbind")
    purge = implemented_by("purveyor_mongodb.accounts:purge")
    probes = implemented_by("purveyor_mongodb.probing:probes")
    census = implemented_by("purveyor_mongodb.snapshot:census")
    backup = implemented_by("purveyor_mongodb.snapshot:backup")
    restore = implemented_by("purveyor_mongodb.refill:restore")
    extract = implemented_by("purveyor_mongodb.extraction:extract")
    contents = implemented_by("purveyor_mongodb.telling:contents")
    rotate = implemented_by("purveyor_mongodb.accounts:rotate")
    retire = implemented_by("purveyor_mongodb.accounts:retire")
    rotate_administrator = implemented_by("purveyor_mongodb.accounts:rotate_administrator")
    upgrade_plan = implemented_by("purveyor_mongodb.upgrades:upgrade_plan")
    recognise = implemented_by("purveyor_mongodb.found:recognise")
    adopt = implemented_by("purveyor_mongodb.found:adopt")
    browse = implemented_by("purveyor_mongodb.browsing:browse")


plugin = MongoDB()
