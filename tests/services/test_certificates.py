"""Certificates of services, by the installation's own authority: the rules, on the fake engine."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509

from fake.engine import Container
from fake.scene import Scene, do
from fake.server import PAIR
from purveyor.app import App
from purveyor.asgi import create_api
from purveyor.certified import of_certificates
from purveyor.docker.files import Placed
from purveyor.kernel.api import tokens
from purveyor.kernel.db import Tx
from purveyor.services import certificates, parameters
from purveyor.services import store as services
from purveyor.services.models import AUTHORITIES
from purveyor.services.unaware import unaware
from purveyor.settings import Settings
from purveyor_hooks import Conflict, File, ServiceType
from purveyor_hooks.certificates import SSL_MODE

pytestmark = pytest.mark.anyio


def container(scene: Scene, name: str) -> Container:
    return next(item for item in scene.engine.world.containers if item.name == name)


async def held(app: App, service: str) -> certificates.CertificateRecord:
    def look(tx: Tx) -> certificates.CertificateRecord:
        found = certificates.find(tx, services.get(tx, service).id)
        assert found is not None
        return found

    return await app.context.store.read(look)


async def test_each_server_has_a_certificate_of_its_own_and_the_authoritys_key_is_nowhere(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        one, other = await held(app, "main"), await held(app, "idle")
        (authority,) = await app.context.store.read(certificates.authorities)
        assert one.key != other.key
        for record, name in ((one, "fk-main"), (other, "fk-idle")):
            put = container(scene, name).put
            assert put[PAIR] == record.key + record.certificate
            assert put[AUTHORITIES] == authority.certificate
            leaf = x509.load_pem_x509_certificate(record.certificate.encode())
            leaf.verify_directly_issued_by(
                x509.load_pem_x509_certificate(authority.certificate.encode())
            )
            names: Any = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.DNSName) == [name, "localhost"]
            assert [str(item) for item in names.get_values_for_type(x509.IPAddress)] == [
                "127.0.0.1",
                "::1",
            ]
            assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        everywhere = "".join(
            text for item in scene.engine.world.containers for text in item.put.values()
        )
        secret = authority.key.splitlines()[1]
        assert secret not in everywhere
        assert secret.encode() not in b"".join(
            path.read_bytes() for path in scene.state.glob("purveyor.db*")
        )


async def test_a_certificate_stays_until_it_is_time_and_the_container_with_it(scene: Scene) -> None:
    async with scene.open() as app:
        before, made = await held(app, "main"), container(scene, "fk-main").id
        await do(app, "restart", service="main")
        assert await held(app, "main") == before
        until = (app.now() + certificates.RENEWED - timedelta(days=1)).isoformat()
        await app.context.store.write(
            lambda tx: tx.update(
                "certificates", "service_id = ?", [before.service_id], expires_at=until
            )
        )
        await do(app, "restart", service="main")
        after = await held(app, "main")
        assert after.key != before.key
        assert container(scene, "fk-main").put[PAIR] == after.key + after.certificate
        assert container(scene, "fk-main").id == made  # it was not made anew for that


async def test_what_ends_soon_is_renewed_while_it_runs_and_what_was_not_is_told(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        before = await held(app, "main")
        until = (app.now() + timedelta(days=30)).isoformat()
        await app.context.store.write(
            lambda tx: tx.update(
                "certificates", "service_id = ?", [before.service_id], expires_at=until
            )
        )
        (told,) = [check for check in await of_certificates(app) if not check.ok]
        assert told.subject == "main"
        assert told.remedy == "purveyor restart main"
        started = container(scene, "fk-main").started_at
        await app.renewals.turn()
        after = await held(app, "main")
        assert after.expires_at - app.now() > certificates.OF_SERVER - timedelta(days=1)
        assert container(scene, "fk-main").put[PAIR] == after.key + after.certificate
        assert container(scene, "fk-main").started_at == started
        assert not [check for check in await of_certificates(app) if not check.ok]


async def test_one_of_an_older_purveyor_is_told_and_gets_its_own_at_its_next_start(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        number = (await held(app, "main")).service_id
        await app.context.store.write(
            lambda tx: tx.db.execute("DELETE FROM certificates WHERE service_id = ?", [number])
        )
        record = await app.context.store.read(lambda tx: services.get(tx, "main"))
        assert record.view().tls is None
        (told,) = await of_certificates(app)
        assert "purveyor restart main" in told.detail
        await do(app, "restart", service="main")
        assert await of_certificates(app) == []
        record = await app.context.store.read(lambda tx: services.get(tx, "main"))
        assert record.view().tls is not None


async def test_a_clone_has_a_certificate_of_its_own_name(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "clone", service="main", name="twin")
        twin = await held(app, "twin")
        assert twin.names[0] == "fk-twin"
        assert twin.key != (await held(app, "main")).key


async def test_an_app_gets_what_vouches_and_no_key(scene: Scene) -> None:
    async with scene.open() as app:
        await do(app, "deploy", project="shop", image="app:2")
        found = [
            item
            for item in scene.engine.world.containers
            if item.name.startswith("fk.shop.production.")
        ][-1]
        (authority,) = await app.context.store.read(certificates.authorities)
        assert found.put == {AUTHORITIES: authority.certificate}


async def test_another_authority_is_known_before_it_signs_and_the_old_one_goes_with_its_last_certificate(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        store, file = app.context.store, scene.state / certificates.FILE
        (first,) = await store.read(certificates.authorities)
        with pytest.raises(Conflict, match="No other"):
            await store.write(certificates.finish)
        second = await store.write(certificates.rotate)
        with pytest.raises(Conflict, match="already"):
            await store.write(certificates.rotate)
        assert "shop/production" in (await unaware(app.context, [second]))[second.id].apps
        await do(app, "deploy", project="shop", image="app:2")
        assert "shop/production" not in (await unaware(app.context, [second]))[second.id].apps
        found = [
            item
            for item in scene.engine.world.containers
            if item.name.startswith("fk.shop.production.")
        ][-1]
        assert found.put[AUTHORITIES] == first.certificate + second.certificate
        before = await held(app, "main")
        await app.renewals.turn()
        assert await held(app, "main") == before, "it signs nothing yet"
        assert file.read_text() == first.certificate + second.certificate

        await store.write(certificates.finish)
        await do(app, "stop", service="idle")
        await app.renewals.turn()
        after = await held(app, "main")
        assert (before.authority_id, after.authority_id) == (first.id, second.id)
        assert container(scene, "fk-main").put[PAIR] == after.key + after.certificate
        assert "idle" in await store.read(lambda tx: certificates.shown_by(tx, first.id))
        for name in await store.read(lambda tx: certificates.shown_by(tx, first.id)):
            await do(app, "start" if name == "idle" else "restart", service=name)
        await app.renewals.turn()
        (left,) = await store.read(certificates.authorities)
        assert (left.id, left.state) == (second.id, "current")
        assert file.read_text() == second.certificate


async def test_who_does_not_know_an_authority_is_told_by_what_is_in_the_containers(
    scene: Scene,
) -> None:
    async with scene.open() as app:
        engine, store = app.context.engine, app.context.store
        (first,) = await store.read(certificates.authorities)
        second = await store.write(certificates.rotate)
        found = await unaware(app.context, [first, second])
        assert found[first.id].apps == []
        assert found[second.id].apps == ["shop/preview", "shop/production"]
        # without an app of ours, and with an account on a server that shows a certificate
        assert found[second.id].elsewhere == ["blog/production", "news/production"]
        assert found[first.id].elsewhere == []

        # what a repair made anew has what is current, whenever it was deployed
        made = container(scene, "fk.shop.production.1")
        known = File(path=AUTHORITIES, content=await store.read(certificates.bundle))
        await engine.containers.put(made.id, [Placed(known)])
        assert (await unaware(app.context, [second]))[second.id].apps == ["shop/preview"]
        # one that is gone comes back with what is current
        await engine.containers.remove("fk.shop.preview.2")
        assert (await unaware(app.context, [second]))[second.id].apps == []
        # and one that cannot be looked at may know nothing
        scene.engine.away = "The engine is away."
        names = ["shop/preview", "shop/production"]
        assert (await unaware(app.context, [second]))[second.id].apps == names


async def test_the_old_authority_signs_on_while_somebody_does_not_know_the_new_one(
    scene: Scene,
) -> None:
    async with scene.open() as app:

        def work(tx: Tx) -> str:
            return tokens.create(tx, name="t", scope="admin", project_id=None, expires_at=None)[1]

        headers = {"Authorization": f"Bearer {await app.context.store.write(work)}"}
        transport: Any = httpx.ASGITransport(app=create_api(app))  # type: ignore[arg-type]
        async with httpx.AsyncClient(
            transport=transport, base_url="http://p/api", headers=headers
        ) as client:
            assert (await client.post("/authorities/rotate")).status_code == 201
            refused = await client.post("/authorities/finish")
            assert refused.status_code == 409
            for name in ("shop/production", "shop/preview", "blog/production"):
                assert name in refused.json()["detail"]
            (first, _) = (await client.get("/authorities/")).json()
            assert (first["state"], first["unaware"]) == ("current", [])
            done = await client.post("/authorities/finish", params={"anyway": True})
            assert (done.status_code, done.json()["state"]) == (200, "current")


def test_the_installations_own_mode_is_the_default_of_types_that_have_one() -> None:
    kind = ServiceType(
        name="x", label="X", description="", default_image="x:1", parameters=(SSL_MODE,), ports=()
    )
    assert parameters.for_new_service(kind, Settings(), {}, ())["ssl_mode"] == "disable"
    assert (
        parameters.for_new_service(kind, Settings(ssl_mode="verify-full"), {}, ())["ssl_mode"]
        == "verify-full"
    )
    assert (
        parameters.for_new_service(
            kind, Settings(ssl_mode="verify-full"), {"ssl_mode": "prefer"}, ()
        )["ssl_mode"]
        == "prefer"
    )
    # one that somebody else made speaks as its owner has it, whatever is wanted of ours
    assert parameters.for_imported_service(kind, {})["ssl_mode"] == "disable"
    assert parameters.for_imported_service(kind, {"ssl_mode": "require"})["ssl_mode"] == "require"
