"""The webhooks' outbox, with receivers in this process: who hangs, what is lost by a fault, what is
kept."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from purveyor.kernel.logs import make_logger
from purveyor_deployhooks.outbox import LONGEST_PAUSE, Outbox, WebhookRequest, sign
from purveyor_hooks import BadInput, Event

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Line:
    """As much of the core as the outbox sees."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.told: list[Event] = []
        self.logger: Any = make_logger(logging.CRITICAL)

    def tell(self, kind: str, count: int = 1) -> None:
        for _ in range(count):
            self.told.append(
                Event(
                    id=len(self.told) + 1, type=kind, at=datetime(2026, 1, 1, tzinfo=UTC), data={}
                )
            )

    async def last_event(self) -> int:
        return len(self.told)

    async def outward(self) -> bool:
        return False

    async def events(self, after: int) -> AsyncIterator[Event]:
        while True:
            while after < len(self.told):
                yield self.told[after]
                after += 1
            await anyio.sleep(0.01)

    def folder(self, name: str) -> Path:
        return self.state / name

    def seal(self, text: str) -> str:
        return text

    def unseal(self, text: str) -> str:
        return text


@asynccontextmanager
async def running(line: Line) -> AsyncIterator[Outbox]:
    made = Outbox(line)  # type: ignore[arg-type]
    await made.open()
    async with anyio.create_task_group() as group:
        group.start_soon(made.collect)
        group.start_soon(made.deliver)
        yield made
        group.cancel_scope.cancel()
    await made.close()


@asynccontextmanager
async def receiver(answer: Callable[[], Awaitable[None]]) -> AsyncIterator[tuple[str, list[float]]]:
    """One that says 204 after `answer`; when it did."""
    times: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # whoever connected was stopped before it said anything
            writer.close()
            return
        # at the end of the test, which asyncio's server would log
        with contextlib.suppress(asyncio.CancelledError):
            await answer()
        times.append(time.monotonic())
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", times
    server.close()


async def until(what: Callable[[], bool], seconds: float) -> None:
    with anyio.fail_after(seconds):
        while not what():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def at_once() -> None:
    """Nothing to wait for."""


async def test_a_receiver_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with (
        running(line) as made,
        receiver(at_once) as (quick, times),
        receiver(lambda: anyio.sleep(60)) as (slow, _),
    ):
        await made.add(WebhookRequest(name="slow", url=slow))
        await made.add(WebhookRequest(name="quick", url=quick))
        begun = time.monotonic()
        line.tell("service.healthy", 80)
        await until(lambda: len(times) == 80, 8)  # one that hangs is given up after ten
        assert times[-1] - begun < 8
        (shown,) = [item for item in await made.every() if item["name"] == "slow"]
        assert shown["deliveries"] == {"pending": 80}


async def test_without_a_webhook_nothing_is_written_and_a_new_one_hears_what_comes(
    tmp_path: Path,
) -> None:
    line = Line(tmp_path)
    line.tell("before", 5)
    async with running(line) as made, receiver(at_once) as (url, times):
        line.tell("before", 300)
        await until(lambda: made._seen == 305, 5)
        assert await made._run(lambda db: db.execute("SELECT event FROM cursor").fetchone()[0]) == 5
        await made.add(WebhookRequest(name="mine", url=url))
        line.tell("after", 3)
        await until(lambda: len(times) == 3, 5)
        listed, _ = await made.deliveries("mine", None, 10)
        assert Counter(item["type"] for item in listed) == {"after": 3}


async def test_what_happens_while_nobody_runs_is_delivered_later(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with receiver(at_once) as (url, times):
        async with running(line) as made:
            await made.add(WebhookRequest(name="mine", url=url))
            line.tell("one")
            await until(lambda: len(times) == 1, 5)
        line.tell("two")
        async with running(line):
            # what was stopped before it was noted as delivered is delivered again
            await until(lambda: len(times) >= 2, 5)


async def test_a_fault_in_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    made = Outbox(Line(tmp_path))  # type: ignore[arg-type]
    await made.open()

    def half(db: Any) -> None:
        db.execute("UPDATE cursor SET event = 12345")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await made._run(half)
    assert await made._run(lambda db: db.execute("SELECT event FROM cursor").fetchone()[0]) == 0
    await made.close()


async def until_async(what: Callable[[], Awaitable[Any]]) -> None:
    with anyio.fail_after(5):
        while not await what():  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.parametrize(
    "secret",
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "text of one's own, été", "whsec_ that is none"],
)
def test_a_standard_verifier_and_one_of_before_take_a_delivery_with_any_secret(secret: str) -> None:
    body = '{"type":"service.healthy","data":{"name":"café"}}'
    headers = sign(secret, 7, body, datetime.now(UTC))
    # as docs/ say
    usual = secret if "MfKQ" in secret else f"whsec_{base64.b64encode(secret.encode()).decode()}"
    assert Webhook(usual).verify(body, headers)["data"] == {"name": "café"}
    with pytest.raises(WebhookVerificationError):
        Webhook(usual).verify(body, {**headers, "webhook-id": "msg_8_0"})
    before = hmac.digest(
        secret.encode(), f"{headers['Purveyor-Timestamp']}.{body}".encode(), hashlib.sha256
    ).hex()
    assert headers["Purveyor-Signature"] == f"sha256={before}"


def test_a_number_that_comes_again_after_a_recovery_is_not_the_same_delivery() -> None:
    now = datetime.now(UTC)
    assert (
        sign("s", 7, '{"id":1}', now)["webhook-id"] != sign("s", 7, '{"id":2}', now)["webhook-id"]
    )


async def test_a_secret_that_no_verifier_would_take_is_bad_input(tmp_path: Path) -> None:
    async with running(Line(tmp_path)) as made, receiver(at_once) as (url, _):
        with pytest.raises(BadInput) as raised:
            await made.add(WebhookRequest(name="mine", url=url, secret="whsec_c2hvcnQ="))
        assert "24 to 64 bytes" in raised.value.errors["secret"]
        assert await made.every() == []


async def test_what_failed_together_does_not_come_back_together(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with running(line) as made:
        await made.add(
            WebhookRequest(name="away", url="http://127.0.0.1:1/", first_retry=LONGEST_PAUSE)
        )
        line.tell("service.healthy", 8)
        while [item["attempts"] for item in (await made.deliveries("away", None, 10))[0]] != [  # noqa: ASYNC110
            1
        ] * 8:
            await anyio.sleep(0.01)
        at = [
            item["next_at"] - time.time() for item in (await made.deliveries("away", None, 10))[0]
        ]
        assert max(at) - min(at) > 10, "by chance below this once in some million runs"
        assert max(at) <= LONGEST_PAUSE


NO_ADDRESSES = [
    "http://x:99999/",
    "http://x:port/",
    "http://[::1",
    f"http://{'é' * 70}/",
    "http://x/\x01",
    "http://\0/",
    "x",
]


@pytest.mark.parametrize("url", NO_ADDRESSES)
async def test_an_address_that_is_none_is_bad_input(tmp_path: Path, url: str) -> None:
    async with running(Line(tmp_path)) as made:
        with pytest.raises(BadInput, match="must begin with http"):
            await made.add(WebhookRequest(name="wrong", url=url))
        assert await made.every() == []


async def test_a_delivery_that_cannot_even_be_written_holds_up_nobody_else(tmp_path: Path) -> None:
    line = Line(tmp_path)

    def unseal(text: str) -> str:
        if text == "lost":
            raise RuntimeError(text)
        return text

    line.unseal = unseal  # type: ignore[method-assign]
    async with running(line) as made, receiver(at_once) as (url, times):
        await made.add(WebhookRequest(name="lost", url=url, secret="lost", attempts=1))
        await made.add(WebhookRequest(name="mine", url=url))
        line.tell("service.healthy", 3)
        await until(lambda: len(times) == 3, 5)
        while (shown := (await made.get("lost"))["deliveries"]) != {"dead": 3}:
            assert set(shown) <= {"pending", "dead"}
            await anyio.sleep(0.01)


async def test_a_clock_that_is_put_back_holds_no_delivery_up(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with running(line) as made, receiver(at_once) as (url, times):
        await made.add(WebhookRequest(name="mine", url=url))
        line.tell("service.healthy")
        while (await made.get("mine"))["deliveries"] != {"delivered": 1}:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        later = time.time() + 3600
        await made._run(
            lambda db: db.execute("UPDATE deliveries SET state = 'pending', next_at = ?", [later])
        )
        await until(lambda: len(times) == 2, 5)
