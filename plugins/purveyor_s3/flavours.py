"""The three servers: how each is recognised and started."""

import re
from collections.abc import Callable
from typing import NamedTuple

from purveyor_hooks import BadInput, ContainerSpec, File, Mount, Parameter, Port, Service, quotas
from purveyor_hooks.references import parts_of
from purveyor_s3 import encrypted, tls

PORT, CONSOLE = 9000, 9001
REGION = "us-east-1"
DATA = "/data"
SCRATCH = ("/tmp",)  # noqa: S108 - in the container
AUTO = "auto"
RUSTFS, MINIO, SEAWEEDFS = "rustfs", "minio", "seaweedfs"
ACCESS_FILE, SECRET_FILE = "/etc/purveyor/s3-access-key", "/etc/purveyor/s3-secret-key"
MASTER_FILE, MASTER_KEY = "/etc/purveyor/s3-master-key", "sse_master_key"
PORTS = (Port(container=PORT), Port(container=CONSOLE, parameter="console_port"))
STORAGE = Parameter(
    name="project_storage",
    help=(
        "How much one environment may store, such as 500mb or 20gb, older versions and parts of "
        "uploads included; 0 is no limit. At 80 percent it is told, at 100 percent writes are "
        "refused until something is deleted."
    ),
    default="0",
    pattern=quotas.SIZE,
)
NAMES = re.compile(r"(?P<rustfs>rustfs)|(?P<minio>minio)|(?P<seaweedfs>seaweed)")


class Flavour(NamedTuple):
    """One server: its name and its container."""

    name: str
    container: Callable[[Service], ContainerSpec]


def named(reference: str) -> str | None:
    """The server that an image's name tells."""
    parts = parts_of(reference)
    found = NAMES.search(f"{parts.path}:{parts.tag}")
    return found.lastgroup if found else None


def of(service: Service) -> Flavour:
    """The service's server. Raises `BadInput` when neither its parameter nor its image's name
    tells."""
    chosen = service.parameters["flavour"]
    name = named(service.image.reference) if chosen == AUTO else chosen
    if name is None:
        why = "its name holds none of rustfs, minio, seaweedfs"
        raise BadInput(
            f"Could not determine the S3 server of image {service.image.reference}: {why}.",
            remedy="Say it: -p flavour=minio (or rustfs, seaweedfs).",
            errors={"flavour": "needed for this image", "docker_image": why},
        )
    return FLAVOURS[name]


def _credentials(service: Service) -> tuple[File, ...]:
    values = service.parameters
    return (
        File(path=ACCESS_FILE, content=values["access_key"], mode=0o444),
        File(path=SECRET_FILE, content=values["secret_key"], mode=0o444),
    )


def _rustfs(service: Service) -> ContainerSpec:
    """The image's own entry point; its keys come from files, so that `docker inspect` does not show
    them."""
    named, files = (
        {"RUSTFS_ACCESS_KEY": ACCESS_FILE, "RUSTFS_SECRET_KEY": SECRET_FILE},
        _credentials(service),
    )
    # what was made without one gets it with its next update
    if master := service.secrets.get(MASTER_KEY):
        named["RUSTFS_SSE_S3_MASTER_KEY"] = MASTER_FILE
        files = (*files, File(path=MASTER_FILE, content=master, mode=0o444))
    watched = {  # it looks at its certificate again after so many seconds
        "RUSTFS_TLS_PATH": encrypted.FOLDER,
        "RUSTFS_TLS_RELOAD_ENABLE": "true",
        "RUSTFS_TLS_RELOAD_INTERVAL": "5",
    }
    exported = " ".join(f'{name}="$(cat {path})"' for name, path in named.items())
    launch = f'export {exported}; exec /entrypoint.sh "$@"'
    return ContainerSpec(
        image=service.image.reference,
        entrypoint=("/bin/sh", "-c", launch, "/entrypoint.sh"),
        command=("rustfs",),
        environment={
            "RUSTFS_VOLUMES": DATA,
            "RUSTFS_ADDRESS": f":{PORT}",
            "RUSTFS_CONSOLE_ENABLE": "true",
            "RUSTFS_CONSOLE_ADDRESS": f":{CONSOLE}",
            "RUSTFS_CHECK_UPDATE": "false",  # a managed service calls nobody
            "RUSTFS_KMS_ENFORCE_SSE_KEY_POLICY": "true",
            **(watched if encrypted.on(service) else {}),
        },
        mount=Mount(target=DATA),
        ports=PORTS,
        files=files,
        evidence=(f"{DATA}/.rustfs.sys/format.json",),
        certificate=encrypted.certificate(
            service, PORT, "rustfs_key.pem", "rustfs_cert.pem", ("rustfs",)
        ),
        read_only=True,
        scratch=SCRATCH,
    )


def _minio(service: Service) -> ContainerSpec:
    return ContainerSpec(
        image=service.image.reference,
        command=(
            *("server", DATA, "--address", f":{PORT}", "--console-address", f":{CONSOLE}"),
            *(("--certs-dir", encrypted.FOLDER) if encrypted.on(service) else ()),
        ),
        environment={"MINIO_ROOT_USER_FILE": ACCESS_FILE, "MINIO_ROOT_PASSWORD_FILE": SECRET_FILE},
        mount=Mount(target=DATA),
        ports=PORTS,
        files=_credentials(service),
        evidence=(f"{DATA}/.minio.sys/format.json",),
        certificate=encrypted.certificate(service, PORT, "private.key", "public.crt"),
        read_only=True,
        scratch=SCRATCH,
    )


S3_CONFIG, ADMIN_OPTIONS = "/etc/purveyor/s3.json", "/etc/purveyor/admin.options"
SEAWEED_SERVER = (
    "-volume=false", "-filer=true", "-dir=/data", "-ip=127.0.0.1", "-master.telemetry=false",
    "-master.volumeSizeLimitMB=256",
    # nobody else to elect
    "-master.electionTimeout=300ms", "-master.heartbeatInterval=100ms",
    # master, filer and volume server ask for no password: they stay inside the container
    "-ip.bind=127.0.0.1",
    "-s3", "-s3.ip.bind=0.0.0.0", f"-s3.port={PORT}", f"-s3.config={S3_CONFIG}",
    "-s3.iam.readOnly=false",
    "-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0",
    "-s3.port.lance=0",
)  # fmt: skip
# The volume server is a process of its own, for it has to outlive the filer, which writes to it
# when it ends: in one process their order is by chance, and in the wrong one the filer waits until
# it is killed. The console is a third one; when it ends, storage goes on.
SEAWEED_LAUNCH = f"""
end() {{
  trap '' TERM INT
  kill $console 2>/dev/null
  kill $server 2>/dev/null; wait $server
  kill $volume 2>/dev/null; wait $volume
  exit "$1"
}}
trap 'end 0' TERM INT
mkdir -p /data/admin
weed server "$@" & server=$!
weed admin -options={ADMIN_OPTIONS} & console=$!
sleep 1 & wait $!  # a volume server that finds no leader yet tries again after five seconds
weed volume -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -mserver=127.0.0.1:9333 -max=0 -preStopSeconds=0 & volume=$!
while kill -0 $server 2>/dev/null && kill -0 $volume 2>/dev/null; do sleep 1 & wait $!; done
end 1
"""


def _seaweedfs(service: Service) -> ContainerSpec:
    """All parts in one container. Those that speak gRPC among themselves ask each other for our
    certificate."""
    encrypted.refuse(service)
    values = service.parameters
    admin = {
        "master": "127.0.0.1:9333", "ip": "0.0.0.0", "port": CONSOLE,  # noqa: S104
        "dataDir": "/data/admin",
        "adminUser": values["access_key"], "adminPassword": values["secret_key"],
    }  # fmt: skip
    options = "".join(f"{name}={value}\n" for name, value in admin.items())
    return ContainerSpec(
        image=service.image.reference,
        entrypoint=("/bin/sh", "-c", SEAWEED_LAUNCH, "weed"),
        command=SEAWEED_SERVER,
        # each bucket has files of its own, of whose size the disk gives room for so many: one for a
        # bucket and not seven
        environment={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
        mount=Mount(target=DATA),
        ports=PORTS,
        files=(
            File(
                path=S3_CONFIG,
                content=tls.identities(values["access_key"], values["secret_key"]),
                mode=0o600,
            ),
            File(path=ADMIN_OPTIONS, content=options, mode=0o600),
            *tls.files(service.secrets),
        ),
        evidence=(f"{DATA}/vol_dir.uuid", f"{DATA}/filerldb2"),
        read_only=True,
        scratch=SCRATCH,
    )


def reach(service: Service) -> tuple[str, ...]:
    """A command that reaches a server from another container of its image: any answer over HTTP
    will do."""
    host, url = service.host, f"{encrypted.url(service, service.host, PORT)}/"
    tools = (
        f"command -v bash >/dev/null && bash -c 'exec 3<>/dev/tcp/{host}/{PORT}'",
        f"curl -sk -o /dev/null {url}",
        f"wget -q -S --no-check-certificate -O /dev/null {url} 2>&1 | grep -q HTTP/",
    )
    return ("sh", "-c", f"({' || '.join(tools)}) && echo open")


FLAVOURS: dict[str, Flavour] = {
    RUSTFS: Flavour(RUSTFS, _rustfs),
    MINIO: Flavour(MINIO, _minio),
    SEAWEEDFS: Flavour(SEAWEEDFS, _seaweedfs),
}
