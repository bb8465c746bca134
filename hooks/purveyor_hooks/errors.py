"""The one error family: every error says what is wrong, where, and what to do about it.

The API renders these as problem details (RFC 9457), the CLI as two lines and an exit code, the
dashboard as a message. Their text is shown to people and written to logs: it never holds a secret.
"""

from collections.abc import Mapping


class PurveyorError(Exception):
    """Something a person can act on.

    `detail` says what is wrong in one sentence, `remedy` what to do next, `errors` what is wrong
    with each field. `status` is the HTTP status, `code` a stable name for programs, `exit_code`
    what the CLI ends with.
    """

    status = 500
    code = "internal"
    title = "Something went wrong"
    exit_code = 1

    def __init__(
        self, detail: str, *, remedy: str = "", errors: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.errors = dict(errors or {})

    def __str__(self) -> str:
        return f"{self.detail} {self.remedy}".strip()


class BadInput(PurveyorError):
    """What the caller gave cannot be used; `errors` names each field."""

    status = 400
    code = "bad-input"
    title = "Invalid request"
    exit_code = 2


class Unauthorized(PurveyorError):
    """No token, or one that is unknown, expired or revoked."""

    status = 401
    code = "unauthorized"
    title = "A valid token is needed"
    exit_code = 3


class Forbidden(PurveyorError):
    """The token is valid but may not do this."""

    status = 403
    code = "forbidden"
    title = "This token may not do that"
    exit_code = 3


class NotFound(PurveyorError):
    """There is no such thing."""

    status = 404
    code = "not-found"
    title = "There is no such thing"
    exit_code = 4


class Gone(PurveyorError):
    """It was there, and is not kept any more."""

    status = 410
    code = "gone"
    title = "It is not kept any more"
    exit_code = 4


class Conflict(PurveyorError):
    """The request is fine but the state of the world stands in its way."""

    status = 409
    code = "conflict"
    title = "Something stands in the way"
    exit_code = 5


class DataRefused(Conflict):
    """The recorded data set is gone or is another one; nothing was started on it."""

    code = "data-refused"
    title = "The data is not what was recorded"


class Vetoed(Conflict):
    """A plugin refused the operation, with a reason."""

    code = "vetoed"
    title = "A plugin refused this"


class TooMany(PurveyorError):
    """It was tried too often; after a while it may be tried again."""

    status = 429
    code = "too-many"
    title = "That was too often"
    exit_code = 5


class Failed(PurveyorError):
    """A step of an operation failed."""

    status = 502
    code = "failed"
    title = "The operation failed"
    exit_code = 6


class ImageMissing(Failed):
    """The image is not on the engine and cannot be pulled."""

    status = 409
    code = "image-missing"
    title = "Image not available"


class DeadlineExceeded(Failed):
    """A step took longer than it may."""

    status = 504
    code = "deadline-exceeded"
    title = "It took too long"


class Interrupted(PurveyorError):
    """Purveyor was stopped before the operation ended; it goes on at the next start."""

    status = 503
    code = "interrupted"
    title = "The operation was interrupted"
    exit_code = 6


class Cancelled(PurveyorError):
    """Somebody had the operation stopped; what was begun is taken back."""

    status = 409
    code = "cancelled"
    title = "The operation was cancelled"
    exit_code = 6


class EngineUnavailable(PurveyorError):
    """The Docker Engine is unreachable or denies access."""

    status = 503
    code = "engine-unavailable"
    title = "The Docker Engine cannot be reached"
    exit_code = 7


class DaemonUnavailable(PurveyorError):
    """The daemon that was asked does not answer, or went away in the middle."""

    status = 503
    code = "daemon-unavailable"
    title = "The daemon does not answer"
    exit_code = 7


class StateUnavailable(PurveyorError):
    """Purveyor's own records cannot be read or written now; what was asked for has not happened."""

    status = 503
    code = "state-unavailable"
    title = "Purveyor's own records cannot be used now"
    exit_code = 8


class StorageFull(StateUnavailable):
    """The disk of the state directory, or of a service that answers through the API, has no room
    left."""

    status = 507
    code = "storage-full"
    title = "The disk is full"


class StateRefused(StateUnavailable):
    """The state directory is not what this program can go on with: damaged, lost, or of a newer
    version."""

    status = 500
    code = "state-refused"
    title = "The state directory is refused"
