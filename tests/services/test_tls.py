"""TLS of real servers: whoever has the installation's authority verifies them, whoever has
another's does not; plain goes on."""

import asyncio
import json
import re
import socket
import ssl
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import ConnectionFailure

from purveyor.services import certificates
from support import Stage, docker, eventually

PORTS = {"main": 5432, "cache": 6380, "docs": 27017}
ASK = struct.pack("!II", 8, 80877103)  # PostgreSQL's way to TLS: the client asks, the server says S


@pytest.fixture(scope="module")
def served(house: Stage) -> Stage:
    house.furnish({"main": "postgres", "cache": "redis", "docs": "mongodb"}, ["shop"])
    return house


def address(stage: Stage, service: str) -> str:
    shown = json.loads(docker("inspect", f"{stage.namespace}-{service}"))[0]
    return str(shown["NetworkSettings"]["Networks"][stage.namespace]["IPAddress"])


def shake(stage: Stage, service: str, name: str, context: ssl.SSLContext) -> bytes:
    """The certificate that a server shows to whoever calls it by this name."""
    where = address(stage, service), PORTS[service]
    with socket.create_connection(where, timeout=10) as line:
        if service == "main":
            line.sendall(ASK)
            assert line.recv(1) == b"S"
        with context.wrap_socket(line, server_hostname=name) as wrapped:
            return wrapped.getpeercert(binary_form=True) or b""


def ours(stage: Stage) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(stage.state / certificates.FILE))


def strange(folder: Path) -> str:
    """The file of an authority that nobody here knows."""
    crt = folder / "crt"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    command += f" -subj /CN=other -keyout {folder / 'key'} -out {crt}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return str(crt)


@pytest.mark.parametrize("service", PORTS)
def test_the_right_name_and_authority_are_verified_and_others_refused(
    served: Stage, service: str, tmp_path: Path
) -> None:
    name = f"{served.namespace}-{service}"
    assert shake(served, service, name, ours(served))
    assert shake(served, service, "127.0.0.1", ours(served))
    other = f"{served.namespace}-{'cache' if service == 'main' else 'main'}"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(served, service, other, ours(served))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(served, service, name, ssl.create_default_context(cafile=strange(tmp_path)))


def test_plain_clients_go_on_and_the_variables_are_those_of_before(served: Stage) -> None:
    variables = served.variables("shop")
    assert "?" not in variables["DATABASE_URL"]
    assert variables["REDIS_URL"].startswith("redis://")
    assert (
        variables["POSTGRES_CA_CERT"]
        == variables["REDIS_CA_CERT"]
        == variables["MONGODB_CA_CERT"]
        == str(served.state / certificates.FILE)
    )
    assert variables["POSTGRES_CA_PEM"] == (served.state / certificates.FILE).read_text()
    assert redis.Redis.from_url(variables["REDIS_URL"]).set("plain", 1)
    assert "tls" not in variables["MONGODB_URL"]
    with MongoClient(variables["MONGODB_URL"]) as client:
        client.get_default_database().notes.insert_one({"_id": "plain"})
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
    names = {service: f"{served.namespace}-{service}" for service in PORTS}
    before = {
        service: shake(served, service, name, ours(served)) for service, name in names.items()
    }
    begun = {
        service: json.loads(docker("inspect", name))[0]["State"]["StartedAt"]
        for service, name in names.items()
    }
    kept = redis.Redis.from_url(served.variables("shop")["REDIS_URL"])
    kept.ping()
    documents: Any = MongoClient(served.variables("shop")["MONGODB_URL"])
    open_before = documents.admin.command("hello")["connectionId"]

    for service in names:
        served.call("POST", f"/external-services/{service}/renew-certificate")
    for service, name in names.items():
        assert shake(served, service, name, ours(served)) != before[service]
        assert json.loads(docker("inspect", name))[0]["State"]["StartedAt"] == begun[service]
    assert kept.ping()  # of a connection that was open
    assert documents.admin.command("hello")["connectionId"] == open_before
    documents.close()


def test_another_authority_takes_over_while_servers_run(served: Stage) -> None:
    names = {service: f"{served.namespace}-{service}" for service in PORTS}
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
    assert "cache, docs, main" in served.cli("ca", "show")


@pytest.mark.fortnightly
def test_the_doctor_tells_a_server_that_presents_another_certificate_than_its_own(
    served: Stage, tmp_path: Path
) -> None:
    assert "3 of 3 servers that speak TLS present what is recorded" in served.cli("doctor")
    crt, pair = strange(tmp_path), "/etc/purveyor/server.pem"
    (tmp_path / "pair").write_text((tmp_path / "key").read_text() + Path(crt).read_text())
    for service in PORTS:  # into the file that its server owns
        write = ["docker", "exec", "-i", f"{served.namespace}-{service}", "sh", "-c"]
        text = (tmp_path / "pair").read_bytes()
        subprocess.run([*write, f"cat > {pair}"], input=text, check=True)
    docker("kill", "-s", "HUP", f"{served.namespace}-main")
    served.cli(
        *("connect", "cache", "--", "CONFIG", "SET", "tls-cert-file", pair, "tls-key-file", pair)
    )
    code = "client.admin.command('rotateCertificates', 1)"
    assert served.run("connect", "docs", stdin=f"{code}\n").returncode == 0
    eventually(lambda: len(_presented(served)) == 3)
    assert "another certificate" in served.cli("doctor", "shop", code=1)
    for service in PORTS:
        served.cli("restart", service)
    assert _presented(served) == []


def _presented(stage: Stage) -> list[str]:
    return [
        check["subject"]
        for check in stage.call("GET", "/doctor")
        if check["name"] == "presented certificate" and not check["ok"]
    ]


def test_verify_full_refuses_plain_text_and_its_addresses_work_as_they_are(served: Stage) -> None:
    for service in PORTS:
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


def test_a_driver_of_mongodb_verifies_and_another_authoritys_is_refused(
    served: Stage, tmp_path: Path
) -> None:
    """As the addresses are of a server that refuses plain text."""
    url = served.variables("shop")["MONGODB_URL"]
    assert "&tls=true&tlsCAFile=" in url
    with MongoClient(url) as client:
        client.get_default_database().notes.insert_one({"_id": "sealed"})
    asyncio.run(_written(url))
    plain = url.partition("&tls=")[0]
    other = f"{plain}&tls=true&tlsCAFile={strange(tmp_path)}"
    published = re.search(r"127\.0\.0\.1:\d+", url)
    assert published
    unnamed = url.replace(published[0], f"{address(served, 'docs')}:{PORTS['docs']}")
    for refused in (plain, other, unnamed):
        with (
            MongoClient(f"{refused}&serverSelectionTimeoutMS=1500") as client,
            pytest.raises(ConnectionFailure),
        ):
            client.admin.command("ping")
    with MongoClient(f"{unnamed}&tlsAllowInvalidHostnames=true") as client:
        assert client.admin.command("ping"), "it was refused for its name alone"


async def _written(url: str) -> None:
    async with AsyncMongoClient(url) as client:
        await client.get_default_database().notes.insert_one({"_id": "awaited"})


def documents(stage: Stage, service: str) -> str:
    """What the administrator finds in the app's collection, from a prompt of pymongo's."""
    code = "sorted(str(d['_id']) for d in client.shop_production.notes.find())"
    done = stage.run("connect", service, stdin=f"print({code})\n")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.fortnightly
def test_a_mongodb_that_refuses_plain_text_is_backed_up_cloned_upgraded_and_rotated(
    served: Stage,
) -> None:
    held = "['awaited', 'plain', 'sealed']"
    assert documents(served, "docs") == held
    backup = served.json("backup", "run", "docs")["backup_id"]
    served.cli("backup", "restore", backup, "--new", "again")
    served.cli("clone", "docs", "twin")
    for service in ("again", "twin"):
        assert documents(served, service) == held
        assert json.loads(docker("inspect", f"{served.namespace}-{service}"))[0]["Args"].count(
            "requireTLS"
        )
        served.cli("delete", service, "--yes")
    served.cli("rotate", "shop", "--yes")
    served.cli("rotate", "--administrator", "docs", "--yes")
    served.cli("upgrade", "docs", "purveyor-test/mongodb:8.0-mongosh", "--yes")
    assert "shop_production" in served.cli(
        "connect", "docs", "--", "--eval", "print(db.getMongo().getDBNames())"
    ), "mongosh inside the container verifies as well"
    assert "\u2713 docs: write" in served.cli("doctor", "shop")
    with MongoClient(served.variables("shop")["MONGODB_URL"]) as client:
        assert client.get_default_database().notes.count_documents({}) == 3


@pytest.mark.fortnightly
def test_a_foreign_mongodb_that_demands_tls_is_taken_in_as_it_is(
    served: Stage, tmp_path: Path
) -> None:
    """Its certificate is its owner's, so ours verifies nothing there."""
    crt, name = strange(tmp_path), f"{served.namespace}.foreign"
    (tmp_path / "pair").write_text((tmp_path / "key").read_text() + Path(crt).read_text())
    docker(
        *("create", "--name", name, "--network", served.namespace),
        *("-e", "MONGO_INITDB_ROOT_USERNAME=root", "-e", "MONGO_INITDB_ROOT_PASSWORD=theirs"),
        *("purveyor-test/mongodb:8.0", "mongod", "--tlsMode", "requireTLS"),
        *("--tlsCertificateKeyFile", "/pair", "--tlsCAFile", "/crt"),
        "--tlsAllowConnectionsWithoutCertificates",
    )
    try:
        for file in ("pair", "crt"):
            (tmp_path / file).chmod(0o644)
            docker("cp", str(tmp_path / file), f"{name}:/{file}")
        docker("start", name)
        (shown,) = json.loads(docker("inspect", name))
        where = shown["NetworkSettings"]["Networks"][served.namespace]["IPAddress"], 27017
        eventually(lambda: _listens(where))
        given = ["-p", "username=root", "-p", "password=theirs", "-p", "ssl_mode=require"]
        served.cli("import", name, "theirs", "--type", "mongodb", *given)
        served.cli("project", "create", "abroad")
        served.cli("link", "theirs", "abroad")
        assert served.variables("abroad", host=False)["MONGODB_URL"].endswith("&tls=true")
        served.cli("unlink", "theirs", "abroad", "--purge")
        served.cli("delete", "theirs", "--yes")
    finally:
        docker("rm", "-f", "-v", name)


def _listens(where: tuple[str, int]) -> bool:
    try:
        socket.create_connection(where, timeout=5).close()
    except OSError:
        return False
    return True


async def _encrypted(url: str) -> Any:
    import asyncpg

    opened = await asyncpg.connect(url)
    try:
        await opened.execute("SET ROLE NONE")  # the owner does not see what the login does
        return await opened.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    finally:
        await opened.close()
