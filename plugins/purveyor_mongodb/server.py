"""The MongoDB server: the administrator's connection, and whether it serves."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient, ReturnDocument, WriteConcern
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from purveyor_hooks import Access, Health, Service
from purveyor_mongodb import tls

PORT = 27017
OWN_DATABASE = "purveyor"  # a project's database always has its environment in its name
TIMEOUT = 5000  # milliseconds
SELECTION = 1000  # of which for finding the server, where it is asked again and again
NOT_INITIATED = 94
REFUSED = (13, 18)  # Unauthorized, AuthenticationFailed


@asynccontextmanager
async def connection(
    service: Service, access: Access, selection: int = TIMEOUT
) -> AsyncIterator[Any]:
    """The administrator's client. `selection` is how many milliseconds it looks for the server."""
    address = access.address(PORT)
    with tls.driven(service) as encrypted:
        client: Any = AsyncMongoClient(
            address.host,
            address.port,
            username=service.parameters["username"],
            password=service.parameters["password"],
            authSource="admin",
            directConnection=True,
            retryWrites=False,
            serverSelectionTimeoutMS=selection,
            connectTimeoutMS=TIMEOUT,
            socketTimeoutMS=TIMEOUT,
            **encrypted,
        )
    try:
        yield client
    finally:
        await client.close()


async def renew_certificate(service: Service, access: Access) -> None:
    """Have the server read its file again; a pair that does not match is refused, and the old one
    stays."""
    async with connection(service, access) as client:
        await client.admin.command("rotateCertificates", 1)


def own(client: Any, name: str) -> Any:
    """A collection of ours, whose writes are on the disk when they are acknowledged."""
    return client[OWN_DATABASE].get_collection(name, write_concern=WriteConcern(w=1, j=True))


async def ready(service: Service, access: Access) -> Health:
    """Log in, ask for the version, write and read back; a replica set that is new is initiated."""
    from purveyor_mongodb import quota

    stage, version = "tcp", ""
    try:
        async with connection(service, access, SELECTION) as client:
            await client.admin.command("ping")
            stage = "login"
            version = str((await client.admin.command("buildInfo"))["version"])
            stage = "query"
            if service.parameters["replica_set"] and not await _leads(service, client):
                return Health(
                    healthy=False,
                    stage=stage,
                    version=version,
                    detail="The replica set is being initiated.",
                )
            mark = uuid.uuid4().hex
            # in one piece: another look may be made at the same time
            found = await own(client, "health").find_one_and_replace(
                {"_id": "health"},
                {"_id": "health", "mark": mark},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
            if found is None or found["mark"] != mark:
                return Health(
                    healthy=False,
                    stage=stage,
                    version=version,
                    detail="What was written does not come back.",
                )
            detail = await quota.put_in_force(service, client)
            return Health(healthy=True, stage="write", version=version, detail=detail)
    except OperationFailure as error:
        if error.code in REFUSED and stage == "tcp":
            return Health(
                healthy=False, stage="tcp", detail="The administrator's password is refused."
            )
        return Health(healthy=False, stage=stage, version=version, detail=reason(error))
    except ConnectionFailure as error:
        stage = "container" if stage == "tcp" else stage
        return Health(healthy=False, stage=stage, version=version, detail=reason(error))
    except PyMongoError as error:
        return Health(healthy=False, stage=stage, version=version, detail=reason(error))


def reason(error: Exception) -> str:
    """The first clause of an error, without the topology that the driver appends."""
    return (
        str(error).partition(", full error")[0].partition(", Timeout")[0].partition("\n")[0]
        or type(error).__name__
    )


async def _leads(service: Service, client: Any) -> bool:
    """Whether the server takes writes as the one member of its set; a set that is not there yet is
    initiated."""
    hello = await client.admin.command("hello")
    if hello.get("isWritablePrimary"):
        return True
    if service.imported:
        return False
    try:
        await client.admin.command("replSetGetStatus")
    except OperationFailure as error:
        if error.code != NOT_INITIATED:
            raise
        members = [{"_id": 0, "host": f"{service.host}:{PORT}"}]
        await client.admin.command(
            "replSetInitiate", {"_id": service.parameters["replica_set"], "members": members}
        )
    return False


async def identity(service: Service, access: Access, create: bool) -> str:
    """A document of our own database."""
    async with connection(service, access) as client:
        marks = own(client, "identity")
        if create and await marks.find_one({"_id": "identity"}) is None:
            await marks.insert_one({"_id": "identity", "mark": uuid.uuid4().hex})
        found = await marks.find_one({"_id": "identity"})
        return str(found["mark"]) if found else ""
