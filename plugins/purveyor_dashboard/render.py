"""Templates, and the words and pictures in them."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
MARKS = {
    "good": (
        "running",
        "healthy",
        "succeeded",
        "active",
        "ok",
        "following",
        "delivered",
        "done",
        "linked",
        "bound",
    ),
    "wait": (
        "creating",
        "deploying",
        "starting",
        "deleting",
        "undoing",
        "started",
        "restarting",
        "linking",
        "begun",
    ),
    "rest": ("stopped", "retired", "disabled", "undone", "kept"),
    "warn": ("suspect", "waiting", "unknown"),
    "bad": ("unhealthy", "failed", "refused", "missing", "down", "paused", "broken", "dead"),
}
KINDS = {word: kind for kind, words in MARKS.items() for word in words}
SHAPES = {"good": "●", "wait": "◐", "rest": "○", "warn": "▲", "bad": "✖"}
# a list has many of each, and `Markup.format` takes twice the time of `%`
STATUS = Markup('<span class="status %s"><span aria-hidden="true">%s</span> %s</span>')
TIME = Markup('<time datetime="%s" title="%s">%s</time>')
BAR = Markup(
    '<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s</title></rect>'
)
WIDTH, HEIGHT = 480, 96


def environment() -> "Environment":
    """The templates; imported when the first page is made, for many a daemon never shows one."""
    from jinja2 import Environment, FileSystemLoader

    made = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True,
        trim_blocks=True,
                       lstrip_blocks=True)  # fmt: skip
    made.filters |= {
        "status": status,
        "bytes": size,
        "ago": ago,
        "moment": moment,
        "took": took,
        "pretty": pretty,
    }
    made.globals |= {"health_chart": health_chart, "line_chart": line_chart}
    return made


def kind_of(word: str) -> str:
    """good, wait, rest, warn or bad: what a status means to whoever looks."""
    return KINDS.get(word, "rest")


def status(word: str) -> Markup:
    """A status with a shape, so that it is never told by colour alone."""
    kind = kind_of(word)
    return STATUS % (kind, SHAPES[kind], word)


def size(count: float | None) -> str:
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _when(text: str | datetime | None) -> datetime | None:
    if not text:
        return None
    found = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ago(text: str | None) -> Markup:
    """How long ago, with the whole time beside it for whoever asks."""
    found = _when(text)
    if found is None:
        return Markup("never")
    seconds = (datetime.now(UTC) - found).total_seconds()
    for limit, unit, divisor in (
        (60, "s", 1),
        (3600, "min", 60),
        (86400, "h", 3600),
        (float("inf"), "d", 86400),
    ):
        if abs(seconds) < limit:
            words = f"{abs(seconds) // divisor:.0f} {unit}"
            said = f"{words} ago" if seconds >= 0 else f"in {words}"
            return TIME % (found.isoformat(), _moment(found), said)
    return Markup("")


def moment(text: str | None) -> str:
    found = _when(text)
    return _moment(found) if found else ""


def _moment(found: datetime) -> str:
    return found.strftime("%Y-%m-%d %H:%M:%S UTC")


def took(begun: str | None, ended: str | None) -> str:
    first, last = _when(begun), _when(ended) or datetime.now(UTC)
    return f"{(last - first).total_seconds():.1f} s" if first else ""


def pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value not in ({}, None) else ""


def health_chart(checks: Sequence[Mapping[str, Any]]) -> Markup:
    """A bar for each check: its height is the latency; a failed one is whole, hatched, and another
    colour."""
    shown = list(checks)[-80:]
    if not shown:
        return Markup(
            '<p class="quiet">No check yet. Each one is a real login, a question and a write.</p>'
        )
    most = max([item["latency_ms"] for item in shown if item["healthy"]] or [1.0]) or 1.0
    step = WIDTH / 80
    bars = []
    for number, item in enumerate(shown):
        height = (
            max(3.0, item["latency_ms"] / most * (HEIGHT - 8)) if item["healthy"] else HEIGHT - 4
        )
        label = f"{moment(item['checked_at'])}: " + (
            f"healthy, {item['latency_ms']} ms" if item["healthy"] else item["detail"] or "no"
        )
        bars.append(
            BAR
            % (
                "good" if item["healthy"] else "bad",
                number * step,
                HEIGHT - height,
                step - 1.5,
                height,
                label,
            )
        )
    failed = sum(not item["healthy"] for item in shown)
    words = f"{len(shown)} checks, {failed} failed, at most {most:.0f} ms"
    return _chart(Markup("").join(bars), words)


def line_chart(samples: Sequence[Mapping[str, Any]], field: str, unit: str) -> Markup:
    """A line over time."""
    values = [float(item[field]) for item in samples][-80:]
    if len(values) < 2:
        return Markup('<p class="quiet">Not enough looked at yet.</p>')
    most = max(values) or 1.0
    points = " ".join(
        f"{number * WIDTH / (len(values) - 1):.1f},{HEIGHT - 4 - value / most * (HEIGHT - 12):.1f}"
        for number, value in enumerate(values)
    )
    now, top = (
        (size(values[-1]), size(most))
        if unit == "bytes"
        else (f"{values[-1]:.1f} {unit}", f"{most:.1f} {unit}")
    )
    return _chart(Markup('<polyline points="{}"/>').format(points), f"now {now}, at most {top}")


def _chart(content: Markup, words: str) -> Markup:
    return Markup(
        '<figure class="chart"><svg viewBox="0 0 {} {}" role="img" aria-label="{}" '
        'preserveAspectRatio="none">{}</svg>'
        "<figcaption>{}</figcaption></figure>"
    ).format(WIDTH, HEIGHT, words, content, words)
