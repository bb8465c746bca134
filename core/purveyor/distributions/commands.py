"""``purveyor plugin``: what is installed, installing, removing, and checking what a type
promises."""

import importlib.metadata
import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from purveyor.cli import output
from purveyor.cli.client import run
from purveyor.cli.main import first_error
from purveyor.cli.options import Options
from purveyor.distributions import wheels
from purveyor.distributions.content import GROUP, OWN
from purveyor.distributions.files import canonical, record_of
from purveyor_hooks import BadInput, Conflict, Failed, NotFound, PurveyorError
from purveyor_hooks.confirm import interrupts, yes_option

DAEMON = "A daemon that runs has it after its next start: systemctl restart purveyor"


@click.group("plugin")
def plugin_command() -> None:
    """Plugins: list, install, remove, check."""


@plugin_command.command("list")
@click.pass_obj
def list_plugins(options: Options) -> None:
    """List the plugins, with what is wrong with those that failed."""
    found = run(options, lambda client: client.get("/api/plugins"))
    if options.as_json:
        output.show_json(found)
        return
    rows = [
        (item["name"], item["distribution"], item["version"], item["service_type"] or "",
        len(item["hooks"]),
         "all" if "on_event" in item["hooks"] else "",
         item["sha256"][:12], _state(item))
        for item in found
    ]  # fmt: skip
    output.table(
        ["plugin", "distribution", "version", "type", "hooks", "events", "sha256", "state"],
        rows,
        "No plugin is installed.",
    )


def _state(item: Mapping[str, Any]) -> str:
    if item["error"] or item["differs"]:
        return click.style(item["error"] or item["differs"], fg="red")
    told = [item["last_fault"], "deprecated hooks" if item["deprecations"] else ""]
    return "; ".join(filter(None, told)) or "ok"


@plugin_command.command("show")
@click.argument("name")
@click.pass_obj
def show_plugin(options: Options, name: str) -> None:
    """Show a plugin: the hooks that it implements, and what went wrong."""
    found = [
        item
        for item in run(options, lambda client: client.get("/api/plugins"))
        if item["name"] == name
    ]
    if not found:
        raise NotFound(
            f"There is no plugin {name!r}.", remedy="List them with: purveyor plugin list"
        )
    if options.as_json:
        output.show_json(found[0])
        return
    item = found[0]
    output.fields(
        {
            "plugin": item["name"],
            "from": f"{item['distribution']} {item['version']}".strip(),
            "wheel": f"sha256:{item['sha256']}, {output.size(item['size_bytes'])}"
            if item["sha256"]
            else "",
            "installed": f"{item['installed_at'][:19]} by {item['installed_by']}"
            if item["sha256"]
            else "",
            "differs": item["differs"],
            "type": item["service_type"],
            "hooks": ", ".join(item["hooks"]),
            "error": item["error"],
            "deprecated": " ".join(item["deprecations"]),
            "faults": item["faults"],
            "the last": item["last_fault"],
        }
    )


@plugin_command.command("install")
@click.argument("what")
@click.option(
    "--hash",
    "wanted",
    metavar="sha256:HASH",
    help="Refuse any other file than the one with this hash.",
)
@click.option(
    "--constraint",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=(
        "Refuse what it depends on in any other version, or file, than this names: "
        "NAME==VERSION --hash=sha256:HASH."
    ),
)
@click.option(
    "--build",
    is_flag=True,
    help="Build a wheel of a folder or an sdist here first, which runs its code.",
)
@click.option("--no-deps", is_flag=True, help="Without what it depends on.")
@yes_option
@click.pass_obj
def install_plugin(
    options: Options,
    what: str,
    wanted: str | None,
    constraint: Path | None,
    build: bool,
    no_deps: bool,
    yes: bool,
) -> None:
    """Install a plugin into Purveyor's own Python: a wheel, or NAME==VERSION, which is fetched as a
    wheel first.

    Its code runs as the user of the daemon: what is installed, and whose code that is, is shown and
    asked before.
    """
    _require_here(options)
    expected = wheels.wanted_hash(wanted)
    known = wheels.read_constraints(constraint) if constraint else None
    wheels.check_source(what, build=build, pinned=bool(expected))
    user = _user(options)
    if wheels.runs_when_built(what):
        interrupts(f"To build {what}, its code runs now, as {_user(None)}.", yes=yes)
    before = _plugins()
    with tempfile.TemporaryDirectory(prefix="purveyor-") as name:
        folder = Path(name)
        wheel = wheels.obtain(what, folder, expected=expected)
        needed = wheels.plan_installation(wheel, folder, no_deps=no_deps, known=known)
        if known is not None:
            wheels.require_agreed(known, wheel, needed)
        others = wheels.fetch(needed, folder)
        if not options.as_json:
            _show_wheel(wheel, others)
        interrupts(
            f"The code of {wheel.distribution} {wheel.version} runs as {user}, inside Purveyor: it can read every secret of this "
            "installation, and do whatever the Docker Engine does.",
            yes=yes,
        )  # fmt: skip
        wheels.install([wheel, *others], folder)
    new = sorted(set(_plugins()) - set(before)) or [
        key for key, value in _plugins().items() if value == wheel.distribution
    ]
    _note(options, wheel)
    found = {item["name"]: item for item in _listed(options)}
    told = [
        {**found[key], "sha256": wheel.sha256, "size_bytes": wheel.size}
        for key in new
        if key in found
    ]
    if options.as_json:
        output.show_json(told)
    for item in told:
        if item["error"]:
            raise Failed(
                f"The plugin {item['name']} was installed and does not load: {item['error']}"
            )
        if not options.as_json:
            brings = (
                f", which brings the service type {item['service_type']}"
                if item["service_type"]
                else ""
            )
            click.echo(
                f"The plugin {item['name']} {item['version']} is installed{brings}. {DAEMON}"
            )


def _require_here(options: Options) -> None:
    if options.url:
        remedy = "Do it on the host of the daemon, without --url and $PURVEYOR_URL."
        raise BadInput(
            "A plugin is installed into the Python of this host.",
            remedy=remedy,
            errors={"url": "another host's"},
        )


def _user(options: Options | None) -> str:
    """Who runs the daemon, whose state directory it is; without options, who runs this command."""
    state = options.state if options else None
    number = state.stat().st_uid if state is not None and state.exists() else os.geteuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = f"user {number}"
    return name


def _show_wheel(wheel: wheels.Wheel, others: Sequence[wheels.Wheel]) -> None:
    """What would be installed, on the terminal that is asked."""
    names = f"{', '.join(wheel.held.plugins)}, of {wheel.distribution} {wheel.version}"
    click.echo(f"{wheel.path.name}  {output.size(wheel.size)}\n  sha256:{wheel.sha256}", err=True)
    click.echo(f"  brings the plugin {names}", err=True)
    for item in (wheel, *others):
        if item is not wheel:
            click.echo(f"with {item.distribution} {item.version}\n  sha256:{item.sha256}", err=True)
            if before := wheels.installed_version(item.distribution):
                click.echo(f"  takes the place of {before}, which Purveyor may need", err=True)
        if item.held.commands:
            click.echo(f"  brings the command {', '.join(item.held.commands)}", err=True)
        if item.held.everywhere:
            listed = ", ".join(item.held.everywhere)
            click.echo(f"  runs in every Python program here: {listed}", err=True)


def _note(options: Options, wheel: wheels.Wheel) -> None:
    """Have it noted what was installed, and from which file. Raises `Failed`."""
    importlib.invalidate_caches()
    body = {
        "distribution": wheel.distribution,
        "version": wheel.version,
        "source": Path(wheel.source).name or wheel.source,
        "sha256": wheel.sha256,
        "size_bytes": wheel.size,
        "record_sha256": record_of(importlib.metadata.distribution(wheel.distribution)),
    }
    try:
        run(
            options,
            lambda client: client.call("POST", "/api/plugins/installed", json=body),
            resume=False,
        )
    except (PurveyorError, ExceptionGroup) as error:
        found = first_error(error) if isinstance(error, ExceptionGroup) else error
        why = found.detail if found is not None else type(error).__name__
        again = (
            "Have that put right, and install it again: until then nothing tells when it is "
            "changed."
        )
        raise Failed(
            f"{wheel.distribution} is installed, and that could not be noted: {why}", remedy=again
        ) from error


@plugin_command.command("uninstall")
@click.argument("name")
@yes_option
@click.pass_obj
def uninstall_plugin(options: Options, name: str, yes: bool) -> None:
    """Remove a plugin. Services of its type stay, with their data, and wait for it to come back."""
    _require_here(options)
    plugins = _plugins()
    if name not in plugins:
        raise NotFound(
            f"There is no plugin {name!r}.", remedy="List them with: purveyor plugin list"
        )
    if plugins[name] == OWN:
        raise Conflict(f"The plugin {name} comes with Purveyor and cannot be removed.")
    kinds = {item["name"]: item["service_type"] for item in _listed(options)}
    services = run(options, lambda client: client.pages("/api/external-services/"))
    held = [
        item["slug"] for item in services if kinds.get(name) and item["service_type"] == kinds[name]
    ]
    if held:
        interrupts(f"{', '.join(held)} cannot be used without {name}; the data is kept.", yes=yes)
    wheels.pip("uninstall", "--yes", plugins[name])
    path = f"/api/plugins/installed/{quote(canonical(plugins[name]), safe='')}"
    run(options, lambda client: client.call("DELETE", path), resume=False)
    if options.as_json:
        output.show_json({"removed": name, "services": held})
    else:
        kept = f" {', '.join(held)} stay listed, with their data." if held else ""
        click.echo(
            f"The plugin {name} is removed.{kept} A daemon that runs has it until its next start."
        )


def _plugins() -> dict[str, str]:
    """The plugins that are installed now, and the distribution that each comes from."""
    importlib.invalidate_caches()
    found = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry.dist.name if entry.dist else "" for entry in found}


def _listed(options: Options) -> list[dict[str, Any]]:
    """The plugins as a process sees them that starts now."""
    command = [sys.executable, "-c", LIST]
    done = subprocess.run(command, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


LIST = """
import json, logging, msgspec
from purveyor.providers.registry import load_installed
print(json.dumps(msgspec.to_builtins(list(load_installed(logging.CRITICAL).plugins))))
"""


@plugin_command.command("check")
@click.argument("service_type")
@click.option(
    "--image", default="", metavar="IMAGE", help="The Docker image, instead of the type's default."
)
@click.option(
    "--only",
    multiple=True,
    metavar="CHECK",
    help="One check, as --json names it; may be given again.",
)
@click.pass_obj
def check_plugin(options: Options, service_type: str, image: str, only: tuple[str, ...]) -> None:
    """Check everything that a service type promises, on an installation made for that; exit code 1
    when one is not kept."""
    from purveyor.settings import load
    from purveyor_hooks.conformance import CHECKS, Bench, Outcome, run_all

    known = [check.name for check in CHECKS]
    if unknown := sorted({*only} - {*known}):
        raise BadInput(
            f"There is no check {unknown[0]!r}.",
            remedy=f"Known are: {', '.join(known)}.",
            errors={"only": "no check"},
        )
    chosen = image or load(options.state).default_images.get(service_type, "")
    try:
        bench = Bench(service_type, chosen)
    except LookupError as error:
        raise BadInput(
            str(error),
            remedy="See: purveyor plugin list",
            errors={"service_type": "no plugin brings it"},
        ) from None
    found: list[dict[str, Any]] = []
    with bench:
        for check, outcome in run_all(bench, only):
            kept = outcome.kept if isinstance(outcome, Outcome) else None
            seen = outcome.seen if isinstance(outcome, Outcome) else str(outcome)
            found.append(
                {
                    "check": check.name,
                    "promise": check.promise,
                    "kept": kept,
                    "seen": seen,
                    "hooks": check.hooks,
                }
            )
            if not options.as_json:
                _tell_check(found[-1])
    if options.as_json:
        output.show_json(found)
    failed = [item for item in found if item["kept"] is False]
    if not options.as_json:
        count = (
            f"{len(failed)} of {len(found)} promises are not kept"
            if failed
            else f"{service_type} keeps its promises"
        )
        click.secho(f"{count}.", bold=True)
    if failed:
        raise SystemExit(1)


def _tell_check(item: Mapping[str, Any]) -> None:
    mark = {
        True: click.style("✓", fg="green"),
        None: click.style("–", dim=True),
        False: click.style("✖", fg="red", bold=True),
    }
    click.echo(f"{mark[item['kept']]} {item['promise']}")
    if item["kept"] is False:
        click.echo(f"    seen:    {item['seen']}")
        click.echo(f"    look at: {', '.join(item['hooks'])}")
