"""The state directory: what a full or broken disk, a lost file or another version does to it, and
what is said then."""

import errno
import itertools
import logging
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlite_utils import Database

from purveyor.app import open_app
from purveyor.kernel.db import Store, copies
from purveyor.kernel.db.beginning import MARK, begin
from purveyor.kernel.db.database import read_note
from purveyor.kernel.db.faults import translate_error
from purveyor.kernel.db.lock import StateLock, StateLocked
from purveyor.kernel.db.secrets import open_secrets
from purveyor.kernel.events import store as events
from purveyor.kernel.logs import make_logger
from purveyor.kernel.supervisor import Supervisor
from purveyor.migrations import migrations
from purveyor_hooks import PurveyorError, StateRefused, StateUnavailable, StorageFull

LOGGER = make_logger(logging.CRITICAL)
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def opened(state: Path) -> Store:
    store = Store(state, open_secrets(state), migrations)
    store.open()
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = opened(tmp_path)
    yield made
    made.close()


def full(store: Store, *, yes: bool = True) -> None:
    """As if the disk had no room for one page more."""
    assert store._writer is not None
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages if yes else 10_000}")


async def fill(store: Store) -> None:
    await store.write(lambda tx: tx.emit("much", data={"text": "x" * 100_000}))


async def test_a_full_disk_is_said_and_reading_goes_on(store: Store) -> None:
    await store.write(lambda tx: tx.emit("before"))
    full(store)
    with pytest.raises(StorageFull, match="is full") as told:
        await fill(store)
    assert (told.value.status, "Make room" in told.value.remedy) == (507, True)
    assert await store.read(events.last) == 1
    full(store, yes=False)
    await fill(store)
    assert await store.read(events.last) == 2


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None,
    reason="mounting needs root, and a program for it",
)
@pytest.mark.parametrize("what", ["full", "read-only"])
async def test_a_real_file_system_that_cannot_be_written_is_said(tmp_path: Path, what: str) -> None:
    if not mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path):
        pytest.skip("nothing may be mounted here")
    try:
        store = opened(tmp_path)
        if what == "full":
            with pytest.raises(StorageFull):
                await fill_up(store)
        assert await store.read(events.last) >= 0
        store.close()
        if what == "full":
            pour(tmp_path / "ballast")
        else:
            assert mount("-o", "remount,ro", tmp_path)
        with pytest.raises(StateUnavailable, match="is full" if what == "full" else "is read-only"):
            # with what SQLite left in place it may be opened and read, and still not written
            await open_and_fill(tmp_path)
    finally:
        unmount(tmp_path)


def mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


def unmount(path: Path) -> None:
    subprocess.run(["umount", "-l", path], check=True)


def pour(path: Path) -> None:
    """Fill a disk to its last byte."""
    with suppress(OSError), open(path, "wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)


async def fill_up(store: Store) -> None:
    while True:
        await fill(store)


async def open_and_fill(state: Path) -> None:
    store = opened(state)
    try:
        await fill_up(store)
    finally:
        store.close()


@pytest.mark.parametrize("name", ["file", "file/state"])
async def test_a_state_directory_that_cannot_be_one_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateUnavailable, match="cannot be made"):
        async with open_app(tmp_path / name):
            raise AssertionError("it was opened")


def test_no_file_handle_is_said(tmp_path: Path) -> None:
    opened(tmp_path).close()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    secrets = open_secrets(tmp_path)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        os.close(held.pop())
        with pytest.raises(StateUnavailable, match="no file handle left"):
            Store(tmp_path, secrets, migrations).open()
    finally:
        for handle in held:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_database_that_another_holds_is_said(store: Store, tmp_path: Path) -> None:
    assert store._writer is not None
    store._writer.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(tmp_path / "purveyor.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="locked by another process"):
            await store.write(lambda tx: tx.emit("no"))
        other.rollback()
    await store.write(lambda tx: tx.emit("yes"))


@pytest.mark.parametrize("how", ["header", "cut", "middle"])
async def test_a_broken_database_is_refused_with_the_way_back(tmp_path: Path, how: str) -> None:
    store = opened(tmp_path)
    for _ in range(20):
        await fill(store)
    store.close()
    kept = copies.copy(tmp_path / "purveyor.db", "daily-1")
    path = tmp_path / "purveyor.db"
    content = bytearray(path.read_bytes())
    if how == "header":
        content[:64] = b"\x00garbage" * 8
    elif how == "cut":
        del content[5000:]
    else:
        content[4096:60_000] = os.urandom(60_000 - 4096)
    path.write_bytes(content)
    with pytest.raises(StateRefused, match="damaged") as told:
        await open_and_read(tmp_path)
    assert str(kept) in told.value.remedy
    shutil.copy(kept, path)
    store = opened(tmp_path)
    assert await store.read(events.last) == 20
    store.close()


async def open_and_read(state: Path) -> None:
    store = opened(state)
    try:
        await store.read(lambda tx: list(tx.rows("SELECT * FROM events")))
    finally:
        store.close()


async def test_a_database_of_a_newer_version_is_refused_and_both_versions_are_named(
    tmp_path: Path,
) -> None:
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "purveyor.db")) as db, db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('purveyor', "
            "'teleport', '')"
        )
        db.execute("UPDATE meta SET value = '99.0' WHERE key = 'version'")
    before = (tmp_path / "purveyor.db").read_bytes()
    with pytest.raises(
        StateRefused, match=r"last used by Purveyor 99\.0, and this is Purveyor \d.* teleport"
    ):
        opened(tmp_path)
    assert (tmp_path / "purveyor.db").read_bytes() == before


async def test_a_copy_is_made_before_the_tables_are_changed(tmp_path: Path) -> None:
    opened(tmp_path).close()
    assert not (tmp_path / "copies").exists(), "a new installation has nothing to copy"
    with closing(sqlite3.connect(tmp_path / "purveyor.db")) as db, db:
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'operation_locks'")
        db.execute("ALTER TABLE operations DROP COLUMN locks")
    opened(tmp_path).close()
    (kept,) = (tmp_path / "copies").iterdir()
    assert (kept.name, kept.stat().st_mode & 0o777) == ("before-operation_locks.db", 0o600)
    with closing(sqlite3.connect(kept)) as db:
        assert "locks" not in [row[1] for row in db.execute("PRAGMA table_info(operations)")]


class Doomed(Store):
    """Its process is killed at a statement of its opening."""

    left = 0

    def _connect(self) -> Database:
        db = super()._connect()
        db.conn.set_trace_callback(self._count)
        return db

    def _count(self, _: str) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_while_opening(state: Path, statement: int) -> bool:
    """Open the store in a process that is killed at its n-th statement; false when it was open
    before."""
    child = os.fork()
    if child == 0:
        store = Doomed(state, open_secrets(state), migrations)
        store.left = statement
        store.open()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def schema_of(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return sorted(
            db.execute(
                "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
            ).fetchall()
        )


def test_a_kill_in_any_change_of_the_tables_is_made_good_at_the_next_start(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    opened(new).close()
    shutil.copytree(new, old)
    (old / "purveyor.db").unlink()
    with closing(sqlite3.connect(old / "purveyor.db")) as db, db:
        migrations.apply(Database(db), stop_before="operation_locks")
        db.execute("ATTACH ? AS new", [str(new / "purveyor.db")])
        db.execute("INSERT INTO meta SELECT * FROM new.meta")
        db.execute(
            "INSERT INTO projects (name, slug, created_at) VALUES ('shop', 'shop', "
            "'2026-01-01T00:00:00Z')"
        )
    before, wanted = schema_of(old / "purveyor.db"), schema_of(new / "purveyor.db")
    for statement in itertools.count(1, 17):
        state = tmp_path / str(statement)
        shutil.copytree(old, state)
        killed = killed_while_opening(state, statement)
        opened(state).close()
        assert schema_of(state / "purveyor.db") == wanted
        with closing(sqlite3.connect(state / "purveyor.db")) as db:
            assert db.execute("SELECT name FROM projects").fetchall() == [("shop",)]
        assert before in [schema_of(kept) for kept in (state / "copies").glob("before-*.db")]
        if not killed:
            break
    assert statement > 100, "so many statements does it have"


def test_a_log_of_the_database_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "purveyor.db-wal").mkdir()
    with pytest.raises(StateUnavailable) as told:
        opened(tmp_path)
    assert str(tmp_path) in told.value.detail
    assert told.value.remedy
    (tmp_path / "purveyor.db-wal").rmdir()
    opened(tmp_path).close()


def test_a_lost_or_emptied_database_is_no_new_installation(tmp_path: Path) -> None:
    state, volumes = tmp_path / "state", tmp_path / "volumes"
    state.mkdir()
    begin(state, volumes)
    opened(state).close()
    assert not (state / MARK).exists()
    begin(state, volumes)  # there is a database: nothing to say
    copies.copy(state / "purveyor.db", "daily-1")
    for how in ("is not there", "is empty"):
        if how == "is empty":
            (state / "purveyor.db").touch()
        else:
            (state / "purveyor.db").unlink()
        with pytest.raises(StateRefused, match=how) as told:
            begin(state, volumes)
        assert "daily-1.db" in told.value.remedy
    with closing(sqlite3.connect(state / "purveyor.db")) as db, db:
        db.execute("CREATE TABLE something (else_ INTEGER)")
    with pytest.raises(StateRefused, match="holds nothing"):
        opened(state)


def test_data_folders_alone_say_that_something_was_here(tmp_path: Path) -> None:
    state, volumes = tmp_path / "state", tmp_path / "volumes"
    state.mkdir()
    (volumes / "1234").mkdir(parents=True)
    with pytest.raises(StateRefused, match="not a new installation"):
        begin(state, volumes)
    assert list(state.iterdir()) == []


async def test_an_installation_that_was_cut_off_in_its_first_moment_begins_again(
    tmp_path: Path,
) -> None:
    begin(tmp_path)
    open_secrets(tmp_path)
    (tmp_path / "purveyor.db").touch()
    begin(tmp_path)
    store = opened(tmp_path)
    assert await store.read(lambda tx: read_note(tx, "installation"))
    store.close()


def test_a_key_that_was_half_written_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        open_secrets(tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert open_secrets(tmp_path).seal("x")


async def test_a_copy_is_kept_each_day_and_the_last_three_stay(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for _ in range(5):
        await fill(store)
        copies._rotate(store.path)
        copies._rotate(store.path)
        for path in (tmp_path / "copies").iterdir():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - copies.EVERY))
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == [
        "daily-3.db",
        "daily-4.db",
        "daily-5.db",
    ]
    store.close()


def test_what_is_no_fault_of_the_disk_stays_a_fault_of_the_program(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute("CREATE TABLE t (a INTEGER UNIQUE)")
        db.execute("INSERT INTO t VALUES (1)")
        for sql in ("INSERT INTO t VALUES (1)", "SELECT nothing FROM t"):
            with pytest.raises(sqlite3.Error) as raised:
                db.execute(sql)
            assert translate_error(raised.value, tmp_path / "x.db") is None


async def test_who_waits_for_the_lock_gets_it_and_who_waits_in_vain_is_told(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path), StateLock(tmp_path)
    first.acquire()
    told: list[StateLocked] = []
    with pytest.raises(StateLocked, match="Another Purveyor"):
        await second.wait(0.2, told.append)
    assert [item.holder for item in told] == [str(os.getpid())]
    async with anyio.create_task_group() as group:
        group.start_soon(second.wait, 5.0)
        await anyio.sleep(0.2)
        first.release()
    with pytest.raises(StateLocked):
        first.acquire()
    second.release()


# ---------------------------------------------------------------- the supervisor


async def test_a_loop_that_raises_goes_on_and_says_so(store: Store) -> None:
    supervisor = Supervisor(store, LOGGER, first=0.01, settled=0.2)
    turns = 0

    async def loop() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise StorageFull("The disk is full.")
        if turns == 2:
            raise ExceptionGroup("several", [RuntimeError("a bug")])
        await anyio.sleep(60)

    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.keep, "schedules", loop)
        with anyio.fail_after(5):
            while turns < 3:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        (trouble,) = supervisor.troubles
        assert (trouble.loop, trouble.times, "RuntimeError" in trouble.error) == (
            "schedules",
            2,
            True,
        )
        with anyio.fail_after(5):
            while supervisor.troubles:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    told = await store.read(lambda tx: events.after(tx, 0))
    assert [event.type for event in told] == [
        "daemon.trouble",
        "daemon.trouble",
        "daemon.recovered",
    ]
    assert told[0].data == {"loop": "schedules", "error": "The disk is full."}


async def test_a_journal_that_cannot_be_written_ends_no_loop(store: Store) -> None:
    supervisor = Supervisor(store, LOGGER, first=0.01, settled=0.2)
    turns = 0

    async def loop() -> None:
        nonlocal turns
        turns += 1
        await fill(store)
        await anyio.sleep(60)

    full(store)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.keep, "schedules", loop)
        with anyio.fail_after(5):
            while turns < 3:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        full(store, yes=False)
        with anyio.fail_after(5):
            while supervisor.troubles or not await store.read(events.last):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    assert [event.type for event in await store.read(lambda tx: events.latest(tx, 5))][
        -1
    ] == "daemon.recovered"


async def test_a_loop_that_is_cancelled_ends(store: Store) -> None:
    supervisor = Supervisor(store, LOGGER)
    with anyio.move_on_after(0.1):
        await supervisor.keep("schedules", lambda: anyio.sleep(60))
    assert supervisor.troubles == []


def test_each_error_has_a_status_and_a_way_on() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EACCES, errno.EIO):
        found = translate_error(
            OSError(number, os.strerror(number)), Path("/somewhere/purveyor.db")
        )
        assert isinstance(found, PurveyorError)
        assert (found.status in (503, 507), bool(found.remedy)) == (True, True)


async def test_a_copy_ends_while_others_write_all_the_time(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.write(
        lambda tx: [tx.emit("something", data={"text": "x" * 2000}) for _ in range(4000)]
    )
    async with anyio.create_task_group() as group:

        async def write() -> None:
            while True:
                await store.write(lambda tx: tx.emit("something"))

        group.start_soon(write)
        with anyio.fail_after(10):
            made = await anyio.to_thread.run_sync(
                copies.copy, store.path, "daily-1", abandon_on_cancel=True
            )
        group.cancel_scope.cancel()
    with closing(sqlite3.connect(made)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()


async def test_a_clock_that_is_put_back_and_a_file_of_somebody_s_own_hold_no_copy_up(
    tmp_path: Path,
) -> None:
    store, folder = opened(tmp_path), tmp_path / "copies"
    copies._rotate(store.path)
    (folder / "daily-mine.db").touch()
    later = (folder / "daily-1.db").stat().st_mtime + 365 * copies.EVERY
    os.utime(folder / "daily-1.db", (later, later))
    for _ in range(2):
        copies._rotate(store.path)
        assert sorted(path.name for path in folder.iterdir()) == [
            "daily-1.db",
            "daily-2.db",
            "daily-mine.db",
        ]
    store.close()
