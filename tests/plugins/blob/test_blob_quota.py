"""A project whose storage in Blob is full is told so by each way to write; it reads, lists and
deletes, and others do not notice."""

from collections.abc import Callable, Iterator

import pytest

from support import Stage, eventually

pytestmark = pytest.mark.fortnightly


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage("health-interval = 1").serving() as made:
        made.cli("blob", "enable")
        made.cli("update", "blob", "-p", "project_storage=2mb", "--yes")
        for project in ("alpha", "beta"):
            made.cli("project", "create", project)
            made.cli("link", "blob", project)
        yield made


def told(stage: Stage) -> str:
    return stage.json("health", "blob")["detail"] or ""


def test_every_way_to_write_says_that_the_storage_is_full(stage: Stage) -> None:
    alpha, beta = (stage.variables(name)["PURVEYOR_TOKEN"] for name in ("alpha", "beta"))
    with stage.http(alpha) as client, stage.http(beta) as other:
        assert client.post("/api/blob?pathname=a", content=b"x" * 1_500_000).status_code == 201
        assert client.post("/api/blob?pathname=b", content=b"x" * 700_000).status_code == 201
        eventually(lambda: "writes are refused" in told(stage))
        copied = {"fromUrl": "b", "toPathname": "c"}
        for answer in (
            client.post("/api/blob?pathname=c", content=b"x"),
            client.post("/api/blob?pathname=b", content=b"x"),
            client.post("/api/blob?pathname=c", content=b"x" * 9_000_000),
            client.post("/api/blob/copy", json=copied),
            client.put("/api/vercel-blob/?pathname=c", content=b"x"),
        ):
            assert answer.status_code == 507, (answer.request.url, answer.text)
            assert "storage is full" in answer.text
        assert len(client.get("/api/blob/a").content) == 1_500_000
        assert {item["pathname"] for item in client.get("/api/blob").json()["blobs"]} == {"a", "b"}
        assert other.post("/api/blob?pathname=a", content=b"x").status_code == 201
        gone = client.request("DELETE", "/api/blob", json={"pathnames": ["a"]})
        assert gone.json() == {"deleted": 1}
        eventually(lambda: told(stage) == "")
        assert client.post("/api/blob?pathname=c", content=b"x").status_code == 201
