"""Deploy hooks: executables that may refuse a deploy, and webhooks that arrive, signed, whatever
happens meanwhile."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from support import DEMO, Stage, eventually

pytestmark = pytest.mark.fortnightly

SLEEPER = ("--", "python3", "-c", "import time; time.sleep(600)")


class Receiver:
    """An HTTP server that keeps what it gets and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.hang = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers), body))
                if outer.hang:
                    time.sleep(30)
                    return
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def stage(make_stage: Callable[..., Stage]) -> Iterator[Stage]:
    with make_stage().serving() as made:
        made.furnish({"cache": "redis"}, ["shop"])
        yield made


def hook(stage: Stage, word: str, text: str, *, mode: int = 0o755, name: str = "10-test") -> Path:
    path = stage.state / "hooks" / word / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("text", "mode", "says"), [
    ("echo it is Friday; exit 3", 0o755, "it is Friday"),
    ("exit 3", 0o755, "ended with 3"),
    ("exit 0", 0o644, "not executable"),
    ("yes 0123456789 | head -c 20000000; echo enough >&2; exit 1", 0o755, "enough"),
    pytest.param("sleep 60", 0o755, "did not end within", marks=pytest.mark.nightly),
])  # fmt: skip
def test_a_before_deploy_hook_refuses_with_its_reason_and_nothing_is_deployed(
    text: str, mode: int, says: str, stage: Stage
) -> None:
    path = hook(stage, "before-deploy", text, mode=mode)
    before = stage.containers()
    try:
        said = stage.cli("deploy", "shop", DEMO, *SLEEPER, code=5)
    finally:
        path.unlink()
    assert says in said
    assert "10-test" in said
    assert len(said) < 2000
    assert stage.containers() == before


def test_hooks_are_told_what_happens_but_no_secret(stage: Stage, tmp_path: Path) -> None:
    note = tmp_path / "note"
    before = hook(
        stage, "before-deploy", f"cat >> {note}; echo >> {note}; echo $PURVEYOR_PROJECT >> {note}"
    )
    after = hook(stage, "after-deploy", f"cat >> {note}; echo >> {note}")
    event = hook(stage, "project.deploy.succeeded", f"cat >> {note}; echo >> {note}")
    try:
        stage.cli("deploy", "shop", DEMO, *SLEEPER)
        eventually(lambda: "project.deploy.succeeded" in note.read_text())
    finally:
        for path in (before, after, event):
            path.unlink()
    first, project, second, third = note.read_text().splitlines()
    assert json.loads(first)["variables"][0] == "REDIS_CA_CERT"
    assert project == "shop"
    assert json.loads(second)["container"].startswith(stage.namespace)
    assert json.loads(third)["type"] == "project.deploy.succeeded"
    assert stage.variables("shop")["REDIS_PASSWORD"] not in note.read_text()


def test_a_hook_on_an_event_that_fails_hurts_nobody(stage: Stage) -> None:
    path = hook(stage, "service.stop.succeeded", "sleep 60")
    try:
        stage.cli("stop", "cache")
        stage.cli("start", "cache")
        assert stage.json("health", "cache")["healthy"]
    finally:
        path.unlink()


def test_a_webhook_arrives_signed(stage: Stage, receiver: Receiver) -> None:
    secret = stage.cli("webhook", "add", "mine", receiver.url, "--event", "service.restart").strip()
    stage.cli("restart", "cache")
    eventually(lambda: "service.restart.succeeded" in receiver.types())
    assert all(kind.startswith("service.restart") for kind in receiver.types())
    headers, body = receiver.got[-1]
    signed = f"{headers['Purveyor-Timestamp']}.".encode() + body
    assert (
        headers["Purveyor-Signature"]
        == "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    )
    assert Webhook(secret).verify(body, headers) == json.loads(body), (
        "as any verifier of Standard Webhooks has it"
    )
    assert headers["Purveyor-Event"] == json.loads(body)["type"]
    listed = stage.call("GET", "/webhooks")
    assert secret not in json.dumps(listed)
    assert secret.encode() not in (stage.state / "webhooks/outbox.db").read_bytes()
    assert stage.json("webhook", "deliveries", "mine")[0]["state"] == "delivered"
    stage.cli("webhook", "delete", "mine")


def test_one_that_fails_is_tried_again_then_dead_and_can_be_sent_again(
    stage: Stage, receiver: Receiver
) -> None:
    receiver.status = 500
    stage.cli(
        "webhook",
        "add",
        "weak",
        receiver.url,
        "--event",
        "service.restart.succeeded",
        "--attempts",
        "3",
        "--first-retry",
        "0.2",
    )
    stage.cli("restart", "cache")
    eventually(lambda: stage.json("webhook", "deliveries", "weak", "--state", "dead"))
    (dead,) = stage.json("webhook", "deliveries", "weak")
    assert (dead["attempts"], dead["status"], dead["error"]) == (3, 500, "it answered 500")
    assert len(receiver.got) == 3
    assert (
        len({(headers["Purveyor-Delivery"], headers["webhook-id"]) for headers, _ in receiver.got})
        == 1
    )
    receiver.status = 204
    stage.cli("webhook", "resend", "weak")
    eventually(lambda: stage.json("webhook", "deliveries", "weak")[0]["state"] == "delivered")
    stage.cli("webhook", "delete", "weak")


def test_redirects_are_not_followed_and_one_that_never_answers_holds_up_nobody(
    stage: Stage, receiver: Receiver
) -> None:
    other = Receiver()
    receiver.status, receiver.headers = 302, {"Location": "http://169.254.169.254/latest/meta-data"}
    other.hang = True
    for name, url in (("astray", receiver.url), ("silent", other.url)):
        stage.cli(
            "webhook", "add", name, url, "--event", "service.restart.succeeded", "--attempts", "1"
        )
    stage.cli("restart", "cache")
    eventually(lambda: stage.json("webhook", "deliveries", "astray", "--state", "dead"))
    assert "redirects" in stage.json("webhook", "deliveries", "astray")[0]["error"]
    eventually(lambda: stage.json("webhook", "deliveries", "silent", "--state", "dead"))
    assert "did not answer" in stage.json("webhook", "deliveries", "silent")[0]["error"]
    other.server.shutdown()
    for name in ("astray", "silent"):
        stage.cli("webhook", "delete", name)


@pytest.mark.parametrize(("body", "field"), [
    ({"name": "x", "url": "http://169.254.169.254/latest"}, "url"),
    ({"name": "x", "url": "ftp://example.com"}, "url"),
    ({"name": "x", "url": "nonsense"}, "url"),
    ({"name": "", "url": "http://127.0.0.1:9"}, "name"),
    ({"name": "x", "url": "http://127.0.0.1:9", "attempts": 0}, "attempts"),
    ({"name": "x", "url": "http://127.0.0.1:9", "first_retry": 0}, "first_retry"),
])  # fmt: skip
def test_a_webhook_that_cannot_be_is_refused(
    body: dict[str, Any], field: str, stage: Stage
) -> None:
    with stage.local() as client:
        answer = client.post("/api/webhooks", json=body)
    assert answer.status_code == 400
    assert field in answer.json()["errors"]
    assert stage.call("GET", "/webhooks") == []


def test_only_administrators_may_look(stage: Stage) -> None:
    token = stage.cli("token", "create", "reader", "--scope", "read").strip()
    with stage.http(token) as client:
        assert client.get("/api/webhooks").status_code == 403


def test_what_happens_while_the_daemon_is_down_is_delivered_later(
    make_stage: Callable[..., Stage], receiver: Receiver
) -> None:
    stage = make_stage()
    with stage.serving():
        stage.cli("create", "redis", "cache")
        stage.cli(
            "webhook",
            "add",
            "late",
            receiver.url,
            "--event",
            "service.restart.succeeded",
            "--first-retry",
            "0.2",
        )
        receiver.status = 503
        stage.cli("restart", "cache")
        eventually(lambda: receiver.got)
    receiver.status = 200
    receiver.got.clear()
    with stage.serving():
        eventually(lambda: receiver.got)
        assert receiver.types() == ["service.restart.succeeded"]
