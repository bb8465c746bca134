"""What is done to services, to volumes and to authorities, as people come to it."""

from functools import partial

from purveyor.exposed import Command, Exposed

BASE = "/api/external-services"
SERVICE = f"{BASE}/{{reference:service}}"
VOLUME = "/api/volumes/{reference:volume}"
AUTHORITIES = "/api/authorities"
SCHEMAS = "purveyor.services.schemas"
ROUTES = "purveyor.services.routes"
OF_AUTHORITY = "purveyor.services.authority_routes"

_of_service = partial(Exposed, tag="services", answers=f"{ROUTES}:service_answer")
_of_volume = partial(_of_service, tag="installation")

CREATE = _of_service(
    "create",
    f"POST {BASE}",
    "create_service",
    body="purveyor.services.operations.create:CreateArguments",
    status=201,
    answers=f"{ROUTES}:service_made",
)
UPDATE = _of_service(
    "update",
    f"PUT {SERVICE}",
    "update_service",
    body=f"{SCHEMAS}:ServiceChange",
    answers=f"{ROUTES}:service_made",
)
DELETE = Exposed(
    "delete", f"DELETE {SERVICE}", "delete_service", "services", query=("purge",), status=204
)
START = _of_service(
    "start",
    f"POST {SERVICE}/start",
    "start_service",
    query=("accept_data",),
    answers=f"{ROUTES}:service_made",
    command=Command(
        "start",
        "Start a service and wait until it is ready.",
        "Starting {service}",
        flags={"accept_data": "Accept the data currently in the volume."},
    ),
)
STOP = _of_service(
    "stop",
    f"POST {SERVICE}/stop",
    "stop_service",
    answers=f"{ROUTES}:service_made",
    command=Command(
        "stop",
        "Stop a service. Its data is kept, and it stays stopped across reboots.",
        "Stopping {service}",
        interrupts="{service} is unavailable until it is started again.",
    ),
)
RESTART = _of_service(
    "restart",
    f"POST {SERVICE}/restart",
    "restart_service",
    answers=f"{ROUTES}:service_made",
    command=Command(
        "restart",
        "Stop a service and start it again.",
        "Restarting {service}",
        interrupts="{service} is unavailable until it is up again.",
    ),
)
IMPORT = _of_service(
    "import",
    f"POST {BASE}/import",
    "import_container",
    body=f"{SCHEMAS}:ImportRequest",
    status=201,
)
CLONE = _of_service(
    "clone",
    f"POST {SERVICE}/clone",
    "clone_service",
    body=f"{SCHEMAS}:CloneRequest",
    status=201,
)
ROTATE_ADMINISTRATOR = _of_service(
    "rotate-administrator", f"POST {SERVICE}/rotate", "rotate_administrator"
)
RENEW_CERTIFICATE = _of_service(
    "renew-certificate",
    f"POST {SERVICE}/renew-certificate",
    "renew_certificate",
    about="Another certificate for its server, which goes on.",
)
UNDELETE = _of_service(
    "undelete",
    f"POST {SERVICE}/undelete",
    "undelete_service",
    command=Command(
        "undelete",
        "Bring a deleted service back, with the data that was kept.",
        "Bringing {service} back",
        says="{slug} is back.",
    ),
)
PURGE_VOLUME = Exposed(
    "purge-volume",
    f"POST {VOLUME}/purge",
    "purge_volume",
    "installation",
    body=f"{SCHEMAS}:PurgeRequest",
    status=204,
)
ATTACH_VOLUME = _of_volume(
    "attach-volume",
    f"POST {VOLUME}/attach",
    "attach_volume",
    body=f"{SCHEMAS}:AttachRequest",
    command=Command(
        "attach",
        "Attach the data of a VOLUME to a SERVICE. Its current data is kept.",
        "Attaching {volume}",
        words=("service",),
        destroys="{service} gets other data: what it holds now is not in it, and is kept aside.",
        typed="service",
        says="{slug} now uses the data of that volume. What it held is kept: purveyor volumes",
    ),
)
CLONE_VOLUME = _of_volume(
    "clone-volume",
    f"POST {VOLUME}/clone",
    "clone_volume",
    body=f"{SCHEMAS}:CopyRequest",
    status=201,
    command=Command(
        "clone",
        "Copy the data of a VOLUME into a new service called NAME.",
        "Copying {volume}",
        words=("name",),
        says="{slug} is there, with a copy of that data.",
    ),
)
ROTATE_AUTHORITY = Exposed(
    "rotate-authority",
    f"POST {AUTHORITIES}/rotate",
    "rotate",
    "installation",
    "Have another authority beside the one that signs, for apps to know before it does.",
    status=201,
    answers=f"{OF_AUTHORITY}:authority_made",
)
FINISH_AUTHORITY = Exposed(
    "finish-authority",
    f"POST {AUTHORITIES}/finish",
    "finish",
    "installation",
    """Have the other one sign from now on, and servers show certificates of it, while they run.

Refused while an app does not know it, or while variables that were given out before may be in
use elsewhere, but for `anyway`.""",
    query=("anyway",),
    answers=f"{OF_AUTHORITY}:authority_shown",
)
