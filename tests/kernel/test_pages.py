"""The commands of the pages are run in the order in which they stand there, on the fake engine:
each ends well."""

import re
import shlex
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import anyio
import click
import click.testing
import msgspec
import pytest
from test_commands import served
from test_docs import DOCS, blocks

from fake import scene as fake_scene
from fake.scene import PLUGINS, Scene
from purveyor.program import cli

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

HOOKS = EntryPoint(name="deployhooks", value="purveyor_deployhooks:plugin", group="purveyor")
# What stands on a page, and what stands for it on the fake engine, which has one type of service.
NAMES = {
    "postgres": "fake",
    "redis": "fake",
    "max_connections=200": "size=200",
    "max_connections=300": "size=300",
    "registry.example/postgres:17": "fake:1",
    "registry.example/shop:42": "app:1",
    "registry.example/shop:pr7": "app:2",
}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """How a page is run: what is there before, names of its own, what is not run here, and what may
    find something: the fake engine resolves no names, so that the doctor's way to the data ends
    there."""

    before: tuple[str, ...] = ()
    names: dict[str, str] = {}
    without: tuple[str, ...] = ()
    may_find: tuple[str, ...] = ()


RUN = {
    "tour.md": Page(may_find=("doctor shop",)),
    "services.md": Page(names={"17": "2", "postgres:18": "fake:1-b"}, without=("-f", "connect")),
    "link-and-deploy.md": Page(before=("create fake main",)),
    "declarative.md": Page(before=("create fake main",), without=("apply purveyor.toml --prune",)),
    "hooks-and-webhooks.md": Page(),
    "backups.md": Page(
        before=("create fake main", "project create shop", "link main shop"),
        without=("restore main", "backup source add", "key restore", "--from offsite"),
        names={"--to": "", "offsite": ""},
    ),
    "upgrades.md": Page(before=("create fake main",), names={"postgres:18": "fake:2"}),
}
LINKED = ("unlink main shop", "rotate shop")  # what needs a link, which a line above may have ended
SHOWN = {  # lines of output that are the same whatever the type of service is
    "tour.md": (
        "create cache (a plan; nothing has been changed)",
        "  steps       image → volume → container → start → ready → identity",
        "  downtime    none",
        "Created project shop (id 1).",
        "main is linked to shop. The next deploy gets",
        "Deployment 1 of shop is ● active",
        "✓ shop/production: app  deployment 1 runs",
        "✓ shop/production: variables  as a deploy would give them now",
    ),
}


def lines(page: str) -> list[str]:
    """The commands of a page's blocks, without `purveyor`."""
    found = []
    for block in blocks(DOCS / page):
        start = {"sh": "purveyor ", "console": "$ purveyor "}.get(block.kind)
        if start:
            found += [
                line.removeprefix(start)
                for line in block.text.splitlines()
                if line.startswith(start)
            ]
    return found


def found_command(words: list[str]) -> click.Command:
    command: click.Command = cli
    context = click.Context(cli)
    for word in words:
        inner = command.get_command(context, word) if isinstance(command, click.Group) else None
        if inner is None:
            break
        command = inner
    return command


class Runner:
    """Runs lines of a page on a scene."""

    def __init__(self, scene: Scene, page: Page) -> None:
        self._scene = scene
        self._names = {**NAMES, **page.names}
        self._may_find = page.may_find
        self.said = ""

    async def call(self, *words: str) -> click.testing.Result:
        invoke = partial(
            click.testing.CliRunner().invoke, cli, ["--state", str(self._scene.state), *words]
        )
        return await anyio.to_thread.run_sync(invoke)

    async def kept(self) -> tuple[str, str]:
        """The id of data that is kept, and the name of the service that it was made for."""
        for _ in range(2):
            listed = msgspec.json.decode((await self.call("--json", "volumes")).stdout)
            for item in listed:
                if item["state"] == "kept":
                    return item["id"], item["origin"]
            await self.call("create", "fake", "spare")
            await self.call("delete", "spare", "--yes")
        raise AssertionError("there is no data that is kept")

    async def run(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        words, file = (words[:-2], words[-1]) if ">" in words else (words, "")
        words = [self._names.get(word, word) for word in words]
        words = [word for word in words if word]
        if line.startswith(LINKED):
            await self.call("link", "main", "shop")
        options = {option for item in found_command(words).params for option in item.opts}
        if "VOLUME" in words:
            volume, origin = await self.kept()
            words = [volume if word == "VOLUME" else word for word in words]
            words += ["--confirm", origin] if "--confirm" in options else []
        if "--yes" in options and "--plan" not in words:
            words.append("--yes")
        done = await self.call(*words)
        assert done.exit_code in ((0, 1) if line in self._may_find else (0,)), (
            f"{line}: {done.output} {done.exception!r}"
        )
        self.said += done.stdout
        if file:
            await anyio.Path(file).write_text(done.stdout)


@pytest.mark.parametrize("name", RUN)
async def test_the_commands_of_a_page_end_well_one_after_the_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_scene, "PLUGINS", [*PLUGINS, HOOKS])
    monkeypatch.chdir(tmp_path)
    page, scene = RUN[name], Scene(tmp_path / "state")
    scene.begin()
    found = [
        line
        for line in lines(name)
        if not any(re.search(rf"(^|\s){re.escape(word)}", line) for word in page.without)
    ]
    assert found
    async with scene.open() as app, served(scene, app):
        runner = Runner(scene, page)
        for line in (*page.before, *found):
            await runner.run(line)
    for shown in SHOWN.get(name, ()):
        assert shown in (DOCS / name).read_text()
        assert shown in runner.said, runner.said
