"""The secret parameters of a service type, kept out of what people and logs get to see."""

from collections.abc import Mapping
from typing import Any

from purveyor.kernel.redact import MASK
from purveyor_hooks import ServiceType


def secret_values(kind: ServiceType, parameters: Mapping[str, Any]) -> list[str]:
    """The values of a service's secret parameters."""
    return [
        str(parameters[item.name])
        for item in kind.parameters
        if item.secret and parameters.get(item.name)
    ]


def secret_names(kind: ServiceType) -> set[str]:
    """The names of a type's secret parameters."""
    return {item.name for item in kind.parameters if item.secret}


def mask_parameters(kind: ServiceType | None, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as text, secrets masked; without their type, all of them."""
    if kind is None:
        return dict.fromkeys(parameters, MASK)
    hidden = secret_names(kind)
    return {name: MASK if name in hidden else _text(value) for name, value in parameters.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
