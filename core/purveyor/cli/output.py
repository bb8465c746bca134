"""What people see: tables, plans, progress; or JSON for programs."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from purveyor.cli.client import Listener
from purveyor.cli.options import Options
from purveyor.cli.terminal import raw, visible

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {
    "running": "green",
    "healthy": "green",
    "succeeded": "green",
    "active": "green",
    "stopped": "yellow",
    "creating": "cyan",
    "back": "green",
    "deploying": "cyan",
    "unhealthy": "red",
    "ok": "green",
    "following": "green",
    "starting": "cyan",
    "waiting": "yellow",
    "undoing": "yellow",
    "abandoned": "yellow",
    "broken": "red",
    "suspect": "yellow",
    "refused": "red",
    "missing": "red",
    "down": "red",
    "paused": "red",
    "failed": "red",
}
MARKS = {"green": "●", "yellow": "○", "red": "✖", "cyan": "◌"}


def show_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(options: Options, value: Any, text: str) -> None:
    """What was done, as JSON or in words."""
    show_json(value) if options.as_json else click.echo(text)


def status(word: str) -> str:
    """A status with a mark, so that it is never told by colour alone."""
    colour = COLOURS.get(word, "white")
    return click.style(f"{MARKS.get(colour, '·')} {word}", fg=colour)


def size(count: float | None) -> str:
    """Bytes for people; "?" where they are not known."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def outcome(operation: Mapping[str, Any]) -> bool:
    """Tell what an operation that moved data found; true when all is as it was. Each thing has a
    line of its own."""
    found = operation.get("outcome") or {}
    findings, left_out = found.get("findings", []), found.get("left_out", [])
    notices = [item for item in (*findings, *left_out) if item.get("notice")]
    groups = [
        ("Differs", found.get("differences", [])),
        ("Differs", [_finding(item) for item in findings if item not in notices]),
        ("Left out", [_finding(item) for item in left_out if item not in notices]),
        ("Note", [_finding(item) for item in notices]),
    ]
    for heading, lines in groups:
        for line in lines:
            click.secho(
                f"  {heading}: {line}", fg=None if heading == "Note" else "yellow", err=True
            )
    return not any(lines for heading, lines in groups if heading != "Note")


def _finding(item: Mapping[str, Any]) -> str:
    named = ": ".join(part for part in (item["where"], item["what"]) if part)
    return f"{named}: {item['why']}" if named else str(item["why"])


def who(item: Mapping[str, Any]) -> str:
    """Who did something; with the token that was shown, where its name alone says who: two tokens
    may have one name."""
    unnamed = item["token_id"] and item["actor"].startswith("token:")
    return f"{item['actor']} ({item['token_id']})" if unnamed else str(item["actor"])


def table(headings: Sequence[str], rows: Sequence[tuple[object, ...]], empty: str) -> None:
    """Columns; `empty` instead of a table without rows. On a terminal cells are wrapped to its
    width, else a row is a line."""
    if not rows:
        click.echo(empty)
        return
    names, cells = (
        [name.upper() for name in headings],
        [[str(cell) for cell in row] for row in rows],
    )
    if sys.stdout.isatty():
        _draw(names, cells)
        return
    widths = [max(len(click.unstyle(row[i])) for row in [names, *cells]) for i in range(len(names))]
    for row in [names, *cells]:
        padded = (
            cell + " " * (width - len(click.unstyle(cell)))
            for cell, width in zip(row, widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _draw(names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    # rich is loaded where somebody looks, and for no help, version or completion
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        drawn.add_column(Text(name), overflow="fold")
    for row in cells:
        drawn.add_row(*(Text.from_ansi(visible(cell)) for cell in row))
    _console(sys.stdout).print(drawn)


def _console(stream: Any) -> "Console":
    """What draws on a terminal: on the stream itself, for it moves the cursor."""
    from rich.console import Console

    return Console(
        file=raw(stream),
        highlight=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def fields(values: Mapping[str, object]) -> None:
    """Names and values, one a line; empty ones are left out."""
    shown = {name: value for name, value in values.items() if value not in (None, "", [])}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {value}")


def show_plan(plan: Mapping[str, Any]) -> None:
    """A plan as a person reads it."""
    click.secho(f"{plan['verb']} {plan['subject']}", bold=True, nl=False)
    click.echo(" (a plan; nothing has been changed)")
    rows = {
        "steps": " → ".join(plan["steps"]),
        "containers": ", ".join(
            f"{c['action']} {c['name']} {c['image']}".strip() for c in plan["containers"]
        ),
        "volumes": ", ".join(f"{v['name']}: {v['action']}" for v in plan["volumes"]),
        "ports": ", ".join(
            f"{p['host']}:{p['port']} → {p['container_port']}" for p in plan["ports"]
        ),
        "resources": ", ".join(plan["resources"]),
        "variables": ", ".join(plan["variables"]),
        "apps": "; ".join(
            f"{a['project']}/{a['environment']} (deployment {a['deployment']}): {a['effect']}"
            for a in plan["apps"]
        ),
        "downtime": plan["downtime"],
    }
    fields({f"  {name}": value for name, value in rows.items()})
    for warning in plan["warnings"]:
        click.secho(f"  ! {warning}", fg="yellow")


@contextmanager
def progress(title: str) -> Iterator[Listener]:
    """A listener that shows an operation's steps as they happen, where somebody is looking."""
    if not sys.stderr.isatty():
        yield lambda event: None
        return
    from rich.markup import escape

    console = _console(sys.stderr)
    begun: dict[str, float] = {}
    with console.status(title) as spinner:

        def listen(event: Mapping[str, Any]) -> None:
            data = event["data"]
            if event["type"].endswith(".progress"):
                spinner.update(f"{title}: {escape(visible(data['text']))}")
            elif event["type"].endswith(".step"):
                step, state = data["step"], data["state"]
                if state == "started":
                    begun[step] = monotonic()
                    spinner.update(f"{title}: {step}")
                else:
                    took = monotonic() - begun.get(step, monotonic())
                    mark = "[green]✓[/]" if state == "done" else "[red]✖[/]"
                    console.print(f"  {mark} {step} [dim]{took:.1f} s[/]")

        yield listen
