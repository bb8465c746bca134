"""Where the HTTP API is reached: from this host, and from containers on the network."""

from purveyor.kernel.config import ApiSettings
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import note, read_note
from purveyor_hooks import Conflict

PORT, GATEWAY = "api-port", "api-gateway"
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on
LOOPBACK = "127.0.0.1"
NAME = "purveyor-api"  # the host, in the containers of apps that were deployed


def note_port(tx: Tx, port: int) -> None:
    """Note the port that the daemon listens on."""
    note(tx, PORT, str(port))


def note_gateway(tx: Tx, address: str) -> None:
    """Note the host's own address on the containers' network."""
    note(tx, GATEWAY, address)


def hosts(tx: Tx) -> dict[str, str]:
    """The API's name, as apps have it, and the address that it stands for: none before a daemon has
    opened its door."""
    gateway = read_note(tx, GATEWAY)
    return {NAME: gateway} if gateway else {}


def url(tx: Tx, settings: ApiSettings, *, from_host: bool, by_name: bool = False) -> str:
    """The root of the API, without ``/api``: for this host, or for a container, `by_name` where it
    knows that.

    Raises `Conflict` while no daemon has ever opened its door to containers.
    """
    if settings.api_url:
        return settings.api_url.rstrip("/")
    host, port = settings.address
    port = int(read_note(tx, PORT) or port)
    if from_host:
        host = LOOPBACK if host in EVERYWHERE else host
    else:
        host = read_note(tx, GATEWAY) or ""
        if not host:
            remedy = "Start the daemon (purveyor serve), or say it in the settings file: api-url."
            raise Conflict("It is not known yet where containers reach the API.", remedy=remedy)
        host = NAME if by_name else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
