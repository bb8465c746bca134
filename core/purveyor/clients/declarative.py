"""``purveyor.toml``: what is to be, held against what is."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from purveyor.backups.exposed import (
    CREATE_SCHEDULE,
    DELETE_SCHEDULE,
    DISABLE_SCHEDULE,
    ENABLE_SCHEDULE,
    SCHEDULES,
    UPDATE_SCHEDULE,
)
from purveyor.cli.client import Client
from purveyor.exposed import Call
from purveyor.projects.exposed import (
    CREATE_ENVIRONMENT,
    CREATE_PROJECT,
    DELETE_PROJECT,
    LINK,
    PROJECTS,
    UNLINK,
)
from purveyor.services.exposed import BASE as SERVICES
from purveyor.services.exposed import CREATE, DELETE, UPDATE
from purveyor.upgrades.exposed import UPGRADE
from purveyor_hooks import BadInput

IMAGE = "docker_image"
SLUG = re.compile(r"(?=[0-9-]*[a-z])[a-z0-9]+(-[a-z0-9]+)*")


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A table of the file."""


class DeclaredService(Table, frozen=True):
    """`type`, and what is not the type's default. `version` chooses the default image's tag when it
    is made."""

    type: str
    version: str | None = None
    image: str | None = None
    parameters: dict[str, Any] = {}


class DeclaredProject(Table, frozen=True):
    """The names of the services that it is linked to, and its environments beside production."""

    links: list[str] = []
    environments: list[str] = []


class DeclaredSchedule(Table, frozen=True):
    """When backups are made; `services` are names, all without any."""

    when: str
    services: list[str] = []
    keep_days: int = 30
    keep_count: int = 0
    verify: bool = False
    verify_deep: bool = False
    enabled: bool = True


class Declared(Table, frozen=True):
    """The file."""

    services: dict[str, DeclaredService] = {}
    projects: dict[str, DeclaredProject] = {}
    schedules: dict[str, DeclaredSchedule] = {}


class Change(NamedTuple):
    """One difference, as a person reads it, and the call that ends it. `name` is what ``--prune``
    takes. `tried` is a plan that is refused as the call would be, where that does not depend on what
    the file makes."""

    sign: str
    name: str
    text: str
    call: Call
    tried: Call | None = None


class Present(NamedTuple):
    """What is."""

    services: dict[str, Mapping[str, Any]]
    details: dict[str, Mapping[str, Any]]
    projects: dict[str, Mapping[str, Any]]
    links: set[tuple[str, str]]
    environments: dict[str, set[str]]
    schedules: dict[str, Mapping[str, Any]]


def load(path: Path) -> Declared:
    """Raises `BadInput` that names the place in the file."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8-sig")), Declared)
    except FileNotFoundError:
        remedy = "Write one, or begin with what is: purveyor export > purveyor.toml"
        raise BadInput(
            f"There is no file {path}.", remedy=remedy, errors={"file": "there is none"}
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not TOML: {error}.", errors={"file": str(error)}) from None
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{path} cannot be used: {error}.",
            remedy="To see a valid file: purveyor export",
            errors={"file": str(error)},
        ) from None


async def load_present(client: Client) -> Present:
    """Look at everything that a file can speak of."""
    services = {item["slug"]: item for item in await client.pages(f"{SERVICES}/")}
    details = {slug: await client.get(f"{SERVICES}/{slug}") for slug in services}
    projects = {item["slug"]: item for item in await client.pages(PROJECTS)}
    links, environments = set(), {}
    for slug in projects:
        links |= {
            (link["service"]["slug"], slug)
            for link in await client.get(f"{SERVICES}/projects/{slug}")
        }
        environments[slug] = {
            item["slug"] for item in await client.get(f"{PROJECTS}/{slug}/environments")
        }
    schedules = {item["name"]: item for item in await client.get(SCHEDULES)}
    return Present(services, details, projects, links, environments, schedules)


def differences(wanted: Declared, now: Present) -> list[Change]:
    """What has to be done, in the order in which it can be. Raises `BadInput` for what cannot."""
    _check(wanted, now)
    found = [
        change for name, item in wanted.services.items() for change in _service(name, item, now)
    ]
    for name, project in wanted.projects.items():
        if name not in now.projects:
            found.append(
                Change("+", f"project.{name}", f"project {name}", CREATE_PROJECT.call(name=name))
            )
        for environment in project.environments:
            if environment not in now.environments.get(name, set()):
                text = f"environment {environment} of {name}"
                call = CREATE_ENVIRONMENT.call(project=name, environment=environment)
                found.append(Change("+", f"environment.{name}.{environment}", text, call))
        for service in project.links:
            if (service, name) not in now.links:
                text, call = f"link {service} → {name}", LINK.call(service=service, project=name)
                found.append(Change("+", f"link.{service}.{name}", text, call))
    found += [
        change for name, item in wanted.schedules.items() for change in _schedule(name, item, now)
    ]
    return found


def _check(wanted: Declared, now: Present) -> None:
    errors = {}
    known = {*wanted.services, *now.services}
    named = {f"services.{name}": name for name in wanted.services.keys() - now.services.keys()}
    named |= {f"projects.{name}": name for name in wanted.projects.keys() - now.projects.keys()}
    for name, project in wanted.projects.items():
        named |= {
            f"projects.{name}.environments": environment
            for environment in project.environments
            if not _is_slug(environment)
        }
    for field, name in named.items():
        if not _is_slug(name):
            errors[field] = (
                f"{name!r} must be lower-case letters, digits and hyphens: by that it is found "
                "again"
            )
    for name, project in wanted.projects.items():
        for service in project.links:
            if service not in known:
                errors[f"projects.{name}.links"] = f"there is no service {service!r}"
        if twice := _twice(wanted, now, [name for name in project.links if name in known]):
            errors[f"projects.{name}.links"] = (
                f"{' and '.join(twice)} are of one type, and a project has one service of each"
            )
    for name, schedule in wanted.schedules.items():
        if missing := [service for service in schedule.services if service not in known]:
            errors[f"schedules.{name}.services"] = f"there is no service {missing[0]!r}"
    for name, item in wanted.services.items():
        held = now.services.get(name)
        if held and held["service_type"] != item.type:
            errors[f"services.{name}.type"] = (
                f"it is a {held['service_type']}, and cannot become a {item.type}"
            )
        if item.image and item.version:
            errors[f"services.{name}.version"] = "give it or image, not both"
    if errors:
        listed = "; ".join(f"{field}: {why}" for field, why in errors.items())
        raise BadInput(
            f"The file cannot be applied: {listed}.", remedy="Fix the fields listed.", errors=errors
        )


def _twice(wanted: Declared, now: Present, links: Sequence[str]) -> Sequence[str]:
    """The first services of these that are of one type."""
    seen: dict[str, str] = {}
    for name in dict.fromkeys(links):
        kind = (
            now.services[name]["service_type"]
            if name in now.services
            else wanted.services[name].type
        )
        if kind in seen:
            return seen[kind], name
        seen[kind] = name
    return ()


async def find_changes(
    client: Client, wanted: Declared, prune: Sequence[str]
) -> tuple[list[Change], list[Change]]:
    """What has to be done, in the order in which it can be, and what is left as it is. Raises
    `BadInput` for what cannot, as far as that is known before any of it is done."""
    now = await load_present(client)
    left = beyond(wanted, now)
    ends = choose_changes(left, prune)
    found = differences(wanted, now)
    for change in found:
        if change.tried is not None:
            await client.ask(change.tried)
    # a project that goes from one service to another of its type leaves the first one first
    unlinks = [item for item in ends if item.name.startswith("link.")]
    first = next((at for at, item in enumerate(found) if item.name.startswith("link.")), len(found))
    changes = [*found[:first], *unlinks, *found[first:]]
    return [*changes, *(item for item in ends if item not in unlinks)], [
        item for item in left if item not in ends
    ]


def _is_slug(name: str) -> bool:
    return SLUG.fullmatch(name) is not None


def _service(name: str, item: DeclaredService, now: Present) -> list[Change]:
    held = now.services.get(name)
    if held is None:
        parameters = {**item.parameters, **({IMAGE: item.image} if item.image else {})}
        body: dict[str, Any] = {"name": name, "service_type": item.type, "parameters": parameters}
        if item.version:
            body["version"] = item.version
        image = f" ({item.image or item.version})" if item.image or item.version else ""
        text = f"service {name}: {item.type}{image}"
        return [
            Change("+", f"service.{name}", text, CREATE.call(body), CREATE.call(body, plan=True))
        ]
    found = []
    details = now.details[name]
    schema, current = details["parameter_schema"]["properties"], details["current_parameters"]
    changed = {}
    for parameter, value in item.parameters.items():
        if schema.get(parameter, {}).get("x-secret"):
            continue  # it is not told, and given when the service is made
        before = str(current.get(parameter))
        if before != _text(value):
            changed[parameter] = (before, value)
    if changed:
        text = ", ".join(
            f"{parameter} {before} → {value}" for parameter, (before, value) in changed.items()
        )
        values = {parameter: value for parameter, (_, value) in changed.items()}
        call = UPDATE.call(service=name, parameters=values)
        tried = UPDATE.call(service=name, parameters=values, plan=True)
        found.append(Change("~", f"service.{name}", f"service {name}: {text}", call, tried))
    if item.image and item.image != held["docker_image"]:
        text = f"service {name}: image {held['docker_image']} → {item.image}"
        call = UPGRADE.call(service=name, docker_image=item.image)
        found.append(Change("~", f"service.{name}", text, call))
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _schedule(name: str, item: DeclaredSchedule, now: Present) -> list[Change]:
    body = {
        "name": name,
        "schedule_expression": item.when,
        "service_ids": list(item.services),
        "retention_period": item.keep_days,
        "retention_count": item.keep_count,
        "verify": item.verify,
        "verify_deep": item.verify_deep,
        "enabled": item.enabled,
    }
    held = now.schedules.get(name)
    # a plan knows the services alone that are there
    known = [service for service in item.services if service in now.services]
    if held is None:
        plan = CREATE_SCHEDULE.call({**body, "service_ids": known}, plan=True)
        text = f"schedule {name}: {item.when}"
        return [Change("+", f"schedule.{name}", text, CREATE_SCHEDULE.call(body), plan)]
    ids = {view["id"]: slug for slug, view in now.services.items()}
    as_is = {
        **{key: held[key] for key in body if key != "service_ids"},
        "service_ids": [ids.get(n) for n in held["service_ids"]],
    }
    different = [key for key in body if body[key] != as_is[key]]
    if not different:
        return []
    if different == ["enabled"]:
        word = "enable" if item.enabled else "disable"
        switch = ENABLE_SCHEDULE if item.enabled else DISABLE_SCHEDULE
        text = f"schedule {name}: {word}"
        return [Change("~", f"schedule.{name}", text, switch.call(schedule=name))]
    text = f"schedule {name}: {', '.join(different)}"
    wanted = {key: body[key] for key in different}
    planned = wanted | ({"service_ids": known} if "service_ids" in wanted else {})
    return [
        Change(
            "~",
            f"schedule.{name}",
            text,
            UPDATE_SCHEDULE.call(wanted, schedule=name),
            UPDATE_SCHEDULE.call(planned, plan=True, schedule=name),
        )
    ]


def beyond(wanted: Declared, now: Present) -> list[Change]:
    """What is there and not in the file: it stays, unless it is named to ``--prune``."""
    found = []
    for service, project in sorted(now.links):
        if project in wanted.projects and service not in wanted.projects[project].links:
            text = f"link {service} → {project} (its data is kept)"
            call = UNLINK.call(service=service, project=project)
            found.append(Change("-", f"link.{service}.{project}", text, call))
    for name in now.schedules.keys() - wanted.schedules.keys():
        call = DELETE_SCHEDULE.call(schedule=name)
        found.append(Change("-", f"schedule.{name}", f"schedule {name}", call))
    for name in now.projects.keys() - wanted.projects.keys():
        call = DELETE_PROJECT.call(project=name)
        found.append(Change("-", f"project.{name}", f"project {name}", call))
    for name in now.services.keys() - wanted.services.keys():
        text = f"service {name} (its data is kept)"
        found.append(Change("-", f"service.{name}", text, DELETE.call(service=name)))
    return found


def choose_changes(left: Sequence[Change], prune: Sequence[str]) -> list[Change]:
    """What of it was named. Raises `BadInput` for a name that is not there."""
    names = {change.name for change in left}
    if unknown := [name for name in prune if name not in names]:
        why = f"there is no {unknown[0]} that is not in the file"
        known = f"There are: {', '.join(sorted(names))}." if names else "Everything is in the file."
        raise BadInput(f"It cannot be pruned: {why}.", remedy=known, errors={"prune": why})
    return [change for change in left if change.name in prune]


def export(now: Present) -> str:
    """What is, as a file. Secrets are not in it."""
    import tomli_w

    services: dict[str, Any] = {}
    for slug, view in now.services.items():
        details = now.details[slug]
        schema, current = (
            details["parameter_schema"].get("properties", {}),
            details["current_parameters"],
        )
        kept = {
            name: _typed(schema[name], value)
            for name, value in current.items()
            if _is_told(name, value, schema)
        }
        services[slug] = {"type": view["service_type"], "image": view["docker_image"]} | (
            {"parameters": kept} if kept else {}
        )
    projects: dict[str, Any] = {}
    for slug in now.projects:
        links = sorted(service for service, project in now.links if project == slug)
        extra = sorted(now.environments[slug] - {"production"})
        projects[slug] = ({"links": links} if links else {}) | (
            {"environments": extra} if extra else {}
        )
    ids = {view["id"]: slug for slug, view in now.services.items()}
    schedules = {
        name: {
            "when": item["schedule_expression"],
            "keep-days": item["retention_period"],
            "keep-count": item["retention_count"],
            "verify": item["verify"],
            "verify-deep": item["verify_deep"],
            "enabled": item["enabled"],
            "services": [ids[number] for number in item["service_ids"] if number in ids],
        }
        for name, item in now.schedules.items()
        # one for nothing but what is deleted makes nothing; without services it would make all
        if not item["service_ids"] or ids.keys() & set(item["service_ids"])
    }
    tables = {"services": services, "projects": projects, "schedules": schedules}
    return tomli_w.dumps({name: table for name, table in tables.items() if table})


def _is_told(name: str, value: str, schema: Mapping[str, Any]) -> bool:
    """Whether a parameter is one that somebody chose and that may be shown."""
    item = schema.get(name)
    if item is None or name == IMAGE or item.get("x-secret") or item.get("x-generated"):
        return False
    return value != _text(item.get("default"))


def _typed(schema: Mapping[str, Any], value: str) -> Any:
    kinds = schema.get("type")
    if kinds == "boolean":
        return value == "true"
    return (
        int(value)
        if isinstance(kinds, list) and "integer" in kinds and value.lstrip("-").isdigit()
        else value
    )
