"""Errors as they are stored with an operation and sent in an answer, and back."""

from collections.abc import Mapping
from typing import Any

from purveyor_hooks import Failed, PurveyorError, errors


def describe(error: PurveyorError) -> dict[str, Any]:
    """An error as it is stored with its operation."""
    return {
        "code": error.code,
        "detail": error.detail,
        "remedy": error.remedy,
        "errors": error.errors,
    }


def how_to_go_on(operation_id: int) -> str:
    """What to do about an operation that goes on without its caller."""
    return (
        f"Follow it: purveyor operations follow {operation_id}; take it back: purveyor "
        f"operations cancel {operation_id}"
    )


def error_from(stored: Mapping[str, Any]) -> PurveyorError:
    """The error that was stored, of the class that it had."""
    kinds = {
        kind.code: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PurveyorError)
    }
    kind = kinds.get(str(stored.get("code")), Failed)
    return kind(
        str(stored.get("detail", "It failed.")),
        remedy=str(stored.get("remedy", "")),
        errors=stored.get("errors") or {},
    )
