"""Backups at the command line, from the first one to a restored service: what is told, and what is
refused with nothing changed. On the fake engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from fake.program import say, told
from fake.scene import Scene


def read(scene: Scene, *words: str) -> Any:
    """What a program reads."""
    return json.loads(say(scene, "--json", *words).out)


def test_a_backup_is_made_listed_shown_and_verified(scene: Scene) -> None:
    said = told(scene, "backup", "run", "idle", "--keep-days", "3")
    assert "idle" in said
    newest = read(scene, "backup", "list", "idle")[0]
    number = str(newest["id"])
    assert newest["expires_at"] is not None
    line = next(item for item in told(scene, "backup", "list").splitlines() if " idle " in item)
    assert line.split()[0] == number
    assert newest["expires_at"][:10] in line
    assert newest["proven_at"] is None
    told(scene, "backup", "verify", number, "--plan")
    assert read(scene, "backup", "show", number)["proven_at"] is None
    told(scene, "backup", "verify", number)
    assert read(scene, "backup", "show", number)["proven_at"] is not None
    shown = told(scene, "backup", "show", number)
    assert newest["backup_id"] in shown
    assert "verified" in shown


def test_data_comes_back_into_a_new_service_and_in_place(scene: Scene) -> None:
    told(scene, "backup", "run", "main")
    number = str(read(scene, "backup", "list", "main")[0]["id"])
    scene.put("main", "shop_production", later="since")
    plan = told(scene, "backup", "restore", number, "--new", "second", "--plan")
    assert "second" in plan
    said = told(scene, "backup", "restore", number, "--new", "second")
    assert "second holds the data of the backup, counted and compared." in said
    assert "later" not in scene.server("second").held.resources["shop_production"]
    refused = say(scene, "backup", "restore", number, "--in-place", "main")
    assert "no terminal to ask at" in refused.err
    assert scene.server("main").held.resources["shop_production"]["later"] == "since"
    said = told(scene, "backup", "restore", number, "--in-place", "main", "--yes")
    assert "What it held before is kept: purveyor volumes" in said
    assert "later" not in scene.server("main").held.resources["shop_production"]


def test_one_database_is_taken_out_of_a_backup(scene: Scene, tmp_path: Path) -> None:
    target = tmp_path / "shop"
    said = say(
        scene, "backup", "extract", "1", "--database", "shop_production", "--output", str(target)
    )
    assert said.code == 0, said.all
    assert said.err == f"shop_production is in {target}.\n"
    assert json.loads(target.read_text()) == {"precious": "gold"}
    before = target.read_bytes()
    refused = say(scene, "backup", "extract", "1", "--database", "nosuch", "--output", str(target))
    assert refused.code != 0
    assert target.read_bytes() == before, "what was there is not lost for it"


def test_a_backup_goes_by_its_number_and_at_a_persons_word(scene: Scene) -> None:
    refused = say(scene, "backup", "delete", "1")
    assert "no terminal to ask at" in refused.err
    told(scene, "backup", "delete", "1", "--plan")
    assert read(scene, "backup", "show", "1")["state"] == "ok"
    told(scene, "backup", "delete", "1", "--yes")
    assert "1" not in {str(item["id"]) for item in read(scene, "backup", "list")}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("run", "nosuch"), "nosuch"),
        (("run", "main", "--to", "nowhere"), "nowhere"),
        (("run", "asleep"), "asleep"),
        (("show", "77"), "77"),
        (("restore", "77", "--new", "second"), "77"),
        (("restore", "1"), "--new"),
        (("restore", "1", "--new", "idle"), "idle"),
        (("verify", "77"), "77"),
        (("delete", "77", "--yes"), "77"),
        (("adopt", "--from", "nowhere"), "nowhere"),
        (("archive", "stop", "idle", "--yes"), "idle"),
        (("schedule", "add", "nightly", "99 * * * *"), "99 * * * *"),
        (("schedule", "add", "nightly", "0 3 * * *", "--timezone", "Mars/Base"), "Mars/Base"),
        (("schedule", "add", "nightly", "0 3 * * *", "--service", "nosuch"), "nosuch"),
        (("schedule", "delete", "nosuch"), "nosuch"),
        (("schedule", "update", "nosuch", "--jitter", "5"), "nosuch"),
        (("schedule", "update", "nightly"), "Nothing to change"),
        (("schedule", "update", "x", "--service", "main", "--all-services"), "--all-services"),
        (("schedule", "update", "x", "--to", "offsite", "--to-host"), "--to-host"),
        (("schedule", "update", "x", "--no-verify", "--verify-deep"), "--verify-deep"),
        (("source", "delete", "nosuch"), "nosuch"),
        (("source", "add", "offsite", "-p", "colour=red"), "colour"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_and_changes_nothing(
    scene: Scene, words: tuple[str, ...], why: str
) -> None:
    lists = (("backup", "list"), ("backup", "schedule", "list"), ("backup", "source", "list"))
    before = [read(scene, *words) for words in lists]
    said = say(scene, "backup", *words)
    assert said.code not in (0, 1)
    assert why in said.err
    assert [read(scene, *words) for words in lists] == before


def test_a_schedule_is_added_shown_switched_off_and_on_and_taken_away(scene: Scene) -> None:
    words = ("backup", "schedule", "add", "nightly", "0 3 * * *", "--service", "main")
    told(scene, *words, "--plan")
    assert read(scene, "backup", "schedule", "list") == []
    assert "nightly" in told(scene, *words, "--timezone", "Europe/Vienna", "--verify-deep")
    line = told(scene, "backup", "schedule", "list")
    assert "0 3 * * * Europe/Vienna" in line
    assert read(scene, "backup", "schedule", "list")[0]["service_ids"] == [1]
    told(scene, "backup", "schedule", "disable", "nightly")
    assert read(scene, "backup", "schedule", "list")[0]["enabled"] is False
    told(scene, "backup", "schedule", "enable", "nightly")
    assert read(scene, "backup", "schedule", "list")[0]["enabled"] is True
    told(scene, "backup", "schedule", "delete", "nightly")
    assert read(scene, "backup", "schedule", "list") == []


def test_a_schedule_is_changed_and_stays_the_same_one(scene: Scene) -> None:
    words = ("backup", "schedule")
    told(scene, *words, "add", "nightly", "0 3 * * *", "--service", "main", "--keep-count", "5")
    told(scene, *words, "add", "weekly", "0 3 * * 0")
    other = read(scene, *words, "list")[1]

    def changed(*given: str) -> dict[str, Any]:
        """What is another afterwards, as it is then."""
        was = read(scene, *words, "list")[0]
        plan = say(scene, *words, "update", str(was["name"]), *given, "--plan")
        assert plan.code == 0
        assert read(scene, *words, "list") == [was, other]
        told(scene, *words, "update", str(was["name"]), *given)
        now, beside = read(scene, *words, "list")
        assert beside == other
        return {key: now[key] for key in now if now[key] != was[key]}

    assert changed("--keep-days", "9", "--verify-deep") == {
        "retention_period": 9,
        "verify": True,
        "verify_deep": True,
    }
    assert changed("--no-verify") == {"verify": False, "verify_deep": False}
    assert changed("--all-services", "--keep-count", "0") == {
        "service_ids": [],
        "retention_count": 0,
    }
    assert changed("--service", "idle")["service_ids"] == [2]
    when = changed("--when", "30 4 * * *", "--timezone", "Europe/Berlin", "--name", "early")
    assert {*when} == {"name", "schedule_expression", "timezone", "next_run"}
    assert "T03:30" in when["next_run"] or "T02:30" in when["next_run"]
    for given, why in (
        (("--when", "often"), "not a valid cron expression"),
        (("--timezone", "Mars/Base"), "Mars/Base"),
        (("--name", "weekly"), "already"),
        (("--name", "7"), "not a number"),
        (("--to", "nosuch"), "nosuch"),
        (("--service", "nosuch"), "nosuch"),
        (("--jitter", "9999999"), "jitter"),
    ):
        kept = read(scene, *words, "list")
        said = say(scene, *words, "update", "early", *given)
        assert said.code not in (0, 1)
        assert why in said.err
        assert read(scene, *words, "list") == kept


def test_archives_are_listed_and_one_is_stopped_and_begun_again(scene: Scene) -> None:
    assert "tracked" in told(scene, "backup", "archive", "list")
    told(scene, "backup", "archive", "stop", "tracked", "--yes")
    told(scene, "backup", "archive", "start", "idle", "--plan")
    told(scene, "backup", "archive", "start", "tracked")
    assert "tracked" in told(scene, "backup", "archive", "list")
    assert "idle" not in told(scene, "backup", "archive", "list")


def test_the_key_is_printed_for_paper_and_the_same_one_is_restored_without_harm(
    scene: Scene,
) -> None:
    key = (scene.state / "backup.key").read_bytes()
    printed = told(scene, "backup", "key", "print")
    lines = [line.strip() for line in printed.splitlines() if len(line.split()) == 4]
    lines = [line for line in lines if all(len(part) == 4 for part in line.split())]
    assert len(lines) == 4
    said = told(scene, "backup", "key", "restore", stdin="\n".join(lines) + "\n")
    assert "It is the key that is here." in said
    slip = [lines[1], lines[0], *lines[2:]]
    refused = say(scene, "backup", "key", "restore", stdin="\n".join(slip) + "\n")
    assert "Line 1, 2 of the key is not as it was printed." in refused.err
    assert (scene.state / "backup.key").read_bytes() == key


def test_backups_that_nobody_has_on_record_are_adopted(scene: Scene) -> None:
    assert told(scene, "backup", "adopt").endswith("Registered 0 backups.\n")
