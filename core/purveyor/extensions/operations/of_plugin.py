"""An operation that a plugin brings, as one of the core's own: recorded, done step by step, resumed,
undone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import anyio
import msgspec

from purveyor.context import Context
from purveyor.extensions.running import Asked, InStep, require_small, select_arguments, within
from purveyor.kernel import redact
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import Moved, OperationType, Plan, Step, Target
from purveyor.kernel.operations import store as operations
from purveyor.kernel.operations.models import OperationRecord
from purveyor.kernel.watchdog import Heartbeat, run_with_stall_timeout
from purveyor.projects import store as projects
from purveyor.providers.provider import PluginFault
from purveyor.providers.registry import ProviderRegistry
from purveyor.services import store as services
from purveyor.services.above import Links
from purveyor.services.handle import ServiceHandle, handle_of, require_serving
from purveyor.services.models import ServiceRecord
from purveyor_hooks import (
    BadInput,
    Binding,
    DeadlineExceeded,
    Draft,
    Failed,
    Forbidden,
    Service,
    ServiceOperation,
)

DRAFT_DEADLINE = 10.0
LONGEST_TEXT = 500  # characters of what a plan is told
MOST_TEXTS = 200


class Drafted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, and what its plugin decided for the service as it was then."""

    service: str
    given: Any
    project: int | None
    view: Service
    draft: Draft


class PluginOperation(OperationType):
    """One operation of one service type's plugin. A subclass is made for each.

    The plugin is asked for its draft before the transaction, for it may look at the server; if the
    service is another one by then, it is asked again.
    """

    service_type: ClassVar[str]
    declared: ClassVar[ServiceOperation[Any]]

    def __init__(self, context: Context) -> None:
        self.context = context

    def target(self, tx: Tx, given: Any) -> Target:
        return Target(service=self._service(tx, given).id, lock=self.lock)

    def _service(self, tx: Tx, given: Any) -> ServiceRecord:
        record = services.get(tx, given.service)
        if record.service_type != self.service_type:
            raise BadInput(
                f"{record.name} is of the type {record.service_type}: {self.name} is for "
                f"{self.service_type}.",
                remedy=f"See: purveyor service operations {record.slug}",
                errors={"service": "of another type"},
            )
        if given.project is not None and not any(
            link.service_id == record.id for link in projects.links(tx, project_id=given.project)
        ):
            raise Forbidden(
                f"The project is not linked to {record.name}, or not any more.",
                remedy=f"Link it: purveyor link {record.slug} PROJECT",
            )
        return record

    async def prepare(self, given: Any) -> Drafted:
        def look(tx: Tx) -> tuple[ServiceRecord, list[Binding]]:
            record = self._service(tx, given)
            require_serving(record)
            return record, self._bindings(tx, record, given.project)

        record, bindings = await self.context.store.read(look)
        if len(msgspec.json.encode(given.arguments)) > 64 * 1024:
            raise BadInput("The arguments are larger than 64 KiB.")
        server = handle_of(self.context, record)
        asked = Asked(self.context.store, server, given.arguments, bindings)

        async def decide() -> Draft:
            with anyio.move_on_after(DRAFT_DEADLINE):
                return await self.declared.draft(asked)
            raise DeadlineExceeded(
                f"The plugin {server.provider.plugin.name} did not draft {self.name} within "
                f"{DRAFT_DEADLINE:.0f} s."
            )

        draft = await within(server, f"{self.name}: draft", decide, asked.hidden)
        return Drafted(
            service=given.service,
            given=given.arguments,
            project=given.project,
            view=server.view,
            draft=self._usable(draft, server, asked.hidden),
        )

    def _bindings(self, tx: Tx, record: ServiceRecord, project: int | None) -> list[Binding]:
        if project is None:
            return []
        return [
            item.view() for item in projects.bindings(tx, service_id=record.id, project_id=project)
        ]

    def _usable(self, draft: Any, server: ServiceHandle, secrets: Sequence[str]) -> Draft:
        """The draft as it can be stored. Raises `PluginFault` for one that cannot."""
        known = [step.name for step in self.declared.steps]
        if not isinstance(draft, Draft):
            wrong = f"it is {type(draft).__name__}, not Draft"
        elif strange := [name for name in draft.steps if name not in known]:
            wrong = f"it has the step {strange[0]!r}, which is not declared"
        elif not draft.steps or len({*draft.steps}) < len(draft.steps):
            wrong = "it has no steps, or one of them twice"
        else:
            hidden = () if draft.downtime == "none" else secrets  # a word of ours
            try:
                require_small(draft.state)
                return msgspec.structs.replace(
                    draft,
                    steps=tuple(name for name in known if name in draft.steps),
                    state=msgspec.to_builtins(draft.state),
                    resources=_texts(draft.resources, secrets),
                    warnings=_texts(draft.warnings, secrets),
                    downtime=_texts([draft.downtime], hidden)[0],
                )
            except (TypeError, ValueError) as error:
                wrong = f"its state cannot be stored: {error}"
        raise PluginFault(
            f"The plugin {server.provider.plugin.name} drafted {self.name}, and {wrong}.",
            remedy="See: purveyor plugin list",
        )

    def validate_and_record(self, tx: Tx, given: Drafted, actor: str) -> int:
        record = self._service(tx, given)
        require_serving(record)
        if handle_of(self.context, record).view != given.view:
            raise Moved
        draft = given.draft
        private = {
            "secret": select_arguments(given.given, secret=True),
            "steps": list(draft.steps),
            "state": draft.state,
            "resources": list(draft.resources),
            "downtime": draft.downtime,
            "warnings": list(draft.warnings),
        }
        told = {"name": record.name, "arguments": select_arguments(given.given, secret=False)}
        return operations.insert(
            tx,
            self.name,
            service_id=record.id,
            project_id=given.project,
            actor=actor,
            arguments=told,
            private=private,
        )

    def plan(self, tx: Tx, operation: OperationRecord) -> Plan:
        record = services.get(tx, operation.service)
        private = operation.private or {}
        interrupts = private["downtime"] != "none"
        return Plan(
            verb=self.name,
            subject=record.name,
            steps=list(private["steps"]),
            resources=list(private["resources"]),
            apps=self.context.part(Links).apps(tx, record, f"may not reach {record.name} meanwhile")
            if interrupts
            else [],
            downtime=private["downtime"],
            warnings=list(private["warnings"]),
        )

    def steps(self, operation: OperationRecord) -> list[Step]:
        """Those that were decided. Raises `Failed` when the plugin is not of a version that goes on
        with them: the operation waits, and holds its target."""
        private = operation.private or {}
        known = {step.name: step for step in self.declared.steps}
        if strange := [name for name in private["steps"] if name not in known]:
            raise self._of_another_version(f"does not know the step {strange[0]!r} of {self.name}")
        try:
            given = self._given(operation.arguments["arguments"], private)
        except msgspec.ValidationError as error:
            raise self._of_another_version(
                f"does not take what {self.name} was given: {error}"
            ) from None
        return [self._step(operation.id, known[name], given) for name in private["steps"]]

    def _of_another_version(self, why: str) -> Failed:
        return Failed(
            f"The version of the plugin that is installed {why}.",
            remedy="Install the version that began it, and let it end there.",
        )

    def _given(self, told: Mapping[str, Any], private: Mapping[str, Any]) -> Any:
        return msgspec.convert({**told, **private["secret"]}, self.declared.arguments)

    def _step(self, number: int, step: Any, given: Any) -> Step:
        return Step(
            step.name,
            lambda: self._work(number, step.name, given, step.deadline, back=False),
            undo=(lambda: self._work(number, step.name, given, step.deadline, back=True))
            if step.undo
            else None,
            deadline=math.inf,  # it is ended for lack of progress, never for its length
        )

    async def _work(
        self, number: int, step: str, given: Any, deadline: float, *, back: bool
    ) -> None:
        def look(tx: Tx) -> tuple[OperationRecord, ServiceRecord, Sequence[Binding]]:
            operation = operations.get(tx, number)
            record = services.get(tx, operation.service)
            return operation, record, self._bindings(tx, record, operation.project_id)

        operation, record, bindings = await self.context.store.read(look)

        async def work(pulse: Heartbeat) -> None:
            server = handle_of(self.context, record, pulse)
            run = InStep(self.context.store, server, given, bindings, self, operation, step, pulse)
            act = self.declared.undo if back else self.declared.do
            doing = f"{self.name}: {'undo ' if back else ''}{step}"
            await within(server, doing, lambda: act(step, run), run.hidden)

        what = f"{'Undoing the' if back else 'The'} step {step!r} of {self.name}"
        await run_with_stall_timeout(work, deadline, what)


def _texts(given: Sequence[str], secrets: Sequence[str]) -> tuple[str, ...]:
    """What a plan is told, without secrets."""
    return tuple(redact.scrub(str(text), secrets)[:LONGEST_TEXT] for text in given[:MOST_TEXTS])


def types_of(registry: ProviderRegistry) -> list[type[PluginOperation]]:
    """One for each operation of each plugin that is there."""
    return [
        type_of(kind.name, declared)
        for kind in registry.kinds
        for declared in registry.provider(kind.name).operations
    ]


def type_of(service_type: str, declared: ServiceOperation[Any]) -> type[PluginOperation]:
    """The type of operation that one of a service type's plugin becomes."""
    of = declared.arguments
    given: Any = (of, msgspec.field(default_factory=of)) if _needs_nothing(of) else (of,)
    arguments = msgspec.defstruct(
        f"{of.__name__}Of{service_type.title().replace('-', '')}",
        [("service", str), ("arguments", *given), ("project", int | None, None)],
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
    body = {
        "__doc__": declared.summary,
        "name": f"{service_type}.{declared.name}",
        "service_type": service_type,
        "declared": declared,
        "arguments": arguments,
        "lock": declared.lock,
    }
    return type("OfPlugin", (PluginOperation,), body)


def _needs_nothing(arguments: type[msgspec.Struct]) -> bool:
    return not any(field.required for field in msgspec.structs.fields(arguments))
