"""The events of services, their apps' containers and certificate authorities, but for those of operations."""

from purveyor.kernel.events.catalog import Described
from purveyor_hooks import events

REASON = events.Reason(reason="The server does not accept connections.")
EVENTS: tuple[Described, ...] = (
    ("service.healthy", "A health check is passed, for the first time or again.", events.Reason()),
    ("service.unhealthy", "A health check is not passed any more.", REASON),
    ("service.incident",
    "It should run and does not, or not as it should; it is brought back unless `self-repair` is off.",
     events.Reason(reason="It was killed (exit code 137).")),
    ("service.recovered", "An incident is over.", events.Reason()),
    ("app.incident", "The app of an active deployment does not run, or not as it should.",
     events.AppReason(environment="production", deployment=7, reason="It ended (exit code 3).")),
    ("app.recovered", "An incident of an app is over.",
    events.AppReason(environment="production", deployment=7)),
    ("service.revealed", "Its secret parameters were revealed.",
    events.Revealed(actor="ada", token=2)),
    ("service.refused", "A server runs on another data set than the recorded one, and is not used.",
    REASON),
    ("authority.added", "Another certificate authority is there, and signs nothing yet.",
     events.AuthorityChanged(id=2, actor="grace", token=2)),
    ("authority.signs", "Another certificate authority signs from now on.",
     events.AuthorityChanged(id=2, actor="grace", token=2)),
    ("authority.removed",
    "A certificate authority is gone, for no server shows a certificate of it.",
     events.AuthorityChanged(id=1, actor="purveyor")),
)  # fmt: skip
