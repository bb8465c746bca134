"""Ports: two installations that choose at the same moment never end up on one, and nobody has to
try again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from support import Stage

EACH = 5


def test_a_race_on_a_port_is_settled(make_stage: Callable[..., Stage]) -> None:
    first, second = make_stage("port-offset = 0"), make_stage("port-offset = 0")

    def create(job: tuple[Stage, int]) -> int:
        stage, number = job
        service = stage.call(
            "POST", "/external-services", json={"name": f"r{number}", "service_type": "redis"}
        )
        assert service["status"] == "running"
        return int(service["port"])

    with first.serving(), second.serving():
        jobs = [(stage, number) for number in range(EACH) for stage in (first, second)]
        with ThreadPoolExecutor(len(jobs)) as pool:
            chosen = list(pool.map(create, jobs))
        assert len(set(chosen)) == len(chosen)
        for stage, number in jobs:
            assert stage.call("GET", f"/external-services/r{number}/health")["healthy"]
