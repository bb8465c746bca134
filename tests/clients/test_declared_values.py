"""What a purveyor.toml may say, without an engine."""

from pathlib import Path

import pytest

from purveyor.clients.declarative import Present, differences, load
from purveyor_hooks import BadInput

NOTHING = Present({}, {}, {}, set(), {}, {})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[services."My Cache"]\ntype = "redis"', "services.My Cache"),
        ("[projects.Shop]", "projects.Shop"),
        ('[projects.shop]\nenvironments = ["Preview_1"]', "projects.shop.environments"),
    ],
)
def test_a_name_by_which_it_would_not_be_found_again_is_refused(
    text: str, field: str, tmp_path: Path
) -> None:
    path = tmp_path / "purveyor.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        differences(load(path), NOTHING)
    assert list(caught.value.errors) == [field]


def test_what_there_is_already_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "purveyor.toml"
    path.write_bytes(b'\xef\xbb\xbf[projects.0]\nenvironments = ["production"]\n')
    now = NOTHING._replace(projects={"0": {}}, environments={"0": {"production"}})
    assert differences(load(path), now) == []
