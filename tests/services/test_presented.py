"""The doctor asks the port what a server presents, and holds it against the record: on the fake
engine, whose servers' ports are ours here."""

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fake.scene import Scene, do
from fake.server import ENCRYPTED
from purveyor.app import App
from purveyor.certified import of_ports
from purveyor.doctor import examine
from purveyor.services import certificates, presented
from purveyor.services import store as services
from purveyor_hooks import Address, Certificate
from purveyor_hooks.certificates import self_signed

pytestmark = pytest.mark.anyio


class Listener:
    """Says yes to whoever asks for TLS, and presents `pair`; with none it says nothing."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "pair"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._socket: socket.socket | None = None
        self.pair = ""
        self.asked = 0
        self._kept: list[socket.socket] = []

    def open(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=[self._socket], daemon=True).start()

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                line, _ = listening.accept()
            except OSError:
                return
            self.asked += 1
            if not self.pair:
                self._kept.append(line)
                continue
            self._file.write_text(self.pair)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._file)
            assert line.recv(4) == b"tls?"
            line.sendall(b"yes")
            try:
                context.wrap_socket(line, server_side=True).close()
            except OSError:
                line.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)  # or accept() goes on
            self._socket.close()
            self._socket = None
        for line in self._kept:
            line.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path)
    yield made
    made.close()


async def speaks(app: App, listener: Listener) -> certificates.CertificateRecord:
    """Have the service main be one that speaks TLS, at the listener."""
    given = {"size": ENCRYPTED, "port": listener.port}
    await do(app, "update", service="main", parameters=given)
    number = (await app.context.store.read(lambda tx: services.get(tx, "main"))).id
    held = await app.context.store.read(lambda tx: certificates.find(tx, number))
    assert held is not None
    listener.open()
    return held


async def test_what_is_recorded_is_presented_and_nobody_is_asked_in_a_quick_look(
    scene: Scene, listener: Listener
) -> None:
    async with scene.open() as app:
        held = await speaks(app, listener)
        listener.pair = held.key + held.certificate
        (told,) = await of_ports(app)
        assert told.ok
        assert told.detail == "1 of 1 servers that speak TLS present what is recorded"
        for project in (None, "shop"):
            listener.asked = 0
            await examine(app, project, "production", quick=True)
            assert listener.asked == 0
            found = await examine(app, project, "production")
            assert listener.asked == 1
            assert told in found


async def test_another_certificate_than_the_recorded_one_is_told(
    scene: Scene, listener: Listener
) -> None:
    async with scene.open() as app:
        held = await speaks(app, listener)
        key, certificate = self_signed("fk-main", ["fk-main"], days=30)
        listener.pair = key + certificate
        (told,) = await of_ports(app)
        assert (told.ok, told.subject) == (False, "main")
        assert "another certificate than the one that is recorded" in told.detail
        assert "CN=fk-main" in told.detail
        assert told.remedy.endswith("purveyor restart main")
        # one that was renewed and not taken over by the server is of the right authority
        listener.pair = held.key + held.certificate
        await app.context.store.write(
            lambda tx: certificates.issue(tx, held.service_id, held.names)
        )
        (told,) = await of_ports(app)
        assert told.ok, "servers that watch the file are given some seconds"
        (told,) = await of_ports(app, now=app.now() + timedelta(minutes=2))
        assert not told.ok
        assert "CN=Purveyor" in told.detail


async def test_a_certificate_that_has_ended_is_told_though_it_is_the_recorded_one(
    scene: Scene, listener: Listener
) -> None:
    async with scene.open() as app:
        held = await speaks(app, listener)
        listener.pair = held.key + held.certificate
        (told,) = await of_ports(app, now=held.expires_at + timedelta(days=3))
        assert not told.ok
        assert f"ended on {held.expires_at:%Y-%m-%d}" in told.detail


async def test_a_port_that_speaks_no_tls_is_told_and_one_of_a_stopped_server_is_not_asked(
    scene: Scene, listener: Listener
) -> None:
    async with scene.open() as app:
        await speaks(app, listener)
        nowhere = Address(host="127.0.0.1", port=listener.port)
        with pytest.raises(TimeoutError):  # it takes the connection and is silent
            await presented.look(nowhere, Certificate(file="/x", port=1), "", deadline=0.2)
        listener.close()
        (told,) = await of_ports(app)
        assert "does not speak TLS at its port 7000" in told.detail
        await do(app, "stop", service="main")
        assert await of_ports(app) == []
