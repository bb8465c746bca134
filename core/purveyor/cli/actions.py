"""What commands share: NAME=VALUE options, an operation that is run with progress or planned, and
the commands that do no more than that."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from purveyor.cli import output
from purveyor.cli.client import Client, run
from purveyor.cli.options import Options, plan_option
from purveyor.exposed import Call, Exposed
from purveyor_hooks import BadInput
from purveyor_hooks.confirm import destroys, interrupts, yes_option


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


def change(options: Options, call: Call) -> Any:
    """Have something changed at once, or show the plan of that; the answer is what is told of it.
    A plan ends the command."""
    found = run(options, lambda client: client.ask(call))
    if "plan" in call.params:
        output.show_json(found) if options.as_json else output.show_plan(found)
        raise click.exceptions.Exit(0)
    return found


def act(options: Options, title: str, call: Call) -> dict[str, Any] | None:
    """Run an operation with progress, or show its plan; the answer is the operation, None for a plan."""

    async def work(client: Client) -> dict[str, Any] | None:
        if "plan" in call.params:
            answer = await client.ask(call)
            output.show_json(answer) if options.as_json else output.show_plan(answer)
            return None
        with output.progress(title) as listener:
            return dict(await client.run_operation(call, listener))

    return run(options, work)


# tells what is done: with the arguments, and with the operation, or what one without steps made
Telling = Callable[[Options, Mapping[str, Any], Any], None]


def command(exposed: Exposed, tell: Telling | None = None) -> click.Command:
    """The command that an operation is exposed as."""
    shape = exposed.command
    assert shape is not None, f"{exposed.operation} has no command"
    words = [*exposed.places.values(), *shape.words]

    def run_it(options: Options, plan: bool, yes: bool = False, **given: Any) -> None:
        if shape.interrupts:
            interrupts(shape.interrupts.format(**given), yes=yes, plan=plan)
        if shape.destroys:
            name = given[shape.typed]
            destroys(shape.destroys.format(**given), name, yes=yes, plan=plan, thing=shape.thing)
        call = exposed.call(plan=plan, **given)
        if shape.title:
            found: Any = act(options, shape.title.format(**given), call)
            if found is None:
                return
        else:
            found = change(options, call)
        if tell is not None:
            tell(options, given, found)
        else:
            told = {name: text.format(**given) for name, text in shape.tells.items()}
            output.say(options, told or found, shape.says.format(**given))

    made: Any = click.pass_obj(run_it)
    asks = [yes_option] if shape.interrupts or shape.destroys else []
    flags = [
        click.option(f"--{name.replace('_', '-')}", is_flag=True, help=text)
        for name, text in shape.flags.items()
    ]
    named = [click.argument(word, metavar=shape.metavars.get(word)) for word in words]
    for decorate in reversed([*named, *flags, *asks, plan_option]):
        made = decorate(made)
    return click.command(shape.name, help=shape.help)(made)
