"""What was read from the store, remembered until something changes: every change publishes an
event."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
LIMIT = 10_000  # answers kept; strangers' tokens may not fill the memory


class Cache:
    """Answers by question. `clear` is called with every transaction that publishes."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, Any] = {}
        self._generation = 0

    def clear(self) -> None:
        self._generation += 1
        self._answers.clear()

    async def get_or_load(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to a question, asked anew unless it is known. None, and what raises, is not
        remembered."""
        known: T | None = self._answers.get(question)
        if known is not None:
            return known
        generation = self._generation
        answer = await ask()
        # an answer that was read before a change, and comes after it, is told but not kept
        if answer is not None and generation == self._generation:
            if len(self._answers) >= LIMIT:
                self._answers.clear()
            self._answers[question] = answer
        return answer
