"""Names on the network: each is one thing's, for whoever is asked by it gets what was meant for
another.

Services answer by their containers' names, `NAMESPACE-SLUG`; an app by `PROJECT-ENVIRONMENT`, cut
to what DNS takes. Both are made of letters, digits and hyphens, so that two could be alike. What
begins with the namespace is therefore the services' alone, and any other name is its first
holder's. What is older than this rule keeps its name; the doctor tells of it.
"""

from typing import NamedTuple

from purveyor.kernel.db.database import Tx
from purveyor_hooks import BadInput, Conflict

LIMIT = 63
APPS = (
    "SELECT e.id, p.slug AS project, e.slug AS environment FROM environments e JOIN projects p "
    "ON p.id = e.project_id"
)
SERVICES = "SELECT name, container_name FROM services WHERE state != 'deleted'"


class Holder(NamedTuple):
    """Who answers by a name: the app of an environment, or a service (`environment_id` is 0)."""

    what: str
    environment_id: int = 0


def alias(project: str, environment: str) -> str:
    """The name by which the app of an environment answers."""
    return f"{project}-{environment}"[:LIMIT].rstrip("-")


def list_holders(tx: Tx) -> dict[str, list[Holder]]:
    """Every name, and who answers by it: services, then apps in the order in which their
    environments were made."""
    found: dict[str, list[Holder]] = {}
    for row in tx.rows(SERVICES):
        found.setdefault(row["container_name"], []).append(Holder(f"the service {row['name']}"))
    for row in tx.rows(f"{APPS} ORDER BY e.id"):
        holder = Holder(f"the app of {row['project']}/{row['environment']}", row["id"])
        found.setdefault(alias(row["project"], row["environment"]), []).append(holder)
    return found


def require_project(namespace: str, slug: str) -> None:
    """Raise `BadInput` for a project whose apps would be named like services."""
    if slug == namespace or slug.startswith(f"{namespace}-"):
        why = (
            f"{namespace!r}, and what begins with it, is the name of this installation's own things"
        )
        raise BadInput(
            f"A project cannot be called {slug!r}: {why}.",
            remedy="Choose another name.",
            errors={"name": why},
        )


def require_app(tx: Tx, namespace: str, project: str, environment: str) -> None:
    """Raise `Conflict` when the app of a new environment would have a name that is another's, or
    the services'."""
    name = alias(project, environment)
    others = list_holders(tx).get(name, [])
    if others or name.startswith(f"{namespace}-"):
        raise _taken(
            f"the app of {project}/{environment}",
            name,
            others[0].what if others else "services",
            "environment",
        )


def require_own(tx: Tx, project: str, environment: str, environment_id: int) -> None:
    """Raise `Conflict` when the app of an environment has a name that somebody else had before
    it."""
    name = alias(project, environment)
    first = list_holders(tx)[name][0]
    if first.environment_id != environment_id:
        raise _taken(f"the app of {project}/{environment}", name, first.what, "environment")


def require_service(tx: Tx, service: str, container: str) -> None:
    """Raise `Conflict` when an app answers by the name of a service's container."""
    apps = [item for item in list_holders(tx).get(container, []) if item.environment_id]
    if apps:
        raise _taken(f"the service {service}", container, apps[0].what, "name")


def find_shared(tx: Tx) -> list[tuple[str, list[str]]]:
    """The names that more than one thing answers by."""
    return [
        (name, [item.what for item in holders])
        for name, holders in list_holders(tx).items()
        if len(holders) > 1
    ]


def _taken(who: str, name: str, other: str, field: str) -> Conflict:
    return Conflict(
        f"On the network {who} would answer by {name!r}, which is the name of {other}.",
        remedy="Choose another name: whoever asks for the one would get the other.",
        errors={field: "taken on the network"},
    )
