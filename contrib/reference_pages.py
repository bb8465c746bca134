"""What contrib/reference writes, from the code: command tree, API description, settings, events,
types."""

import inspect
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import click
import click.testing
import msgspec

ROOT = Path(__file__).resolve().parent.parent
# the fake engine: routes are listed without a Docker Engine
sys.path.insert(0, str(ROOT / "tests"))

from distributions import STALE, stale  # noqa: E402
from fake.engine import FakeEngine  # noqa: E402
from purveyor.app import EVENTS, OPERATION_TYPES, built  # noqa: E402
from purveyor.asgi import create_api  # noqa: E402
from purveyor.docker import Labels  # noqa: E402
from purveyor.kernel.events import catalog  # noqa: E402
from purveyor.kernel.logs import make_logger  # noqa: E402
from purveyor.program import COMMANDS, cli  # noqa: E402
from purveyor.providers.registry import ProviderRegistry  # noqa: E402
from purveyor.settings import Settings  # noqa: E402
from purveyor_hooks import Api, Binding, Image, Scope, Service, ServiceType, Variable, errors, specs  # noqa: E402

GENERATED = "This page is generated from the code by `contrib/reference`. Do not edit it."
KINDS = {
    "port": "lowest free port from {base}",
    "password": "{length} random characters",
    "key": "{length} random characters",
}


def pages() -> dict[str, str]:
    """Every generated page by the name of its file."""
    if stale():
        sys.exit(STALE)
    registry = ProviderRegistry(make_logger(logging.ERROR))
    registry.load()
    return {
        "api.md": api(description()),
        "cli.md": command_line(),
        "errors.md": error_codes(),
        "events.md": events(),
        "hooks.md": hooks(),
        "service-types.md": service_types(registry),
        "settings.md": settings(),
        "variables.md": variables(registry),
    }


def share() -> dict[str, str]:
    """What the wheel installs below share/, by its path there: the man page and the shells'
    completions."""
    return {
        "man/man1/purveyor.1": man(),
        "bash-completion/completions/purveyor": completion("bash"),
        "fish/vendor_completions.d/purveyor.fish": completion("fish"),
        "zsh/site-functions/_purveyor": completion("zsh"),
    }


def completion(shell: str) -> str:
    done = click.testing.CliRunner().invoke(
        cli, ["completion", shell], prog_name="purveyor", catch_exceptions=False
    )
    return done.output


def page(title: str, *lines: str) -> str:
    return "\n".join([f"# {title}", "", GENERATED, "", *lines]).rstrip() + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; empty without rows."""
    if not rows:
        return []
    cells = [[re.sub(r"\s*\n\s*", " ", cell.replace("|", "\\|")) for cell in row] for row in rows]
    return [
        f"| {' | '.join(row)} |".replace("  |", " |")
        for row in [list(head), ["---"] * len(head), *cells]
    ] + [""]


def code(value: object) -> str:
    return f"`{value}`" if value not in ("", None) else ""


# ---------------------------------------------------------------- the command line


class Entry(msgspec.Struct, frozen=True):
    """One command of the tree: its words without `purveyor`, and what click knows of it."""

    words: tuple[str, ...]
    command: click.Command
    context: click.Context


@cache
def tree() -> tuple[Entry, ...]:
    """Every command, groups before what is in them; those of plugins last, by name."""
    root = click.Context(cli, info_name="purveyor")
    own = list(COMMANDS)
    names = own + sorted(set(cli.list_commands(root)) - set(own))
    return tuple(entry for name in names for entry in _walk(cli, name, root, ()))


def _walk(
    group: click.Group, name: str, above: click.Context, words: tuple[str, ...]
) -> Iterator[Entry]:
    command = group.get_command(above, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=above)
    yield Entry((*words, name), command, context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _walk(command, inner, context, (*words, name))


def usage(entry: Entry) -> str:
    pieces = [
        item.make_metavar(entry.context)
        for item in entry.command.params
        if isinstance(item, click.Argument)
    ]
    if isinstance(entry.command, click.Group):
        pieces += [
            "[COMMAND]" if entry.command.invoke_without_command else "COMMAND",
            "[ARGUMENTS]",
        ]
    options = ["[OPTIONS]"] if any(_shown(entry.command)) else []
    return " ".join(["purveyor", *entry.words, *options, *pieces])


def _shown(command: click.Command) -> Iterator[click.Option]:
    """The options of a command, without --json, which is told once for all of them."""
    for item in command.params:
        if (
            isinstance(item, click.Option)
            and (command is cli or "--json" not in item.opts)
            and not item.hidden
        ):
            yield item


def option_names(option: click.Option, context: click.Context) -> str:
    names = ", ".join(option.opts)
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    if not (option.is_flag or option.count):
        kind = option.type
        shown = (
            f"[{'|'.join(map(str, kind.choices))}]"
            if isinstance(kind, click.Choice)
            else option.make_metavar(context)
        )
        names += f" {shown.removesuffix(' RANGE')}"
    return names


def option_help(option: click.Option) -> str:
    """What it does, its default, and the variables that it is read from."""
    said = [" ".join((option.help or "").split())]
    if option.show_default and option.default is not None:
        said.append(f"Default: {option.default}.")
    if option.required:
        said.append("Required.")
    if option.multiple:
        said.append("May be repeated.")
    names = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or ())
    if names and not any(name in said[0] for name in names):
        said.append(f"Environment: {', '.join(names)}.")
    return " ".join(part for part in said if part)


def help_text(command: click.Command) -> str:
    return " ".join(inspect.cleandoc(command.help or "").split())


def command_line() -> str:
    lines = [
        "Options of `purveyor` itself stand before the command; `--json` may stand before or after "
        "it.",
        "",
        *table(["option", "what it does"], _options(cli, click.Context(cli, info_name="purveyor"))),
        "[Exit codes](errors.md#exit-codes) are the same for every command.",
        "",
    ]
    for entry in tree():
        lines += [
            f"{'#' * (len(entry.words) + 1)} purveyor {' '.join(entry.words)}",
            "",
            help_text(entry.command),
            "",
        ]
        if not isinstance(entry.command, click.Group) or entry.command.invoke_without_command:
            lines += ["```text", usage(entry), "```", ""]
        lines += table(["option", "what it does"], _options(entry.command, entry.context))
    return page("Command line", *lines)


def _options(command: click.Command, context: click.Context) -> list[list[str]]:
    return [[code(option_names(item, context)), option_help(item)] for item in _shown(command)]


def man() -> str:
    """The page purveyor(1), for `man`."""

    def text(value: str) -> str:
        escaped = value.replace("\\", "\\e").replace("-", "\\-")
        return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped

    context = click.Context(cli, info_name="purveyor")
    lines = [
        '.TH PURVEYOR 1 "" "" "User Commands"',
        ".SH NAME",
        "purveyor \\- managed services for your own Docker host",
    ]
    lines += [
        ".SH SYNOPSIS",
        ".B purveyor",
        "[OPTIONS] COMMAND [ARGUMENTS]",
        ".SH DESCRIPTION",
        text(help_text(cli)),
    ]
    lines += [".SH OPTIONS"]
    for option in _shown(cli):
        lines += [".TP", f".B {text(option_names(option, context))}", text(option_help(option))]
    lines += [".SH COMMANDS"]
    for entry in tree():
        if isinstance(entry.command, click.Group) and not entry.command.invoke_without_command:
            continue
        lines += [".TP", f".B {text(usage(entry))}", text(help_text(entry.command))]
        for option in _shown(entry.command):
            lines += [
                ".RS",
                ".TP",
                f".B {text(option_names(option, entry.context))}",
                text(option_help(option)) or "\\&",
                ".RE",
            ]
    lines += [".SH EXIT STATUS"]
    for number, meaning in exit_codes():
        lines += [".TP", f".B {number}", text(meaning)]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- the API


@cache
def description() -> dict[str, Any]:
    """The OpenAPI document of a fresh installation with the bundled plugins."""

    async def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def engine(namespace: str, labels: Labels) -> FakeEngine:
                return FakeEngine(namespace, labels, folder / "engine")

            async with (
                built(folder / "state", make_engine=engine, log_level=logging.CRITICAL) as app,
                anyio.create_task_group() as group,
            ):
                app.workers = group
                found: dict[str, Any] = create_api(app).openapi_schema.to_schema()
                group.cancel_scope.cancel()
        return found

    return anyio.run(work)


# what stands for the API's address and an environment's token in the page of variables
API = Api(url="https://purveyor.example.com", token="token", project_id=1)
METHODS = ("get", "head", "post", "put", "patch", "delete")


def routes(document: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(path, method, description) of every call, in the order of paths."""
    return [
        (path, method, item[method])
        for path, item in sorted(document["paths"].items())
        for method in METHODS
        if method in item
    ]


def api(document: Mapping[str, Any]) -> str:
    schemas = document["components"]["schemas"]
    groups: dict[str, list[list[str]]] = {}
    for path, method, call in routes(document):
        query = [item["name"] for item in call.get("parameters", ()) if item["in"] == "query"]
        row = [
            code(f"{method.upper()} {path}"),
            ", ".join(map(code, sorted(query))),
            _body(call, schemas),
        ]
        groups.setdefault("/".join(path.split("/")[:3]), []).append(row)
    lines = [
        "Every call needs `Authorization: Bearer TOKEN`, but for `GET /api/version` and the "
        "description at",
        "`/api/schema/openapi.json`, which has the types. `{reference}` is a name or a number. How "
        "errors, lists, plans and long",
        "calls work: [The API](../api.md).",
        "",
    ]
    for name, rows in groups.items():
        lines += [f"## {name}", "", *table(["call", "query", "body"], rows)]
    return page("API", *lines)


def _body(call: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The fields of a call's JSON body; those that must be there in bold."""
    for kind, content in call.get("requestBody", {}).get("content", {}).items():
        schema = content.get("schema", {})
        names = [schema[key] for key in ("$ref",) if key in schema] + [
            item["$ref"] for item in schema.get("oneOf", ()) if "$ref" in item
        ]
        if not names:
            return kind if kind != "application/json" else "JSON"
        found = schemas[names[0].rsplit("/", 1)[1]]
        needed = set(found.get("required", ()))
        return ", ".join(
            f"**`{name}`**" if name in needed else f"`{name}`"
            for name in sorted(found.get("properties", {}))
        )
    return ""


# ---------------------------------------------------------------- settings, events, errors


def settings() -> str:
    defaults = Settings()
    said: dict[str, str] = {}
    for line in (inspect.getdoc(Settings) or "").splitlines():
        if begin := re.match(r"- ([a-z-]+): (.*)", line):
            name = begin[1]
            said[name] = begin[2]
        elif said and line.startswith("  "):
            said[name] += f" {line.strip()}"
    rows = []
    for field in Settings.__struct_fields__:
        name, value = field.replace("_", "-"), getattr(defaults, field)
        rows.append([code(name), _toml(value), said[name][0].upper() + said[name][1:]])
    return page(
        "Settings",
        "`settings.toml` in the state directory. Every setting is optional. One that is unknown, "
        "of the wrong type or out of its",
        "bounds is refused by its name (`tests/services/test_truth_values.py`, "
        "`tests/kernel/test_values.py`).",
        "",
        *table(["setting", "default", "what it is"], rows),
    )


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, str):
        return code(f'"{value}"')
    return code(value if not isinstance(value, dict) else "{}")


def events() -> str:
    entries = catalog.build(OPERATION_TYPES, EVENTS)
    moments = {moment: (when, type(example).__name__) for moment, when, example in catalog.MOMENTS}
    families = sorted(
        {(verb.event("started").removesuffix(".started"), verb.name) for verb in OPERATION_TYPES}
    )
    of_verbs = {f"{family}.{moment}" for family, _ in families for moment in moments}
    payloads = {entry.payload: entry.data_schema for entry in entries}
    lines = [
        "Every event has `id`, `type` and `at`, and where they apply `operation`, `service` and "
        "`project`; `data` depends on the",
        "type. `purveyor events --catalogue` prints all types one by one, with an example of each.",
        "",
        "## Events of operations",
        "",
        "Each operation publishes events of its own prefix, `service.create.started` for example.",
        "",
        *table(
            ["last word", "when", "data"],
            [[code(name), when, payload] for name, (when, payload) in moments.items()],
        ),
        *table(["prefix", "operation"], [[code(family), name] for family, name in families]),
        "## Other events",
        "",
        *table(
            ["type", "when", "data"],
            [
                [code(entry.type), entry.when, entry.payload]
                for entry in entries
                if entry.type not in of_verbs
            ],
        ),
        "## Data",
        "",
        *table(
            ["name", "fields", "what it says"],
            [
                [
                    name,
                    ", ".join(code(field) for field in schema.get("properties", {})),
                    schema.get("description", ""),
                ]
                for name, schema in sorted(payloads.items())
            ],
        ),
    ]
    return page("Events", *lines)


@cache
def event_types() -> set[str]:
    return {entry.type for entry in catalog.build(OPERATION_TYPES, EVENTS)}


def error_classes() -> list[type[errors.PurveyorError]]:
    found = [
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, errors.PurveyorError)
    ]
    return sorted(found, key=lambda item: (item.exit_code, item.status, item.code))


def exit_codes() -> list[tuple[int, str]]:
    """What each exit code means, from the errors that end with it."""
    meant: dict[int, list[str]] = {
        0: ["Done"],
        1: ["A check found something: health, doctor, plugin check"],
    }
    for item in error_classes():
        meant.setdefault(item.exit_code, []).append(item.title)
    meant[130] = ["Ctrl-C: the command ended, and the operation that it began goes on"]
    return [
        (number, ". ".join(dict.fromkeys(texts)) + ".") for number, texts in sorted(meant.items())
    ]


def error_codes() -> str:
    rows = [
        [
            code(item.code),
            str(item.status),
            str(item.exit_code),
            (inspect.getdoc(item) or "").partition("\n\n")[0],
        ]
        for item in error_classes()
    ]
    return page(
        "Errors and exit codes",
        "The API answers with problem details (RFC 9457): `type` is `urn:purveyor:error:CODE`, "
        "`detail` is one sentence,",
        "`remedy` says what to do, `errors` names each field. The CLI prints the same, and the "
        "same document with `--json`.",
        "",
        "## Codes",
        "",
        *table(["code", "HTTP status", "exit code", "meaning"], rows),
        "## Exit codes",
        "",
        *table(
            ["exit code", "meaning"], [[str(number), meaning] for number, meaning in exit_codes()]
        ),
    )


# ---------------------------------------------------------------- service types and their variables


def service_types(registry: ProviderRegistry) -> str:
    lines = [
        "`purveyor types TYPE` prints the same for what is installed, third-party types included.",
        "",
    ]
    for kind in registry.kinds:
        rows = [
            [
                code(item.name),
                _default(item, kind),
                "yes" if item.editable else "no",
                "yes" if item.secret else "no",
                item.help,
            ]
            for item in kind.parameters
        ]
        ports = ", ".join(f"{port.container} (parameter `{port.parameter}`)" for port in kind.ports)
        lines += [f"## {kind.name}", "", f"{kind.description.rstrip('.')}.", ""]
        lines += [f"- Default image: `{kind.default_image}`", f"- Ports in the container: {ports}"]
        lines += [f"- {note}" for note in kind.notes]
        lines += [
            "",
            *table(["parameter", "default", "may change later", "secret", "what it is"], rows),
        ]
    return page("Service types and parameters", *lines)


def _default(item: Any, kind: ServiceType) -> str:
    if item.generated:
        return KINDS[item.generated].format(base=item.base, length=item.length)
    if item.name == "docker_image":
        return code(kind.default_image)
    return (
        code(str(item.default).lower() if isinstance(item.default, bool) else item.default)
        or "none"
    )


def injected(registry: ProviderRegistry) -> dict[str, list[Variable]]:
    """The variables of each type, for a project `shop` and its environment `production`."""
    found = {}
    for kind in registry.kinds:
        given = {item.name: _example(item) for item in kind.parameters}
        service = Service(
            id=1, name="main", slug="main", service_type=kind.name, parameters=given, secrets={},
            image=Image(reference=kind.default_image), host="purveyor-main",
        )  # fmt: skip
        name = kind.naming.separator.join(("shop", "production"))
        binding = Binding(
            id=1, scope=Scope(project="shop", environment="production"), resource=name,
            account="key" if kind.account_length else name, password="secret",
            slot=kind.slots[0] if kind.slots else None, api=API,
        )  # fmt: skip
        found[kind.name] = registry.provider(kind.name).call(
            "environment", service, binding=binding
        )
    return found


def _example(item: Any) -> Any:
    if item.generated:
        return item.base if item.generated == "port" else "generated"
    return item.default


def variables(registry: ProviderRegistry) -> str:
    lines = [
        "What a link injects, with the values that a project `shop` gets in its environment "
        "`production` from a service `main`.",
        "Secrets are shown as `***`. What is random is left open.",
        "",
    ]
    for name, values in injected(registry).items():
        rows = [
            [code(item.name), "`***`" if item.secret else code(item.value) or "(empty)"]
            for item in values
        ]
        lines += [f"## {name}", "", *table(["variable", "value"], rows)]
    return page("Injected variables", *lines)


# ---------------------------------------------------------------- hooks


def hooks() -> str:
    source = inspect.getsource(specs)
    found = [
        (name, item)
        for name, item in inspect.getmembers(specs, inspect.isfunction)
        if hasattr(item, "purveyor_spec")
    ]
    lines = [
        "The signatures and texts of `hooks/purveyor_hooks/specs.py`. Types are in "
        "`hooks/purveyor_hooks/types.py` and",
        "`protocols.py`. How to write a plugin: [Plugins](../plugins.md).",
        "",
    ]
    for name, item in sorted(found, key=lambda pair: source.index(f"def {pair[0]}(")):
        kind = "async def" if inspect.iscoroutinefunction(item) else "def"
        signature = re.sub(
            r"\b(purveyor_hooks\.(types|protocols)|collections\.abc|typing|datetime)\.",
            "",
            str(inspect.signature(item)),
        )
        lines += [f"## {name}", "", "```text", f"{kind} {name}{signature}", "```", ""]
        lines += [(inspect.getdoc(item) or "").replace("``", "`"), ""]
    return page("Hooks", *lines)
