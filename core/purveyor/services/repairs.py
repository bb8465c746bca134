"""How it is known that what should run does not, and how it is brought back: of services and apps
alike."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import anyio
import msgspec

from purveyor.context import Context
from purveyor.docker.models import Found
from purveyor.kernel.operations import OperationType, Runner
from purveyor.services.incidents import Incidents, Subject
from purveyor_hooks import EngineUnavailable, PurveyorError

# a server that the engine had to start again is well when it has run for so long
STEADY = timedelta(seconds=60)
AT_ONCE = 8  # repairs at a time


class Repairs:
    """Brings back by operations, later and later. What the engine has started again by itself is
    told as well."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        operation_types: Mapping[str, OperationType],
        incidents: Incidents,
    ) -> None:
        self._context = context
        self._runner = runner
        self._operation_types = operation_types
        self._incidents = incidents
        # container and how often the engine had started it again
        self._restarts: dict[Subject, tuple[str, int]] = {}
        self._ended: dict[str, str] = {}  # container -> what it last ended with
        self._limit = anyio.CapacityLimiter(AT_ONCE)

    def note_end(self, container: str, code: str) -> None:
        """The engine says that a container has ended."""
        self._ended[container] = code

    def note_removal(self, container: str) -> None:
        self._ended.pop(container, None)

    def started_again(self, subject: Subject, found: Found) -> str:
        """That the engine has started a container again since the last look, "" when it has not."""
        known, before = self._restarts.get(subject, ("", 0))
        self._restarts[subject] = (found.id, found.restarts)
        if known != found.id or found.restarts <= before:
            return ""
        code = self._ended.get(found.id, "")
        return (
            f"It ended{f' with exit code {code}' if code else ''} and was started again by "
            "the engine."
        )

    def due(self, subject: Subject, found: Found | None) -> bool:
        """Whether it is ours to bring back, and time to try."""
        if found is not None and (found.restarting or found.state == "restarting"):
            return False  # the engine brings it back itself
        return self._context.settings.self_repair == "on" and self._incidents.due(subject)

    def steady(self, subject: Subject, found: Found) -> bool:
        """Whether what runs may be taken for well: one that the engine had to start again has to
        stay up for some time."""
        if found.restarts == 0 or found.started_at is None or not self._incidents.reason(subject):
            return True
        return datetime.now(UTC) - found.started_at > STEADY

    async def attempt(self, subject: Subject, verb: str, given: msgspec.Struct) -> str:
        """Try to bring it back, as an operation; the answer is why that failed, "" when it did
        not."""
        self._incidents.tried(subject)
        try:
            async with self._limit:
                await self.run(verb, given)
        except EngineUnavailable:
            raise
        except PurveyorError as error:
            self._context.logger.warning(
                f"{subject.kind}.repair", id=subject.id, error=error.detail
            )
            return error.detail
        return ""

    async def run(self, verb: str, given: msgspec.Struct) -> None:
        """Run an operation to its end."""
        await (await self._runner.submit(self._operation_types[verb], given, "reconciler")).wait()
