"""What a person types after a host was lost, or its database alone, and what is said: on the fake
engine, in this process."""

import json
import platform
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from fake.host import Host, prepare
from fake.program import say, told
from fake.scene import do
from purveyor.backups import paper
from purveyor.kernel.db import copies


class Fire(NamedTuple):
    """The host that is lost, a new one, the key in a file, and where its backups are."""

    old: Host
    new: Host
    key: Path
    place: Path

    def recover(self, *words: str) -> tuple[str, ...]:
        """The words of a recovery onto the new host; other tests may listen where the old one did."""
        return ("recover", str(self.place), "--key", str(self.key), "--move-ports", *words)


@pytest.fixture(scope="module")
def kept(room: Path) -> Iterator[Path]:
    folder, kept = room / "burnt", room / "burnt-kept"
    anyio.run(prepare, Host(folder / "old", folder / "place"))
    shutil.copytree(folder, kept)
    yield kept
    shutil.rmtree(folder)
    shutil.rmtree(kept)


@pytest.fixture
def fire(kept: Path) -> Fire:
    folder = kept.with_name("burnt")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)
    place, key = folder / "place", folder / "its-key"
    old, new = Host(folder / "old", place), Host(folder / "new", place)
    shutil.copy(old.state / "backup.key", key)
    return Fire(old, new, key, place)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- the whole of it


def test_a_recovery_is_shown_confirmed_told_step_by_step_and_finished(fire: Fire) -> None:
    fire.old.burn()
    there = everything(fire.place)
    plan = told(fire.new, *fire.recover("--plan"))
    assert f"of {platform.node()}: state of " in plan
    assert "Is this the last that you remember?" in plan
    assert any(line.startswith("main ") and " here " in line for line in plan.splitlines())
    assert "Until `purveyor recover finish`: no deploys" in plan

    refused = say(fire.new, *fire.recover())
    assert refused.code == 2
    assert "is refused at" in refused.err
    assert "Nothing was changed. Give --yes to go on." in refused.err
    assert not fire.new.state.exists()
    assert everything(fire.place) == there

    said = say(fire.new, *fire.recover("--yes"))
    assert said.code == 0, said.all
    assert "  main: restore" in said.err
    assert "  main: succeeded" in said.err
    assert f"Recovered from {fire.place}: the state of {platform.node()}" in said.out
    assert "When all is as it should be: purveyor recover finish" in said.out
    assert said.out.count("● back") == 5

    assert "Recovered from" in told(fire.new, "recover", "status")
    asked = say(fire.new, "deploy", "shop", "app:1")
    assert "A deploy waits: this installation is being recovered." in asked.err
    plan = told(fire.new, "recover", "finish", "--plan")
    assert "nothing has been changed" in plan
    assert "Recovered from" in told(fire.new, "recover", "status")
    assert "The recovery is finished." in told(fire.new, "recover", "finish")
    status = told(fire.new, "recover", "status")
    assert "No recovery is under way." in status
    again = say(fire.new, "recover", "finish")
    assert (again.code, "No recovery is under way" in again.err) == (5, True)


def test_a_program_reads_a_plan_and_what_came_of_it(fire: Fire) -> None:
    fire.old.burn()
    plan = json.loads(say(fire.new, "--json", *fire.recover("--plan")).out)
    assert {item["name"] for item in plan["services"]} == {
        "main",
        "idle",
        "tracked",
        "risen",
        "asleep",
    }
    assert plan["header"] == plan["newest"]
    assert plan["refused"] == plan["in_the_way"] == []
    assert say(fire.new, "--json", *fire.recover("--yes")).code == 0
    made = json.loads(say(fire.new, "recover", "status", "--json").out)["recovery"]
    assert {item["state"] for item in made["services"]} == {"back"}
    assert json.loads(say(fire.new, "recover", "finish", "--json").out)["recovery"] is None


def test_the_key_is_typed_from_paper_and_a_slip_of_the_pen_is_named(fire: Fire) -> None:
    lines = paper.render_lines(fire.old.key())
    fire.old.burn()
    slip = [*lines[:2], lines[2][::-1], lines[3]]
    refused = say(fire.new, "recover", str(fire.place), "--yes", stdin="\n".join(slip) + "\n")
    assert "Type the four lines of the key." in refused.err
    assert "Line 3 of the key is not as it was printed." in refused.err
    assert not fire.new.state.exists()
    typed = "\n".join(line.lower() for line in lines) + "\n"
    told(fire.new, "recover", str(fire.place), "--move-ports", "--yes", stdin=typed)
    # whoever has just read it from paper is not asked to print it
    assert "backup key print" not in say(fire.new, "doctor").all

    fire.key.write_text("\n".join(lines))
    third = Host(fire.new.folder.with_name("third"), fire.place)
    assert "Installation" in told(third, *fire.recover("--plan"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nowhere",), "nowhere is neither a bucket nor a folder."),
        (("PLACE", "--at", "yesterday"), "yesterday is not a time: give date, time and zone."),
        (("PLACE", "--at", "2026-11-25T13:13:53"), "is not a time: give date, time and zone."),
        (("PLACE", "--at", "2020-01-01T00:00:00Z"), "no copy of the state from before that moment"),
        (("PLACE", "--key", "nothing"), "nothing cannot be read"),
        (("PLACE", "--installation", "0000"), "There is no installation '0000'"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_begun(
    fire: Fire, words: tuple[str, ...], why: str
) -> None:
    fire.old.burn()
    given = [str(fire.place) if word == "PLACE" else word for word in words]
    key = () if "--key" in words else ("--key", str(fire.key))
    said = say(fire.new, "recover", *given, *key, "--yes")
    assert said.code != 0
    assert why in said.err
    assert not fire.new.state.exists()


@pytest.mark.parametrize(
    "words", [("recover", "PLACE"), ("recover", "database"), ("recover", "containers")]
)
def test_a_recovery_is_done_on_the_machine_itself(fire: Fire, words: tuple[str, ...]) -> None:
    given = [str(fire.place) if word == "PLACE" else word for word in words]
    said = say(fire.new, "--url", "http://127.0.0.1:9", *given)
    assert "A recovery is done on the machine itself." in said.err
    assert "Without --url" in said.err


def test_one_that_was_interrupted_goes_on_when_it_is_called_again(fire: Fire) -> None:
    key = fire.old.key()
    fire.old.burn()
    anyio.run(partial(fire.new.claim, key, move_ports=True))
    waiting = json.loads(say(fire.new, "--json", *fire.recover()).out)
    assert {item["state"] for item in waiting["recovery"]["services"]} == {"back"}
    third = Host(fire.new.folder.with_name("third"), fire.place)
    anyio.run(partial(third.claim, key, move_ports=True))
    said = told(third, *fire.recover())
    assert f"A recovery from {fire.place} is under way in {third.state}; it goes on." in said


# ---------------------------------------------------------------- what does not come back


def spoilt(fire: Fire, service: str) -> list[Path]:
    """Each backup of a service, with a byte too few."""
    found = [path for path in fire.place.rglob("data.zst*") if f"/{service}" in str(path)]
    for path in found:
        path.write_bytes(path.read_bytes()[:-1])
    return found


def test_a_service_that_cannot_come_is_named_with_its_ways_on_and_comes_at_a_persons_word(
    fire: Fire,
) -> None:
    assert spoilt(fire, "main")
    fire.old.burn()
    plan = told(fire.new, *fire.recover("--plan"))
    assert "main: passed over " in plan
    assert "main cannot be brought back: " in plan
    said = told(fire.new, *fire.recover("--yes"))
    assert "missing" in said
    assert said.count("● back") == 4
    refused = say(fire.new, "recover", "finish")
    assert "main is not back." in refused.err
    assert "purveyor recover service main" in refused.err

    again = say(fire.new, "recover", "service", "main")
    assert again.code != 0
    assert "--empty for one without data" in again.err
    assert "create" in told(fire.new, "recover", "service", "main", "--empty", "--plan")
    told(fire.new, "recover", "service", "main", "--empty")
    twice = say(fire.new, "recover", "service", "main", "--empty")
    assert "there is nothing to bring back" in twice.err
    assert "shop_production" in fire.new.server("main").held.resources
    assert "precious" not in fire.new.server("main").held.resources["shop_production"]
    told(fire.new, "recover", "finish")
    none = say(fire.new, "recover", "service", "main")
    assert "No recovery is under way." in none.err
    assert "purveyor backup restore" in none.err


# ---------------------------------------------------------------- the database alone


def lose(host: Host) -> None:
    for path in host.state.glob("purveyor.db*"):
        path.unlink()


async def _flushed(host: Host) -> None:
    async with host.open() as app:
        await app.copies.flush(10)


def test_a_lost_database_is_put_back_after_a_look_at_what_would_be(fire: Fire) -> None:
    host = fire.old
    anyio.run(_flushed, host)
    lose(host)
    before = everything(host.state)
    plan = told(host, "recover", "database", "--plan")
    assert "would be put back: " in plan
    assert "main" in plan
    assert everything(host.state) == before
    said = told(host, "recover", "database")
    assert "is put back: " in said
    assert "What was changed after that moment is not in it." in said
    assert "main" in told(host, "list")
    whole = say(host, "recover", "database")
    assert "has a database, and it is whole" in whole.err


def test_a_program_reads_what_is_put_back_and_what_is_not_in_it(fire: Fire) -> None:
    host = fire.old
    copies.copy(host.state / "purveyor.db", "daily-1")

    async def after() -> None:
        async with host.open() as app:
            await do(app, "delete", service="idle", purge=True)
            await do(app, "create-project", name="later")

    anyio.run(after)
    shutil.rmtree(host.place)
    lose(host)
    found = json.loads(say(host, "--json", "recover", "database", "--plan").out)
    assert found["missing"] == ["idle"]
    assert found["label"].endswith("daily-1.db")
    said = told(host, "recover", "database")
    assert "  idle has no container on this host: see purveyor show idle" in said


def test_a_copy_that_another_host_wrote_is_put_back_at_a_persons_word_alone(
    fire: Fire, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = fire.old
    anyio.run(_flushed, host)
    shutil.rmtree(host.state / "copies", ignore_errors=True)
    lose(host)
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    words = ("recover", "database", str(fire.place), "--key", str(fire.key))
    refused = say(host, *words)
    assert "should that one live, both would act on the same" in refused.err
    assert not (host.state / "purveyor.db").exists()
    assert "is put back" in told(host, *words, "--yes")


def test_what_was_under_way_when_the_copy_was_made_is_named(fire: Fire) -> None:
    host = fire.old

    async def restart() -> int:
        async with host.open() as app:
            return await do(app, "restart", service="main")

    number = anyio.run(restart)
    with closing(sqlite3.connect(host.state / "purveyor.db")) as db, db:
        db.execute("UPDATE operations SET state = 'running' WHERE id = ?", [number])
    copies.copy(host.state / "purveyor.db", "daily-1")
    shutil.rmtree(host.place)
    lose(host)
    said = told(host, "recover", "database")
    assert f"not gone on with: restart (operation {number}). Begin it again." in said


# ---------------------------------------------------------------- containers alone


def test_services_are_taken_in_from_their_containers_after_a_look(fire: Fire) -> None:
    host = fire.old
    lose(host)
    shutil.rmtree(host.state / "copies", ignore_errors=True)
    before = everything(host.state)
    plan = told(host, "recover", "containers", "--plan")
    assert "as it would be taken in:" in plan
    assert everything(host.state) == before
    found: Any = json.loads(say(host, "recover", "containers", "--plan", "--json").out)
    assert {item["service"] for item in found["services"]} >= {"main", "idle", "tracked"}
    said = told(host, "recover", "containers")
    assert "is taken in again:" in said
    assert "runs on. What it was made of is not known: deploy it again." in said
    assert "Permanently lost: tokens, schedules" in said
    assert "main" in told(host, "list")


def test_one_that_cannot_be_taken_in_keeps_all_away_until_it_is_left_out(fire: Fire) -> None:
    host = fire.old

    async def rename() -> None:
        async with host.open():
            host.engine.require("fk-idle").labels.pop("dev.purveyor.type", None)
            host.engine.save()

    anyio.run(rename)
    lose(host)
    shutil.rmtree(host.state / "copies", ignore_errors=True)
    refused = say(host, "recover", "containers")
    assert "fk-idle cannot be taken in" in refused.err
    assert "--leave fk-idle" in refused.err
    assert not (host.state / "purveyor.db").exists()
    said = told(host, "recover", "containers", "--leave", "fk-idle")
    assert "  Left alone: fk-idle: " in said
    listed = told(host, "list")
    assert "main" in listed
    assert "idle" not in listed


# ---------------------------------------------------------------- who goes on


def test_takeover_is_asked_for_and_told_with_its_term(fire: Fire) -> None:
    refused = say(fire.old, "takeover")
    assert "Every other one is refused at the places of backups from now on." in refused.err
    first = json.loads(say(fire.old, "takeover", "--yes", "--json").out)["term"]
    said = told(fire.old, "takeover", "--yes")
    (term,) = re.findall(r"This installation writes in term (\d+) from now on\.", said)
    assert int(term) > first
