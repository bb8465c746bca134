"""Which operations and clients hold on which server: the page is that of the last run, and nightly
it is run again."""

import json
from typing import Any

import pytest
from s3 import operations
from s3 import run as measuring

from support import MINIO, RUSTFS, SEAWEEDFS

RESULTS: dict[str, Any] = json.loads(measuring.RESULTS.read_text())
IMAGES = {"rustfs": RUSTFS, "minio": MINIO, "seaweedfs": SEAWEEDFS}


def test_the_page_says_what_was_found() -> None:
    assert measuring.PAGE.read_text() == measuring.page(RESULTS)
    for server, image in IMAGES.items():
        assert image.rpartition(":")[2] in measuring.LABELS[server]
        assert {*RESULTS[server]["operations"]} == {*operations.OPERATIONS}
        assert {*RESULTS[server]["clients"].values()} == {operations.HOLDS}


@pytest.mark.nightly
@pytest.mark.parametrize("server", IMAGES)
def test_it_is_as_the_page_says(
    server: str, make_stage: Any, request: pytest.FixtureRequest
) -> None:
    if server != "seaweedfs":
        request.getfixturevalue(server)
    with make_stage().serving() as stage:
        measuring.furnish(stage, server, IMAGES[server])
        found = measuring.measure(stage, server)
    assert found["operations"] == RESULTS[server]["operations"]
    for client, outcome in found["clients"].items():
        assert outcome in (RESULTS[server]["clients"][client], operations.NOT_RUN)
