"""A forked process is to its parent as a real one: what it prints, reads and is told, and how it
ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import forkserver

SCRIPTS = {
    "it reads and prints": "import sys; print(sys.argv[1:], __name__, sys.path[0], sys.stdin.read(), end='')",
    "it sees its environment": "import os; print(sorted(os.environ.items()), os.getcwd(), os.umask(0))",
    "it says why it ends": "raise SystemExit('that is why')",
    "it ends with a code": "import sys; sys.exit(300)",
    "it fails": "import sys; sys.tracebacklimit = 0; 1 / 0",
    "it is killed": "import os, signal; print('lost'); os.kill(os.getpid(), signal.SIGKILL)",
    "it is interrupted": "import sys; sys.tracebacklimit = 0; raise KeyboardInterrupt",
    "it has no other files": "import os; print(sorted(os.listdir('/proc/self/fd')))",
    "it has signals": (
        "import signal; print(list(map(signal.getsignal, (2, 13, 15, 17)))[1:], "
        "signal.pthread_sigmask(0, []))"
    ),
    "it becomes another": "import os; os.execvp('sh', ['sh', '-c', 'trap; cat; exit 7'])",
    "it waits for its threads": (
        "import threading as t, time; t.Thread(target=lambda: (time.sleep(0.2), "
        "print('late'))).start()"
    ),
    "it cleans up": "import atexit; atexit.register(print, 'bye'); print('hello', end=' ')",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_it_is_like_a_real_one(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "script.py"
    path.write_text(script)
    command, env = [sys.executable, str(path), "a", "b c"], {**os.environ, "ONLY": "here"}
    forked = forkserver.run(command, env=env, stdin="one\ntwo ü\n")
    monkeypatch.setenv("PURVEYOR_TEST_FORK", "0")
    real = forkserver.run(command, env=env, stdin="one\ntwo ü\n")
    assert (forked.returncode, forked.stdout) == (real.returncode, real.stdout)
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def test_it_can_be_watched_and_ended(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import random, time; print(random.random(), flush=True); time.sleep(60)"
    )
    command = [sys.executable, str(tmp_path / "script.py")]
    with open(tmp_path / "said", "wb") as said:
        both = [forkserver.start(command, env=os.environ, output=said) for _ in range(2)]
    for process, number in zip(both, (signal.SIGTERM, signal.SIGKILL), strict=True):
        assert isinstance(process, forkserver.Forked)
        assert Path(f"/proc/{process.pid}").exists()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert process.poll() is None
        process.send_signal(number)
        assert (process.wait(10), process.poll()) == (-number, -number)
    first, second = (tmp_path / "said").read_text().split()
    assert first != second, "each has random numbers of its own"


def test_what_takes_too_long_is_killed(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        forkserver.run(
            [sys.executable, "-m", "timeit", "-n1", "-r1", "import time; time.sleep(60)"],
            env=os.environ,
            timeout=1,
        )
    assert time.monotonic() - begun < 30


def test_an_environment_that_python_itself_reads_makes_a_real_process(tmp_path: Path) -> None:
    (tmp_path / "there.py").write_text("print('found')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert forkserver.run([sys.executable, "-m", "there"], env=env).stdout == "found\n"
    with open(tmp_path / "said", "wb") as said:
        process = forkserver.start([sys.executable, "-m", "there"], env=env, output=said)
        assert isinstance(process, subprocess.Popen)
        process.wait()
