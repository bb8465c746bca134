"""Tokens, users and the audit log at the command line: what is said once, what is asked first, and
what an altered log is told as. On the fake engine."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from fake.program import say, told
from fake.scene import Scene


def read(scene: Scene, *words: str) -> Any:
    """What a program reads."""
    return json.loads(say(scene, "--json", *words).out)


def test_a_token_is_said_once_and_ends_when_it_is_revoked(scene: Scene) -> None:
    assert "Make one: purveyor token create NAME" in told(scene, "token", "list")
    told(scene, "token", "create", "ci", "--plan")
    assert read(scene, "token", "list") == []
    text = told(scene, "token", "create", "ci", "--scope", "read", "--expires", "90d").strip()
    assert len(text) > 20
    listed = told(scene, "token", "list")
    assert "ci" in listed
    assert " never" in listed, "it was never used"
    assert text not in listed + json.dumps(read(scene, "token", "list"))
    (token,) = read(scene, "token", "list")
    number = str(token["id"])
    refused = say(scene, "token", "revoke", number)
    assert f"Whoever uses token {number} is refused from now on." in refused.err
    assert read(scene, "token", "list")[0]["revoked_at"] is None
    assert told(scene, "token", "revoke", number, "--yes") == f"Token {number} is revoked.\n"
    assert "revoked" in told(scene, "token", "list")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("create", "ci", "--expires", "soon"), "'soon' is not a time."),
        (("create", "ci", "--scope", "project"), "project"),
        (("create", "ci", "--scope", "project", "--project", "nosuch"), "nosuch"),
        (("create", "ci", "--user", "nobody"), "nobody"),
        (("revoke", "77", "--yes"), "77"),
        (("end-session", "77", "--yes"), "77"),
    ],
)
def test_what_no_token_can_be_is_refused_by_name(
    scene: Scene, words: tuple[str, ...], why: str
) -> None:
    said = say(scene, "token", *words)
    assert said.code not in (0, 1)
    assert why in said.err
    assert read(scene, "token", "list") == []


def test_a_user_is_added_disabled_enabled_and_removed(scene: Scene) -> None:
    assert "Add one: purveyor user add NAME" in told(scene, "user", "list")
    told(scene, "user", "add", "ada")
    told(scene, "token", "create", "laptop", "--user", "ada")
    line = told(scene, "user", "list").splitlines()[1].split()
    assert line[:3] == ["ada", "active", "1"]
    refused = say(scene, "user", "disable", "ada")
    assert "no terminal to ask at" in refused.err
    assert read(scene, "user", "list")[0]["disabled_at"] is None
    told(scene, "user", "disable", "ada", "--yes")
    assert "disabled" in told(scene, "user", "list")
    told(scene, "user", "enable", "ada")
    assert "disabled" not in told(scene, "user", "list")
    told(scene, "user", "remove", "ada", "--yes")
    assert read(scene, "user", "list") == []
    assert say(scene, "user", "enable", "ada").code == 4


def test_nobody_is_signed_in_who_has_not_been_at_the_dashboard(scene: Scene) -> None:
    assert told(scene, "token", "sessions") == "Nobody is signed in.\n"
    assert read(scene, "token", "sessions") == []


# ---------------------------------------------------------------- the log of it


def test_who_did_what_and_which_secrets_were_seen_is_shown_and_chosen_from(scene: Scene) -> None:
    told(scene, "user", "add", "ada")
    told(scene, "env", "shop")
    lines = told(scene, "audit").splitlines()
    assert any("ada" in line for line in lines)
    assert any("shop/production" in line and "revealed]" in line for line in lines)
    chosen = read(scene, "audit", "--target", "shop/production")
    assert {item["target"] for item in chosen} == {"shop/production"}
    assert len(read(scene, "audit", "-n", "1")) == 1
    assert told(scene, "audit", "--user", "nobody") == "There are no such entries.\n"
    assert told(scene, "audit", "--since", "2999-01-01") == "There are no such entries.\n"
    odd = say(scene, "audit", "--since", "yesterday")
    assert odd.code not in (0, 1)
    assert "yesterday" in odd.err


def test_an_entry_that_somebody_changed_is_found_with_its_number(scene: Scene) -> None:
    told(scene, "user", "add", "ada")
    assert "are as they were written." in told(scene, "audit", "verify")
    with closing(sqlite3.connect(scene.state / "purveyor.db")) as db, db:
        (number,) = db.execute("SELECT max(id) FROM audit").fetchone()
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("UPDATE audit SET actor = 'somebody else' WHERE id = ?", [number])
    said = say(scene, "audit", "verify")
    assert said.code == 1
    assert f"{number}" in said.out
    assert "Somebody has changed the database by hand" in said.err
    assert read(scene, "audit", "verify")["problems"]
