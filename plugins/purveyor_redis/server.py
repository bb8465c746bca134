"""The Redis server: its container, the administrator's connection, and whether it serves."""

import functools
import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import Any
from urllib.parse import quote

import redis.asyncio
from redis.driver_info import DriverInfo
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from purveyor_hooks import (
    OF_ENTRY_POINTS,
    Access,
    Certificate,
    ContainerSpec,
    File,
    Health,
    Limits,
    Mount,
    Parameter,
    Port,
    Service,
    certificates,
)

PORT = 6379
OWN_DATABASE = 16  # beyond what projects get: no project's user can select it
# a server that somebody else configured has 16: its last one is ours, and no project's
LAST_OF_OTHERS = 15
CONFIG_FILE = "/etc/purveyor/redis.conf"
USERS_FILE = "/data/users.acl"
IDENTITY_KEY = "purveyor:identity"
HEALTH_KEY = "purveyor:health"
TIMEOUT = 5.0

OWN_KEYS = "purveyor:"  # what ours begin with
DATABASES = 129  # what an imported server kept in a high one has room; each takes 4 KB
SETTINGS_FILE = "/data/purveyor-settings.conf"
MAXMEMORY = Parameter(
    name="maxmemory",
    help=(
        "How much memory its data may take, such as 512mb or 4gb, from 8mb; 0 is no limit. "
        "When it is full, writes are refused."
    ),
    default="1gb",
    pattern=r"0|(?:[89]|[1-9][0-9]{1,6})mb|[1-9][0-9]{0,3}gb",
)
DIVIDED, OPEN = "divided", "open"
CHANNELS = Parameter(
    name="channels",
    help=(
        "How environments are divided. With open, each has a server process of its own, with all "
        "channels of pub/sub and all numbers. With divided, one server has a database number for "
        "each, 15 at most, and channels are divided by their names' beginning: frameworks that "
        "name channels themselves (Celery, Bull, Socket.IO, channels_redis) fail there."
    ),
    default=OPEN,
    former=DIVIDED,
    editable=False,
    choices=(OPEN, DIVIDED),
)
PROJECT_MAXMEMORY = Parameter(
    name="project_maxmemory",
    help=(
        "How much memory the data of one environment may take where each has its own server, "
        "such as 64mb or 1gb, from 8mb."
    ),
    default="256mb",
    pattern=r"(?:[89]|[1-9][0-9]{1,6})mb|[1-9][0-9]{0,3}gb",
)
POLICY = Parameter(
    name="maxmemory_policy",
    help="What an environment's own server does when it is full: refuse writes, or let go of keys.",
    default="noeviction",
    choices=("noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru",
    "volatile-lfu", "volatile-random",
             "volatile-ttl"),
)  # fmt: skip
# bytes that the container may take besides: scripts, buffers, what maxmemory does not count
BESIDES = 2**29
UNITS = {"mb": 2**20, "gb": 2**30}

TLS_PORT = 6380  # beside the plain one, which has TLS alone where plain text is refused
PAIR = "/etc/purveyor/server.pem"
AUTHORITIES = "/etc/purveyor/ca.crt"
OWNERS = ("redis", "valkey")

# Volumes whose data is divided: a server for each environment, of the number of its binding, on a
# port of that number.
LAYOUT = "of projects"
FIRST_SLOT, LAST_SLOT, LAST_SERVER = 1, 15, 2999
SERVERS, ENCRYPTED = 7000, 10_000  # number 3 is on port 7003, with TLS on 17003
OURS = "/etc/purveyor"
LAUNCHER_FILE, PROJECT_CONFIG_FILE = f"{OURS}/redis-launcher", f"{OURS}/project.conf"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUN = "/run/redis-projects"

OF_SERVER = 8  # processes and threads: five, a keeper, and what asks or writes the data anew

PROJECT_CONFIG = """\
protected-mode no
maxclients 1000
notify-keyspace-events AKE
client-output-buffer-limit normal 32mb 16mb 30
client-output-buffer-limit pubsub 32mb 8mb 60
client-query-buffer-limit 64mb
include /data/purveyor-settings*.conf
databases 16
appendonly yes
save ""
sanitize-dump-payload yes
repl-diskless-sync-delay 0
maxmemory {maxmemory}
maxmemory-clients 25%
"""

CONFIG = f"""\
port {{plain}}
tls-port {{encrypted}}
tls-cert-file {PAIR}
tls-key-file {PAIR}
tls-auth-clients no
protected-mode no
dir /data
aclfile {USERS_FILE}
databases {{databases}}
appendonly yes
appendfsync everysec
save 3600 1 300 100 60 10000
sanitize-dump-payload yes
repl-diskless-sync-delay 0
include /data/purveyor-settings*.conf
maxmemory {{maxmemory}}
maxmemory-clients 25%
"""


def tool(service: Service, suffix: str) -> str:
    """``redis-server`` or ``valkey-server``, and so on, as the image has it."""
    flavour = (
        "valkey"
        if "valkey" in service.image.reference or "VALKEY_VERSION" in service.image.environment
        else "redis"
    )
    return f"{flavour}-{suffix}"


def hash_password(password: str) -> str:
    """A password as ACL rules take it without showing it."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()


def maxmemory(service: Service) -> int:
    """Its limit in bytes; 0 is none. A service from before there was one has none until it is given
    one."""
    return _bytes(str(service.parameters.get(MAXMEMORY.name, "0")))


def _bytes(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]] if text != "0" else 0


def is_divided(service: Service) -> bool:
    """Whether each environment has a server of its own."""
    return service.major == LAYOUT


def opens(parameters: Mapping[str, Any]) -> bool:
    """Whether a service made with these has all channels for each: a server for each environment,
    or, imported, one project alone. One from before there was the parameter does not."""
    return bool(parameters.get(CHANNELS.name, CHANNELS.former) == OPEN)


def notes(service: Service) -> list[str]:
    """What is true of this one, be it there or about to be made."""
    told = []
    if not opens(service.parameters):
        remedy = (
            f"purveyor upgrade {service.slug} -p channels=open gives each environment a server "
            "process of its own"
        )
        if service.imported:
            remedy = "make a Redis of ours: purveyor create redis NAME"
        told.append(
            "Channels of pub/sub are not part of a Redis database: each project may use those that "
            "begin with its REDIS_USERNAME and a colon. For projects that need all, for Celery, "
            f"Bull or Socket.IO: {remedy}."
        )
    if service.imported:
        told.append(
            "Database 0 has to stay empty: every connection begins there. Its database 15 is "
            "Purveyor's own."
        )
    return told


def port_of(number: int) -> int:
    """Where the server of a binding listens in the container."""
    return SERVERS + number


def project_maxmemory(service: Service) -> int:
    """The limit of one environment's server, in bytes; never more than that of all together."""
    wanted, whole = (
        _bytes(str(service.parameters.get(PROJECT_MAXMEMORY.name, PROJECT_MAXMEMORY.default))),
        maxmemory(service),
    )
    return min(wanted, whole) if whole else wanted


def container(service: Service, databases: int = DATABASES) -> ContainerSpec:
    """The official images' conventions; users are kept in a file of the volume, the first one
    seeded.

    The container may take twice the data, for a fork that writes it down or a restore, and
    something for what is not counted: a script that fills its memory ends this server, never the
    host."""
    limit = maxmemory(service)
    several = is_divided(service)
    owner = f"user default on {hash_password(service.parameters['password'])} ~* &* +@all\n"
    return ContainerSpec(
        image=service.image.reference,
        entrypoint=(LAUNCHER_FILE,) if several else (),
        command=(tool(service, "server"), CONFIG_FILE),
        environment=_of_launcher(service) if several else {},
        mount=Mount(target="/data"),
        ports=(Port(container=PORT),),
        files=(
            File(path=CONFIG_FILE, content=_config(service, databases)),
            File(path=USERS_FILE, content=owner, mode=0o600, seed=True),
            *(_files(service) if several else ()),
        ),
        evidence=(USERS_FILE, "/data/appendonlydir/appendonly.aof.manifest"),
        limits=Limits(
            memory=2 * limit + BESIDES if limit else None,
            **({"pids": (LAST_SERVER + 1) * OF_SERVER} if several else {}),
        ),
        stop_timeout=60,
        certificate=Certificate(
            file=PAIR, owners=OWNERS, port=PORT if certificates.demanded(service) else TLS_PORT
        ),
        user="0" if several else "",
        # the entry point of Redis 8 empties the bounding set as well; the launcher stops servers of
        # other users
        capabilities=(*OF_ENTRY_POINTS, "KILL" if several else "SETPCAP"),
        read_only=True,
        scratch=("/tmp", *([RUN] if several else [])),  # noqa: S108 - in the container
    )


def _files(service: Service) -> tuple[File, ...]:
    """What a container has in which each environment has a server of its own."""
    script = resources.files("purveyor_redis").joinpath("launcher.sh").read_text()
    config = PROJECT_CONFIG.format(maxmemory=project_maxmemory(service))
    policy = service.parameters.get(POLICY.name, POLICY.default)
    if policy != POLICY.default:  # else one that came with a backup is as it was
        config += f"maxmemory-policy {policy}\n"
    return File(path=LAUNCHER_FILE, content=script, mode=0o755), File(
        path=PROJECT_CONFIG_FILE, content=config
    )


def _of_launcher(service: Service) -> dict[str, str]:
    """What each server may take in all, in KB of addresses, and how it shows its certificate."""
    kilobytes = (2 * project_maxmemory(service) + BESIDES) // 1024
    return {
        # the launcher by its name, as in containers of before, where it was elsewhere
        "PATH": f"{service.image.environment.get('PATH', PATH)}:{OURS}",
        "PROJECT_KIB": str(kilobytes),
        "PROJECT_TLS": "only" if certificates.demanded(service) else "beside",
    }


def _config(service: Service, databases: int) -> str:
    plain, encrypted = (0, PORT) if certificates.demanded(service) else (PORT, TLS_PORT)
    return CONFIG.format(
        plain=plain, encrypted=encrypted, databases=databases, maxmemory=maxmemory(service)
    )


def cli(service: Service, host: str = "", port: int = PORT) -> tuple[str, ...]:
    """redis-cli where there is the file of authorities: in the service's container, or a probe's.
    Of a certificate it verifies who signed it, and never the name."""
    where = ("-h", host, "-p", str(port)) if host else ()
    return (
        tool(service, "cli"),
        *(("--tls", "--cacert", AUTHORITIES) if certificates.verifies(service) else ()),
        *where,
    )


def own_database(service: Service) -> int:
    """Where our own marks are."""
    return LAST_OF_OTHERS if service.imported else OWN_DATABASE


def login(service: Service) -> dict[str, str]:
    """The administrator's password as redis-cli takes it."""
    password = service.parameters["password"]
    return {"REDISCLI_AUTH": password} if password else {}


@functools.cache
def _driver() -> DriverInfo:
    """What the driver tells a server of itself; left alone it reads its package's metadata for each
    client: 3 ms."""
    return DriverInfo()


def _encrypted(service: Service) -> dict[str, Any]:
    """How the driver speaks TLS with a server that refuses plain text."""
    if not certificates.demanded(service):
        return {}
    if service.tls is None:
        return {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return {"ssl": True, "ssl_ca_data": service.tls.authorities, "ssl_check_hostname": True}


def asked(service: Service, host: str) -> str:
    """What an address of TLS says of verifying, for redis-py, Celery and kombu; clients of Node.js
    read it nowhere. At the container's own address, which changes, the certificate's authority is
    verified and no name."""
    if service.tls is None:
        return ""
    unnamed = "" if host == service.host else "&ssl_check_hostname=false"
    return f"?ssl_cert_reqs=required&ssl_ca_certs={quote(service.tls.file, safe='/')}{unnamed}"


async def renew_certificate(service: Service, access: Access) -> None:
    """Have the server read the file again: both names in one call, for a pair that does not match
    is refused."""
    async with connection(service, access) as client:
        await client.execute_command("CONFIG", "SET", "tls-cert-file", PAIR, "tls-key-file", PAIR)


@asynccontextmanager
async def connection(
    service: Service, access: Access, database: int | None = None
) -> AsyncIterator[Any]:
    """The administrator's connection to one database, or to our own. Text that is no UTF-8 comes
    and goes as surrogates."""
    address = access.address(PORT)
    password = service.parameters["password"]
    client = redis.asyncio.Redis(
        host=address.host,
        port=address.port,
        db=own_database(service) if database is None else database,
        username="default" if password else None,
        password=password or None,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        decode_responses=True,
        encoding_errors="surrogateescape",
        single_connection_client=True,
        driver_info=_driver(),
        **_encrypted(service),
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
    )
    try:
        yield client
    finally:
        await client.aclose()


async def ready(service: Service, access: Access) -> Health:
    """Log in, ask for the version, write and read back. One that is full serves: whoever filled it
    must not keep others from backing it up or giving it more memory."""
    stage, version = "tcp", ""
    try:
        async with connection(service, access) as client:
            await client.ping()
            stage = "login"
            info = await client.info("server")
            version = str(info.get("valkey_version") or info.get("redis_version", ""))
            stage = "query"
            mark = uuid.uuid4().hex
            # in one piece: another look may be made at the same time
            async with client.pipeline(transaction=True) as looked:
                looked.set(HEALTH_KEY, mark, ex=60)
                looked.get(HEALTH_KEY)
                _, found = await looked.execute()
            if found != mark:
                return Health(
                    healthy=False,
                    stage=stage,
                    version=version,
                    detail="What was written does not come back.",
                )
            return Health(healthy=True, stage="write", version=version)
    except OutOfMemoryError:
        return Health(
            healthy=True,
            stage="write",
            version=version,
            detail="It is full: it takes no more data (maxmemory).",
        )
    except BusyLoadingError:
        return Health(
            healthy=False, stage="login", version=version, detail="The server is loading its data."
        )
    except AuthenticationError:
        return Health(
            healthy=False,
            stage="tcp",
            version=version,
            detail="The administrator's password is refused.",
        )
    except ResponseError as error:
        detail = await _end_script(service, access) if str(error).startswith("BUSY") else str(error)
        return Health(healthy=False, stage=stage, version=version, detail=detail)
    except (RedisError, OSError, TimeoutError) as error:
        stage = "container" if stage == "tcp" else stage
        detail = str(error).partition("\n")[0] or type(error).__name__
        return Health(healthy=False, stage=stage, version=version, detail=detail)


async def _end_script(service: Service, access: Access) -> str:
    """A script that has run for longer than the server waits keeps everybody else out: it is ended,
    unless it has written."""
    said = "A script runs without end, and nobody else is answered."
    if service.imported:
        return f"{said} End it: SCRIPT KILL."
    try:
        # it may not select any other meanwhile
        async with connection(service, access, 0) as client:
            for kind in ("SCRIPT", "FUNCTION"):
                with suppress(ResponseError):
                    await client.execute_command(kind, "KILL")
                    return f"{said} It was ended."
    except (RedisError, OSError, TimeoutError):
        pass
    return f"{said} It has written, so that only a restart ends it: purveyor restart {service.slug}"


async def identity(service: Service, access: Access, create: bool) -> str:
    """A key of our own database; written through to the disk before it counts."""
    async with connection(service, access) as client:
        found = await client.get(IDENTITY_KEY)
        if found is None and create:
            await client.config_set("appendfsync", "always")
            await client.set(IDENTITY_KEY, uuid.uuid4().hex, nx=True)
            await client.config_set("appendfsync", "everysec")
            found = await client.get(IDENTITY_KEY)
        return found or ""
