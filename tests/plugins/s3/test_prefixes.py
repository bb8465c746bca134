"""Which keys a server would hide behind others, as it was seen on it."""

from purveyor_s3 import flavours
from purveyor_s3.grammar import Prefixes


def test_an_object_hides_what_is_below_its_name_on_minio_and_not_the_marker_of_its_own_name() -> (
    None
):
    found = Prefixes(flavours.MINIO)
    keys = ("a", "a/", "a/b", "a/c/", "ab", "b/", "b/c")
    assert [found.hidden_by(key) for key in keys] == ["", "", "a", "a", "", "", ""]


def test_elsewhere_nothing_is_hidden() -> None:
    for flavour in (flavours.RUSTFS, flavours.SEAWEEDFS):
        found = Prefixes(flavour)
        assert [found.hidden_by(key) for key in ("a", "a/", "a/b")] == ["", "", ""]
