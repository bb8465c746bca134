"""What the SDKs share: where the API is, from the variables that a link injects, and its errors.

There is one such file, and each SDK's wheel has it (in purveyor_blob it is a link), so that neither
needs another package for it.
"""

import os
from typing import Any, TypeVar

import msgspec

E = TypeVar("E", bound="ApiError")


class ApiError(Exception):
    """A call that failed: `code` is a stable name, `status` the HTTP status, `title`, `detail` and
    `remedy` are for people."""

    def __init__(self, code: str, status: int, title: str, detail: str, remedy: str = "") -> None:
        super().__init__(f"{detail} {remedy}".strip())
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.remedy = remedy


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API is and who asks: `url` is its root, without ``/api``; all are "" where nothing
    says it."""

    url: str
    token: str
    project_id: str

    @classmethod
    def of(cls, url: str | None, token: str | None, project_id: str | int | None) -> "Place":
        """What was given, else what the variables PURVEYOR_API_URL, _TOKEN and _PROJECT_ID say, or
        TEMPS_ for PURVEYOR_."""
        return cls(
            url=(url or variable("API_URL")).rstrip("/"),
            token=token or variable("TOKEN"),
            project_id=str(project_id if project_id is not None else variable("PROJECT_ID")),
        )

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def variable(name: str) -> str:
    """An injected variable, under either of its names."""
    return os.environ.get(f"PURVEYOR_{name}") or os.environ.get(f"TEMPS_{name}", "")


def bad_input(kind: type[E], detail: str, remedy: str = "") -> E:
    """The error for what the caller gave."""
    return kind("bad-input", 400, "Invalid request", detail, remedy)


def unreachable(kind: type[E], error: Exception) -> E:
    """The error for an API that does not answer."""
    remedy = "Is Purveyor running? See PURVEYOR_API_URL."
    return kind(
        "failed",
        502,
        "The operation failed",
        f"The API does not answer ({type(error).__name__}).",
        remedy,
    )


def answered(kind: type[E], status: int, content: bytes) -> Any:
    """What an answer of the API holds. Raises the error that it tells."""
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        detail = f"The server answered {status}, and not with JSON."
        raise kind(
            "failed", 502, "The operation failed", detail, "Is PURVEYOR_API_URL right?"
        ) from None
    if status < 400:
        return found
    code = str(found.get("type", "")).rpartition(":")[2] or "failed"
    raise kind(
        code, status, found.get("title", ""), found.get("detail", ""), found.get("remedy", "")
    )
