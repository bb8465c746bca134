"""The documents are true: generated pages are what the code says, and what pages name is there."""

import logging
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import click
import msgspec
import pytest
import reference_pages

from distributions import PARTS
from purveyor.app import OPERATION_TYPES
from purveyor.clients.declarative import Declared
from purveyor.kernel.logs import make_logger
from purveyor.kernel.plugins.registry import Plugin
from purveyor.program import COMMANDS, cli
from purveyor.providers.registry import ProviderRegistry
from purveyor.services.handle import ServiceHandle
from purveyor.settings import Settings
from purveyor_hooks import Image, Service

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
LISTED = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
)
PAGES = sorted(ROOT / name for name in LISTED.stdout.splitlines())
WRITTEN = [page for page in PAGES if page.parent != REFERENCE]
FRONT = 150  # lines of the README at most
PICTURE = 200_000  # bytes of the one in it
PLACES = ("tests/", "contrib/", "core/", "plugins/", "hooks/purveyor_hooks")
FIRST_WORDS = {name.partition(".")[0] for name in reference_pages.event_types()}
OPERATIONS = {operation_type.name for operation_type in OPERATION_TYPES}
OTHERS = {
    *PARTS,
    "hello-follow",
    "oidc-provider",
    "post-receive",
    "purveyor-api",
    "shop-production",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
}  # names with a hyphen that are neither setting nor operation
ENDINGS = (".db", ".key", ".md", ".py", ".service", ".sock", ".toml", ".txt", ".yaml", ".dump")


class Block(NamedTuple):
    page: Path
    kind: str
    text: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(page, kind, text) for kind, text in found]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def spans(page: Path) -> list[str]:
    """What stands between backticks in a page's prose."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(page))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return reference_pages.pages()


@pytest.fixture(scope="module")
def routes() -> list[re.Pattern[str]]:
    """Every path of the API and every beginning of one, with any text where it has a name in
    braces; then what is not described there: the description itself, endpoints for other people's
    clients, and the example of the author's guide."""
    templates = {path for path, _, _ in reference_pages.routes(reference_pages.description())}
    templates |= {"/api/schema/openapi.json", "/api/kv/rest", "/api/vercel-blob", "/api/hello"}
    beginnings = {
        "/".join(path.split("/")[:size])
        for path in templates
        for size in range(3, path.count("/") + 2)
    }
    return [
        re.compile(re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(path))) for path in sorted(beginnings)
    ]


# ---------------------------------------------------------------- the reference


def test_the_reference_is_what_the_code_says(generated: dict[str, str]) -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(generated)
    for name, text in generated.items():
        assert (REFERENCE / name).read_text() == text, (
            f"docs/reference/{name} is not what the code says: contrib/reference"
        )


def test_the_man_page_and_the_completions_are_what_the_code_says() -> None:
    folder = ROOT / "contrib/share"
    expected = reference_pages.share()
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(
        expected
    )
    for name, text in expected.items():
        assert (folder / name).read_text() == text, (
            f"contrib/share/{name} is not what the code says: contrib/reference"
        )


def test_the_man_page_has_every_command() -> None:
    text = reference_pages.man()
    for entry in reference_pages.tree():
        if not isinstance(entry.command, click.Group):
            assert f".B purveyor {' '.join(entry.words)}".replace("-", "\\-") in text


def test_every_command_and_setting_has_its_row() -> None:
    rows = "".join(
        line
        for line in (DOCS / "cli.md").read_text().splitlines(keepends=True)
        if line.startswith("| `")
    )
    for command in COMMANDS:
        assert re.search(rf"`{command}[ `]", rows), command
    settings = (REFERENCE / "settings.md").read_text()
    for field in Settings.__struct_fields__:
        assert f"| `{field.replace('_', '-')}` |" in settings, field


# ---------------------------------------------------------------- links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_anchor_is_there(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        if anchor:
            assert anchor in anchors(target), (
                f"{name_of(page)} links to {link}; there are {sorted(anchors(target))}"
            )


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "index.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in links(index)}
    assert {page for page in PAGES if DOCS in page.parents} - linked - {index} == set()


def test_the_site_is_built_strict(tmp_path: Path) -> None:
    pytest.importorskip(
        "mkdocs", reason="mkdocs is of the group dev, and only tested with the usual Python"
    )
    build = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/disaster-recovery/index.html").exists()


# ---------------------------------------------------------------- the front page


def test_the_readme_is_a_front_page_and_each_of_its_claims_names_a_test() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= FRONT
    section = text.partition("## What holds, and how it is shown\n")[2].partition(
        "\n[All promises"
    )[0]
    claims = [claim for claim in re.split(r"^- ", section, flags=re.MULTILINE) if claim.strip()]
    assert len(claims) > 8
    for claim in claims:
        assert "`tests/" in claim, claim


def test_the_readme_shows_the_dashboard_in_a_picture_that_is_quickly_there() -> None:
    assert "docs/dashboard.png" in links(ROOT / "README.md")
    picture = (DOCS / "dashboard.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) < PICTURE


def test_each_promise_of_the_security_page_names_a_test() -> None:
    text = (DOCS / "security.md").read_text().partition("## What is not promised")[0]
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| promise ")
    ]
    assert len(rows) > 30
    for row in rows:
        assert "`tests/" in row.split("|")[2], row


# ---------------------------------------------------------------- commands


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `purveyor` of each command in a page's blocks."""
    for block in blocks(page):
        if block.kind not in ("sh", "console"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            shown = line.removeprefix("$ ") if block.kind == "console" else line
            if block.kind == "console" and shown == line:
                continue
            for found in re.findall(r"(?:^|\$\(|&& |\| )(purveyor (?:[^()|&]|\"[^\"]*\")*)", shown):
                words = shlex.split(found, comments=True)[1:]
                yield words[
                    : next(
                        (place for place, word in enumerate(words) if word in (">", ">>", "<")),
                        len(words),
                    )
                ]


def checked(words: list[str]) -> None:
    """Parse a command line against the tree, without running it. Raises what click raises."""
    context = click.Context(cli, info_name="purveyor")
    command: click.Command = cli
    while True:
        parser = command.make_parser(context)
        given, words, _ = parser.parse_args(words)
        for parameter in command.params:
            value = given.get(str(parameter.name))
            if parameter.required and parameter.value_is_missing(value):
                raise click.MissingParameter(ctx=context, param=parameter)
            if isinstance(parameter.type, click.Choice) and isinstance(value, str):
                parameter.type.convert(value, parameter, context)
        if not isinstance(command, click.Group):
            if words:
                raise click.UsageError(f"there is too much: {words}", context)
            return
        if not words:
            return
        name, inner, words = command.resolve_command(context, words)
        if inner is None:
            raise click.UsageError(f"there is no command {name}", context)
        context, command = click.Context(inner, info_name=name, parent=context), inner


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_command_of_a_block_can_be_given(page: Path) -> None:
    for words in commands(page):
        try:
            checked(words)
        except click.ClickException as error:
            pytest.fail(f"{name_of(page)}: purveyor {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_command_and_option_that_is_named_is_there(page: Path) -> None:
    tree = {entry.words: entry.command for entry in reference_pages.tree()}
    for span in spans(page):
        words = span.split()
        if words[:1] == ["purveyor"] and len(words) > 1 and not words[1].startswith("-"):
            words = words[1:]
        elif words[0] not in COMMANDS or not any(word.startswith("--") for word in words):
            continue
        known = next((tuple(words[:size]) for size in (3, 2, 1) if tuple(words[:size]) in tree), ())
        assert known, f"{name_of(page)} names the command {span}"
        options = {
            option for item in tree[known].params for option in (*item.opts, *item.secondary_opts)
        }
        for option in re.findall(r"--[a-z][a-z-]*", span.partition(" -- ")[0]):
            assert option in options | {"--help", "--json"}, (
                f"{name_of(page)} names {option} in {span}"
            )


def test_a_command_that_cannot_be_given_is_found() -> None:
    for line in (
        "nothing",
        "create postgres",
        "create postgres main --nothing",
        "backup list a b",
        "token create a --scope all",
    ):
        with pytest.raises(click.ClickException):
            checked(line.split())


# ---------------------------------------------------------------- settings, events, paths, files


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_setting_that_is_named_is_there(page: Path) -> None:
    known = {field.replace("_", "-") for field in Settings.__struct_fields__}
    for group in re.findall(r"\bsettings?\s+((?:`[^`]+`(?:,\s+|\s+and\s+)?)+)", prose(page)):
        for name in re.findall(r"`([^`]+)`", group):
            assert name.partition(" ")[0] in known, f"{name_of(page)} names the setting {name}"
    for name in spans(page):
        if re.fullmatch(r"[a-z]+(-[a-z]+)+", name):
            assert name in known | OPERATIONS | OTHERS, (
                f"{name_of(page)} names {name}, which is no setting and no operation"
            )


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_files_that_are_shown_can_be_read(page: Path) -> None:
    kinds: dict[str, Any] = {"settings.toml": Settings, "purveyor.toml": Declared}
    for block in blocks(page):
        if block.kind == "toml":
            first = block.text.splitlines()[0].removeprefix("# ")
            found = tomllib.loads(block.text)
            if first in kinds:
                msgspec.convert(found, kinds[first])
            else:
                assert "project" in found, (
                    f"{name_of(page)}: a block of TOML says in its first line which file it is"
                )


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_event_that_is_named_is_there(page: Path) -> None:
    types = reference_pages.event_types()
    for span in spans(page):
        name = span.removeprefix("hooks/")
        if (
            re.fullmatch(r"[a-z0-9-]+(\.[a-z-]+)+", name)
            and name.partition(".")[0] in FIRST_WORDS
            and not name.endswith(ENDINGS)
        ):
            assert name in types, f"{name_of(page)} names the event {name}"


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_path_of_the_api_is_there(page: Path, routes: list[re.Pattern[str]]) -> None:
    for path in re.findall(
        r"(?<![\w.])(?:http://127\.0\.0\.1:8400|\$PURVEYOR_URL)?(/api/[\w{}./-]+)", page.read_text()
    ):
        assert (
            any(route.fullmatch(path.rstrip("./")) for route in routes) or path == "/api/hello"
        ), f"{name_of(page)} names {path}"


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    for span in [
        *spans(page),
        *(word for block in blocks(page) if block.kind == "sh" for word in block.text.split()),
    ]:
        path = span.split()[0].partition("::")[0]
        if path.startswith(PLACES) and re.fullmatch(r"[\w./-]+", path):
            assert (ROOT / path).exists(), f"{name_of(page)} names {path}"


# ---------------------------------------------------------------- the author's guide


@pytest.fixture(scope="module")
def guide() -> ModuleType:
    """The examples of the author's guide, as one module."""
    module = ModuleType("purveyor_hello")
    code = "\n\n".join(
        block.text for block in blocks(DOCS / "plugins.md") if block.kind == "python"
    )
    exec(compile(code, "docs/plugins.md", "exec"), vars(module))
    return module


def test_the_guide_has_an_example_for_each_hook_and_the_contract_takes_them(
    guide: ModuleType,
) -> None:
    registry, plugin = ProviderRegistry(make_logger(logging.ERROR)), Plugin(name="hello")
    registry.register(guide, plugin)
    assert plugin.error == ""
    assert {f"## {hook}" for hook in plugin.hooks} == set(
        re.findall(r"^## \w+$", (REFERENCE / "hooks.md").read_text(), re.MULTILINE)
    )


def test_the_pure_hooks_of_the_guide_answer_what_the_contract_asks_for(guide: ModuleType) -> None:
    registry = ProviderRegistry(make_logger(logging.ERROR))
    registry.register(guide, Plugin(name="hello"))
    service = Service(
        id=1, name="main", slug="main", service_type="hello",
        parameters={"port": 6379, "password": "p"}, secrets={},
        image=Image(reference="redis:8"), host="purveyor-main", major="8",
    )  # fmt: skip
    server = ServiceHandle(registry.provider("hello"), service, cast("Any", None))
    assert server.client().argv == ("redis-cli",)
    assert server.archive_helper().mount is not None
    assert server.recovery(None).finish.argv
    assert server.archive_gap(["000000000001", "000000000003"]) == "000000000002"
    for tag, action in (("7", "refuse"), ("8.2", "restart"), ("9", "migrate")):
        assert server.upgrade_plan(Image(reference=f"redis:{tag}")).action == action
