"""Who does not know an authority yet. What is in an app's container says so, not when it was
deployed: a repair makes one anew, and gives it what is current."""

from collections.abc import Sequence

import anyio
import msgspec

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.services.certificates import AuthorityRecord
from purveyor.services.models import AUTHORITIES
from purveyor_hooks import PurveyorError

AT_ONCE = 16  # containers


class Unaware(msgspec.Struct, frozen=True, kw_only=True):
    """Environments by name: those whose `apps` have a file without an authority, and those without
    an app of Purveyor's whose variables were given out before it was there (`elsewhere`), for
    whoever has them may have the file of then."""

    apps: list[str]
    elsewhere: list[str]


def objection(apps: Sequence[str], elsewhere: Sequence[str]) -> str:
    """Why an authority had better not sign yet; "" when nobody would be refused for it."""
    said = []
    if apps:
        said.append(
            f"Apps of {', '.join(apps)} do not know it: those that verify will refuse their servers."
        )
    if elsewhere:
        said.append(
            f"Variables of {', '.join(elsewhere)} were given out before it was there, and no app that "
            "Purveyor deployed has them: whoever verifies with a copy of the old file will refuse."
        )
    return " ".join(said)


async def unaware(context: Context, authorities: Sequence[AuthorityRecord]) -> dict[int, Unaware]:
    """Who cannot verify what each authority signs, by its number. An app that cannot be looked at
    is held to know none; one whose container is gone has what is current when it comes back."""

    def look(tx: Tx) -> tuple[list[tuple[str, str]], dict[int, list[str]]]:
        return _deployed(tx), {item.id: _given(tx, item) for item in authorities}

    deployed, given = await context.store.read(look)
    known: dict[str, list[str]] = {}
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def ask(environment: str, container: str) -> None:
        async with limit:
            held = await _file(context, container)
        if held is not None:
            known.setdefault(environment, []).append(held)

    async with anyio.create_task_group() as group:
        for environment, container in deployed:
            group.start_soon(ask, environment, container)
    return {
        item.id: Unaware(
            apps=sorted(
                name
                for name, held in known.items()
                if any(item.certificate not in text for text in held)
            ),
            elsewhere=given[item.id],
        )
        for item in authorities
    }


async def _file(context: Context, container: str) -> str | None:
    """The authorities that an app's container has, "" where that cannot be told; None when there is
    no such container."""
    containers = context.engine.containers
    try:
        if not await containers.named([container]):
            return None
        return await containers.contents(container, AUTHORITIES) or ""
    except PurveyorError:
        return ""


def _deployed(tx: Tx) -> list[tuple[str, str]]:
    sql = (
        "SELECT projects.slug || '/' || environments.slug AS name, container FROM deployments "
        "JOIN environments ON environments.id = environment_id "
        "JOIN projects ON projects.id = environments.project_id "
        "WHERE deployments.state = 'active' AND app IS NOT NULL"
    )
    return [(row["name"], row["container"]) for row in tx.rows(sql)]


def _given(tx: Tx, authority: AuthorityRecord) -> list[str]:
    sql = (
        "SELECT DISTINCT bindings.project || '/' || bindings.environment AS name FROM bindings "
        "JOIN certificates ON certificates.service_id = bindings.service_id "
        "WHERE bindings.state = 'bound' AND bindings.created_at < ? AND NOT EXISTS (SELECT 1 FROM "
        "deployments WHERE deployments.environment_id = bindings.environment_id AND "
        "deployments.state = 'active' AND app IS NOT NULL) ORDER BY name"
    )
    return [row["name"] for row in tx.rows(sql, [authority.created_at])]
