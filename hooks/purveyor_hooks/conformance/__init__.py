"""The conformance kit: everything that a service type promises, checked against a real engine.

In a suite of yours, one line::

    class TestAcme(Conformance): service_type = "acme"

On the command line, without pytest: ``purveyor plugin check acme``. Both run the same checks, in
the same order, on an installation of their own, and leave nothing behind. What a type does not
claim (a hook that it does not implement) is not asked of it. The kit uses services as an app would:
by the plugin's hook `exercise`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from purveyor_hooks.conformance.bench import Bench
from purveyor_hooks.conformance.checks import CHECKS, Check, Outcome, Unclaimed, run_all

__all__ = ["CHECKS", "Bench", "Check", "Conformance", "Outcome", "Unclaimed", "run_all"]

try:
    import pytest
except ModuleNotFoundError:  # without it the command line's way remains
    pytest = None  # type: ignore[assignment]

if pytest is not None:

    class Conformance:
        """A test class of all checks. `service_type` is the type's name, `image` one to use instead
        of its default, `parameters` what its services are made with."""

        service_type: ClassVar[str] = ""
        image: ClassVar[str] = ""
        parameters: ClassVar[Mapping[str, Any]] = {}

        @pytest.fixture(scope="class")
        @classmethod
        def bench(cls) -> Iterator[Bench]:
            with Bench(cls.service_type, cls.image, cls.parameters) as bench:
                yield bench

        @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
        def test_promise(self, check: Check, bench: Bench) -> Any:
            try:
                outcome = check.look(bench)
            except Unclaimed as error:
                pytest.skip(str(error))
            if not outcome.kept:
                pytest.fail(outcome.text(), pytrace=False)
