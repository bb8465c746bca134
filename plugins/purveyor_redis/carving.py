"""Data for the servers of environments: a backup of theirs, or of one server for all, taken apart
by its numbers.

Everything is put where the servers find it before the first of them is started: what cannot be read
starts none.
"""

import re
from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from purveyor_hooks import Access, BadInput, Command, Failed, Finding
from purveyor_hooks.protocols import Process
from purveyor_redis import division
from purveyor_redis.beside import FILE
from purveyor_redis.division import MARK, PROJECT, Held, Keys
from purveyor_redis.rdb import HEAD, SHARED, TAIL, Alone, DamagedRdb, Reader, Stretches
from purveyor_redis.server import (
    FIRST_SLOT,
    HEALTH_KEY,
    IDENTITY_KEY,
    LAST_OF_OTHERS,
    LAST_SERVER,
    OWN_DATABASE,
    OWN_KEYS,
    port_of,
)

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
SELECTS = re.compile(r"\+select\|(\d{1,9})")
NOBODY = Held("", "", "")


class Cut(NamedTuple):
    """What is in place for a server: whose it is, and what was counted of it."""

    held: Held
    keys: Keys


class Carving:
    """`only` are the numbers that are wanted, None all. `cuts` are those in place, `rest` has
    counted what the service's own server gets, which lies in the file that the second server
    reads."""

    def __init__(
        self, access: Access, only: Sequence[int] | None, users: Mapping[int, Held]
    ) -> None:
        self._access, self._only, self._users = access, only, users
        self.cuts: dict[int, Cut] = {}
        self.rest = Reader()

    def _wanted(self, number: int) -> bool:
        return self._only is None or number in self._only

    # ---------------------------------------------------------------- a backup of such servers

    async def take(self, part: AsyncIterable[bytes], facts: Mapping[str, Any]) -> None:
        """The part of one environment's server."""
        number = _number(facts.get("number"))
        if not self._wanted(number):
            return
        reader = Reader()
        try:
            async with division.loading(self._access, number) as process:
                async for chunk in part:
                    reader.feed(chunk)
                    await process.write(chunk)
        except DamagedRdb as error:
            raise await self._undone(error) from None
        self.cuts[number] = Cut(_held(facts), _counted(reader))
        if not reader.ended and not reader.unknown:
            # a word that it is not whole follows
            self.cuts[number] = self.cuts[number]._replace(keys=Keys(-1, 0, 0, False))

    async def drop(self, facts: Mapping[str, Any]) -> None:
        """The part before is not whole: its server could not be read."""
        number = _number(facts.get("number"))
        if self.cuts.pop(number, None) is not None:
            await division.run(self._access, "purge", str(port_of(number)))

    async def require_whole(self) -> None:
        """Raises `BadInput` for one that is cut off."""
        if any(cut.keys.lasting < 0 for cut in self.cuts.values()):
            raise await self._undone(DamagedRdb("it is cut off"))

    # --------------------------------------------------------------- a backup of one server for all

    async def split(self, part: AsyncIterable[bytes], own: int | None) -> None:
        """Each number to a server of its own; number 0, which is nobody's, and libraries of
        functions to the service's own."""
        reader = Reader(own, OWN_KEYS.encode(), marking=True)
        try:
            async with self._access.process(
                Command(argv=("sh", "-c", f"umask 077; cat >{FILE}"))
            ) as rest:
                await self._split(part, reader, rest)
                await rest.end_input()
                await rest.finish()
        except DamagedRdb as error:
            raise await self._undone(error) from None
        for number in [*self.cuts]:
            lasting, fleeting = reader.lasting.get(number, 0), reader.fleeting.get(number, 0)
            if lasting or fleeting:
                self.cuts[number] = Cut(
                    self._users.get(number, NOBODY), Keys(lasting, fleeting, 0, False)
                )
            else:  # nothing but marks of ours
                await self.drop({"number": number})
        self.rest.lasting = (
            {0: reader.lasting[0]} if 0 in reader.lasting and self._wanted(0) else {}
        )
        self.rest.fleeting = (
            {0: reader.fleeting[0]} if 0 in reader.fleeting and self._wanted(0) else {}
        )
        self.rest.functions = reader.functions if self._only is None else 0

    async def _split(self, part: AsyncIterable[bytes], reader: Reader, rest: Process) -> None:
        stretches, head = Stretches(reader), b""
        own: Alone | None = None
        current, alone, process = 0, own, rest
        async with AsyncExitStack() as stack:
            async for chunk in part:
                for stretch in stretches.feed(chunk):
                    if stretch.where == HEAD and own is None:
                        head += stretch.data
                        continue
                    own = own or Alone(head, reader.version)
                    if (stretch.where == SHARED and self._only is None) or (
                        stretch.where == 0 and self._wanted(0)
                    ):
                        await rest.write(own.take(stretch))
                    if stretch.where in (HEAD, SHARED, TAIL, 0, OWN_DATABASE) or not self._wanted(
                        stretch.where
                    ):
                        continue
                    if stretch.where != current:
                        if alone is not None:
                            await process.write(alone.end())
                        await stack.aclose()
                        current, alone = _number(stretch.where), Alone(head, reader.version)
                        if current in self.cuts:
                            raise DamagedRdb("a database comes twice")
                        process = await stack.enter_async_context(
                            division.loading(self._access, current)
                        )
                        self.cuts[current] = Cut(NOBODY, Keys(0, 0, 0, False))
                    assert alone is not None
                    await process.write(alone.take(stretch))
            reader.finish()
            if alone is not None:
                await process.write(alone.end())
        own = own or Alone(head, reader.version)
        await rest.write(own.end())

    # ---------------------------------------------------------------- the end

    async def start(self, own: int | None) -> list[Finding]:
        """Have the servers run, with nobody let in. What one does not hold as it was counted is
        told."""
        findings = []
        for number, cut in sorted(self.cuts.items()):
            try:
                await division.add(self._access, number, cut.held)
                await division.wait_until_loaded(self._access, number)
            except Failed as error:
                findings.append(
                    Finding(
                        where=f"db{number}",
                        what="",
                        why=f"its server does not take it: {error.detail}",
                    )
                )
                await division.run(self._access, "purge", str(port_of(number)))
                continue
            # what an imported server had of ours there is no data
            if number == LAST_OF_OTHERS and own != OWN_DATABASE:
                marks = [f"{OWN_KEYS}binding:{slot}" for slot in range(LAST_OF_OTHERS + 1)]
                await division.ask(self._access, number, "DEL", IDENTITY_KEY, HEALTH_KEY, *marks)
        held = await division.keys(self._access)
        for number, cut in sorted(self.cuts.items()):
            found = held.get(number)
            if found is None:
                continue
            here, there = found.lasting + found.fleeting, cut.keys.lasting + cut.keys.fleeting
            if not cut.keys.lasting <= here <= there:
                findings.append(
                    Finding(where=f"db{number}", what="keys", why=f"{here} of {there} came over")
                )
        return findings

    def require(self, only: Sequence[int]) -> None:
        """Raise `BadInput` for what is wanted and is not there."""
        there = {*self.cuts, *self.rest.lasting, *self.rest.fleeting}
        if missing := [f"db{number}" for number in only if number not in there]:
            why = "choose some that are there"
            raise BadInput(
                f"The backup holds no database {', '.join(missing)}.",
                remedy=f"{why[0].upper()}{why[1:]}.",
                errors={"database": why},
            )

    async def _undone(self, error: DamagedRdb) -> BadInput:
        """Take away what was put in place; no server was started on it."""
        for number in [*self.cuts]:
            await self.drop({"number": number})
        await self._access.exec(Command(argv=("rm", "-f", FILE)))
        return BadInput(
            f"The backup's data cannot be read: {error}.", remedy="Restore another backup."
        )


def _counted(reader: Reader) -> Keys:
    return Keys(
        sum(reader.lasting.values()), sum(reader.fleeting.values()), reader.functions, False
    )


def _number(given: Any) -> int:
    """The number of a server. What a backup says is checked: it becomes a port, and the name of a
    folder."""
    if (
        not isinstance(given, int)
        or isinstance(given, bool)
        or not FIRST_SLOT <= given <= LAST_SERVER
    ):
        raise BadInput(
            f"The backup holds data of a database {given!r:.20}, and those with a server of their "
            f"own are 1 to {LAST_SERVER}.",
            remedy=(
                "Restore it into a Redis with one server for all: purveyor create redis NAME "
                "-p channels=divided"
            ),
        )
    return given


def _held(facts: Mapping[str, Any]) -> Held:
    """Whose a server is. What is not a name of ours is nobody's: it is written into the server's
    configuration."""
    mark, project, account = (str(facts.get(name) or "") for name in ("mark", "project", "account"))
    if mark.isdecimal() and len(mark) <= 18 and NAME.fullmatch(project) and NAME.fullmatch(account):
        return Held(mark, project, account)
    return NOBODY


def held_by(users: Sequence[str]) -> dict[int, Held]:
    """Whose the numbers of one server for all are, by the marks of its users."""
    found = {}
    for line in users:
        word, _, rest = line.partition(" ")
        account, *rules = rest.split(" ")
        plain = {rule.strip("()") for rule in rules}
        marks = [rule[len(MARK) + 1 :] for rule in plain if rule.startswith(f"&{MARK}")]
        projects = [rule[len(PROJECT) + 1 :] for rule in plain if rule.startswith(f"&{PROJECT}")]
        numbers = [selected[1] for rule in plain if (selected := SELECTS.fullmatch(rule))]
        if word == "user" and marks and projects and numbers:
            found[int(numbers[0])] = _held(
                {"mark": marks[0], "project": projects[0], "account": account}
            )
    return found
