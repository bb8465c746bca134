"""A writer that is killed again and again, and what its copies are then: ``tortured.py STATE FOLDER
LIVES SEED``.

Each life is a process that runs random verbs on a furnished installation and is killed with SIGKILL
at a random moment. Its state is copied to two folders, of which one is frozen at times. In the
transaction itself the writer notes, in a file, what the state is at its revision. After each kill
the newest copy at each place is opened, looked through, and held against that. Prints what was
seen, as JSON.
"""

import base64
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio

from fake.copied import Fickle, keep_at, living
from fake.scene import Scene, create, do
from purveyor.app import App
from purveyor.backups.storage import LocalStorage, Storage
from purveyor.kernel.db import Store, Tx
from purveyor.recovery import copier, document, finding, thinning
from purveyor.recovery.sealing import Keys, is_document
from purveyor_hooks import PurveyorError

SHORTEST, LONGEST = 0.4, 1.8  # seconds of a life
BEGUN = 60.0  # seconds that a life may take to begin, on a machine that is busy
NOTES = "notes"


def digest(db: sqlite3.Connection) -> str:
    return hashlib.sha256(repr(sorted(document.rows(db))).encode()).hexdigest()


class Noting(Store):
    """Notes with each transaction what the state is after it."""

    notes: Path

    async def write(self, work: Callable[[Tx], Any]) -> Any:
        def noted(tx: Tx) -> Any:
            result = work(tx)
            note(self.notes, tx.db.conn)
            return result

        return await super().write(noted)


def note(path: Path, db: sqlite3.Connection) -> None:
    number = db.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0]
    with path.open("a") as opened:
        opened.write(f"{os.getpid()} {number} {digest(db)} {time.time()}\n")


async def verb(app: App, rnd: random.Random) -> None:
    """One that may be possible, or not."""
    project, service = f"p{rnd.randrange(4)}", rnd.choice(("main", "idle", "tracked", "s0", "s1"))
    given: tuple[str, dict[str, Any]] = rnd.choice(
        [
            ("create-project", {"name": project}),
            ("link", {"service": service, "project": project}),
            ("bind", {"project": project, "environment": "production"}),
            ("unlink", {"service": service, "project": project}),
            ("delete-project", {"project": project}),
            ("rotate", {"project": rnd.choice((project, "shop"))}),
            (
                "deploy",
                {"project": rnd.choice((project, "shop")), "image": rnd.choice(("app:1", "app:2"))},
            ),
            ("backup", {"service": service}),
            ("update", {"service": service, "parameters": {"size": rnd.randrange(1, 9)}}),
            ("stop", {"service": service}),
            ("start", {"service": service}),
            ("delete", {"service": "s0"}),
        ]
    )
    try:
        if rnd.random() < 0.1:
            await create(app, rnd.choice(("s0", "s1")))
        await do(app, given[0], **given[1])
    except PurveyorError:
        pass


async def live(scene: Scene, places: list[Storage], notes: Path, seed: int) -> None:
    """Write until killed."""
    rnd = random.Random(seed)
    Noting.notes = notes

    async def more(app: App) -> None:
        while True:
            await verb(app, rnd)
            await anyio.sleep(rnd.expovariate(20))

    async with living(scene, *places, make_store=Noting) as app:
        await app.context.store.write(lambda tx: None)  # what is at the begin of this life
        await app.copies.settle(0.5)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(more, app)


def check(place: Storage, keys: Keys, notes: Path, killed: float) -> dict[str, Any]:
    """The newest copy at a place, held against what the writer noted; and whether each one there is
    whole."""
    told: dict[int, str] = {}
    begun: list[tuple[int, float]] = []
    for line in notes.read_text().splitlines():
        parts = line.split()
        if len(parts) == 4:  # the last one may be cut short
            told[int(parts[1])] = parts[2]
            begun.append((int(parts[1]), float(parts[3])))

    async def find() -> tuple[finding.Found, int, int]:
        (paths,) = (await finding.documents(place)).values()
        refused = 0
        for path in paths:
            found = await finding.newest(place, [path], keys)
            refused += len(found.refused)
        return await finding.newest(place, paths, keys), refused, len(paths)

    found, refused, number = anyio.run(find)
    back = notes.with_name("back.db")
    back.unlink(missing_ok=True)
    document.write(found.body, back)  # integrity and foreign keys are checked there
    with closing(sqlite3.connect(back)) as db:
        same = told.get(found.header.revision) == digest(db)
    missing = [at for number, at in begun if number > found.header.revision]
    age = max(0.0, killed - min(missing)) if missing else 0.0
    return {
        "place": place.label,
        "revision": found.header.revision,
        "same": same,
        "refused": refused,
        "copies": number,
        "age": age,
    }


def torture(state: Path, folder: Path, lives: int, seed: int) -> dict[str, Any]:
    rnd, scene, notes, flag = random.Random(seed), Scene(state), folder / NOTES, folder / "frozen"
    keep_at(scene, folder / "one")
    one, two = LocalStorage(folder / "one"), Fickle(folder / "two", flag)
    # an hour, and what is thinned after it, pass in seconds here
    copier.LOOK, copier.SHORTEST, copier.LONGEST, copier.THIN = 0.5, 0.05, 0.2, 0.3
    thinning.STEPS, thinning.NEWEST = ((1000, 0), (5000, 500)), 5
    seen: list[dict[str, Any]] = []
    codes, frozen = [], 0
    for life in range(lives):
        freeze = rnd.random() < 0.3 and life > 0
        child = os.fork()  # no thread has been started yet, and no event loop
        if child == 0:
            anyio.run(live, scene, [two], notes, seed + life)
            os._exit(1)
        # on a busy machine one that is killed by the clock alone has written nothing yet, and the
        # first one has no copy
        begun = True
        if life == 0:
            begun = _wait_for(lambda: all(map(_has_copy, (one, two))))
        elif rnd.random() < 0.5:
            size = notes.stat().st_size
            begun = _wait_for(partial(_longer, notes, size))
        end = time.monotonic() + rnd.uniform(SHORTEST, LONGEST)
        time.sleep(rnd.uniform(0.0, SHORTEST))
        flag.touch() if freeze else flag.unlink(missing_ok=True)
        time.sleep(max(0.0, end - time.monotonic()))
        os.kill(child, signal.SIGKILL)
        killed = time.time()
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert begun, f"life {life} of seed {seed} did not begin"
        frozen += freeze
        pid = os.fork()  # the checks have threads
        if pid == 0:
            with (folder / "seen").open("w") as opened:
                json.dump(checked(state, [one] if freeze else [one, two], notes, killed), opened)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, f"life {life} of seed {seed} could not be checked"
        seen += [{"life": life, **item} for item in json.loads((folder / "seen").read_text())]
    return {"codes": codes, "frozen": frozen, "seen": seen, "changed": _changed(notes)}


def _wait_for(begun: Callable[[], bool]) -> bool:
    until = time.monotonic() + BEGUN
    while not (there := begun()) and time.monotonic() < until:
        time.sleep(0.01)
    return there


def _longer(notes: Path, size: int) -> bool:
    return notes.stat().st_size > size


def _has_copy(place: LocalStorage) -> bool:
    root = Path(place.label)
    return any(is_document(str(path.relative_to(root))) for path in root.rglob("*"))


def checked(state: Path, places: list[Storage], notes: Path, killed: float) -> list[dict[str, Any]]:
    keys = Keys(base64.b64decode((state / "backup.key").read_bytes()))
    return [
        check(place, keys, notes, killed)
        for place in places
        if (Path(place.label) / "state").exists()
    ]


def _changed(notes: Path) -> list[str]:
    """Revisions at which one life saw two states: a change that was not counted."""
    told: dict[tuple[str, str], str] = {}
    wrong = []
    for line in notes.read_text().splitlines():
        parts = line.split()
        if len(parts) == 4 and told.setdefault((parts[0], parts[1]), parts[2]) != parts[2]:
            wrong.append(line)
    return wrong


if __name__ == "__main__":
    print(
        json.dumps(
            torture(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        )
    )
