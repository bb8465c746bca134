"""TLS of real servers: whoever has the installation's authority verifies them, whoever has
another's does not; plain goes on."""

import asyncio
import json
import socket
import ssl
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from purveyor.services import certificates
from support import Stage, docker, eventually

ASK = struct.pack("!II", 8, 80877103)  # PostgreSQL's way to TLS: the client asks, the server says S


@pytest.fixture(scope="module")
def served(house: Stage) -> Stage:
    house.furnish({"main": "postgres", "cache": "redis"}, ["shop"])
    return house


def address(stage: Stage, service: str) -> str:
    shown = json.loads(docker("inspect", f"{stage.namespace}-{service}"))[0]
    return str(shown["NetworkSettings"]["Networks"][stage.namespace]["IPAddress"])


def shake(stage: Stage, service: str, name: str, context: ssl.SSLContext) -> bytes:
    """The certificate that a server shows to whoever calls it by this name."""
    with socket.create_connection(
        (address(stage, service), 5432 if service == "main" else 6380), timeout=10
    ) as line:
        if service == "main":
            line.sendall(ASK)
            assert line.recv(1) == b"S"
        with context.wrap_socket(line, server_hostname=name) as wrapped:
            return wrapped.getpeercert(binary_form=True) or b""


def ours(stage: Stage) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(stage.state / certificates.FILE))


@pytest.mark.parametrize("service", ["main", "cache"])
def test_the_right_name_and_authority_are_verified_and_others_refused(
    served: Stage, service: str, tmp_path: Path
) -> None:
    name = f"{served.namespace}-{service}"
    assert shake(served, service, name, ours(served))
    assert shake(served, service, "127.0.0.1", ours(served))
    other = f"{served.namespace}-{'cache' if service == 'main' else 'main'}"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(served, service, other, ours(served))
    strange = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    strange += [
        "-subj",
        "/CN=other",
        "-keyout",
        str(tmp_path / "key"),
        "-out",
        str(tmp_path / "crt"),
    ]
    subprocess.run(strange, check=True, capture_output=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(served, service, name, ssl.create_default_context(cafile=str(tmp_path / "crt")))


def test_plain_clients_go_on_and_the_variables_are_those_of_before(served: Stage) -> None:
    variables = served.variables("shop")
    assert "?" not in variables["DATABASE_URL"]
    assert variables["REDIS_URL"].startswith("redis://")
    assert (
        variables["POSTGRES_CA_CERT"]
        == variables["REDIS_CA_CERT"]
        == str(served.state / certificates.FILE)
    )
    assert variables["POSTGRES_CA_PEM"] == (served.state / certificates.FILE).read_text()
    assert redis.Redis.from_url(variables["REDIS_URL"]).set("plain", 1)
    inside = served.variables("shop", host=False)
    assert inside["REDIS_CA_CERT"] == "/etc/purveyor/ca.crt"
    assert inside["REDIS_TLS_URL"].startswith("rediss://")
    assert not set(inside) & {
        "PGSSLROOTCERT",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "AWS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
    }


def test_a_certificate_is_renewed_while_the_server_runs(served: Stage) -> None:
    names = {service: f"{served.namespace}-{service}" for service in ("main", "cache")}
    before = {
        service: shake(served, service, name, ours(served)) for service, name in names.items()
    }
    begun = {
        service: json.loads(docker("inspect", name))[0]["State"]["StartedAt"]
        for service, name in names.items()
    }
    kept = redis.Redis.from_url(served.variables("shop")["REDIS_URL"])
    kept.ping()

    for service in names:
        served.call("POST", f"/external-services/{service}/renew-certificate")
    for service, name in names.items():
        assert shake(served, service, name, ours(served)) != before[service]
        assert json.loads(docker("inspect", name))[0]["State"]["StartedAt"] == begun[service]
    assert kept.ping()  # of a connection that was open


def test_another_authority_takes_over_while_servers_run(served: Stage) -> None:
    names = {service: f"{served.namespace}-{service}" for service in ("main", "cache")}
    begun = {
        name: json.loads(docker("inspect", name))[0]["State"]["StartedAt"]
        for name in names.values()
    }
    before = ours(served)
    served.cli("ca", "rotate")
    assert [item["state"] for item in served.json("ca", "show")] == ["current", "next"]
    for service, name in names.items():
        assert shake(served, service, name, before), "nothing is signed by it yet"
    told = ours(served)  # as an app that was deployed meanwhile
    assert "already" in served.cli("ca", "rotate", code=5)
    served.cli("ca", "finish", "--yes")
    eventually(lambda: [item["state"] for item in served.json("ca", "show")] == ["current"])
    for service, name in names.items():
        assert shake(served, service, name, told)
        assert shake(served, service, name, ours(served))
        with pytest.raises(ssl.SSLCertVerificationError):
            shake(served, service, name, before)
        assert json.loads(docker("inspect", name))[0]["State"]["StartedAt"] == begun[name]
    assert "cache, main" in served.cli("ca", "show")


def test_verify_full_refuses_plain_text_and_its_addresses_work_as_they_are(served: Stage) -> None:
    for service in ("main", "cache"):
        served.cli("update", service, "-p", "ssl_mode=verify-full")
        assert served.json("health", service)["healthy"]
    variables = served.variables("shop")
    assert "?sslmode=verify-full&sslrootcert=" in variables["DATABASE_URL"]
    assert asyncio.run(_encrypted(variables["DATABASE_URL"]))
    assert redis.Redis.from_url(variables["REDIS_URL"]).set("sealed", 1)
    plain = variables["REDIS_URL"].replace("rediss://", "redis://").partition("?")[0]
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(plain).ping()
    assert served.cli("connect", "cache", "--", "PING").strip() == "PONG"
    assert "write" in served.cli("doctor", "shop")
    served.cli("backup", "run", "cache")
    served.cli("backup", "run", "main")


async def _encrypted(url: str) -> Any:
    import asyncpg

    opened = await asyncpg.connect(url)
    try:
        await opened.execute("SET ROLE NONE")  # the owner does not see what the login does
        return await opened.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    finally:
        await opened.close()
