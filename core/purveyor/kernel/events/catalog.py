"""The catalogue of events: every type that can be published, when, and what it carries."""

from collections.abc import Sequence
from typing import Any

import msgspec

from purveyor.kernel.operations import OperationType
from purveyor_hooks import events
from purveyor_hooks.events import Payload

Described = tuple[
    str, str, Payload
]  # a type of event, when it is published, an example of its data


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One type of event. `payload` names the type of `data`, `data_schema` is its JSON Schema."""

    type: str
    when: str
    payload: str
    data_schema: dict[str, Any]
    example: dict[str, Any]


MOMENTS: tuple[tuple[str, str, Payload], ...] = (
    ("started", "It was checked and its intent written; its steps begin.",
     events.Started(actor="ada", steps=["image", "start"], token=2)),
    ("step", "A step began, ended or failed.", events.Stepped(step="image", state="done")),
    ("progress", "A long step goes on.",
    events.Progressed(step="image", text="pulling postgres:18: 40 %")),
    ("waiting", "It failed, and taking back what was begun has to wait.",
     events.Waits(error="The app was not up.", because="The Docker Engine does not answer.")),
    ("abandoned", "It could not be ended, and somebody had it left as it is.",
     events.Abandoned(actor="ada", error="There is no backup 7.", left=["restore"], token=2)),
    ("succeeded", "All of it is done.", events.Nothing()),
    ("failed", "It failed, and all that was begun is taken back.",
     events.Ended(error="The image cannot be pulled.", remedy="Check the name and the network.",
     code="image-missing")),
)  # fmt: skip

OWN: tuple[Described, ...] = (
    ("operation.abandoned",
    "An operation of a type that no plugin brings any more was left as it is.",
     events.Abandoned(actor="ada", error="", left=[], token=2)),
    ("daemon.trouble", "Something that the daemon does all the time fails, and is tried again.",
     events.Troubled(loop="schedules",
     error="The state cannot be written: the disk of /var/lib/purveyor is full.")),
    ("daemon.recovered", "It goes on again.",
     events.Troubled(loop="schedules",
     error="The state cannot be written: the disk of /var/lib/purveyor is full.")),
    ("token.created", "A token was made.",
     events.TokenMade(id=2, name="laptop", scope="admin", user="ada", actor="grace", token=2)),
    ("token.revoked", "A token was ended.", events.TokenEnded(id=1, actor="ada", token=2)),
    ("token.refused",
    "The API was asked with tokens that are unknown, expired or revoked; told once a minute at most.",
     events.Refused(count=264, peers=["192.0.2.7"])),
)  # fmt: skip


def build(
    operation_types: Sequence[OperationType | type[OperationType]], features: Sequence[Described]
) -> list[Entry]:
    """Every type of event, by name. `features` are those that features publish by themselves."""
    found = [_entry(*described) for described in (*OWN, *features)]
    for operation_type in operation_types:
        for moment, when, example in MOMENTS:
            found.append(
                _entry(
                    operation_type.event(moment),
                    f"{operation_type.name}: {when[0].lower()}{when[1:]}",
                    example,
                )
            )
    return sorted(found, key=lambda entry: entry.type)


def _entry(kind: str, when: str, example: Payload) -> Entry:
    schema = msgspec.json.schema(type(example))
    (definition,) = schema["$defs"].values()
    return Entry(
        type=kind,
        when=when,
        payload=type(example).__name__,
        data_schema=definition,
        example=msgspec.to_builtins(example),
    )
