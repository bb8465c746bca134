"""What commands share: NAME=VALUE options, and an operation that is run with progress or
planned."""

from pathlib import Path
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options
from purveyor_hooks import BadInput


def pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    """NAME=VALUE options as a mapping; @FILE stands for what a file holds, which no process list
    shows, and @@ for @.

    Raises `BadInput`.
    """
    found = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise BadInput(
                f"{item!r} is not NAME=VALUE.", remedy=f"For example: {option} port=5433"
            )
        if value.startswith("@@"):
            value = value[1:]
        elif value.startswith("@"):
            try:
                value = Path(value[1:]).read_text().removesuffix("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(
                    f"{value[1:]} cannot be read: {error}.",
                    errors={name: "the file cannot be read"},
                ) from None
        found[name] = value
    return found


def change(options: Options, method: str, path: str, *, plan: bool, **request: Any) -> Any:
    """Have something changed at once, or show the plan of that; the answer is what is told of it.
    A plan ends the command."""

    async def work(client: Client) -> Any:
        return await client.call(method, path, params=parameters, **request)

    parameters = {**request.pop("params", {}), **({"plan": "true"} if plan else {})}
    found = run(options, work)
    if plan:
        output.show_json(found) if options.as_json else output.show_plan(found)
        raise click.exceptions.Exit(0)
    return found


def act(
    options: Options, title: str, method: str, path: str, *, plan: bool, **request: Any
) -> dict[str, Any] | None:
    """Run an operation with progress, or show its plan; the answer is the operation, None for a plan."""

    async def work(client: Client) -> dict[str, Any] | None:
        if plan:
            parameters = {**request.pop("params", {}), "plan": "true"}
            answer = await client.call(method, path, params=parameters, **request)
            output.show_json(answer) if options.as_json else output.show_plan(answer)
            return None
        with output.progress(title) as listener:
            return dict(await client.run_operation(method, path, listener, **request))

    return run(options, work)
