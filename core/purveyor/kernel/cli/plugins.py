"""``purveyor plugin``: what is installed, installing, removing, and checking what a type promises."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from purveyor.kernel.cli import output
from purveyor.kernel.cli.client import run
from purveyor.kernel.cli.options import Options
from purveyor_hooks import BadInput, Conflict, Failed, NotFound
from purveyor_hooks.confirm import interrupts, yes_option

GROUP, OWN = "purveyor", "purveyor"
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
        (item["name"], item["distribution"], item["version"], item["service_type"] or "", len(item["hooks"]),
         "all" if "on_event" in item["hooks"] else "",
         click.style(item["error"], fg="red") if item["error"] else (item["last_fault"] or "ok"))
        for item in found
    ]  # fmt: skip
    output.table(["plugin", "distribution", "version", "type", "hooks", "events", "state"], rows, "No plugin is installed.")


@plugin_command.command("show")
@click.argument("name")
@click.pass_obj
def show_plugin(options: Options, name: str) -> None:
    """Show a plugin: the hooks that it implements, and what went wrong."""
    found = [item for item in run(options, lambda client: client.get("/api/plugins")) if item["name"] == name]
    if not found:
        raise NotFound(f"There is no plugin {name!r}.", remedy="List them with: purveyor plugin list")
    if options.as_json:
        output.show_json(found[0])
        return
    item = found[0]
    output.fields(
        {
            "plugin": item["name"],
            "from": f"{item['distribution']} {item['version']}".strip(),
            "type": item["service_type"],
            "hooks": ", ".join(item["hooks"]),
            "error": item["error"],
            "faults": item["faults"],
            "the last": item["last_fault"],
        }
    )


@plugin_command.command("install")
@click.argument("what")
@click.option("--no-deps", is_flag=True, help="Without what it depends on.")
@click.pass_obj
def install_plugin(options: Options, what: str, no_deps: bool) -> None:
    """Install a plugin into Purveyor's own Python: a wheel, a folder, or a name with a version."""
    _check_source(what)
    before = _plugins()
    _pip("install", *(["--no-deps"] if no_deps else []), what)
    new = sorted(set(_plugins()) - set(before))
    found = {item["name"]: item for item in _listed(options)}
    if not new and what.partition("==")[0] not in before.values():
        raise Failed(
            f"{what} was installed, and brings no plugin of Purveyor's.",
            remedy=f"It has to name one in its entry points, group {GROUP!r}. Remove it with pip if you do not need it.",
        )
    told = [found[name] for name in new if name in found]
    if options.as_json:
        output.show_json(told)
    for item in told:
        if item["error"]:
            raise Failed(f"The plugin {item['name']} was installed and does not load: {item['error']}")
        if not options.as_json:
            brings = f", which brings the service type {item['service_type']}" if item["service_type"] else ""
            click.echo(f"The plugin {item['name']} {item['version']} is installed{brings}. {DAEMON}")


@plugin_command.command("uninstall")
@click.argument("name")
@yes_option
@click.pass_obj
def uninstall_plugin(options: Options, name: str, yes: bool) -> None:
    """Remove a plugin. Services of its type stay, with their data, and wait for it to come back."""
    plugins = _plugins()
    if name not in plugins:
        raise NotFound(f"There is no plugin {name!r}.", remedy="List them with: purveyor plugin list")
    if plugins[name] == OWN:
        raise Conflict(f"The plugin {name} comes with Purveyor and cannot be removed.")
    kinds = {item["name"]: item["service_type"] for item in _listed(options)}
    services = run(options, lambda client: client.pages("/api/external-services/"))
    held = [item["slug"] for item in services if kinds.get(name) and item["service_type"] == kinds[name]]
    if held:
        interrupts(f"{', '.join(held)} cannot be used without {name}; the data is kept.", yes=yes)
    _pip("uninstall", "--yes", plugins[name])
    if options.as_json:
        output.show_json({"removed": name, "services": held})
    else:
        kept = f" {', '.join(held)} stay listed, with their data." if held else ""
        click.echo(f"The plugin {name} is removed.{kept} A daemon that runs has it until its next start.")


def _check_source(what: str) -> None:
    """Raise `BadInput` for a file that is no wheel, or one without a plugin in it."""
    path = Path(what)
    if path.is_dir():
        if not (path / "pyproject.toml").exists():
            why = "the folder has no pyproject.toml"
            raise BadInput(f"{what} cannot be installed: {why}.", errors={"what": why})
        return
    if not path.exists():
        if path.suffix == ".whl" or "/" in what:
            raise BadInput(f"There is no file {what}.", errors={"what": "there is no such file"})
        return
    try:
        with zipfile.ZipFile(path) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
            points = wheel.read(names[0]).decode() if names else ""
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError):
        why = "it is not a wheel"
        raise BadInput(f"{what} cannot be installed: {why}.", remedy="Build one: pip wheel .", errors={"what": why}) from None
    if f"[{GROUP}]" not in points:
        why = f"it names no plugin in its entry points, group {GROUP!r}"
        raise BadInput(f"{what} is no plugin: {why}.", remedy="See contrib/purveyor-mariadb.", errors={"what": why})


def _plugins() -> dict[str, str]:
    """The plugins that are installed now, and the distribution that each comes from."""
    importlib.invalidate_caches()
    found = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry.dist.name if entry.dist else "" for entry in found}


def _pip(*arguments: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise Failed("This Python has no pip.", remedy=f"Install it: {sys.executable} -m ensurepip")
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Failed(
            f"pip could not do it: {lines[-1] if lines else 'it says nothing'}", remedy="See above, or try pip yourself."
        )


def _listed(options: Options) -> list[dict[str, Any]]:
    """The plugins as a process sees them that starts now."""
    command = [sys.executable, "-c", LIST]
    done = subprocess.run(command, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


LIST = """
import json, logging, msgspec
from purveyor.kernel.logs import make_logger
from purveyor.kernel.plugins.registry import Registry
registry = Registry(make_logger(logging.CRITICAL))
registry.load()
print(json.dumps(msgspec.to_builtins(list(registry.plugins))))
"""


@plugin_command.command("check")
@click.argument("service_type")
@click.option("--image", default="", metavar="IMAGE", help="The Docker image, instead of the type's default.")
@click.option("--only", multiple=True, metavar="CHECK", help="One check, as --json names it; may be given again.")
@click.pass_obj
def check_plugin(options: Options, service_type: str, image: str, only: tuple[str, ...]) -> None:
    """Check everything that a service type promises, on an installation made for that; exit code 1 when one is not kept."""
    from purveyor.kernel.config import load
    from purveyor_hooks.conformance import CHECKS, Bench, Outcome, run_all

    known = [check.name for check in CHECKS]
    if unknown := sorted({*only} - {*known}):
        raise BadInput(
            f"There is no check {unknown[0]!r}.", remedy=f"Known are: {', '.join(known)}.", errors={"only": "no check"}
        )
    chosen = image or load(options.state).default_images.get(service_type, "")
    try:
        bench = Bench(service_type, chosen)
    except LookupError as error:
        raise BadInput(str(error), remedy="See: purveyor plugin list", errors={"service_type": "no plugin brings it"}) from None
    found: list[dict[str, Any]] = []
    with bench:
        for check, outcome in run_all(bench, only):
            kept = outcome.kept if isinstance(outcome, Outcome) else None
            seen = outcome.seen if isinstance(outcome, Outcome) else str(outcome)
            found.append({"check": check.name, "promise": check.promise, "kept": kept, "seen": seen, "hooks": check.hooks})
            if not options.as_json:
                _tell_check(found[-1])
    if options.as_json:
        output.show_json(found)
    failed = [item for item in found if item["kept"] is False]
    if not options.as_json:
        count = f"{len(failed)} of {len(found)} promises are not kept" if failed else f"{service_type} keeps its promises"
        click.secho(f"{count}.", bold=True)
    if failed:
        raise SystemExit(1)


def _tell_check(item: Mapping[str, Any]) -> None:
    mark = {True: click.style("✓", fg="green"), None: click.style("–", dim=True), False: click.style("✖", fg="red", bold=True)}
    click.echo(f"{mark[item['kept']]} {item['promise']}")
    if item["kept"] is False:
        click.echo(f"    seen:    {item['seen']}")
        click.echo(f"    look at: {', '.join(item['hooks'])}")
