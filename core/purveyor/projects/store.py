"""Projects, their environments, links, bindings and deployments."""

from collections.abc import Sequence
from typing import Any

import msgspec

from purveyor.kernel.db.database import Page, Row, Tx, convert, matching
from purveyor.kernel.naming import number_of
from purveyor.projects.models import BindingRecord, EnvironmentRecord, LinkRecord, ProjectRecord
from purveyor_hooks import NotFound

# ---------------------------------------------------------------- projects


def insert(tx: Tx, *, slug: str, name: str, **more: int) -> int:
    return tx.insert("projects", slug=slug, name=name, created_at=tx.now, **more)


def find(tx: Tx, reference: str | int) -> ProjectRecord | None:
    """The project with this id or slug."""
    text = str(reference)
    row = tx.row("SELECT * FROM projects WHERE id = ?", [number_of(text)])
    row = row or tx.row("SELECT * FROM projects WHERE slug = ?", [text])
    return convert(row, ProjectRecord, tx.secrets) if row else None


def get(tx: Tx, reference: str | int) -> ProjectRecord:
    """The project with this id or slug. Raises `NotFound`."""
    record = find(tx, reference)
    if record is None:
        remedy = (
            "List them with: purveyor project list; make one with: purveyor project create NAME"
        )
        raise NotFound(f"There is no project {reference!r}.", remedy=remedy)
    return record


def list_all(tx: Tx) -> list[ProjectRecord]:
    return [
        convert(row, ProjectRecord, tx.secrets)
        for row in tx.rows("SELECT * FROM projects ORDER BY id")
    ]


def page(tx: Tx, *, q: str = "", limit: int, offset: int) -> Page[ProjectRecord]:
    """A part of them: those whose name or slug holds a text."""
    source = "projects WHERE instr(lower(name), ?1) OR instr(slug, ?1)" if q else "projects"
    given = [q.lower()] if q else []
    found = tx.page("*", source, given, order="id", limit=limit, offset=offset)
    return Page([convert(row, ProjectRecord, tx.secrets) for row in found.items], found.total)


def get_by_ids(tx: Tx, project_ids: Sequence[int]) -> dict[int, ProjectRecord]:
    """The projects with these ids, by id."""
    marks = ", ".join("?" for _ in project_ids)
    rows = tx.rows(f"SELECT * FROM projects WHERE id IN ({marks})", project_ids)
    return {row["id"]: convert(row, ProjectRecord, tx.secrets) for row in rows}


def slugs(tx: Tx, project_ids: Sequence[int]) -> dict[int, str]:
    """The slugs of the projects with these ids, by id."""
    return {number: record.slug for number, record in get_by_ids(tx, project_ids).items()}


def delete(tx: Tx, project_id: int) -> None:
    tx.db.execute("DELETE FROM projects WHERE id = ?", [project_id])


# ---------------------------------------------------------------- environments


def insert_environment(tx: Tx, project_id: int, slug: str, **more: int) -> int:
    return tx.insert("environments", project_id=project_id, slug=slug, created_at=tx.now, **more)


def find_environment(tx: Tx, project_id: int, slug: str) -> EnvironmentRecord | None:
    row = tx.row("SELECT * FROM environments WHERE project_id = ? AND slug = ?", [project_id, slug])
    return convert(row, EnvironmentRecord, tx.secrets) if row else None


def environment_by_id(tx: Tx, environment_id: int) -> EnvironmentRecord:
    row = tx.row("SELECT * FROM environments WHERE id = ?", [environment_id])
    if row is None:
        raise NotFound(f"There is no environment with the id {environment_id}.")
    return convert(row, EnvironmentRecord, tx.secrets)


def environments(tx: Tx, project_id: int) -> list[EnvironmentRecord]:
    rows = tx.rows("SELECT * FROM environments WHERE project_id = ? ORDER BY id", [project_id])
    return [convert(row, EnvironmentRecord, tx.secrets) for row in rows]


def environments_by_id(tx: Tx, environment_ids: Sequence[int]) -> dict[int, EnvironmentRecord]:
    """The environments with these ids, by id."""
    marks = ", ".join("?" for _ in environment_ids)
    rows = tx.rows(f"SELECT * FROM environments WHERE id IN ({marks})", environment_ids)
    return {row["id"]: convert(row, EnvironmentRecord, tx.secrets) for row in rows}


def environment_slugs(tx: Tx, environment_ids: Sequence[int]) -> dict[int, str]:
    """The slugs of the environments with these ids, by id."""
    found = environments_by_id(tx, environment_ids)
    return {number: record.slug for number, record in found.items()}


def delete_environment(tx: Tx, environment_id: int) -> None:
    tx.db.execute("DELETE FROM environments WHERE id = ?", [environment_id])


# ---------------------------------------------------------------- links


def insert_link(tx: Tx, *, service_id: int, project_id: int, service_type: str) -> int:
    values = {"service_id": service_id, "project_id": project_id, "service_type": service_type}
    return tx.insert("links", **values, state="linking", created_at=tx.now)


def linked_slugs(tx: Tx, service_ids: Sequence[int]) -> dict[int, list[str]]:
    """The slugs of the projects that each of these services is linked to."""
    found: dict[int, list[str]] = {}
    marks = ", ".join("?" for _ in service_ids)
    join = (
        f"links JOIN projects ON projects.id = project_id WHERE service_id IN ({marks}) AND "
        "state = 'linked'"
    )
    for row in tx.rows(f"SELECT service_id, slug FROM {join} ORDER BY slug", service_ids):
        found.setdefault(row["service_id"], []).append(row["slug"])
    return found


def linked_services(tx: Tx, project_ids: Sequence[int]) -> dict[int, list[str]]:
    """The names of the services that each of these projects is linked to."""
    found: dict[int, list[str]] = {}
    marks = ", ".join("?" for _ in project_ids)
    join = (
        f"links JOIN services ON services.id = service_id WHERE project_id IN ({marks}) AND "
        "links.state = 'linked'"
    )
    for row in tx.rows(f"SELECT project_id, name FROM {join} ORDER BY name", project_ids):
        found.setdefault(row["project_id"], []).append(row["name"])
    return found


def find_link(tx: Tx, service_id: int, project_id: int) -> LinkRecord | None:
    row = tx.row(
        "SELECT * FROM links WHERE service_id = ? AND project_id = ?", [service_id, project_id]
    )
    return convert(row, LinkRecord, tx.secrets) if row else None


def links(
    tx: Tx, *, service_id: int | None = None, project_id: int | None = None
) -> list[LinkRecord]:
    """The links of a service, of a project, or of neither: all."""
    where, given = matching(service_id=service_id, project_id=project_id)
    rows = tx.rows(f"SELECT * FROM links WHERE {where} ORDER BY id", given)
    return [convert(row, LinkRecord, tx.secrets) for row in rows]


def links_page(tx: Tx, service_id: int, *, limit: int, offset: int) -> Page[LinkRecord]:
    """A part of the links of a service."""
    found = tx.page(
        "*", "links WHERE service_id = ?", [service_id], order="id", limit=limit, offset=offset
    )
    return Page([convert(row, LinkRecord, tx.secrets) for row in found.items], found.total)


def update_link(tx: Tx, link_id: int, state: str) -> None:
    tx.update("links", "id = ?", [link_id], state=state)


def delete_link(tx: Tx, link_id: int) -> None:
    tx.db.execute("DELETE FROM links WHERE id = ?", [link_id])


# ---------------------------------------------------------------- bindings


def _binding(tx: Tx, row: Row) -> BindingRecord:
    return convert(row, BindingRecord, tx.secrets, plain=["extras"], sealed=["password"])


def insert_binding(tx: Tx, *, password: str, **values: Any) -> int:
    values |= {"password": tx.secrets.seal(password), "chosen_after": _last_deployment(tx)}
    return tx.insert("bindings", **_encoded(values), state="intended", created_at=tx.now)


def _encoded(values: dict[str, Any]) -> dict[str, Any]:
    return (
        values | {"extras": msgspec.json.encode(values["extras"]).decode()}
        if "extras" in values
        else values
    )


def choose_again(tx: Tx, binding_id: int, account: str, password: str) -> None:
    """Intend an account that was ended anew: whoever had the old password has no part in it."""
    chosen = {"account": account, "password": password, "chosen_after": _last_deployment(tx)}
    update_binding(tx, binding_id, state="intended", **chosen)


def _last_deployment(tx: Tx) -> int:
    number: int = tx.value("SELECT coalesce(max(id), 0) FROM deployments")
    return number


def insert_restored_binding(
    tx: Tx, service_id: int, project: str, environment: str, password: str, **values: Any
) -> None:
    """Record whose data a restored resource is; linking brings that project back to it."""
    owner = find(tx, project)
    place = find_environment(tx, owner.id, environment) if owner else None
    tx.insert(
        "bindings",
        service_id=service_id,
        project_id=owner.id if owner else None,
        environment_id=place.id if place else None,
        project=project,
        environment=environment,
        password=tx.secrets.seal(password),
        state="unbound",
        awaited=int(place is None),
        created_at=tx.now,
        **_encoded(values),
    )


def take_in_binding(
    tx: Tx,
    *,
    number: int,
    owner: tuple[int, int] | None,
    service_type: str,
    service_id: int,
    password: str,
    **values: Any,
) -> None:
    """Record an account that a server holds, by the number of its mark. Its `owner`, a project and
    an environment, is linked; one without waits for its project."""
    project_id, environment_id = owner or (None, None)
    known = binding(tx, number) is not None  # one that came with a backup has the number of another
    tx.insert(
        "bindings",
        **({"origin": number} if known else {"id": number}),
        service_id=service_id,
        project_id=project_id,
        environment_id=environment_id,
        password=tx.secrets.seal(password),
        state="bound" if owner else "unbound",
        awaited=int(owner is None),
        created_at=tx.now,
        **_encoded(values),
    )
    linked = (
        {link.service_type for link in links(tx, project_id=project_id)}
        if project_id
        else {service_type}
    )
    if project_id and service_type not in linked:
        update_link(
            tx,
            insert_link(
                tx, service_id=service_id, project_id=project_id, service_type=service_type
            ),
            "linked",
        )


def taken_up(
    tx: Tx, service_id: int, project: ProjectRecord, environment: EnvironmentRecord
) -> BindingRecord | None:
    """The binding of an environment on a service; restored data that waits for one of its name
    becomes its own."""
    found = binding_of(tx, service_id, environment.id)
    if found is None:
        where = "service_id = ? AND awaited = 1 AND project = ? AND environment = ?"
        owner = {"project_id": project.id, "environment_id": environment.id, "awaited": 0}
        tx.update("bindings", where, [service_id, project.slug, environment.slug], **owner)
        found = binding_of(tx, service_id, environment.id)
    return found


def awaiting(tx: Tx, service_id: int) -> list[BindingRecord]:
    """Restored data on a service that nobody has taken up."""
    return [item for item in bindings(tx, service_id=service_id) if item.awaited]


def binding(tx: Tx, binding_id: int) -> BindingRecord | None:
    row = tx.row("SELECT * FROM bindings WHERE id = ?", [binding_id])
    return _binding(tx, row) if row else None


def binding_of(tx: Tx, service_id: int, environment_id: int) -> BindingRecord | None:
    where = "service_id = ? AND environment_id = ?"
    row = tx.row(f"SELECT * FROM bindings WHERE {where}", [service_id, environment_id])
    return _binding(tx, row) if row else None


def bindings(tx: Tx, *, service_id: int, project_id: int | None = None) -> list[BindingRecord]:
    """The bindings of a service, of one project or of all."""
    where, given = matching(service_id=service_id, project_id=project_id)
    rows = tx.rows(f"SELECT * FROM bindings WHERE {where} ORDER BY id", given)
    return [_binding(tx, row) for row in rows]


# the deployment that an ending account waits for, where there is none: it ends when its service
# serves
NOBODY = -1
UNLINKED = (
    "NOT EXISTS (SELECT 1 FROM links WHERE links.service_id = bindings.service_id AND "
    "links.project_id = bindings.project_id) "
    "AND EXISTS (SELECT 1 FROM services WHERE services.id = bindings.service_id AND services.state "
    "= 'active')"
)


def ending(
    tx: Tx,
    *,
    service_id: int | None = None,
    project_id: int | None = None,
    environment_id: int | None = None,
) -> list[BindingRecord]:
    """The bindings whose account is there although their link is not: it ends with the deployment
    that still uses it."""
    chosen = {"service_id": service_id, "project_id": project_id, "environment_id": environment_id}
    given = {name: value for name, value in chosen.items() if value is not None}
    # by the few that end: the plus keeps SQLite from going through all bindings of a service
    # instead
    few = (
        "SELECT id FROM bindings WHERE ends_after > 0 UNION ALL SELECT id FROM bindings WHERE "
        "ends_after < 0"
    )
    where = "".join(f" AND +{name} = ?" for name in given)
    sql = (
        f"SELECT * FROM bindings WHERE id IN ({few}) AND +state = 'bound'{where} AND "
        f"{UNLINKED} ORDER BY id"
    )
    return [_binding(tx, row) for row in tx.rows(sql, list(given.values()))]


def list_outlived(
    tx: Tx, *, service_id: int | None = None, project_id: int | None = None
) -> list[BindingRecord]:
    """The bindings whose credentials of before a rotation go on working for a while."""
    where, given = matching(service_id=service_id, project_id=project_id)
    rows = tx.rows(
        f"SELECT * FROM bindings WHERE former_until IS NOT NULL AND {where} ORDER BY former_until, id",
        given,
    )
    return [_binding(tx, row) for row in rows]


def is_due(tx: Tx, record: BindingRecord) -> bool:
    """Whether nobody uses the account of an ending binding any more."""
    return (
        tx.row("SELECT id FROM deployments WHERE id = ? AND state = 'active'", [record.ends_after])
        is None
    )


def names_taken(tx: Tx, service_id: int) -> set[str]:
    """Names of resources that hold somebody's data on this service, also of those who are gone, and
    of accounts."""
    found = bindings(tx, service_id=service_id)
    return {name for item in found for name in (item.resource, item.account, *item.extras.values())}


def slots_taken(tx: Tx, service_id: int) -> set[int]:
    sql = "SELECT slot FROM bindings WHERE service_id = ? AND slot IS NOT NULL"
    return {row["slot"] for row in tx.rows(sql, [service_id])}


def update_binding(tx: Tx, binding_id: int, **values: Any) -> None:
    if "password" in values:
        values["password"] = tx.secrets.seal(values["password"])
    tx.update("bindings", "id = ?", [binding_id], **_encoded(values))


def delete_binding(tx: Tx, binding_id: int) -> None:
    """Forget a binding whose resource is not there: purged, or never made."""
    tx.db.execute("DELETE FROM bindings WHERE id = ?", [binding_id])
