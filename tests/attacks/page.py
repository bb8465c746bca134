"""Write the tables of attacks into the security page: ``python tests/attacks/page.py``.

Each stands between two comments of its name, which stay.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attacks import matrix
from attacks.told import AGAINST

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs/security.md"


class Told(NamedTuple):
    """What one test says of the attacks that it makes."""

    against: str
    what: tuple[str, ...]
    honest: str
    module: str


def told() -> list[Told]:
    """What all tests say, in the order of what they are against."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "@attack(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            for call in getattr(node, "decorator_list", ()):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Name)
                    and call.func.id == "attack"
                ):
                    against, *what = (ast.literal_eval(item) for item in call.args)
                    (honest,) = (ast.literal_eval(item.value) for item in call.keywords)
                    found.append(
                        Told(against, tuple(what), honest, str(path.relative_to(TESTS.parent)))
                    )
    return sorted(found, key=lambda item: AGAINST.index(item.against))


def others() -> Iterator[str]:
    """A row for each test."""
    yield f"{sum(len(item.what) for item in told())} attacks."
    yield ""
    yield "| on | what is refused | what goes on working | where |"
    yield "|---|---|---|---|"
    for item in told():
        yield f"| {item.against} | {'; '.join(item.what)} | {item.honest} | `{item.module}` |"


def data_servers() -> Iterator[str]:
    """A row for each way in and aim."""
    number = sum(len(table.attacks) for table in matrix.ALL)
    yield f"{number} attacks; those on S3 are made on each of its three servers."
    yield ""
    yield "| server | way in | what for | what is refused | what goes on working |"
    yield "|---|---|---|---|---|"
    for table in matrix.ALL:
        groups: dict[tuple[str, str], list[matrix.Attack]] = {}
        for attack in table.attacks:
            groups.setdefault((attack.way, attack.aim), []).append(attack)
        for (way, aim), attacks in groups.items():
            refused = "; ".join(attack.what for attack in attacks)
            honest = "; ".join(dict.fromkeys(attack.honest for attack in attacks))
            yield f"| {table.server} | {way} | {aim} | {refused} | {honest} |"


SECTIONS: dict[str, Callable[[], Iterator[str]]] = {"data servers": data_servers, "others": others}


def written(page: str) -> str:
    """The page with its tables made anew."""
    for name, rows in SECTIONS.items():
        begin, end = f"<!-- attacks: {name} -->", f"<!-- end of attacks: {name} -->"
        text = "\n".join((begin, "", *rows(), "", end))
        page, found = re.subn(
            re.escape(begin) + ".*?" + re.escape(end),
            lambda _, text=text: text,
            page,
            flags=re.DOTALL,
        )  # type: ignore[misc]
        assert found == 1, f"{PAGE.name} has no place for {name}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
