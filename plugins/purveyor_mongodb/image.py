"""The MongoDB container: the official image's conventions."""

from purveyor_hooks import ContainerSpec, File, Limits, Mount, Port, Service
from purveyor_mongodb import tls

PORT = 27017
DATA = "/data/db"
THREADS = 16_384  # one for each connection, and its own
PASSWORD_FILE = "/etc/purveyor/mongodb-password"
KEY_FILE = "/etc/purveyor/mongodb-key"
OWN_KEY = "/etc/purveyor/own/key"

# The server wants its key readable by itself alone, and its user's number differs from image to
# image.
ENTRYPOINT = (
    "/bin/sh",
    "-c",
    f"mkdir -p /etc/purveyor/own && cp {KEY_FILE} {OWN_KEY} && chmod 400 {OWN_KEY} "
    '&& chown -R mongodb /etc/purveyor/own && exec docker-entrypoint.sh "$@"',
    "docker-entrypoint.sh",
)


def container(service: Service) -> ContainerSpec:
    """The container to run; with a replica set the server also gets a key."""
    values = service.parameters
    command = ["mongod", "--auth", "--bind_ip_all", *tls.options(service)]
    files = [File(path=PASSWORD_FILE, content=values["password"], mode=0o444)]
    entrypoint: tuple[str, ...] = ()
    if values["replica_set"]:
        command += ["--replSet", values["replica_set"], "--keyFile", OWN_KEY]
        files.append(File(path=KEY_FILE, content=service.secrets["key"], mode=0o400))
        entrypoint = ENTRYPOINT
    return ContainerSpec(
        image=service.image.reference,
        entrypoint=entrypoint,
        command=tuple(command),
        environment={
            "MONGO_INITDB_ROOT_USERNAME": values["username"],
            "MONGO_INITDB_ROOT_PASSWORD_FILE": PASSWORD_FILE,
            "MONGO_INITDB_DATABASE": values["database"],
        },
        mount=Mount(target=DATA),
        ports=(Port(container=PORT),),
        files=tuple(files),
        evidence=(f"{DATA}/WiredTiger", f"{DATA}/WiredTiger.wt"),
        limits=Limits(pids=THREADS),
        stop_timeout=60,
        certificate=tls.CERTIFICATE,
        read_only=True,
        scratch=("/tmp",),  # noqa: S108 - in the container: its socket
    )
