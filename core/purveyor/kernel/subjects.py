"""What operations, events and tokens are about: to the kernel a kind and an id, to people a name
or a slug."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from purveyor.kernel.db import Tx


class Subject(NamedTuple):
    """How one kind is told: `find` gives the id of a name, slug or id, and raises `NotFound`;
    `slugs` gives the slugs of ids, without those that are gone."""

    find: Callable[[Tx, str | int], int]
    slugs: Callable[[Tx, Sequence[int]], Mapping[int, str]]


Subjects = Mapping[str, Subject]
