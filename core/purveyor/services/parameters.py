"""A service's parameters: what may be given, what is made up, and what is wrong with what was
given."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from purveyor.docker import ports
from purveyor.kernel import naming
from purveyor.settings import Settings
from purveyor_hooks import BadInput, Parameter, ServiceType, certificates, references

IMAGE = "docker_image"
MOST_ERRORS = 20  # that one answer names
_VERSIONED = re.compile(r"v?\d[\w.]*(?P<rest>(?:-.*)?)")


def default_image(kind: ServiceType, settings: Settings) -> str:
    return settings.default_images.get(kind.name, kind.default_image)


def declared_parameters(kind: ServiceType, settings: Settings) -> dict[str, Parameter]:
    """All parameters of a type by name, the image among them."""
    image = Parameter(
        name=IMAGE,
        help="The Docker image to run. Another major version needs an upgrade.",
        default=default_image(kind, settings),
    )
    return {item.name: _of_installation(item, settings) for item in (*kind.parameters, image)}


def _of_installation(item: Parameter, settings: Settings) -> Parameter:
    """A parameter with the default that the installation has for it."""
    chosen = item.name == certificates.SSL_MODE.name and settings.ssl_mode in item.choices
    return msgspec.structs.replace(item, default=settings.ssl_mode) if chosen else item


def schema(kind: ServiceType, settings: Settings) -> dict[str, Any]:
    """The JSON Schema of a type's parameters, with ``x-editable`` on each."""
    properties = {}
    for item in declared_parameters(kind, settings).values():
        entry: dict[str, Any] = {
            "type": [item.kind, "string"] if item.kind == "integer" else item.kind,
            "title": item.name.replace("_", " ").capitalize(),
            "description": item.help,
            "x-editable": item.editable,
        }
        bounds = {
            "minimum": item.minimum,
            "maximum": item.maximum,
            "pattern": item.pattern,
            "default": item.default,
        }
        entry |= {name: value for name, value in bounds.items() if value is not None}
        if item.choices:
            entry["enum"] = list(item.choices)
        if item.secret:
            entry |= {"writeOnly": True, "x-secret": True}
        if item.generated:
            entry["x-generated"] = item.generated
        properties[item.name] = entry
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.label,
        "type": "object",
        "properties": properties,
        "required": [],
        "additionalProperties": False,
    }


def require_image(reference: str) -> str:
    """An image reference, trimmed. Raises `BadInput` for what cannot be one."""
    trimmed = reference.strip()
    try:
        references.parse(trimmed)
    except ValueError as error:
        detail = f"The image {trimmed[:100]!r} cannot be used: it {error}."
        raise BadInput(detail, errors={IMAGE: str(error)}) from None
    return trimmed


def image_for(kind: ServiceType, settings: Settings, version: str) -> str:
    """The default image with another version in its tag. Raises `BadInput`."""
    image = default_image(kind, settings)
    parts = references.parts_of(image)
    tag = _VERSIONED.fullmatch(parts.tag)
    if not re.fullmatch(r"\d[\w.]{0,20}", version) or not tag or parts.digest:
        why = f"not a version of {image}"
        remedy = "Give a number such as 17, or the whole image in parameters.docker_image."
        raise BadInput(
            f"The version {version!r} cannot be used.", remedy=remedy, errors={"version": why}
        )
    return str(msgspec.structs.replace(parts, tag=f"{version}{tag['rest']}"))


def for_new_service(
    kind: ServiceType, settings: Settings, given: Mapping[str, Any], taken: Collection[int]
) -> dict[str, Any]:
    """Complete, typed parameters for a new service. Raises `BadInput` naming each field."""
    known = declared_parameters(kind, settings)
    values = _checked(known, given)
    _check_ports(known, values, taken)
    used = {*taken, *(value for name, value in values.items() if known[name].generated == "port")}
    for item in known.values():
        if item.name in values:
            continue
        match item.generated:
            case "port":
                values[item.name] = ports.lowest_free(item.base + settings.port_offset, used)
                used.add(values[item.name])
            case "password":
                values[item.name] = naming.password(item.length)
            case "key":
                values[item.name] = naming.key(item.length)
            case None:
                values[item.name] = item.default
    return values


def for_imported_service(kind: ServiceType, given: Mapping[str, Any]) -> dict[str, Any]:
    """Typed parameters for a container that is there already: nothing is made up, ports are the
    container's own, and what an installation wants of its own servers says nothing of this one.

    A secret that is not given is "". Raises as `fresh` does.
    """
    known = {item.name: item for item in kind.parameters if item.generated != "port"}
    values = _checked(known, {name: value for name, value in given.items() if value != ""})
    return {
        name: values.get(name, "" if item.generated else default_before(item))
        for name, item in known.items()
    }


def default_before(item: Parameter) -> str | int | bool | None:
    """What a service has that was made without this parameter."""
    return item.default if item.former is None else item.former


def change_parameters(
    kind: ServiceType,
    settings: Settings,
    current: Mapping[str, Any],
    given: Mapping[str, Any],
    taken: Collection[int],
) -> dict[str, Any]:
    """The parameters after a change. A read-only one may be repeated, not altered. Raises as
    `fresh` does."""
    known = declared_parameters(kind, settings)
    values = _checked(known, given)
    errors = {
        name: "cannot be changed after creation"
        for name, value in values.items()
        if not known[name].editable and value != current.get(name, known[name].former)
    }
    if errors:
        raise _bad(kind.name, errors)
    mine = {current.get(item.name) for item in known.values() if item.generated == "port"}
    _check_ports(
        known,
        {name: value for name, value in values.items() if value not in mine},
        set(taken) - mine,
    )
    return {**current, **values}


def rebuild_parameters(
    kind: ServiceType, settings: Settings, before: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """All parameters of data that is made anew from a service's: of what cannot be changed, a
    choice can be made again then."""
    known = declared_parameters(kind, settings)
    errors = {
        name: "may not be chosen in an upgrade" if name in known else "unknown"
        for name in given
        if name not in known or known[name].editable or not known[name].choices
    }
    if errors:
        raise _bad(kind.name, errors)
    return {**before, **_checked(known, given)}


def alike(kind: ServiceType, values: Mapping[str, Any], ours: Collection[str]) -> dict[str, Any]:
    """What to give to another service that shall be like one with these: parameters that are not
    the default, and are not `ours` to choose. One without a parameter is not what a new one is."""
    defaults = {item.name: item.default for item in kind.parameters if item.name not in ours}
    former = {item.name: item.former for item in kind.parameters if item.former is not None}
    return {
        name: value
        for name, value in {**former, **values}.items()
        if name in defaults and value != defaults[name]
    }


def _checked(known: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    values, errors = {}, {}
    for name, value in given.items():
        item = known.get(name)
        if item is None:
            errors[name] = f"unknown; known are {', '.join(known)}"
            if len(errors) >= MOST_ERRORS:
                break
            continue
        try:
            values[name] = _typed(item, value)
        except ValueError as error:
            errors[name] = str(error)
    if errors:
        raise _bad("", errors)
    return values


def _bad(kind: str, errors: dict[str, str]) -> BadInput:
    listed = "; ".join(f"{name}: {why}" for name, why in errors.items())
    remedy = f"See: purveyor types {kind}".strip()
    return BadInput(f"Parameters cannot be used: {listed}.", remedy=remedy, errors=errors)


def _typed(item: Parameter, value: Any) -> Any:
    """The value in the parameter's own type. Raises `ValueError` that says what is expected."""
    match item.kind:
        case "integer":
            if isinstance(value, str) and re.fullmatch(r"-?\d{1,12}", value.strip()):
                value = int(value)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError("must be a whole number")
            low, high = item.minimum, item.maximum
            if item.generated == "port":
                low, high = max(low or 1, 1), min(high or ports.LAST, ports.LAST)
            if (low is not None and value < low) or (high is not None and value > high):
                raise ValueError(
                    f"must be from {low} to {high}"
                    if high is not None
                    else f"must be at least {low}"
                )
        case "boolean":
            if isinstance(value, str) and value.lower() in ("true", "false"):
                value = value.lower() == "true"
            if not isinstance(value, bool):
                raise ValueError("must be true or false")
        case "string":
            if not isinstance(value, str):
                raise ValueError("must be text")
            if any(ord(character) < 32 or ord(character) == 127 for character in value):
                raise ValueError("must not hold control characters")
            if item.choices and value not in item.choices:
                raise ValueError(f"must be one of {', '.join(item.choices)}")
            if item.pattern and not re.fullmatch(item.pattern, value):
                raise ValueError("must be of the form " + item.pattern)
            if item.name == IMAGE:
                references.parse(value)
            if not value or len(value) > 4096:
                raise ValueError("must be 1 to 4096 characters")
    return value


def _check_ports(
    known: Mapping[str, Parameter], values: Mapping[str, Any], taken: Collection[int]
) -> None:
    errors: dict[str, str] = {}
    seen: set[int] = set()
    for name, value in values.items():
        if known[name].generated == "port":
            if value in seen:
                errors[name] = "the same port twice"
            elif value in taken:
                errors[name] = f"port {value} is another service's"
            elif not ports.is_free(value):
                errors[name] = f"port {value} on 127.0.0.1 is in use by another program"
            seen.add(value)
    if errors:
        listed = "; ".join(f"{name}: {why}" for name, why in errors.items())
        raise BadInput(
            f"Ports are not available: {listed}.",
            remedy="Choose another, or leave it out.",
            errors=errors,
        )
