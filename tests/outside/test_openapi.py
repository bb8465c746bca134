"""The API keeps what its own description promises: schemathesis makes requests from it, good and
bad."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import Stage

EXAMPLES = 8
STREAMS = ("/api/events", "/api/external-services/{reference}/logs")


def test_every_reading_call_answers_as_described(shops: Stage) -> None:
    token = shops.cli("token", "create", "schemathesis").strip()
    headers = {"Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_url(f"{shops.address}/api/schema/openapi.json")
    every = [item.ok() for item in schema.get_all_operations()]
    reading = [item for item in every if item.method.upper() == "GET" and item.path not in STREAMS]
    assert len(reading) > 15

    for operation in reading:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(data=st.data())
        def examine(data: Any) -> None:
            answer = data.draw(operation.as_strategy()).call(
                base_url=shops.address, headers=headers
            )
            assert answer.status_code < 500, (operation.path, answer.status_code, answer.text)
            kind = answer.headers.get("content-type", [""])[0]
            assert answer.status_code < 400 or kind.startswith("application/problem+json"), (
                operation.path,
                kind,
            )

        examine()
