"""Incidents: what should run and does not. Told once, brought back later and later, told again when
over."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Literal, NamedTuple

from purveyor.context import Context
from purveyor.docker.models import Found
from purveyor.kernel.db import Tx
from purveyor.services import incident_store
from purveyor.services.incident_store import Told
from purveyor.services.networks import find_missing
from purveyor_hooks import Backoff

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0  # seconds between two tries to bring something back
CALM = 60.0  # seconds without trouble after which a new incident is none of the old row
ANYWHERE: Mapping[str, str] = {}  # no name has to lead anywhere
SIGNALS = {137: "was killed", 143: "was stopped"}


class Subject(NamedTuple):
    """What an incident is about: a service, or the app of a deployment."""

    kind: Literal["service", "app"]
    id: int

    @property
    def key(self) -> str:
        return f"{self.kind}-{self.id}"


class Incidents:
    """Which services and apps are in trouble now, and when each is tried next."""

    def __init__(self, context: Context, clock: Callable[[], float] = monotonic) -> None:
        self._context = context
        self.clock = clock
        self._told: dict[Subject, Told] = {}
        # how often in a row, and when it may be tried next
        self._tries: dict[Subject, tuple[int, float]] = {}
        self._ended: dict[Subject, float] = {}  # when the last incident was over

    async def recall(self) -> None:
        """Go on with what an earlier process has told and not seen the end of."""
        for key, told in (await self._context.store.read(incident_store.list_all)).items():
            kind, _, number = key.partition("-")
            self._told[Subject("app" if kind == "app" else "service", int(number))] = told

    def reason(self, subject: Subject) -> str:
        """Why a subject is in trouble, "" when it is not known to be."""
        told = self._told.get(subject)
        return told.reasons[-1] if told else ""

    @property
    def open(self) -> list[Subject]:
        return list(self._told)

    async def tell(self, subject: Subject, reason: str, **where: Any) -> None:
        """An incident begins, or has another reason now: an event each. `where` is what the event
        carries beside that."""
        reasons = self._told[subject].reasons if subject in self._told else []
        if reasons and reasons[-1] == reason:
            return
        known = reason in reasons
        told = Told([*(item for item in reasons if item != reason), reason], where)

        def work(tx: Tx) -> None:
            incident_store.keep(tx, subject.key, told)
            if not known:
                _emit(tx, subject, "incident", reason, where)

        await self._context.store.write(work)
        self._told[subject] = told
        self._context.logger.warning(f"{subject.kind}.incident", id=subject.id, reason=reason)

    async def over(self, subject: Subject, reason: str = "") -> None:
        """An incident is over, if there was one. What it was about may not be there any more."""
        if subject not in self._told:
            return
        where = self._told[subject].where

        def work(tx: Tx) -> None:
            incident_store.forget(tx, subject.key)
            _emit(tx, subject, "recovered", reason, where)

        await self._context.store.write(work)
        del self._told[subject]
        self._ended[subject] = self.clock()

    # ---------------------------------------------------------------- when to try

    def due(self, subject: Subject) -> bool:
        """Whether it is time to try and bring it back; the first time at once."""
        tries, at = self._row(subject)
        return tries == 0 or at <= self.clock()

    def _row(self, subject: Subject) -> tuple[int, float]:
        """How often it was tried in a row, and when it may be next; a row ends when all was calm
        for some time."""
        if subject in self._ended and self.clock() - self._ended[subject] > CALM:
            self._tries.pop(subject, None)
        return self._tries.get(subject, (0, 0.0))

    def tried(self, subject: Subject) -> None:
        """It is tried now; the next time is later than after the last one."""
        tries, _ = self._row(subject)
        self._ended.pop(subject, None)
        self._tries[subject] = (
            tries + 1,
            self.clock() + Backoff(FIRST_PAUSE, LONGEST_PAUSE).pause(tries),
        )

    def hurry(self) -> None:
        """The engine is back: whatever is in trouble may be tried at once."""
        for subject in self._told:
            if subject in self._tries:
                self._tries[subject] = (self._tries[subject][0], self.clock())

    def waiting(self) -> list[Subject]:
        """What is in trouble and due to be tried again."""
        return [subject for subject in self._told if subject in self._tries and self.due(subject)]


def _emit(tx: Tx, subject: Subject, word: str, reason: str, where: dict[str, Any]) -> None:
    project = where.get("project")
    data = {
        name: value
        for name, value in {**where, "reason": reason}.items()
        if value and name != "project"
    }
    if subject.kind == "service":
        tx.emit(f"service.{word}", service=subject.id, data=data)
    else:
        tx.emit(f"app.{word}", project=project, data=data)


def trouble(
    found: Found | None, networks: Mapping[str, str], name: str, hosts: Mapping[str, str] = ANYWHERE
) -> str:
    """Why a container that should serve under a name on these networks, by their ids, does not, or
    looks for one of these `hosts` elsewhere; "" when all is well."""
    if found is None:
        return "Its container was removed."
    if found.state == "paused":
        return "Its container was paused."
    if found.restarting or found.state == "restarting":
        return f"It ends again and again{_because(found)}."
    if found.error and found.state in ("created", "exited"):
        return f"The engine could not start it: {found.error.strip().rstrip('.')}."
    if found.state == "created":
        return "Its container was never started."
    if found.state != "running":
        return f"It {SIGNALS.get(found.exit_code, 'ended')}{_because(found)}."
    if network := find_missing(found, networks):
        return f"It is not on the network {network} any more."
    if found.name != name:
        return f"Its container was renamed to {found.name}."
    if called := astray(found, hosts):
        return (
            f"It looks for {called} at {found.hosts[called]}, and that is at {hosts[called]} now."
        )
    return ""


def astray(found: Found, hosts: Mapping[str, str]) -> str:
    """The first of these names that a container knows by another address, "" when there is none."""
    return next(
        (name for name, address in hosts.items() if found.hosts.get(name, address) != address), ""
    )


def _because(found: Found) -> str:
    return (
        " for want of memory (exit code 137)" if found.killed else f" (exit code {found.exit_code})"
    )
