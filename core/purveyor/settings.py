"""The settings of an installation: one small TOML file in the state directory, and a few
variables."""

import ipaddress
from codecs import BOM_UTF8
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from purveyor.docker import capabilities
from purveyor.kernel.config import address_of
from purveyor_hooks import BadInput

FILE = "settings.toml"


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"
):
    """What the person who runs the host may choose. Each has a default that works.

    - namespace: the name of the Docker network, and what container and volume names begin with.
    - network-range: the addresses of the networks that apps are on, a private range such as
      10.213.0.0/16, one in which nobody else on this host's networks is; empty is one that nobody
      uses when the first is made.
    - listen: the address and port of the HTTP API.
    - api-url: where apps reach the HTTP API, such as https://purveyor.example.com; empty is the
      daemon's own address on the containers' network, where it then listens too.
    - default-images: service type -> image, instead of the type's own default.
    - volumes: the folder that holds the data of all services; empty is `volumes` in the state
      directory.
    - port-offset: added to a type's first port when one is chosen, 0 to 40000: for hosts that run
      servers of their own.
    - ssl-mode: TLS of services that are created without saying how: disable, prefer, require,
      verify-ca or verify-full.
    - self-repair: "on" starts again what should run and was stopped, killed, paused, removed or
      taken from the network by somebody else, later and later while it does not stay up, and says
      so; "off" only says so.
    - health-interval: seconds between two health checks of a running service.
    - ready-timeout: seconds that a started service may take until it serves.
    - pull-timeout: seconds without progress after which a pull is given up.
    - backups: the folder for backups that go to no bucket; empty is `backups` in the state
      directory.
    - encrypt-backups: seal every backup with the key in `backup.key` of the state directory, made
      when first needed.
    - stall-timeout: seconds without progress after which a backup, restore or upgrade is given up.
    - archive-interval: seconds between two looks at what continuous archiving has written down.
    - archive-queue: MB that wait at most while the place of an archive cannot be reached; then
      archiving ends, and says so.
    - old-data-days: days for which the data from before a restore or an upgrade is kept at least.
    - connections: how many connections the HTTP API has at most, 16 to 65536, and as many more
      where only containers come; a quarter of them for one peer, or for all apps of a project.
      Fewer when the system gives fewer file handles.
    - history-days: days for which events, operations that have ended and webhook deliveries are
      kept, 1 to 3650.
    - history-events: events that are kept at most, 1000 to 10000000; an operation goes with its
      events.
    - app-memory: MB of memory that an app has at most, 0 for no limit; a deploy may ask for less,
      an admin token for more.
    - app-pids: processes and threads that an app has at most; a deploy may ask for less, an admin
      token for more.
    - app-capabilities: capabilities of Linux that every app has, such as CHOWN, SETGID, SETUID for
      images that start as root.
    - deploy-images: what a project's own token may deploy, as patterns of repositories
      ("ghcr.io/acme/*", "nginx"; {project} is the project's slug); empty is whatever a registry's
      name and usual port reach, but for what only other projects run.
    - writable-images: images whose servers do not do with a root file system that is read-only, as
      patterns of repositories ("acme/postgres*").
    - project-environments: how many environments a project may have for its own token to make
      another.
    - audit-days: days for which entries of the audit log are kept, 1 to 3650.
    - dashboard-url: where people reach the dashboard, such as https://purveyor.example.com: a proxy
      that speaks TLS and passes the header Host on. Under that name cookies are for TLS alone, and
      browsers are told to come by no other way.
    - oidc-issuer: an OpenID Connect provider whose people may sign in at the dashboard, as it calls
      itself; needs dashboard-url, at which /sign-in/oidc/return is the address to register there.
    - oidc-client-id: what the provider calls this installation.
    - oidc-client-secret-file: a file with the secret that goes with it, which nobody else may read;
      empty where there is none.
    - oidc-scopes: what is asked for; some providers want "groups" as well.
    - oidc-claim: what people are called by, and their users here: email (which has to be verified),
      or a claim that people cannot choose themselves.
    - oidc-groups-claim: the claim that lists somebody's groups.
    - oidc-admins: who may change things, by name or as "group:NAME".
    - oidc-readers: who may look.
    - health-samples: health checks, and samples of memory and CPU, that are kept of each service,
      10 to 10000.
    """

    namespace: str = "purveyor"
    network_range: str = ""
    listen: str = "127.0.0.1:8400"
    api_url: str = ""
    default_images: dict[str, str] = {}
    volumes: str = ""
    port_offset: Annotated[int, Meta(ge=0, le=40_000)] = 0
    ssl_mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "disable"
    self_repair: Literal["on", "off"] = "on"
    health_interval: Annotated[float, Meta(ge=0.1, le=86_400)] = 30.0
    ready_timeout: Annotated[float, Meta(ge=0.1, le=86_400)] = 120.0
    pull_timeout: Annotated[float, Meta(ge=0.1, le=86_400)] = 120.0
    backups: str = ""
    encrypt_backups: bool = False
    stall_timeout: Annotated[float, Meta(ge=0.1, le=86_400)] = 300.0
    old_data_days: Annotated[int, Meta(ge=0, le=3650)] = 7
    archive_interval: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    archive_queue: Annotated[int, Meta(ge=1, le=1_048_576)] = 1024
    connections: Annotated[int, Meta(ge=16, le=65_536)] = 4096
    history_days: Annotated[int, Meta(ge=1, le=3650)] = 90
    history_events: Annotated[int, Meta(ge=1_000, le=10_000_000)] = 200_000
    audit_days: Annotated[int, Meta(ge=1, le=3650)] = 365
    dashboard_url: str = ""
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret_file: str = ""
    oidc_scopes: tuple[str, ...] = ("openid", "email", "profile")
    oidc_claim: str = "email"
    oidc_groups_claim: str = "groups"
    oidc_admins: list[str] = []
    oidc_readers: list[str] = []
    health_samples: Annotated[int, Meta(ge=10, le=10_000)] = 240
    app_memory: Annotated[int, Meta(ge=0, le=16_777_216)] = 2048
    app_pids: Annotated[int, Meta(ge=16, le=4_194_304)] = 1024
    app_capabilities: list[str] = []
    deploy_images: list[str] = []
    writable_images: list[str] = []
    project_environments: Annotated[int, Meta(ge=0, le=10_000)] = 20

    def folder_of_volumes(self, state: Path) -> Path:
        """The folder that holds the data of all services."""
        return Path(self.volumes) if self.volumes else state / "volumes"

    def folder_of_backups(self, state: Path) -> Path:
        """The folder for backups that go to no bucket."""
        return Path(self.backups) if self.backups else state / "backups"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return address_of(self.listen)


def load(state: Path) -> Settings:
    """Read the settings file of a state directory; without one, all defaults. Raises `BadInput`."""
    path = state / FILE
    try:
        # some editors put one there
        settings = msgspec.toml.decode(path.read_bytes().removeprefix(BOM_UTF8), type=Settings)
    except FileNotFoundError:
        settings = Settings()
    except msgspec.ValidationError as error:
        why, _, where = str(error).partition(" - at `$.")
        raise _bad(path, f"{where.rstrip('`')}: {why}" if where else why) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise _bad(path, f"not TOML: {error}") from None
    try:
        address_of(settings.listen)
    except ValueError:
        raise _bad(path, f"listen is {settings.listen!r}, not HOST:PORT") from None
    for name, folder in (("volumes", settings.volumes), ("backups", settings.backups)):
        if folder and not Path(folder).is_absolute():
            raise _bad(path, f"{name} is {folder!r}; it must be a whole path, beginning with /")
    if settings.network_range and not _is_range(settings.network_range):
        raise _bad(
            path,
            f"network-range is {settings.network_range!r}; a private range is meant, from /8 to "
            "/26: 10.213.0.0/16",
        )
    if settings.api_url and not settings.api_url.startswith(("http://", "https://")):
        raise _bad(path, f"api-url is {settings.api_url!r}; it must begin with http:// or https://")
    if wrong := _wrong_of_sign_in(settings):
        raise _bad(path, wrong)
    for number, given in enumerate(settings.app_capabilities):
        try:
            capabilities.name_of(given)
        except ValueError as error:
            raise _bad(path, f"app-capabilities[{number}]: {error}") from None
    for setting, patterns in (
        ("deploy-images", settings.deploy_images),
        ("writable-images", settings.writable_images),
    ):
        for number, pattern in enumerate(patterns):
            if not pattern or pattern != pattern.strip() or not pattern.isprintable():
                raise _bad(
                    path,
                    f"{setting}[{number}] is {pattern!r}, no pattern of a repository such as "
                    "ghcr.io/acme/*",
                )
    name = settings.namespace
    if not (
        name
        and name[0].isalnum()
        and name.replace("-", "").isalnum()
        and name.islower()
        and name.isascii()
    ):
        raise _bad(path, f"namespace is {name!r}; lower-case letters, digits and hyphens only")
    return settings


def _wrong_of_sign_in(settings: Settings) -> str:
    """What is wrong with where people sign in, "" for nothing."""
    if settings.dashboard_url and not _is_origin(settings.dashboard_url):
        return (
            f"dashboard-url is {settings.dashboard_url!r}; the root is meant, without a path: "
            "https://purveyor.example.com"
        )
    if not settings.oidc_issuer:
        return ""
    if not is_safe_address(settings.oidc_issuer):
        return (
            f"oidc-issuer is {settings.oidc_issuer!r}; it must begin with https://, or be on "
            "this very host"
        )
    if not settings.dashboard_url or not is_safe_address(settings.dashboard_url):
        return (
            "oidc-issuer needs dashboard-url, with https:// or on this very host: people come "
            "back to it from there"
        )
    if not settings.oidc_client_id:
        return "oidc-client-id is missing: oidc-issuer needs it"
    if "openid" not in settings.oidc_scopes:
        return 'oidc-scopes lacks "openid"'
    if (
        settings.oidc_client_secret_file
        and not Path(settings.oidc_client_secret_file).is_absolute()
    ):
        return (
            f"oidc-client-secret-file is {settings.oidc_client_secret_file!r}; it must be a "
            "whole path, beginning with /"
        )
    for name, listed in (
        ("oidc-admins", settings.oidc_admins),
        ("oidc-readers", settings.oidc_readers),
    ):
        for number, item in enumerate(listed):
            if item != item.strip() or not item.removeprefix("group:"):
                return f"{name}[{number}] is {item!r}, neither a name nor group:NAME"
    if not settings.oidc_admins and not settings.oidc_readers:
        return "oidc-admins and oidc-readers are empty: nobody could sign in through oidc-issuer"
    return ""


def is_safe_address(text: str) -> bool:
    """Whether what is sent there is read by nobody else: with TLS, or on this very host."""
    try:
        found = urlsplit(text)
        local = (
            found.hostname == "localhost" or ipaddress.ip_address(found.hostname or "").is_loopback
        )
    except ValueError:
        local = False
    return text.isprintable() and (
        text.startswith("https://") or (text.startswith("http://") and local)
    )


def _is_origin(text: str) -> bool:
    try:
        found = urlsplit(text)
        _ = found.port
    except ValueError:
        return False
    return (
        text == f"{found.scheme}://{found.netloc}"
        and found.scheme in ("http", "https")
        and "@" not in text
        and bool(found.hostname)
    )


def _is_range(text: str) -> bool:
    try:
        found = ipaddress.IPv4Network(text)
    except ValueError:
        return False
    return found.is_private and 8 <= found.prefixlen <= 26


def _bad(path: Path, what: str) -> BadInput:
    return BadInput(
        f"The settings file {path} cannot be used: {what}.",
        remedy="Correct it, or remove it to use the defaults.",
    )
