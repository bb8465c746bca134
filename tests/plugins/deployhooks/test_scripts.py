"""An executable that has ended is not waited for any longer, whatever it started."""

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

import anyio
import pytest

from purveyor_deployhooks import scripts

pytestmark = pytest.mark.anyio


def script(folder: Path, text: str) -> Path:
    path = folder / "10-test"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("start", ["", "setsid "])
@pytest.mark.parametrize(("end", "refusal"), [("echo done", ""), ("echo no; exit 3", "no")])
async def test_what_a_script_left_running_does_not_hold_up_a_deploy(
    tmp_path: Path, start: str, end: str, refusal: str
) -> None:
    path, began = (
        script(tmp_path, f"{start}sleep 5 &\necho $! >{tmp_path}/left\n{end}"),
        monotonic(),
    )
    ended = await scripts.run(path, "before-deploy", {})
    assert monotonic() - began < 3
    # the loop of this test is not to end before what holds the output open
    with suppress(ProcessLookupError):
        os.kill(int((tmp_path / "left").read_text()), 9)
    await anyio.sleep(0.1)
    assert (ended.refusal, ended.output) == (refusal, end.split(";")[0].removeprefix("echo "))


async def test_all_that_a_script_says_at_its_end_is_heard(tmp_path: Path) -> None:
    ended = await scripts.run(
        script(tmp_path, "yes 0123456789 | head -c 3000000; echo enough; exit 1"),
        "before-deploy",
        {},
    )
    assert ended.refusal.endswith("enough")
    assert len(ended.output) > scripts.LIMIT - 100


async def test_one_that_does_not_end_is_ended_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "DEPLOY_DEADLINE", 0.5)
    began = monotonic()
    ended = await scripts.run(script(tmp_path, "echo begun; sleep 60"), "before-deploy", {})
    assert monotonic() - began < 5
    assert "did not end within" in ended.refusal
    assert ended.output.strip() == "begun"
