"""MongoDB containers that somebody else made: told by image and environment, and logged in to
before anything else."""

import itertools
import re

from purveyor_hooks import Access, FoundContainer, Health, Reader, Recognition, Retold, Service
from purveyor_mongodb import tls
from purveyor_mongodb.image import KEY_FILE, PASSWORD_FILE

NAMES = re.compile(
    r"mongo(db)?(-(community-server|enterprise-server|walg))?|percona-server-mongodb|ferretdb"
)


def recognise(container: FoundContainer) -> Recognition | None:
    """The images' own names, or the version that the official one leaves in the environment."""
    environment = container.environment
    if not NAMES.fullmatch(container.image_name) and not {"MONGO_VERSION", "MONGO_MAJOR"} & set(
        environment
    ):
        return None
    if container.image_name == "mongo-express":
        return None
    suggested = {
        "username": environment.get("MONGO_INITDB_ROOT_USERNAME")
        or environment.get("MONGODB_INITDB_ROOT_USERNAME"),
        "password": environment.get("MONGO_INITDB_ROOT_PASSWORD")
        or environment.get("MONGODB_INITDB_ROOT_PASSWORD"),
    }
    version = environment.get("MONGO_VERSION") or container.tag
    found = {name: value for name, value in suggested.items() if value}
    return Recognition(service_type="mongodb", version=version.partition("-")[0], suggested=found)


async def retell(container: FoundContainer, read: Reader) -> Retold:
    """Names from the environment, the replica set from the command, password and key from the files
    that they are given by."""
    words = dict(itertools.pairwise(container.command))
    parameters = {
        "username": container.environment.get("MONGO_INITDB_ROOT_USERNAME"),
        "database": container.environment.get("MONGO_INITDB_DATABASE"),
        "password": await read(PASSWORD_FILE),
        "replica_set": words.get("--replSet", ""),
        "ssl_mode": "require" if words.get(tls.MODE) == tls.DEMANDED else "disable",
    }
    key = await read(KEY_FILE) if parameters["replica_set"] else None
    known = {name: value for name, value in parameters.items() if value is not None}
    return Retold(parameters=known, secrets={"key": key} if key else {})


async def adopt(service: Service, access: Access) -> Health:
    """Log in, and see that users may be looked at: whoever may not has no right to make them
    either."""
    from pymongo.errors import OperationFailure, PyMongoError

    from purveyor_mongodb.server import connection, reason

    try:
        async with connection(service, access) as client:
            await client.admin.command("usersInfo", 1)
            version = str((await client.admin.command("buildInfo"))["version"])
            return Health(healthy=True, stage="query", version=version)
    except OperationFailure as error:
        return Health(healthy=False, stage="login", detail=reason(error))
    except PyMongoError as error:
        return Health(healthy=False, stage="tcp", detail=reason(error))
