"""What the API's description says is what is answered: schemathesis asks by it, on the fake engine,
and holds each answer against it."""

from typing import Any

import anyio.to_thread
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fake.asked import asked
from fake.scene import Scene

schemathesis = pytest.importorskip("schemathesis", reason="other Pythons are without the tools")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

pytestmark = pytest.mark.anyio
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
EXAMPLES = 2
KNOWN = {"reference": "main", "service": "main", "project": "shop", "environment": "production"}
# streams have no end; what has no plan would be done
LEFT_OUT = ("/api/events", "/download", "/extract", "/api/doctor")


def examine(address: str, token: str) -> tuple[dict[str, set[int]], list[str]]:
    """Which calls were looked at, with the statuses that they answered; and what they answered
    otherwise than it is described."""
    headers = {"Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_url(f"{address}/api/schema/openapi.json")
    wrong: list[str] = []
    seen: dict[str, set[int]] = {}
    for operation in (item.ok() for item in schema.get_all_operations()):
        planned = operation.query.get("plan") is not None
        if operation.path.endswith(LEFT_OUT) or not (operation.method.upper() == "GET" or planned):
            continue
        name = f"{operation.method.upper()} {operation.path}"
        seen[name] = set()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],
        )
        @given(data=st.data())
        def ask(data: Any) -> None:
            case = data.draw(operation.as_strategy())
            if planned:
                case.query["plan"] = True
            if "follow" in case.query:
                case.query["follow"] = False  # it would go on
            for field in sorted(KNOWN.keys() & case.path_parameters.keys()):
                if data.draw(st.sampled_from([True, True, False])):
                    case.path_parameters[field] = KNOWN[field]
            answer = case.call(base_url=address, headers=headers)
            seen[name].add(answer.status_code)
            try:
                case.validate_response(answer, checks=CHECKS)
            except Exception as error:
                wrong.append(f"{name}: {answer.status_code} {error}")

        ask()
    return seen, wrong


async def test_each_call_is_answered_as_it_is_described_and_so_is_each_plan(scene: Scene) -> None:
    async with asked(scene) as desk:
        token = (await desk.token("schemathesis"))["token"]
        seen, wrong = await anyio.to_thread.run_sync(
            examine, str((await desk.by(token)).base_url).rstrip("/"), token
        )
        assert len(seen) > 80
        planned = [name for name, statuses in seen.items() if "GET" not in name and 200 in statuses]
        assert len(planned) > 8, planned
        assert {400, 404} <= set().union(*seen.values())
        assert wrong == [], "\n\n".join(wrong[:8])
