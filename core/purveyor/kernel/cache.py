"""What was read from the store, remembered until a row that it was read from is another."""

from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

from purveyor.kernel.db import Store
from purveyor.kernel.db.rows import WHOLE, Row

T = TypeVar("T")
LIMIT = 10_000  # answers kept; strangers' tokens may not fill the memory


class _Known(NamedTuple):
    answer: Any
    rows: frozenset[Row]


class Cache:
    """Answers by question, each with the rows that it was read from: of tables that are watched, or
    it would never be forgotten.

    Rows are forgotten in the transaction's own turn, before whoever wrote them hears that they are
    durable (`Store.changed`): who was told of a change is told nothing of before it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Hashable, _Known] = {}
        self._read_from: dict[Row, set[Hashable]] = {}
        self._asking: list[set[Row]] = []  # what became another while each of them is asked
        store.changed = self.forget

    def forget(self, rows: Collection[Row]) -> None:
        """Forget what was read from these rows."""
        changed = {*rows, *((table, WHOLE) for table, _ in rows)}
        for meanwhile in self._asking:
            meanwhile |= changed
        for row in changed:
            for question in list(self._read_from.get(row, ())):
                self._drop(question)

    def _drop(self, question: Hashable) -> None:
        for row in self._known.pop(question).rows:
            self._read_from[row].discard(question)
            if not self._read_from[row]:
                del self._read_from[row]

    async def get_or_load(
        self,
        question: Hashable,
        ask: Callable[[], Awaitable[T]],
        read_from: Callable[[T], Iterable[Row]],
    ) -> T:
        """The answer to a question, asked anew unless it is known; `read_from` tells the rows that
        an answer stands on. None, and what raises, is not remembered."""
        if (known := self._known.get(question)) is not None:
            answer: T = known.answer
            return answer
        meanwhile: set[Row] = set()
        self._asking.append(meanwhile)
        try:
            answer = await ask()
        finally:
            # by what it is: sets of two that ask may be equal
            self._asking = [other for other in self._asking if other is not meanwhile]
        if answer is None:
            return answer
        rows = frozenset(read_from(answer))
        if strange := {table for table, _ in rows} - self._store.watched:
            raise LookupError(f"nobody watches the tables {sorted(strange)}")
        # an answer that was read before a change, and comes after it, is told but not kept
        if not rows & meanwhile and question not in self._known:
            if len(self._known) >= LIMIT:
                self._known.clear()
                self._read_from.clear()
            self._known[question] = _Known(answer, rows)
            for row in rows:
                self._read_from.setdefault(row, set()).add(question)
        return answer
