"""Webhooks: what happened is written to an outbox first, then delivered, signed, and tried again
until it is taken.

The outbox has a cursor of its own on the event line: whatever happens while the daemon is down or
is killed is delivered later, and once only by its `webhook-id`, which receivers can tell repeats
by.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import os
import socket
import sqlite3
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx
import msgspec
from sqlite_utils import Database
from standardwebhooks import Webhook

from purveyor_hooks import Backoff, BadInput, Conflict, Core, Event, NotFound

T = TypeVar("T")
FOLDER, FILE = "webhooks", "outbox.db"
TIMEOUT = 10.0  # seconds for a whole delivery
ANSWER_LIMIT = 64 * 1024
LONGEST_PAUSE = 900.0
# of a secret, as Standard Webhooks has it
KEY_MARK, KEY_BYTES, KEY_SIZES = "whsec_", 32, range(24, 65)
IDLE = 1.0
MOMENT, BURST = 0.05, 256  # seconds, events
# seconds, deliveries at a time, newest that are always kept
FORGET_EVERY, BATCH, LEAST = 3600.0, 500, 1_000
TABLES = """
CREATE TABLE IF NOT EXISTS webhooks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, url TEXT NOT NULL, events TEXT NOT NULL,
    secret TEXT NOT NULL, attempts INTEGER NOT NULL, first_retry REAL NOT NULL, created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, webhook INTEGER NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event INTEGER NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL, error TEXT NOT NULL DEFAULT '', status INTEGER, updated_at REAL NOT NULL,
    UNIQUE (webhook, event)
);
CREATE INDEX IF NOT EXISTS deliveries_pending ON deliveries (webhook, id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deliveries_webhook ON deliveries (webhook);
CREATE INDEX IF NOT EXISTS deliveries_state ON deliveries (webhook, state);
CREATE TABLE IF NOT EXISTS cursor (id INTEGER PRIMARY KEY CHECK (id = 1), event INTEGER NOT NULL);
"""


class WebhookRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to send which events: those whose type begins with one of `events`; none named means
    all.

    `secret` signs (made up when it is not given: ``whsec_`` and base64, as Standard Webhooks has
    it). A delivery is tried `attempts` times, first after `first_retry` seconds, then after twice
    as long, and so on up to a quarter of an hour; each pause is shortened by chance.
    """

    name: str
    url: str
    events: list[str] = []
    secret: str = ""
    attempts: int = 15
    first_retry: float = 5.0


def sign(secret: str, delivery: int, body: str, at: datetime) -> dict[str, str]:
    """The headers that say which delivery it is, and sign it, as Standard Webhooks has them
    (webhook-…); beside them those of before, which sign with HMAC-SHA256 of the time, a dot and the
    body, in hexadecimal.

    `webhook-id` is the same for each try and never another delivery's: after a recovery the numbers
    may come again.
    """
    number = f"msg_{delivery}_{hashlib.sha256(body.encode()).hexdigest()[:16]}"
    timestamp = str(int(at.timestamp()))
    before = hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()
    return {
        "webhook-id": number,
        "webhook-timestamp": timestamp,
        "webhook-signature": Webhook(key_of(secret) or secret.encode()).sign(number, at, body),
        "Purveyor-Delivery": str(delivery),
        "Purveyor-Timestamp": timestamp,
        "Purveyor-Signature": f"sha256={before}",
    }


def key_of(secret: str) -> bytes | None:
    """The key that stands in base64 behind ``whsec_``; None for a secret that is a text of another
    kind."""
    mark, _, encoded = secret.partition(KEY_MARK)
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    return key if not mark and len(key) in KEY_SIZES else None


class Outbox:
    """The durable queue of an installation's webhooks."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._db: Database | None = None
        self._lock = anyio.Lock()
        self._opening = anyio.Lock()
        self._trust: ssl.SSLContext | None = None
        self._more = anyio.Event()
        self._wanted = False  # whether there is a webhook: without one, an event costs no write
        self._seen = 0  # how far the event line was followed

    async def open(self) -> None:
        path = self._core.folder(FOLDER) / FILE

        def make() -> Database:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            db = Database(sqlite3.connect(path, check_same_thread=False))
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA foreign_keys = ON")
            db.conn.executescript(TABLES)
            Path(path).chmod(0o600)
            return db

        last = await self._core.last_event()

        def begin(db: Database) -> int:
            db.execute("INSERT OR IGNORE INTO cursor VALUES (1, ?)", [last])
            if not _is_wanted(db):  # nobody was waiting for what happened before
                db.execute("UPDATE cursor SET event = ?", [last])
            return int(next(iter(db.query("SELECT event FROM cursor")))["event"])

        async with self._opening:
            if self._db is None:
                self._db = await anyio.to_thread.run_sync(make)
                self._wanted = await self._run(_is_wanted)
                self._seen = await self._run(begin)

    async def _trusted(self) -> ssl.SSLContext:
        """Whom a receiver's certificate may be of: read once, for it takes longer than a delivery, and
        not before there is one, for it takes 1.4 MB."""
        if self._trust is None:
            self._trust = await anyio.to_thread.run_sync(httpx.create_ssl_context)
        return self._trust

    async def close(self) -> None:
        async with self._lock:  # nobody is in it
            if self._db is not None:
                self._db.close()
                self._db = None

    async def _run(self, work: Callable[[Database], T]) -> T:
        async with self._lock:
            db = self._db
            if db is None:
                raise Conflict("The outbox is closed.", remedy="Try again when Purveyor runs.")

            def whole() -> T:
                with db.atomic():
                    return work(db)

            return await anyio.to_thread.run_sync(whole)

    # ---------------------------------------------------------------- collecting

    async def collect(self) -> None:
        """Follow the event line from where it was left, and write down what somebody wants to hear.

        Events come in bursts, and a transaction waits for the disk: those of a moment share one.
        """
        await self.open()
        if await self._core.outward():
            self._seen = await self._core.last_event()
        sending, receiving = anyio.create_memory_object_stream[Event](BURST)

        async def follow() -> None:
            async with sending:
                async for event in self._core.events(self._seen):
                    await sending.send(event)

        async with receiving, anyio.create_task_group() as group:
            group.start_soon(follow)
            async for first in receiving:
                if first.id > self._seen + 1:  # nothing ran for longer than events are kept
                    self._core.logger.warning("webhook.lost", after=self._seen, before=first.id)
                await anyio.sleep(MOMENT)
                burst = [first]
                with suppress(anyio.WouldBlock, anyio.EndOfStream):
                    while True:
                        burst.append(receiving.receive_nowait())
                if self._wanted and await self._run(lambda db: _note(db, burst)):  # noqa: B023 - it is awaited
                    self._more.set()
                self._seen = burst[-1].id

    # ---------------------------------------------------------------- forgetting

    async def forget(self) -> None:
        """Forget, from time to time, what was delivered or given up longer ago than events are
        kept."""
        while True:
            await anyio.sleep(FORGET_EVERY)
            await self.sweep(time.time())

    async def sweep(self, now: float) -> int:
        """Forget all that may be forgotten, a little at a time; the answer is how much."""
        before, whole = now - self._core.history_days * 86400, 0
        while count := await self._run(
            lambda db: db.execute(FORGET, [before, LEAST, BATCH]).rowcount
        ):
            whole += count
            await anyio.sleep(MOMENT)
        return whole

    # ---------------------------------------------------------------- delivering

    async def deliver(self) -> None:
        """Send what is due. Each receiver has a task of its own: one that hangs holds up nobody
        else's."""
        await self.open()
        await self._core.outward()
        busy: set[int] = set()
        async with anyio.create_task_group() as group:
            while True:
                for row in await self._run(lambda db: list(db.query(WAITING, _now()))):
                    if row["webhook"] not in busy:
                        busy.add(row["webhook"])
                        group.start_soon(self._deliver_to, row["webhook"], busy)
                with anyio.move_on_after(IDLE):
                    await self._more.wait()
                self._more = anyio.Event()

    async def _deliver_to(self, webhook: int, busy: set[int]) -> None:
        """Send all that is due for one receiver, a few at a time."""
        try:
            while due := await self._run(
                lambda db: list(db.query(DUE, {"webhook": webhook, **_now()}))
            ):
                async with anyio.create_task_group() as group:
                    for row in due:
                        group.start_soon(self._attempt, row)
        finally:
            busy.discard(webhook)

    async def _attempt(self, row: dict[str, Any]) -> None:
        status, error = await self._send(row)
        now, tried = time.time(), row["attempts"] + 1
        if not error:
            state, next_at = "delivered", now
        elif tried >= row["most"]:
            state, next_at = "dead", now
            self._core.logger.warning(
                "webhook.dead", webhook=row["name"], delivery=row["id"], error=error
            )
        else:
            state, next_at = (
                "pending",
                now + Backoff(row["first_retry"], LONGEST_PAUSE).pause(row["attempts"]),
            )
        values = [state, tried, next_at, error, status, now, row["id"]]
        change = (
            "UPDATE deliveries SET state = ?, attempts = ?, next_at = ?, error = ?, status = "
            "?, updated_at = ? WHERE id = ?"
        )
        await self._run(lambda db: db.execute(change, values))

    async def _send(self, row: dict[str, Any]) -> tuple[int | None, str]:
        """The status, and why it counts as failed, "" when it does not."""
        status: int | None = None
        try:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "purveyor",
                "Purveyor-Event": row["type"],
                **sign(self._core.unseal(row["secret"]), row["id"], row["body"], datetime.now(UTC)),
            }
            with anyio.fail_after(TIMEOUT):
                await check_address(row["url"])
                trust = await self._trusted()
                async with (
                    httpx.AsyncClient(
                        timeout=TIMEOUT, follow_redirects=False, trust_env=False, verify=trust
                    ) as http,
                    http.stream(
                        "POST", row["url"], content=row["body"].encode(), headers=headers
                    ) as answer,
                ):
                    status, size = answer.status_code, 0
                    async for chunk in answer.aiter_raw():
                        size += len(chunk)
                        if size > ANSWER_LIMIT:
                            break
        except TimeoutError:
            return status, f"it did not answer within {TIMEOUT:.0f} s"
        except BadInput as error:
            return None, error.detail
        except (httpx.HTTPError, OSError) as error:
            return status, f"it cannot be reached: {type(error).__name__}"
        except Exception as error:  # whatever it is, it may not hold up the others' deliveries
            self._core.logger.warning(
                "webhook.fault", webhook=row["name"], delivery=row["id"], error=type(error).__name__
            )
            return status, f"it cannot be sent: {type(error).__name__}"
        if 300 <= status < 400:
            return status, f"it redirects ({status}), and redirects are not followed"
        return status, "" if 200 <= status < 300 else f"it answered {status}"

    # ---------------------------------------------------------------- what people do

    async def add(self, given: WebhookRequest) -> dict[str, Any]:
        """Raises `BadInput` and `Conflict`."""
        errors = {}
        if not given.name.strip() or given.name.isdecimal() or len(given.name) > 80:
            errors["name"] = "must be text of 1 to 80 characters that is not a number"
        if not 1 <= given.attempts <= 100:
            errors["attempts"] = "must be from 1 to 100"
        if not 0.1 <= given.first_retry <= LONGEST_PAUSE:
            errors["first_retry"] = f"must be from 0.1 to {LONGEST_PAUSE:.0f} seconds"
        if given.secret.startswith(KEY_MARK) and key_of(given.secret) is None:
            errors["secret"] = (
                f"must be {KEY_SIZES.start} to {KEY_SIZES.stop - 1} bytes in base64 behind "
                f"{KEY_MARK}"
            )
        if errors:
            raise BadInput(
                "Invalid webhook.",
                remedy="Fix the fields listed.",
                errors=errors,
            )
        await check_address(given.url)
        secret = given.secret or KEY_MARK + base64.b64encode(os.urandom(KEY_BYTES)).decode()

        def insert(db: Database) -> int:
            if list(db.query("SELECT 1 FROM webhooks WHERE name = ?", [given.name])):
                raise Conflict(
                    f"There is a webhook named {given.name!r} already.", errors={"name": "taken"}
                )
            values: list[Any] = [
                given.name,
                given.url,
                json.dumps(given.events),
                self._core.seal(secret),
            ]
            values += [given.attempts, given.first_retry, time.time()]
            if first:
                db.execute("UPDATE cursor SET event = ?", [self._seen])
            return int(db.execute(INSERT, values).lastrowid or 0)

        first, self._wanted = not self._wanted, True
        number = await self._run(insert)
        return {**await self.get(number), "secret": secret}

    async def get(self, reference: str | int) -> dict[str, Any]:
        found = await self._run(
            lambda db: list(
                db.query("SELECT * FROM webhooks WHERE id = ?1 OR name = ?1", [str(reference)])
            )
        )
        if not found:
            raise NotFound(
                f"There is no webhook {reference!r}.",
                remedy="List them with: purveyor webhook list",
            )
        return await self._shown(found[0])

    async def every(self) -> list[dict[str, Any]]:
        return [
            await self._shown(row)
            for row in await self._run(
                lambda db: list(db.query("SELECT * FROM webhooks ORDER BY id"))
            )
        ]

    async def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        counts = await self._run(lambda db: list(db.query(COUNTS, [row["id"]])))
        return {
            "id": row["id"], "name": row["name"], "url": _without_credentials(row["url"]),
            "events": json.loads(row["events"]),
            "attempts": row["attempts"], "first_retry": row["first_retry"],
            "deliveries": {item["state"]: item["number"] for item in counts},
        }  # fmt: skip

    async def delete(self, reference: str) -> None:
        number = (await self.get(reference))["id"]
        await self._run(lambda db: db.execute("DELETE FROM webhooks WHERE id = ?", [number]))
        self._wanted = await self._run(_is_wanted)

    async def deliveries(
        self, reference: str, state: str | None, limit: int, offset: int = 0
    ) -> tuple[list[dict[str, Any]], int]:
        """A part of a webhook's deliveries, the last first, and how many there are."""
        number = (await self.get(reference))["id"]
        where, given = (
            ("webhook = ? AND state = ?", [number, state]) if state else ("webhook = ?", [number])
        )

        def work(db: Database) -> tuple[list[dict[str, Any]], int]:
            (total,) = db.execute(
                f"SELECT count(*) FROM deliveries WHERE {where}", given
            ).fetchone()
            return list(
                db.query(
                    f"{LISTED} WHERE {where} ORDER BY id DESC LIMIT ? OFFSET ?",
                    [*given, limit, offset],
                )
            ), total

        return await self._run(work)

    async def resend(self, reference: str, delivery: int | None) -> int:
        """Try one again, or all that are dead; the answer is how many."""
        number = (await self.get(reference))["id"]
        sql = (
            "UPDATE deliveries SET state = 'pending', attempts = 0, next_at = 0, error = '' "
            "WHERE webhook = ?1 AND ((?2 IS NULL AND state = 'dead') OR id = ?2)"
        )
        count = await self._run(lambda db: db.execute(sql, [number, delivery]).rowcount)
        if delivery is not None and not count:
            raise NotFound(f"The webhook {reference} has no delivery {delivery}.")
        self._more.set()
        return count


INSERT = """
INSERT INTO webhooks (name, url, events, secret, attempts, first_retry, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
DUE = """
SELECT d.id, d.type, d.body, d.attempts, w.name, w.url, w.secret, w.attempts AS most, w.first_retry
FROM deliveries d JOIN webhooks w ON w.id = d.webhook
WHERE d.webhook = :webhook AND d.state = 'pending' AND (d.next_at <= :now OR d.next_at > :now + :longest) ORDER BY d.id LIMIT 4
"""
WAITING = (
    "SELECT DISTINCT webhook FROM deliveries WHERE state = 'pending' AND (next_at <= :now OR "
    "next_at > :now + :longest)"
)
COUNTS = "SELECT state, count(*) AS number FROM deliveries WHERE webhook = ? GROUP BY state"
FORGET = """
DELETE FROM deliveries WHERE id IN (
    SELECT id FROM deliveries WHERE state != 'pending' AND updated_at < ?
    AND id <= (SELECT max(id) FROM deliveries) - ? ORDER BY id LIMIT ?
)
"""
LISTED = "SELECT id, event, type, state, attempts, status, error, next_at FROM deliveries"


def _now() -> dict[str, float]:
    """When a try is due: now, or at a time that is further off than any pause, for the clock was
    put back."""
    return {"now": time.time(), "longest": LONGEST_PAUSE}


def _note(db: Database, burst: Sequence[Event]) -> bool:
    """Write down the deliveries of events, and how far the line was followed; whether there are
    any."""
    webhooks = [
        (row["id"], json.loads(row["events"]))
        for row in db.query("SELECT id, events FROM webhooks")
    ]
    wanted = [
        (webhook, event)
        for event in burst
        for webhook, kinds in webhooks
        if _wants(kinds, event.type)
    ]
    for webhook, event in wanted:
        db.execute(
            "INSERT OR IGNORE INTO deliveries (webhook, event, type, body, state, next_at, "
            "updated_at) "
            "VALUES (?, ?, ?, ?, 'pending', ?, ?)",
            [
                webhook,
                event.id,
                event.type,
                msgspec.json.encode(event).decode(),
                time.time(),
                time.time(),
            ],
        )
    db.execute("UPDATE cursor SET event = ?", [burst[-1].id])
    return bool(wanted)


def _is_wanted(db: Database) -> bool:
    return bool(list(db.query("SELECT 1 FROM webhooks LIMIT 1")))


def _wants(events: list[str], kind: str) -> bool:
    return not events or any(
        kind == prefix or kind.startswith(f"{prefix}.")
        for prefix in (item.rstrip(".*") for item in events)
    )


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return (
        parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        if "@" in parts.netloc
        else url
    )


async def check_address(url: str) -> None:
    """Raise `BadInput` for a URL that is none, or whose host is an address of a cloud's metadata
    service."""
    why = ""
    try:
        httpx.URL(url)
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except (httpx.InvalidURL, ValueError):
        scheme, host, port = "", None, None
    if scheme not in ("http", "https") or not host:
        why = "it must begin with http:// or https:// and name a host"
    else:
        try:
            found = await anyio.getaddrinfo(host, port or 80, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []  # it may be there later; the delivery says when it is not
        if any(_is_inward(str(item[4][0])) for item in found):
            why = "its address is one of the machine's own metadata service"
    if why:
        raise BadInput(
            f"The webhook's address cannot be used: {why}.",
            remedy="Give another one.",
            errors={"url": why},
        )


def _is_inward(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_link_local or found.is_multicast or found.is_unspecified
