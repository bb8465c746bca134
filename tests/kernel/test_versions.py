"""Versions are numbers, whatever stands around them."""

import pytest

from purveyor_hooks import Image
from purveyor_hooks.versions import image_version, version_of


@pytest.mark.parametrize(("text", "release"), [
    ("17", (17,)), ("v8.1.3-alpine3.22", (8, 1, 3)), ("8.0.4-noble", (8, 0, 4)), ("18beta1", (18,)),
    ("17.10 (Debian 17.10-1)", (17, 10)),
    ("0" * 5 + "7.2", (7, 2)), ("latest", None), ("", None), ("-8", None), ("²", None),
])  # fmt: skip
def test_the_version_that_a_text_begins_with(text: str, release: tuple[int, ...] | None) -> None:
    found = version_of(text)
    assert (found.release if found else None) == release


def test_a_tenth_minor_is_later_than_the_ninth_and_the_image_itself_knows_better_than_its_tag() -> (
    None
):
    nine, ten = version_of("7.9"), version_of("7.10-alpine")
    assert nine
    assert ten
    assert nine < ten
    image = Image(reference="redis:7.2", environment={"VALKEY_VERSION": "8.1", "REDIS_VERSION": ""})
    assert str(image_version(image, "REDIS_VERSION", "VALKEY_VERSION")) == "8.1"
    assert str(image_version(image, "MONGO_VERSION")) == "7.2"
