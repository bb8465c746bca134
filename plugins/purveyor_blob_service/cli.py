"""``purveyor blob``: a project's files from the command line."""

import codecs
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from purveyor_hooks import ApiClient, CommandLine, standing

BASE = "/api/blob"
CHUNK = 256 * 1024


@click.group("blob")
def blob() -> None:
    """Read and write a project's files."""


def whose(command: Any) -> Any:
    """The options that say whose blobs are meant."""
    environment = click.option(
        "-e", "--environment", metavar="ENVIRONMENT", help="Instead of production."
    )
    return click.option("-p", "--project", required=True, metavar="PROJECT", help="The project.")(
        environment(command)
    )


def meant(project: str, environment: str | None, **more: Any) -> dict[str, Any]:
    """The query of a call."""
    given = {"project_id": project, "environment": environment, **more}
    return {name: value for name, value in given.items() if value is not None}


@blob.command("put")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.argument("pathname", required=False)
@click.option("--content-type", metavar="TYPE", help="Instead of what the extension says.")
@click.option("--random-suffix", is_flag=True, help="Add a random suffix to the name.")
@whose
@click.pass_obj
def put_command(
    line: CommandLine,
    file: Path,
    pathname: str | None,
    content_type: str | None,
    random_suffix: bool,
    project: str,
    environment: str | None,
) -> None:
    """Write a blob from a FILE, or from standard input (-)."""
    if str(file) == "-" and pathname is None:
        raise click.UsageError("What comes from standard input needs a PATHNAME.")
    name = pathname or file.name
    given = meant(project, environment, pathname=name, content_type=content_type)
    given |= {"add_random_suffix": "true"} if random_suffix else {}

    async def pieces() -> AsyncIterator[bytes]:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                yield chunk

    found = line.run(lambda api: api.call("POST", BASE, params=given, content=pieces()))
    click.echo(
        json.dumps(found)
        if line.as_json
        else f"{found['pathname']}  {found['size']} bytes  {found['contentType']}"
    )


@blob.command("get")
@click.argument("pathname")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file instead of standard output.",
)
@whose
@click.pass_obj
def get_command(
    line: CommandLine, pathname: str, output: Path | None, project: str, environment: str | None
) -> None:
    """Write a blob to standard output, or to a file."""
    path = f"{BASE}/{quote(project)}/{quote(pathname)}"
    query = {"environment": environment} if environment else {}

    async def work(api: ApiClient) -> None:
        if output is None:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            async for chunk in api.stream(path, **query):
                if sys.stdout.isatty():  # as text: what an app wrote must not act on it
                    click.echo(decoder.decode(chunk), nl=False)
                else:
                    sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        part = output.with_name(f"{output.name}.part")  # a name that says that it is not whole
        try:
            with part.open("wb") as opened:
                async for chunk in api.stream(path, **query):
                    opened.write(chunk)
            part.replace(output)
        finally:
            part.unlink(missing_ok=True)

    line.run(work)


@blob.command("list")
@click.argument("prefix", default="")
@whose
@click.pass_obj
def list_command(line: CommandLine, prefix: str, project: str, environment: str | None) -> None:
    """List the blobs with a name prefix."""

    async def work(api: ApiClient) -> list[Any]:
        found: list[Any] = []
        cursor = None
        while True:
            page = await api.call(
                "GET",
                BASE,
                params=meant(project, environment, prefix=prefix, cursor=cursor, limit=1000),
            )
            found += page["blobs"]
            cursor = page["cursor"]
            if cursor is None:
                return found

    found = line.run(work)
    if line.as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for item in found:
        click.echo(
            f"{item['size']:>12}  {item['uploadedAt'][:19]}  {item['contentType']:<28}  "
            f"{item['pathname']}"
        )


@blob.command("del")
@click.argument("pathnames", nargs=-1, required=True)
@whose
@click.pass_obj
def del_command(
    line: CommandLine, pathnames: tuple[str, ...], project: str, environment: str | None
) -> None:
    """Delete blobs; prints how many were there."""
    body = meant(project, environment, pathnames=list(pathnames))
    found = line.run(lambda api: api.call("DELETE", BASE, json=body))
    click.echo(json.dumps(found) if line.as_json else found["deleted"])


@blob.command("copy")
@click.argument("source")
@click.argument("target")
@whose
@click.pass_obj
def copy_command(
    line: CommandLine, source: str, target: str, project: str, environment: str | None
) -> None:
    """Copy a blob to another name."""
    body = meant(project, environment, fromUrl=source, toPathname=target)
    found = line.run(lambda api: api.call("POST", f"{BASE}/copy", json=body))
    click.echo(json.dumps(found) if line.as_json else found["pathname"])


standing.add_commands(blob, "blob", "Blob")
