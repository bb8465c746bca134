"""The security page's tables are those of the attacks that are made."""

from attacks import matrix, page
from attacks.told import AGAINST


def test_the_page_has_the_attacks_that_are_made() -> None:
    text = page.PAGE.read_text()
    assert page.written(text) == text, "write it anew: python tests/attacks/page.py"


def test_there_are_attacks_on_every_server_for_every_aim() -> None:
    aims = {(table.server, attack.aim) for table in matrix.ALL for attack in table.attacks}
    assert sum(len(table.attacks) for table in matrix.ALL) >= 120
    assert all((table.server, matrix.OTHERS) in aims for table in matrix.ALL)


def test_there_are_attacks_on_all_that_is_no_server_of_data_and_each_has_its_honest_counterpart() -> (
    None
):
    found = page.told()
    assert {item.against for item in found} == set(AGAINST)
    assert sum(len(item.what) for item in found) >= 60
    assert all(item.honest for item in found)
    names = [(item.against, what) for item in found for what in item.what]
    assert len(set(names)) == len(names), "one is counted once"
