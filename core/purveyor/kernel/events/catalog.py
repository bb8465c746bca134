"""The catalogue of events: every type that can be published, when, and what it carries."""

from collections.abc import Sequence
from typing import Any

import msgspec

from purveyor.kernel.operations import Verb
from purveyor_hooks import events
from purveyor_hooks.events import Payload


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

REASON = events.Reason(reason="The server does not accept connections.")
OTHERS: tuple[tuple[str, str, Payload], ...] = (
    ("operation.abandoned",
    "An operation of a verb that no plugin brings any more was left as it is.",
     events.Abandoned(actor="ada", error="", left=[], token=2)),
    ("service.healthy", "A health check is passed, for the first time or again.", events.Reason()),
    ("service.unhealthy", "A health check is not passed any more.", REASON),
    ("service.incident",
    "It should run and does not, or not as it should; it is brought back unless `self-repair` is off.",
     events.Reason(reason="It was killed (exit code 137).")),
    ("service.recovered", "An incident is over.", events.Reason()),
    ("app.incident", "The app of an active deployment does not run, or not as it should.",
     events.AppReason(environment="production", deployment=7, reason="It ended (exit code 3).")),
    ("app.recovered", "An incident of an app is over.",
    events.AppReason(environment="production", deployment=7)),
    ("service.revealed", "Its secret parameters were revealed.",
    events.Revealed(actor="ada", token=2)),
    ("project.revealed", "The variables of one of its environments were revealed.",
    events.Revealed(actor="ada", token=2)),
    ("service.refused", "A server runs on another data set than the recorded one, and is not used.",
    REASON),
    ("archive.following", "Continuous archiving follows, for the first time or again.",
    events.Reason()),
    ("archive.waiting", "What was written down waits, for its place or its server.", REASON),
    ("archive.broken",
    "Continuous archiving has ended: its queue was full. It begins anew when its place is back.",
    REASON),
    ("backup.adopted", "A backup that was found at a destination was registered.",
     events.Adopted(id=7, backup_id="20261125T131353Z-3f9a2c", service="main")),
    ("backup.skipped", "A backup that a schedule had due was not made: its service did not run.",
     events.BackupSkipped(id=7, schedule="nightly", reason="it is stopped")),
    ("state-copy.late",
    "A place of backups has not taken the copy of this installation's state for a minute.",
     events.StatePlace(place="s3://offsite/", error="The bucket does not answer.")),
    ("state-copy.current", "It has taken it again.", events.StatePlace(place="s3://offsite/")),
    ("state-copy.superseded",
    "Another installation has taken over from this one there: nothing is written there any more.",
     events.StatePlace(place="s3://offsite/", by="web2, at 2026-11-25 13:13:53 UTC (term 7)")),
    ("recovery.done", "After the loss of a host, everything was tried that could be brought back.",
     events.RecoveryDone(back=6, missing=["legacy"])),
    ("recovery.finished",
    "A person has called a recovery finished: apps, webhooks and expiry go on.",
     events.StatePlace(place="s3://offsite/")),
    ("s3-source.created", "A bucket for backups was added.", events.Named(id=1, name="offsite")),
    ("s3-source.updated", "A bucket for backups was changed.",
    events.Changed(id=1, changes=["secret_key"])),
    ("s3-source.deleted", "A bucket for backups was forgotten.",
    events.Named(id=1, name="offsite")),
    ("schedule.created", "A schedule was made.", events.Named(id=1, name="nightly")),
    ("schedule.deleted", "A schedule was deleted.", events.Named(id=1, name="nightly")),
    ("schedule.enabled", "A schedule goes on.", events.Named(id=1, name="nightly")),
    ("schedule.disabled", "A schedule was disabled.", events.Named(id=1, name="nightly")),
    ("daemon.trouble", "Something that the daemon does all the time fails, and is tried again.",
     events.Troubled(loop="schedules",
     error="The state cannot be written: the disk of /var/lib/purveyor is full.")),
    ("daemon.recovered", "It goes on again.",
     events.Troubled(loop="schedules",
     error="The state cannot be written: the disk of /var/lib/purveyor is full.")),
    ("token.created", "A token was made.",
     events.TokenMade(id=2, name="laptop", scope="admin", user="ada", actor="grace", token=2)),
    ("token.revoked", "A token was ended.", events.TokenEnded(id=1, actor="ada", token=2)),
    ("user.created", "A user was added.",
    events.UserChanged(id=1, name="ada", actor="grace", token=2)),
    ("user.disabled", "A user may not come in any more; the tokens of that user have ended.",
     events.UserChanged(id=1, name="ada", actor="grace", token=2)),
    ("user.enabled", "A user may have tokens again.",
    events.UserChanged(id=1, name="ada", actor="grace", token=2)),
    ("user.removed", "A user was removed; the name stays that one's.",
     events.UserChanged(id=1, name="ada", actor="grace", token=2)),
    ("authority.added", "Another certificate authority is there, and signs nothing yet.",
     events.AuthorityChanged(id=2, actor="grace", token=2)),
    ("authority.signs", "Another certificate authority signs from now on.",
     events.AuthorityChanged(id=2, actor="grace", token=2)),
    ("authority.removed",
    "A certificate authority is gone, for no server shows a certificate of it.",
     events.AuthorityChanged(id=1, actor="purveyor")),
    ("plugin.installed", "A plugin's distribution was installed.",
     events.PluginInstalled(distribution="purveyor-mariadb", version="1.0.0", sha256="9f86d081…",
     actor="grace", token=2)),
    ("plugin.removed", "A plugin's distribution was removed.",
     events.PluginInstalled(distribution="purveyor-mariadb", version="1.0.0", sha256="9f86d081…",
     actor="grace", token=2)),
    ("audit.cut",
    "The oldest entries of the audit log were let go, as `audit-days` says, or stayed on a lost host.",
     events.AuditCut(first=1, last=512)),
    ("token.refused",
    "The API was asked with tokens that are unknown, expired or revoked; told once a minute at most.",
     events.Refused(count=264, peers=["192.0.2.7"])),
    ("session.opened", "Somebody signed in at the dashboard.",
    events.SessionOpened(id=1, token="ada", peer="127.0.0.1")),
    ("session.ended", "Somebody signed out, or had a session ended.",
    events.SessionEnded(id=1, actor="token:ada")),
    ("session.refused", "Somebody failed to sign in; told once a minute at most.",
     events.Refused(count=40, peers=["192.0.2.7"])),
)  # fmt: skip


def build(verbs: Sequence[Verb | type[Verb]]) -> list[Entry]:
    """Every type of event, by name."""
    found = [_entry(kind, when, example) for kind, when, example in OTHERS]
    for verb in verbs:
        for moment, when, example in MOMENTS:
            found.append(
                _entry(verb.event(moment), f"{verb.name}: {when[0].lower()}{when[1:]}", example)
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


def markdown(entries: Sequence[Entry]) -> str:
    """The catalogue as a document."""
    import json

    lines = [
        "# Events",
        "",
        "Every event has `id`, `type`, `at`, and where they apply `operation`, `service` and "
        "`project`; `data` is what the",
        "table says. They are numbered without gaps and never changed. Follow them with `purveyor "
        "events -f`, `GET /api/events`",
        "(server-sent events), a plugin's hook `on_event`, an executable in `hooks/TYPE/`, or a "
        "webhook.",
        "",
        "This file is generated: `purveyor events --catalogue > hooks/purveyor_hooks/EVENTS.md`.",
        "",
        "| type | when | data | example |",
        "|---|---|---|---|",
    ]
    for entry in entries:
        example = json.dumps(entry.example, ensure_ascii=False) if entry.example else ""
        lines.append(
            f"| `{entry.type}` | {entry.when} | {entry.payload} | "
            f"{f'`{example}`' if example else ''} |"
        )
    lines += ["", "## Data", ""]
    for name, kind in sorted(_payloads(entries).items()):
        fields = [
            f"`{field}` ({_kind(shape)})" for field, shape in kind.get("properties", {}).items()
        ]
        said = " ".join(kind.get("description", "").split())
        lines.append(f"- **{name}**: {said} {', '.join(fields)}".rstrip())
    return "\n".join(lines) + "\n"


def _payloads(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    return {entry.payload: entry.data_schema for entry in entries}


def _kind(shape: dict[str, Any]) -> str:
    return (
        f"list of {shape['items']['type']}"
        if shape.get("type") == "array"
        else str(shape.get("type", ""))
    )
