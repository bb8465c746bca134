"""The catalogue of events as a document."""

import json
from collections.abc import Sequence
from typing import Any

from purveyor.kernel.events.catalog import MOMENTS, Entry


def markdown(entries: Sequence[Entry]) -> str:
    """The catalogue as a document."""
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
        "An operation that a plugin brings publishes the same moments as any other, as "
        "`service.TYPE.NAME.MOMENT`: TYPE is the service",
        "type, NAME the operation, MOMENT one of "
        + ", ".join(f"`{moment}`" for moment, _, _ in MOMENTS)
        + ".",
        "A plugin publishes nothing else. The bundled ones bring no operation; the catalogue of an "
        "installation (`purveyor events --catalogue`,",
        "`GET /api/events/catalogue`) has those of the plugins that it has.",
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
