"""Image references are read by one grammar, the engine's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.services import parameters
from purveyor.settings import Settings
from purveyor_hooks import BadInput, Image, Reference, ServiceType
from purveyor_hooks.references import parse, parts_of

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(("text", "parts"), [
    ("postgres", Reference(path="postgres")),
    ("postgres:17", Reference(path="postgres", tag="17")),
    ("r/p:1", Reference(path="r/p", tag="1")),
    ("localhost/p", Reference(path="p", registry="localhost")),
    ("localhost:5000/p", Reference(path="p", registry="localhost:5000")),
    ("r.example:5000/acme/pgvector:0.8.1-pg18",
    Reference(path="acme/pgvector", registry="r.example:5000", tag="0.8.1-pg18")),
    (f"redis@{DIGEST}", Reference(path="redis", digest=DIGEST)),
    (f"r.example.com/acme/redis:8.0@{DIGEST}",
    Reference(path="acme/redis", registry="r.example.com", tag="8.0", digest=DIGEST)),
    ("[::1]:5000/p:x", Reference(path="p", registry="[::1]:5000", tag="x")),
    ("a__b/c-d.e_f", Reference(path="a__b/c-d.e_f")),
    (DIGEST, Reference(path="sha256", tag=DIGEST.removeprefix("sha256:"))),
])  # fmt: skip
def test_a_reference_has_these_parts(text: str, parts: Reference) -> None:
    assert parse(text) == parts
    assert str(parts) == text


@pytest.mark.parametrize("text", [
    "", "Postgres", "postgres:", "postgres:17:18", "a//b", "/a", "a/", "a b", "a:-x", "a@sha256:12",
    "a@", "http://a/b",
    "a:" + "x" * 129, "-a", "a..b", "p" * 256, "postgres:17\n",
])  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an image reference"):
        parse(text)
    assert parts_of(text).path == text


@given(st.text(alphabet="abcA1.:/@_-[]", max_size=24))
def test_what_is_read_is_written_as_it_was(text: str) -> None:
    try:
        assert str(parse(text)) == text
    except ValueError:
        assert parts_of(text) == Reference(path=text)


@pytest.mark.parametrize(("default", "version", "image"), [
    ("postgres:18-bookworm", "17", "postgres:17-bookworm"),
    ("host:5000/acme/redis:8", "7.4", "host:5000/acme/redis:7.4"),
    ("mongo:v8.0", "7.0", "mongo:7.0"),
])  # fmt: skip
def test_a_version_takes_the_place_of_the_default_image_s(
    default: str, version: str, image: str
) -> None:
    kind = ServiceType(
        name="thing", label="Thing", description="", default_image=default, parameters=(), ports=()
    )
    assert parameters.image_for(kind, Settings(), version) == image


@pytest.mark.parametrize(
    "default", ["host:5000/redis", "redis", f"redis:8@{DIGEST}", "redis:latest"]
)
def test_a_default_image_without_a_version_says_that_the_whole_image_is_needed(
    default: str,
) -> None:
    kind = ServiceType(
        name="thing", label="Thing", description="", default_image=default, parameters=(), ports=()
    )
    with pytest.raises(BadInput, match="cannot be used"):
        parameters.image_for(kind, Settings(), "7")


def test_the_servers_versions_are_read_from_the_tag_and_never_from_a_port() -> None:
    from purveyor_mongodb import plugin as mongodb
    from purveyor_postgres import plugin as postgres
    from purveyor_redis import upgrades

    def at(reference: str) -> Image:
        return Image(reference=reference)

    told = ("p", "pgvector:0.8.1-pg18", "p:pg17", "p:16.4-x")
    assert [postgres.data_major(at(f"host:5000/{name}"), {}) for name in told] == [
        "",
        "18",
        "17",
        "16",
    ]
    assert [
        mongodb.data_major(at(f"host:27017/{name}"), {}) for name in ("m", "m:8.0", "m:v7.0.1")
    ] == [
        "",
        "8.0",
        "7.0",
    ]
    assert [upgrades.version(at(f"host:6379/{name}")) for name in ("r", "r:8.2")] == [None, (8, 2)]
