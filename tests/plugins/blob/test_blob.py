"""Blob, on RustFS, SeaweedFS and MinIO: what goes in comes out, in constant memory, and projects
see their own alone."""

import hashlib
import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from botocore.exceptions import ClientError

from purveyor_blob import AsyncBlob, Blob, BlobError
from purveyor_blob_service import store
from support import SEAWEEDFS, Stage, eventually, hanging

MIB = 1024 * 1024


NIGHTLY = [pytest.param(name, marks=pytest.mark.nightly) for name in ("seaweedfs", "minio")]


@pytest.fixture(scope="module", params=["rustfs", *NIGHTLY])
def stage(make_stage: Any, request: pytest.FixtureRequest) -> Iterator[Stage]:
    image = SEAWEEDFS if request.param == "seaweedfs" else request.getfixturevalue(request.param)
    with make_stage(images={"blob": image}).serving() as made:
        made.cli("blob", "enable")
        for project in ("alpha", "beta"):
            made.cli("project", "create", project)
            made.cli("link", "blob", project)
        yield made


@pytest.fixture(scope="module")
def values(stage: Stage) -> dict[str, str]:
    """What a link injects into alpha's production."""
    return stage.variables("alpha")


@pytest.fixture(scope="module")
def beta(stage: Stage) -> dict[str, str]:
    return stage.variables("beta")


class Blocking:
    """`AsyncBlob` called like `Blob`."""

    def __init__(self, portal: Any, blob: AsyncBlob) -> None:
        self._portal, self._blob = portal, blob

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> Any:
            return await getattr(self._blob, name)(*arguments, **options)

        return lambda *arguments, **options: self._portal.call(lambda: call(*arguments, **options))


async def _made() -> AsyncBlob:
    return AsyncBlob()


@pytest.fixture(params=["sync", "async"])
def blob(
    request: pytest.FixtureRequest, values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Configured from the injected variables alone, as an app is, and empty."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with Blob() as owner:
        empty(owner)
        if request.param == "sync":
            yield owner
        else:
            with start_blocking_portal() as portal:
                yield Blocking(portal, portal.call(_made))


def empty(owner: Blob) -> None:
    while found := owner.list(limit=1000).blobs:
        owner.delete(*(item.pathname for item in found))


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def http(stage: Stage, values: dict[str, str]) -> httpx.Client:
    return stage.http(values["PURVEYOR_TOKEN"])


# ---------------------------------------------------------------- in and out


@pytest.mark.parametrize("size", [0, 1, 1000, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 20 * MIB])
def test_bytes_come_back_as_they_were(size: int, blob: Any) -> None:
    body = noise(size)
    made = blob.put("some/bytes.bin", body)
    assert (made.size, made.pathname, made.content_type) == (
        size,
        "some/bytes.bin",
        "application/octet-stream",
    )
    assert blob.get("some/bytes.bin") == body
    assert blob.get(made.url) == body
    assert blob.head("some/bytes.bin").size == size


@pytest.mark.parametrize("name", [
    "a", "images/cat.png", "with space", "grün 💚/ü.txt", "100%", "a?b#c&d=e+f", "...",
    ".hidden/..x", "2024/report", "status",
    "copy", "'quoted\"", "dir/" + "y" * 255, "/".join(["x" * 100] * 9), "<script>",
    "~tilde;semi:colon@at,comma=",
], ids=ascii)  # fmt: skip
def test_a_name_may_be_any_text(name: str, blob: Any) -> None:
    made = blob.put(name, b"content")
    assert made.pathname == name
    assert blob.get(name) == b"content"
    assert blob.get(made.url) == b"content"
    assert [item.pathname for item in blob.list().blobs] == [name]
    assert blob.copy(made.url, "copied").size == 7
    assert blob.delete(made.url, "copied") == 2
    assert blob.head(name) is None


def test_the_type_is_said_or_told_by_the_name(blob: Any) -> None:
    assert blob.put("a.png", b"x").content_type == "image/png"
    assert blob.put("a", b"x").content_type == "application/octet-stream"
    assert blob.put("a.txt", "grün").content_type == "text/plain"
    assert (
        blob.put("a.txt", b"x", content_type="text/html; charset=utf-8").content_type
        == "text/html; charset=utf-8"
    )
    assert blob.head("a.txt").content_type == "text/html; charset=utf-8"
    assert blob.copy("a.txt", "b").content_type == "text/html; charset=utf-8"


def test_a_random_suffix_makes_a_name_of_its_own(blob: Any) -> None:
    names = {blob.put("docs/a.txt", b"x", add_random_suffix=True).pathname for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("docs/a-") and name.endswith(".txt") for name in names)
    assert blob.head("docs/a.txt") is None


def test_writing_again_replaces(blob: Any) -> None:
    first = blob.put("a", b"one")
    second = blob.put("a", b"second")
    assert blob.get("a") == b"second"
    assert first.etag != second.etag
    assert blob.head("a").etag == second.etag


def test_a_blob_is_read_in_chunks_and_from_a_byte_on(values: dict[str, str]) -> None:
    body = noise(3 * MIB)
    with Blob(values["PURVEYOR_API_URL"], values["PURVEYOR_TOKEN"]) as opened:
        opened.put(
            "chunks", (body[start : start + 10_000] for start in range(0, len(body), 10_000))
        )
        with opened.stream("chunks") as chunks:
            assert b"".join(chunks) == body
        with opened.stream("chunks", offset=MIB) as chunks:
            assert b"".join(chunks) == body[MIB:]


def test_a_listing_goes_page_by_page_in_order_of_name(blob: Any) -> None:
    names = sorted(f"list/{number:03}" for number in range(25))
    for name in [*names, "other"]:
        blob.put(name, b"x")
    seen: list[str] = []
    cursor, pages = None, 0
    while True:
        page = blob.list("list/", limit=10, cursor=cursor)
        seen += [item.pathname for item in page.blobs]
        assert page.has_more == (page.cursor is not None)
        cursor, pages = page.cursor, pages + 1
        if cursor is None:
            break
    assert (seen, pages) == (names, 3)
    assert [item.pathname for item in blob.list("list/01").blobs] == names[10:20]
    assert blob.list("none").blobs == []


def test_delete_says_how_many_were_there(blob: Any) -> None:
    for name in ("a", "b", "c"):
        blob.put(name, b"x")
    assert blob.delete("a", "b", "none", "a") == 2
    assert [item.pathname for item in blob.list().blobs] == ["c"]


def test_a_blob_that_is_not_there(blob: Any) -> None:
    assert blob.head("none") is None
    for attempt in (lambda: blob.get("none"), lambda: blob.copy("none", "b")):
        with pytest.raises(BlobError) as refused:
            attempt()
        assert (refused.value.status, refused.value.code) == (404, "not-found")


def test_a_blob_beside_a_folder_of_its_name_loses_nothing(blob: Any) -> None:
    """On servers that keep objects as files, a name that is a folder's too is refused or kept,
    never swallowed."""
    blob.put("a", b"file")
    said = []
    try:
        blob.put("a/b", b"deeper")
    except BlobError as refused:
        said.append(refused.status)
    if said:
        assert said == [409]
        assert blob.get("a") == b"file"
        return
    assert (blob.get("a"), blob.get("a/b")) == (b"file", b"deeper")
    blob.delete("a")
    assert blob.get("a/b") == b"deeper"
    assert blob.head("a") is None


BAD: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda blob: blob.put("", b"x"),
    "up": lambda blob: blob.put("../x", b"x"),
    "up in the middle": lambda blob: blob.put("a/../../x", b"x"),
    "here": lambda blob: blob.put("./x", b"x"),
    "from the root": lambda blob: blob.put("/etc/passwd", b"x"),
    "a double slash": lambda blob: blob.put("a//b", b"x"),
    "a slash at the end": lambda blob: blob.put("a/", b"x"),
    "a backslash": lambda blob: blob.put("a\\b", b"x"),
    "a line": lambda blob: blob.put("a\nb", b"x"),
    "a zero": lambda blob: blob.put("a\x00b", b"x"),
    "1024 bytes": lambda blob: blob.put("/".join(["x" * 63] * 16), b"x"),
    "a part of 256 bytes": lambda blob: blob.put("x" * 256, b"x"),
    "951 bytes of unicode": lambda blob: blob.put("ü" * 475 + "x", b"x"),
    "a type that is none": lambda blob: blob.put("a", b"x", content_type="text"),
    "a type with a header in it": lambda blob: blob.put(
        "a", b"x", content_type="text/plain\r\nX-Evil: 1"
    ),
    "a copy to nowhere": lambda blob: blob.copy("there", ""),
    "a copy from above": lambda blob: blob.copy("../there", "b"),
    "a copy from a stranger": lambda blob: blob.copy("https://example.com/cat.png", "b"),
    "a delete of everything": lambda blob: blob.delete("there", ""),
    "a limit of nothing": lambda blob: blob.list(limit=0),
    "a limit of all": lambda blob: blob.list(limit=100_000),
    "a made-up cursor": lambda blob: blob.list(cursor="!!"),
}


@pytest.mark.parametrize("attempt", BAD)
def test_bad_input_is_refused_and_changes_nothing(attempt: str, blob: Any) -> None:
    blob.put("there", b"before")
    with pytest.raises(BlobError) as refused:
        BAD[attempt](blob)
    assert (refused.value.status, refused.value.code) == (400, "bad-input")
    assert refused.value.detail
    assert [item.pathname for item in blob.list().blobs] == ["there"]
    assert blob.get("there") == b"before"


def test_without_configuration_the_sdk_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("PURVEYOR", "TEMPS"):
        for name in ("API_URL", "TOKEN", "PROJECT_ID"):
            monkeypatch.delenv(f"{prefix}_{name}", raising=False)
    with pytest.raises(BlobError, match="PURVEYOR_API_URL"):
        Blob()
    with (
        Blob("http://127.0.0.1:9", "token") as lost,
        pytest.raises(BlobError, match="does not answer"),
    ):
        lost.get("a")


# ---------------------------------------------------------------- HTTP as it is


def test_the_calls_of_the_contract(stage: Stage, values: dict[str, str]) -> None:
    project = values["PURVEYOR_PROJECT_ID"]
    with http(stage, values) as client:
        given = {
            "pathname": "a/b.txt",
            "content_type": "text/plain",
            "add_random_suffix": "false",
            "project_id": project,
        }
        made = client.post("/api/blob", params=given, content=b"hello")
        assert made.status_code == 201
        found = made.json()
        assert {"url", "pathname", "contentType", "size", "uploadedAt"} <= set(found)
        assert urlsplit(found["url"]).path == f"/api/blob/{project}/a/b.txt"
        assert found["uploadedAt"].endswith("Z")
        page = client.get(
            "/api/blob", params={"limit": 10, "prefix": "a/", "project_id": project}
        ).json()
        assert set(page) == {"blobs", "cursor", "hasMore"}
        assert page["blobs"] == [found]
        copied = client.post(
            "/api/blob/copy",
            json={"fromUrl": found["url"], "toPathname": "c", "projectId": int(project)},
        )
        assert copied.json()["pathname"] == "c"
        assert client.get("/api/blob/c").text == "hello"
        body = {"pathnames": ["a/b.txt", "c"], "projectId": int(project)}
        assert client.request("DELETE", "/api/blob", json=body).json() == {"deleted": 2}


def test_ranges_and_conditions(stage: Stage, values: dict[str, str]) -> None:
    with http(stage, values) as client:
        client.post("/api/blob", params={"pathname": "r"}, content=b"0123456789")
        whole = client.get("/api/blob/r")
        assert (
            whole.status_code,
            whole.headers["accept-ranges"],
            whole.headers["content-length"],
        ) == (200, "bytes", "10")
        for asked, expected, said in (
            ("bytes=2-4", b"234", "bytes 2-4/10"),
            ("bytes=7-", b"789", "bytes 7-9/10"),
            ("bytes=-3", b"789", "bytes 7-9/10"),
            ("bytes=8-99", b"89", "bytes 8-9/10"),
        ):
            part = client.get("/api/blob/r", headers={"Range": asked})
            assert (part.status_code, part.content, part.headers["content-range"]) == (
                206,
                expected,
                said,
            )
            assert part.headers["content-length"] == str(len(expected))
        assert client.get("/api/blob/r", headers={"Range": "bytes=10-"}).status_code == 416
        for odd in ("bytes=0-1,3-4", "lines=1-2", "bytes=x"):
            assert client.get("/api/blob/r", headers={"Range": odd}).content == b"0123456789"
        etag, moment = whole.headers["etag"], whole.headers["last-modified"]
        assert client.get("/api/blob/r", headers={"If-None-Match": etag}).status_code == 304
        assert client.get("/api/blob/r", headers={"If-None-Match": '"other"'}).status_code == 200
        assert client.get("/api/blob/r", headers={"If-Modified-Since": moment}).status_code == 304
        assert client.get("/api/blob/r", headers={"If-Match": '"other"'}).status_code == 412
        looked = client.head("/api/blob/r")
        assert looked.content == b""
        for name in ("content-type", "content-length", "last-modified", "etag", "accept-ranges"):
            assert looked.headers[name] == whole.headers[name]
        assert client.head("/api/blob/none").status_code == 404


def test_what_is_stored_cannot_act_for_this_host(stage: Stage, values: dict[str, str]) -> None:
    with http(stage, values) as client:
        client.post(
            "/api/blob", params={"pathname": "evil.html"}, content=b"<script>alert(1)</script>"
        )
        said = client.get("/api/blob/evil.html").headers
    assert said["x-content-type-options"] == "nosniff"
    assert "sandbox" in said["content-security-policy"]


@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_a_body_cut_off_midway_leaves_nothing_and_the_old_blob(
    size: int, stage: Stage, values: dict[str, str]
) -> None:
    with Blob(values["PURVEYOR_API_URL"], values["PURVEYOR_TOKEN"]) as opened:
        empty(opened)
        opened.put("kept", b"old")
        for name in ("kept", "new"):
            place = urlsplit(stage.address)
            with socket.create_connection((place.hostname, place.port)) as raw:
                head = (
                    f"POST /api/blob?pathname={name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                    f"{values['PURVEYOR_TOKEN']}\r\n"
                    f"Content-Length: {size * 2}\r\n\r\n"
                )
                raw.sendall(head.encode() + noise(size))
        eventually(lambda: uploads(stage, values) == 0)
        assert [item.pathname for item in opened.list().blobs] == ["kept"]
        assert opened.get("kept") == b"old"


def uploads(stage: Stage, values: dict[str, str]) -> int:
    """Uploads that are begun and not ended, as the server itself says."""
    script = (
        "print('begun', sum(len(s3.list_multipart_uploads(Bucket=b['Name']).get('Uploads', [])) "
    )
    script += "for b in s3.list_buckets()['Buckets']))\n"
    said = stage.run("connect", "blob", stdin=script).stdout
    return int(said.partition("begun ")[2].split()[0])


def test_a_reader_who_leaves_early_harms_nobody(stage: Stage, values: dict[str, str]) -> None:
    with Blob(values["PURVEYOR_API_URL"], values["PURVEYOR_TOKEN"]) as opened:
        opened.put("big", (noise(MIB, number) for number in range(40)))
        for _ in range(20):
            with (
                Blob(values["PURVEYOR_API_URL"], values["PURVEYOR_TOKEN"]) as reader,
                reader.stream("big") as chunks,
            ):
                next(chunks)
        assert len(opened.get("big")) == 40 * MIB


def resident(daemon: Path, field: str) -> int:
    """Memory in MB."""
    return int((daemon / "status").read_text().partition(f"{field}:")[2].split()[0]) // 1024


@pytest.mark.parametrize("blocks", [256, pytest.param(1024, marks=pytest.mark.nightly)])
def test_what_is_large_goes_through_in_constant_memory(
    blocks: int, stage: Stage, values: dict[str, str]
) -> None:
    some = [noise(MIB, number) for number in range(8)]
    sent, came = hashlib.sha256(), hashlib.sha256()
    daemon = Path(f"/proc/{stage.daemon}")

    def body() -> Iterator[bytes]:
        for number in range(blocks):
            sent.update(some[number % 8])
            yield some[number % 8]

    with Blob(values["PURVEYOR_API_URL"], values["PURVEYOR_TOKEN"]) as opened:
        opened.put("warm", noise(20 * MIB))
        opened.get("warm")
        before = resident(daemon, "VmRSS")
        (daemon / "clear_refs").write_text("5")  # the peak counts from here
        assert opened.put("large", body()).size == blocks * MIB
        with opened.stream("large") as chunks:
            for chunk in chunks:
                came.update(chunk)
        assert came.digest() == sent.digest()
        assert resident(daemon, "VmHWM") - before < 64
        opened.delete("large", "warm")


# ---------------------------------------------------------------- who may what


def test_a_project_sees_its_own_blobs_only(
    stage: Stage, values: dict[str, str], beta: dict[str, str]
) -> None:
    with http(stage, beta) as client:
        secret = client.post("/api/blob", params={"pathname": "secret"}, content=b"beta's").json()
    foreign = beta["PURVEYOR_PROJECT_ID"]
    with http(stage, values) as client:
        assert client.get(urlsplit(secret["url"]).path).status_code in (403, 404)
        assert client.get("/api/blob/secret").status_code == 404
        assert client.get("/api/blob", params={"project_id": foreign}).status_code == 403
        assert (
            client.post(
                "/api/blob", params={"pathname": "x", "project_id": foreign}, content=b"x"
            ).status_code
            == 403
        )
        stolen = {"fromUrl": secret["url"], "toPathname": "loot"}
        assert client.post("/api/blob/copy", json=stolen).status_code == 400
        body = {"pathnames": ["secret"], "projectId": int(foreign)}
        assert client.request("DELETE", "/api/blob", json=body).status_code == 403
        assert (
            client.request("DELETE", "/api/blob", json={"pathnames": [secret["url"]]}).status_code
            == 400
        )
        assert "secret" not in client.get("/api/blob").text
    with http(stage, beta) as client:
        assert client.get(urlsplit(secret["url"]).path).text == "beta's"
    for token in ("", "pvy_foreign"):
        with stage.http(token) as client:
            assert client.get(urlsplit(secret["url"]).path).status_code == 401
            assert client.post("/api/blob?pathname=x", content=b"x").status_code == 401


def test_environments_of_a_project_do_not_share_blobs(stage: Stage, values: dict[str, str]) -> None:
    with http(stage, values) as client, http(stage, stage.variables("alpha", "preview")) as preview:
        client.post("/api/blob", params={"pathname": "where"}, content=b"production")
        assert preview.get("/api/blob/where").status_code == 404


def test_an_administrator_says_whom_he_means(stage: Stage, beta: dict[str, str]) -> None:
    with stage.local() as client:
        assert list(client.get("/api/blob").json()["errors"]) == ["project_id"]
        client.post(
            "/api/blob", params={"pathname": "by/admin", "project_id": "beta"}, content=b"x"
        )
        assert client.get("/api/blob/beta/by/admin").text == "x"
        assert client.get(f"/api/blob/{beta['PURVEYOR_PROJECT_ID']}/by/admin").text == "x"
        assert client.get("/api/blob/nobody/by/admin").status_code == 404


def test_the_variables_are_those_of_the_contract(stage: Stage) -> None:
    inside = stage.variables("alpha", host=False)
    assert set(inside) == {
        "PURVEYOR_API_URL", "PURVEYOR_TOKEN", "PURVEYOR_PROJECT_ID", "TEMPS_API_URL", "TEMPS_TOKEN",
        "TEMPS_PROJECT_ID",
        "VERCEL_BLOB_API_URL", "BLOB_READ_WRITE_TOKEN",
    }  # fmt: skip
    masked = stage.call("GET", "/external-services/blob/preview-environment-masked")
    assert masked["BLOB_READ_WRITE_TOKEN"] == masked["PURVEYOR_TOKEN"] == "***"


# ---------------------------------------------------------------- commands, and its life


def test_the_command_line_does_what_the_api_does(stage: Stage, tmp_path: Path) -> None:
    stage.cli("project", "create", "shell")
    stage.cli("link", "blob", "shell")
    whose = ("-p", "shell")
    (tmp_path / "photo.png").write_bytes(noise(9 * MIB))
    assert "image/png" in stage.cli("blob", "put", str(tmp_path / "photo.png"), *whose)
    assert "photos/1.jpg" in stage.cli(
        "blob", "put", str(tmp_path / "photo.png"), "photos/1.jpg", *whose
    )
    assert stage.run("blob", "put", "-", "note.txt", *whose, stdin="hello").returncode == 0
    assert stage.cli("blob", "get", "note.txt", *whose) == "hello"
    stage.cli("blob", "get", "photos/1.jpg", "-o", str(tmp_path / "back.jpg"), *whose)
    assert (tmp_path / "back.jpg").read_bytes() == noise(9 * MIB)
    listed = stage.cli("blob", "list", *whose)
    assert [line.split()[-1] for line in listed.splitlines()] == [
        "note.txt",
        "photo.png",
        "photos/1.jpg",
    ]
    assert [
        item["pathname"]
        for item in json.loads(stage.cli("--json", "blob", "list", "photos/", *whose))
    ] == ["photos/1.jpg"]
    assert stage.cli("blob", "copy", "note.txt", "copied.txt", *whose).strip() == "copied.txt"
    assert stage.cli("blob", "del", "note.txt", "none", *whose).strip() == "1"
    assert "no such blob" in stage.cli(
        "blob", "get", "note.txt", "-o", str(tmp_path / "none"), *whose, code=4
    )
    assert sorted(os.listdir(tmp_path)) == ["back.jpg", "photo.png"]
    assert "healthy" in stage.cli("blob", "status")


def test_disable_stops_it_and_enable_brings_everything_back(
    stage: Stage, beta: dict[str, str]
) -> None:
    with http(stage, beta) as client:
        client.post("/api/blob", params={"pathname": "kept"}, content=b"42")
        found = stage.call("DELETE", "/blob/disable")
        assert (found["enabled"], found["healthy"]) == (False, False)
        refused = client.get("/api/blob/kept")
        assert refused.status_code == 409
        found = stage.call("POST", "/blob/enable")
        assert (found["enabled"], found["healthy"]) == (True, True)
        assert client.get("/api/blob/kept").text == "42"
        assert client.request("POST", "/api/blob/enable").status_code == 403


def test_a_server_that_hangs_is_said(stage: Stage) -> None:
    with hanging(f"{stage.namespace}-blob"):
        found = stage.call("GET", "/blob/status")
        assert (found["enabled"], found["healthy"]) == (True, False)
    eventually(lambda: stage.call("GET", "/blob/status")["healthy"])


def test_unlinking_ends_access_and_linking_again_brings_the_blobs_back(stage: Stage) -> None:
    stage.cli("project", "create", "back")
    stage.cli("link", "blob", "back")
    before = stage.variables("back")
    with http(stage, before) as client:
        client.post("/api/blob", params={"pathname": "kept"}, content=b"1")
        stage.cli("unlink", "blob", "back")
        assert client.get("/api/blob/kept").status_code == 401
    stage.cli("link", "blob", "back")
    with http(stage, stage.variables("back")) as client:
        assert client.get("/api/blob/kept").text == "1"
    stage.cli("unlink", "blob", "back", "--purge")
    stage.cli("link", "blob", "back")
    with http(stage, stage.variables("back")) as client:
        assert client.get("/api/blob/kept").status_code == 404


def test_names_that_fold_alike_get_buckets_of_their_own(stage: Stage) -> None:
    longest = "e" * 40
    tokens = [
        stage.variables("alpha", environment)["PURVEYOR_TOKEN"]
        for environment in (longest, "a-b", "a")
    ]
    for number, token in enumerate(tokens):
        with stage.http(token) as client:
            assert client.get("/api/blob").json()["blobs"] == []
            client.post("/api/blob", params={"pathname": f"of-{number}"}, content=b"x")
    for number, token in enumerate(tokens):
        with stage.http(token) as client:
            assert [item["pathname"] for item in client.get("/api/blob").json()["blobs"]] == [
                f"of-{number}"
            ]


def test_a_url_names_the_host_that_was_asked(stage: Stage, values: dict[str, str]) -> None:
    with http(stage, values) as client:
        made = client.post(
            "/api/blob",
            params={"pathname": quote("x y")},
            content=b"x",
            headers={"Host": "files.example:8000"},
        )
    assert made.json()["url"].startswith("http://files.example:8000/api/blob/")


def test_a_backup_brings_the_blobs_back_and_tokens_go_on(
    stage: Stage, beta: dict[str, str]
) -> None:
    with http(stage, beta) as client:
        client.post("/api/blob", params={"pathname": "kept.txt"}, content=b"42")
        made = stage.call("POST", "/backups/external-services/blob/run")
        assert made["state"] == "ok"
        client.request("DELETE", "/api/blob", json={"pathnames": ["kept.txt"]})
        stage.call("POST", f"/backups/{made['id']}/restore", json={"service_id": "blob"})
        found = client.get("/api/blob/kept.txt")
        assert (found.text, found.headers["content-type"]) == ("42", "text/plain")


@pytest.mark.parametrize(
    ("code", "message"), [("XMinioStorageFull", "x"), ("InternalError", "Disk full")]
)
def test_a_full_disk_behind_blob_is_told_as_that(code: str, message: str) -> None:
    error = ClientError({"Error": {"Code": code, "Message": message}}, "PutObject")
    assert getattr(store.translate_error(error), "status", 0) == 507


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_a_key_that_is_refused_while_it_changes_is_no_reason_to_unlink(code: str) -> None:
    told = store.translate_error(ClientError({"Error": {"Code": code}}, "PutObject"))
    remedy = str(getattr(told, "remedy", ""))
    assert "try again" in remedy
    assert "purveyor rotate" in remedy
    assert "nlink" not in remedy
