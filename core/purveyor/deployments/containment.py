"""What an app may do, and what a project's own token may ask for: decided here, and nowhere else.

Every app's container starts without any of Linux's capabilities, can gain none (no-new-privileges),
has an end to its memory and to its processes, and runs as the user that its image names. What
begins as root in an image and then goes on as somebody else (nginx, PHP's and Apache's images)
needs CHOWN, SETGID and SETUID for that step, which an app that was taken over could use as well.
Peers differ: Docker gives fourteen capabilities to everybody, Kubernetes' profile "restricted" and
OpenShift give none. None is what is given here. Who needs one takes an image with a user of its own
(nginxinc/nginx-unprivileged and the like; ports below 1024 are open to all inside a container), or
has an administrator add it: to one deployment (`cap_add`), or to every app (the setting
`app-capabilities`). A deploy that fails for want of one says so.

A project's token asks for nothing beyond that: no capability, no more memory or processes than the
settings say, environments up to `project-environments`, and images that `deploy-images` lists.
Where that lists nothing, any registry will do that is reached by a name and its usual port: with an
address, `localhost` or a port in it the engine would be made to try doors of this host and of its
neighbours. An image that another project runs, and this one does not, is that project's: it may
hold what is nobody else's business, and it is on the engine already. Who asks for it is told that
it is not available, as of one that nobody has: what others run is not told either. What the project
itself has run, an administrator or an older Purveyor let in: later tags of it are let in as well.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from purveyor.deployments import store as deployment_store
from purveyor.docker import capabilities
from purveyor.kernel.db import Tx
from purveyor.projects import store as projects
from purveyor.projects.models import ProjectRecord
from purveyor.settings import Settings
from purveyor_hooks import (
    AppSpec,
    Conflict,
    ContainerSpec,
    Deployment,
    Forbidden,
    Limits,
    references,
)

MB = 1024 * 1024
LEAST_MEMORY, MOST_MEMORY = 8, 16_777_216
MOST_PIDS = 4_194_304
HUB = "docker.io"
WITHHELD = re.compile(r"not permitted|permission denied", re.IGNORECASE)
TO_CHANGE_USER = ("CHOWN", "SETGID", "SETUID")


def spec_of(deployment: Deployment, app: AppSpec, settings: Settings) -> ContainerSpec:
    """The container of an app, contained."""
    memory = app.memory if app.memory is not None else settings.app_memory * MB or None
    return ContainerSpec(
        image=app.image,
        command=app.command,
        environment={variable.name: variable.value for variable in deployment.variables},
        stop_timeout=10,
        limits=Limits(memory=memory, pids=app.pids or settings.app_pids),
        capabilities=capabilities_of(app, settings),
    )


def capabilities_of(app: AppSpec, settings: Settings) -> tuple[str, ...]:
    """Those of the deployment, and those of all apps."""
    return tuple(sorted({*app.capabilities, *map(capabilities.name_of, settings.app_capabilities)}))


def wrong(*, memory: int | None, pids: int | None, cap_add: Sequence[str]) -> dict[str, str]:
    """What of a request is no limit or no capability, whoever asks."""
    errors = {}
    if memory is not None and not LEAST_MEMORY <= memory <= MOST_MEMORY:
        errors["memory"] = f"must be from {LEAST_MEMORY} to {MOST_MEMORY} MB"
    if pids is not None and not 1 <= pids <= MOST_PIDS:
        errors["pids"] = f"must be from 1 to {MOST_PIDS}"
    for name in cap_add:
        try:
            capabilities.name_of(name)
        except ValueError as error:
            errors["cap_add"] = str(error)
    return errors


# ----------------------------------------------------------- what a project's own token may ask for


def require_modest(
    settings: Settings, *, memory: int | None, pids: int | None, cap_add: Sequence[str]
) -> None:
    """Raise `Forbidden` for what only an administrator may ask for."""
    errors = {}
    if cap_add:
        errors["cap_add"] = "for admin tokens only"
    if memory is not None and settings.app_memory and memory > settings.app_memory:
        errors["memory"] = f"at most {settings.app_memory} MB (app-memory)"
    if pids is not None and pids > settings.app_pids:
        errors["pids"] = f"at most {settings.app_pids} (app-pids)"
    if errors:
        listed = "; ".join(f"{name}: {why}" for name, why in errors.items())
        remedy = "Leave it out, or have an administrator deploy this once or change the setting."
        raise Forbidden(
            f"A project's token may not ask for this: {listed}.", remedy=remedy, errors=errors
        )


def require_room(tx: Tx, settings: Settings, project: ProjectRecord) -> None:
    """Raise `Conflict` when a project's token has made as many environments as it may."""
    number, most = len(projects.environments(tx, project.id)), settings.project_environments
    if number >= most:
        raise Conflict(
            f"{project.slug} has {number} environments, and a project's own token makes no more "
            f"than {most}.",
            remedy=(
                "Deploy to one that there is, or have an administrator make this one, or raise "
                "project-environments."
            ),
            errors={"environment": "too many"},
        )


def require_image(settings: Settings, project: ProjectRecord, image: str, *, ours: bool) -> str:
    """The image as it is to be deployed, with a tag: a bare word may be the beginning of any
    image's id. Raises `Forbidden` for one that is not listed, or whose registry would be tried;
    `ours`: the project runs it already."""
    parts = references.parse(image)
    if parts.repository == "sha256":  # what the engine takes for an image's id
        raise _refused(image, "it is an image's id")
    if settings.deploy_images and not _fitting(settings, project, parts):
        raise _refused(
            image,
            "it is not listed in deploy-images",
            "List it there, or have an administrator deploy it.",
        )
    inner = _inner(parts.registry)
    if inner and not ours and not _is_listed(settings, project, parts):
        raise _refused(image, f"its registry {inner}")
    return image if parts.tag or parts.digest else f"{image}:latest"


def is_ours(tx: Tx, project: ProjectRecord, image: str) -> bool:
    """Whether a project runs an image, or did."""
    return project.id in _users(tx, image)


def is_anothers(tx: Tx, settings: Settings, project: ProjectRecord, image: str) -> bool:
    """Whether other projects run an image, this one does not, and nothing lists it for it. Who asks
    for such a one is told what they are told of one that is not there."""
    users = _users(tx, image)
    listed = _is_listed(settings, project, references.parts_of(image))
    return bool(users) and project.id not in users and not listed


def _users(tx: Tx, image: str) -> set[int]:
    """The projects that run an image, or did: any tag of it."""
    repository = whole(references.parts_of(image).repository)
    return {
        number
        for number, used in deployment_store.images(tx)
        if whole(references.parts_of(used).repository) == repository
    }


def _fitting(settings: Settings, project: ProjectRecord, parts: references.Reference) -> list[str]:
    """What of the list fits an image."""
    listed = [pattern.replace("{project}", project.slug) for pattern in settings.deploy_images]
    repository = whole(parts.repository)
    return [pattern for pattern in listed if fits(repository, parts.registry, pattern)]


def _is_listed(settings: Settings, project: ProjectRecord, parts: references.Reference) -> bool:
    """Whether an image is meant by the list: what lists everything means none."""
    return any(pattern != "*" for pattern in _fitting(settings, project, parts))


def whole(repository: str) -> str:
    """A repository with its registry: ``nginx`` is docker.io/library/nginx."""
    parts = references.parts_of(repository)
    if parts.registry not in ("", HUB, f"index.{HUB}"):
        return repository
    return f"{HUB}/{parts.path if '/' in parts.path else f'library/{parts.path}'}"


def fits(repository: str, registry: str, pattern: str) -> bool:
    """Whether a pattern lists a repository. One that is reached by an address or a port has to be
    listed with it spelt out."""
    if _inner(registry) and not pattern.startswith(f"{registry}/"):
        return False
    first = pattern.partition("/")[0]
    named = "/" in pattern and (
        "." in first or ":" in first or "*" in first or first == "localhost"
    )
    plain = (
        pattern
        if named or pattern == "*"
        else f"{HUB}/{pattern if '/' in pattern else f'library/{pattern}'}"
    )
    return fnmatchcase(repository, plain)


def _inner(registry: str) -> str:
    """Why a registry may be a door of this host or of its neighbours, "" when it is reached as all
    the world reaches it."""
    host, port = registry, ""
    if not registry.startswith("[") or "]:" in registry:
        host, _, port = registry.rpartition(":") if ":" in registry else (registry, "", "")
    if port:
        return "has a port"
    last = host.rpartition(".")[2]
    if host.startswith("[") or last.isdigit() or re.fullmatch(r"0[xX][0-9a-fA-F]*", last):
        return "is an address"
    return "is this host" if last.lower() == "localhost" else ""


def _refused(image: str, why: str, remedy: str = "") -> Forbidden:
    return Forbidden(
        f"A project's token may not deploy {image}: {why}.",
        remedy=remedy
        or (
            "Have an administrator deploy it to this project once, or list it in the setting "
            "deploy-images."
        ),
        errors={"image": why},
    )


def advice(app: AppSpec, user: str, settings: Settings, said: str) -> str:
    """What to do about an app that ended for want of a capability, "" where it does not look like
    that."""
    if user.partition(":")[0] not in ("", "0", "root") or not WITHHELD.search(said):
        return ""
    missing = [name for name in TO_CHANGE_USER if name not in capabilities_of(app, settings)]
    if not missing:
        return ""
    flags = " ".join(f"--cap-add {name}" for name in TO_CHANGE_USER)
    return (
        f"The image {app.image} starts as root, and apps have none of root's capabilities. Use one "
        "that starts as a user of its "
        f"own, or have an administrator deploy it with {flags}, or set app-capabilities for all "
        "apps."
    )
