"""What is done to projects, their environments and their links, as people come to it."""

from functools import partial

from purveyor.exposed import Command, Exposed
from purveyor.services.exposed import SERVICE

PROJECTS = "/api/projects"
PROJECT = f"{PROJECTS}/{{project}}"
ENVIRONMENT = f"{PROJECT}/environments/{{environment}}"
LINKS = f"{SERVICE}/projects"
SCHEMAS = "purveyor.projects.schemas"
ROUTES = "purveyor.projects.routes"

_of_project = partial(Exposed, tag="projects")
_of_link = partial(Exposed, tag="services")

CREATE_PROJECT = _of_project(
    "create-project",
    f"POST {PROJECTS}",
    "create_project",
    body="purveyor.projects.operations.projects:CreateProjectArguments",
    status=201,
    answers=f"{ROUTES}:project_made",
    command=Command(
        "create",
        "Create a project with its production environment.",
        "Creating {name}",
        words=("name",),
    ),
)
DELETE_PROJECT = _of_project(
    "delete-project",
    f"DELETE {PROJECT}",
    "delete_project",
    status=204,
    command=Command(
        "delete",
        "Delete a project that is linked to nothing; what it kept in services stays there.",
        "Deleting {project}",
        interrupts="The apps of {project} go.",
        says="The project {project} is deleted.",
        tells={"deleted": "{project}"},
    ),
)
CREATE_ENVIRONMENT = _of_project(
    "bind",
    f"POST {PROJECT}/environments",
    "create_environment",
    body=f"{SCHEMAS}:EnvironmentRequest",
    renamed={"name": "environment"},
    status=201,
    answers=f"{ROUTES}:environment_made",
    command=Command(
        "add-environment",
        "Make an environment such as a preview, with an account and a database of its own on each "
        "linked service.",
        "Adding {environment}",
        words=("environment",),
    ),
)
DELETE_ENVIRONMENT = _of_project(
    "delete-environment",
    f"DELETE {ENVIRONMENT}",
    "delete_environment",
    query=("purge",),
    status=204,
)
ROTATE = _of_project(
    "rotate",
    f"POST {ENVIRONMENT}/rotate",
    "rotate",
    about="New credentials for one environment; its next deploy injects them. The old ones work "
    "for\n`grace` seconds more.",
    query=("service", "grace"),
    status=204,
)
LINK = _of_link(
    "link",
    f"POST {LINKS}",
    "link",
    body=f"{SCHEMAS}:LinkRequest",
    renamed={"project_id": "project"},
    status=201,
    answers=f"{ROUTES}:link_made",
)
UNLINK = _of_link(
    "unlink",
    f"DELETE {LINKS}/{{project}}",
    "unlink",
    about="The data is kept. An account that an active deployment uses ends with that "
    "environment's next\ndeploy, or `now`.",
    query=("purge", "force", "now"),
    status=204,
)
REMOVE_DATABASE = _of_link(
    "remove-database",
    f"DELETE {LINKS}/{{project}}/extra-databases/{{database}}",
    "remove_database",
    about="Drop one further database in every environment of the project. Its data goes with it, "
    "which\n`purge` has to say.",
    query=("purge",),
    prepare=f"{ROUTES}:purge_as_planned",
    status=204,
)
