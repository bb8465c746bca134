"""Events and operations at the command line: chosen from, for people and for programs. On the fake
engine."""

import json

import pytest

from fake.program import say, told
from fake.scene import Scene


def test_past_events_are_shown_from_the_end_and_chosen_by_type_and_service(scene: Scene) -> None:
    told(scene, "restart", "main", "--yes")
    told(scene, "create", "fake", "fresh")
    lines = told(scene, "events", "-n", "3").splitlines()
    assert len(lines) == 3
    assert "service.create.succeeded" in lines[-1]
    of_main = told(scene, "events", "--service", "main", "--type", "service.restart")
    assert "service.restart.succeeded  service=1" in of_main
    assert "create" not in of_main
    found = [
        json.loads(line) for line in say(scene, "events", "-n", "3", "--json").out.splitlines()
    ]
    assert found[-1]["type"] == "service.create.succeeded"
    assert told(scene, "events", "-n", "0") == ""
    assert say(scene, "events", "--service", "nosuch").code == 4


def test_every_type_of_event_is_described(scene: Scene) -> None:
    text = told(scene, "events", "--catalogue")
    assert "service.create.succeeded" in text
    assert "recovery.done" in text
    entries = json.loads(say(scene, "events", "--catalogue", "--json").out)
    assert {item["type"] for item in entries} >= {"service.create.succeeded", "recovery.done"}


def test_operations_are_listed_and_one_is_shown_with_its_steps(scene: Scene) -> None:
    told(scene, "restart", "main", "--yes")
    newest = json.loads(say(scene, "operations", "--json").out)[0]
    assert (newest["verb"], newest["state"]) == ("restart", "succeeded")
    shown = told(scene, "operations", str(newest["id"]))
    assert "restart" in shown
    assert "succeeded" in shown
    assert f"{newest['id']}" in told(scene, "operations")


@pytest.mark.parametrize("words", [("operations", "777"), ("operations", "cancel", "777")])
def test_an_operation_that_there_is_not_is_told(scene: Scene, words: tuple[str, ...]) -> None:
    said = say(scene, *words)
    assert said.code == 4
    assert "777" in said.err


def test_what_has_ended_is_not_cancelled(scene: Scene) -> None:
    told(scene, "restart", "main", "--yes")
    number = str(json.loads(say(scene, "operations", "--json").out)[0]["id"])
    said = say(scene, "operations", "cancel", number)
    assert said.code not in (0, 1)
    assert "restart" in said.err or number in said.err
