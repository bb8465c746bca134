"""Who uses a service through the API: from a token and the names in a request to one environment's
binding."""

from purveyor.context import Context
from purveyor.kernel.db import Tx
from purveyor.kernel.db.rows import WHOLE, Row
from purveyor.projects import bindings, tokens, variables
from purveyor.projects import store as projects
from purveyor.projects.models import EnvironmentRecord, ProjectRecord
from purveyor.projects.operations.projects import PRODUCTION
from purveyor.services import store as services
from purveyor.services.handle import handle_of, require_serving
from purveyor.services.models import ServiceRecord
from purveyor_hooks import Actor, BadInput, Bound, Conflict, Forbidden, NotFound, Scope


def find(
    tx: Tx,
    context: Context,
    service_type: str,
    actor: Actor,
    project: str | int | None,
    environment: str | None,
) -> Bound | Scope:
    """What the actor may use: the binding, or the scope that has to be bound first.

    Raises `BadInput`, `Forbidden`, `NotFound` and `Conflict` as `Core.bound` says.
    """
    record = _project(tx, actor, project)
    chosen = _environment(actor, environment)
    known = bindings.environment_of(tx, record, chosen)
    service = _ending(tx, service_type, known) or _service(tx, service_type, record)
    require_serving(service)
    if not variables.ready(tx, context, service, known.id):
        return Scope(project=record.slug, environment=chosen)
    held = projects.binding_of(tx, service.id, known.id)
    assert held is not None
    return Bound(
        service=handle_of(context, service).from_host(context).view,
        binding=held.view(),
        project_id=record.id,
        api_url=context.settings.api_url.rstrip("/"),
    )


def read_from(tx: Tx, found: Bound) -> list[Row]:
    """The rows that a binding is told by: another link of its project may put another in its place,
    and without its token an environment that needs one has none."""
    record = projects.binding(tx, found.binding.id)
    assert record is not None
    token = tokens.number_of_environment(tx, record.environment_id or 0)
    return [
        ("services", record.service_id),
        ("bindings", record.id),
        ("environments", record.environment_id or WHOLE),
        ("projects", found.project_id),
        ("links", WHOLE),
        *([("tokens", token)] if token else []),
    ]


def _project(tx: Tx, actor: Actor, given: str | int | None) -> ProjectRecord:
    actor.require("admin", "project")
    if actor.project_id is None:
        if given in (None, ""):
            why = "needed, for this token is of no project"
            raise BadInput(
                "No project given.",
                remedy="Send project_id.",
                errors={"project_id": why},
            )
        return projects.get(tx, str(given))
    own = projects.get(tx, actor.project_id)
    if given not in (None, "") and str(given) not in (str(own.id), own.slug):
        raise Forbidden(
            "This token is of another project.",
            remedy="Use the project's own token, or leave project_id out.",
        )
    return own


def _environment(actor: Actor, given: str | None) -> str:
    if actor.environment and given and given != actor.environment:
        raise Forbidden(
            "This token is of another environment.", remedy="Use that environment's own token."
        )
    return actor.environment or given or PRODUCTION


def _ending(
    tx: Tx, service_type: str, environment: EnvironmentRecord | None
) -> ServiceRecord | None:
    """The service that the environment's app still uses, although its project is not linked to it
    any more."""
    if environment is None or any(
        link.service_type == service_type
        for link in projects.links(tx, project_id=environment.project_id)
    ):
        return None
    held = [
        services.get(tx, item.service_id)
        for item in projects.ending(tx, environment_id=environment.id)
    ]
    return next((item for item in held if item.service_type == service_type), None)


def _service(tx: Tx, service_type: str, project: ProjectRecord) -> ServiceRecord:
    for link in projects.links(tx, project_id=project.id):
        if link.service_type == service_type:
            if link.state == "linked":
                return services.get(tx, link.service_id)
            raise Conflict(
                f"The link of {project.slug} is {link.state}.", remedy="Try again in a moment."
            )
    raise NotFound(
        f"{project.slug} is linked to no {service_type}.",
        remedy=f"Link it: purveyor link {service_type} {project.slug}",
    )
