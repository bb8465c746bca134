"""Python processes forked from one that has everything imported: a start takes milliseconds, not a
second of imports.

`run` and `start` take a command as `subprocess` does. One that starts this very Python with a
module or a script, in an environment in which the interpreter would come up the same, is forked;
every other one is a real process, and so are all of them when PURVEYOR_TEST_FORK is 0. Each pytest
process has a fork server of its own, which ends with it.
"""

import asyncio
import atexit
import functools
import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO

# what counts from a process's start, and not only when asked
ENVIRONMENT = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "SSL_")
MESSAGE = 1024 * 1024
LATE = (
    "anyio._backends._asyncio",
    "httpcore",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
    "uvloop",
)


# ---------------------------------------------------------------- for the tests


def run(
    command: Sequence[str], *, env: Mapping[str, str], stdin: str = "", timeout: float = 180
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of a command whose output is wanted."""
    if not _can_be_forked(command, env):
        return subprocess.run(
            command, env=env, input=stdin, capture_output=True, text=True, timeout=timeout
        )
    (its_in, to), (out, its_out), (err, its_err) = os.pipe(), os.pipe(), os.pipe()
    try:
        process = Forked(command, env, (its_in, its_out, its_err))
    finally:
        for descriptor in (its_in, its_out, its_err):
            os.close(descriptor)
    with ThreadPoolExecutor(3) as pool:
        stdout, stderr = (pool.submit(_read, descriptor) for descriptor in (out, err))
        pool.submit(_write, to, stdin)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as late:
            process.send_signal(signal.SIGUSR1)  # it says where it is
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
            process.kill()
            late.stderr = stderr.result()
            raise
    return subprocess.CompletedProcess(command, code, stdout.result(), stderr.result())


def _read(descriptor: int) -> str:
    with open(descriptor) as opened:
        return opened.read()


def _write(descriptor: int, text: str) -> None:
    with suppress(BrokenPipeError), open(descriptor, "w") as opened:
        opened.write(text)


def start(command: Sequence[str], *, env: Mapping[str, str], output: BinaryIO) -> "Process":
    """`subprocess.Popen` of a command that prints into a file and reads nothing."""
    if not _can_be_forked(command, env):
        return subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    with open(os.devnull, "rb") as nothing:
        return Forked(command, env, (nothing.fileno(), output.fileno(), output.fileno()))


def _can_be_forked(command: Sequence[str], env: Mapping[str, str]) -> bool:
    own = (
        os.environ.get("PURVEYOR_TEST_FORK") != "0"
        and command[0] == sys.executable
        and command[1] != "-c"
    )
    return own and _of_the_start(env) == _of_the_start(os.environ)


def _of_the_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(ENVIRONMENT)}


class Forked:
    """A running process, with what the tests use of `subprocess.Popen`."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], descriptors: Sequence[int]
    ) -> None:
        self.args = command
        self.returncode: int | None = None
        self._channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            asked = {"arguments": command[1:], "env": dict(env), "cwd": os.getcwd()}
            _server().ask(json.dumps(asked).encode(), [other.fileno(), *descriptors])
        self.pid = self._hear()

    def _hear(self) -> int:
        said = self._channel.recv(64)
        if not said:
            raise RuntimeError("the fork server has ended")
        return int(said)

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, as `subprocess` says it. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                self.returncode = self._hear()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._channel.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Forked | subprocess.Popen[bytes]


class Server:
    """The fork server of this process."""

    def __init__(self) -> None:
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE)
        with other:
            command = [sys.executable, __file__, str(other.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()]
            )
        atexit.register(self.close)

    def ask(self, message: bytes, descriptors: list[int]) -> None:
        socket.send_fds(self._control, [message], descriptors)

    def close(self) -> None:
        """Ends it, and what it started and still runs."""
        self._control.close()
        self._process.wait(60)


_only_one = threading.Lock()


def _server() -> Server:
    with _only_one:
        return _made()


@functools.cache
def _made() -> Server:
    return Server()


def end() -> None:
    """End the fork server of this process, if there is one: what it was measured with is written
    then. The next start has another one."""
    with _only_one:
        if _made.cache_info().currsize:
            _made().close()
            _made.cache_clear()


# ---------------------------------------------------------------- the server itself


def _import_everything() -> None:
    """Every module of Purveyor and its plugins, and what others load late or by name."""
    for found in pkgutil.iter_modules():
        if found.name.startswith("purveyor"):
            package = importlib.import_module(found.name)
            for module in pkgutil.walk_packages(package.__path__, f"{found.name}."):
                importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)


def _serve(control: socket.socket) -> list[str]:
    """Forks for every request; returns in the forked process, with its arguments."""
    # by the descriptor that tells the end: process id, who wants to know
    running: dict[int, tuple[int, socket.socket]] = {}
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd != control.fileno():
                pid, channel = running.pop(key.fd)
                selector.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with channel, suppress(BrokenPipeError):
                    channel.sendall(str(code).encode())
                continue
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE, 4)
            if not message:
                for pid, _ in running.values():
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                sys.exit()
            channel = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if not pid:
                selector.close()
                for opened in (control, channel, *(channel for _, channel in running.values())):
                    opened.close()
                return _take_over(message, descriptors[1:])
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            channel.sendall(str(pid).encode())
            handle = os.pidfd_open(pid)
            running[handle] = (pid, channel)
            selector.register(handle, selectors.EVENT_READ)


def _take_over(message: bytes, descriptors: list[int]) -> list[str]:
    """Be the process that was asked for, in all that it can see of itself."""
    asked: dict[str, Any] = json.loads(message)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGUSR1, _tell)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    arguments: list[str] = asked["arguments"]
    return arguments


def _tell(*_: object) -> None:
    """Print where every task is: what is asked of one that does not end."""
    for task in asyncio.all_tasks():
        print(f"{task.get_name()}:", file=sys.stderr)
        awaited: Any = task.get_coro()
        while awaited is not None:
            frame = (
                getattr(awaited, "cr_frame", None)
                or getattr(awaited, "gi_frame", None)
                or getattr(awaited, "ag_frame", None)
            )
            if frame is not None:
                print(
                    f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}",
                    file=sys.stderr,
                )
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    sys.stderr.flush()


def _execute(arguments: list[str]) -> None:
    """As ``python -m MODULE …`` and ``python SCRIPT …`` do it: a module ``__main__`` with this
    code."""
    main = types.ModuleType("__main__")
    if arguments[0] == "-m":
        spec = importlib.util.find_spec(arguments[1])
        assert spec is not None
        if spec.submodule_search_locations is not None:  # a package
            spec = importlib.util.find_spec(f"{spec.name}.__main__")
            assert spec is not None
        assert spec.origin is not None
        loader: Any = spec.loader
        code = loader.get_code(spec.name)
        sys.argv = [spec.origin, *arguments[2:]]
        sys.path[0] = os.getcwd()
        main.__spec__, main.__package__, main.__loader__ = spec, spec.parent, loader
    else:
        with open(arguments[0], "rb") as opened:
            code = compile(opened.read(), arguments[0], "exec")
        sys.argv = arguments
        sys.path[0] = os.path.dirname(arguments[0])
    main.__file__ = sys.argv[0]
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


def _run_to_the_end(arguments: list[str]) -> None:
    """Ends as Python does, but for what it takes to give back its memory piece by piece."""
    code: Any = 0
    try:
        _execute(arguments)
    except SystemExit as error:
        code = error.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:
        traceback.print_exception(error)
        code = 1
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    # whoever started us is asked to stop, and we end with them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_everything()
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
    gc.collect()
    gc.freeze()
    wanted = _serve(socket.socket(fileno=int(sys.argv[1])))
    _run_to_the_end(wanted)
