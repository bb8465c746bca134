"""What a choice of TLS makes of addresses, commands and files, and what a container tells of it
after its record was lost. No server is needed."""

from collections.abc import Mapping
from typing import Any

import pytest

from purveyor_hooks import BadInput, Binding, FoundContainer, Image, Scope, Service, Tls
from purveyor_hooks.certificates import AUTHORITIES
from purveyor_mongodb import plugin as mongodb
from purveyor_s3 import plugin as s3

pytestmark = pytest.mark.anyio
BINDING = Binding(
    id=1,
    scope=Scope(project="shop", environment="production"),
    resource="shop",
    account="shop",
    password="p",
)


def service(kind: str, image: str, *, tls: bool = True, **given: Any) -> Service:
    values: Mapping[str, Any] = {
        "mongodb": {"replica_set": "", "username": "admin", "database": "admin", "password": "p"},
        "s3": {"flavour": "auto", "access_key": "a", "secret_key": "s"},
    }[kind]
    return Service(
        id=1,
        name="x",
        slug="x",
        service_type=kind,
        parameters={**values, **given},
        secrets={"tls_key": "k", "tls_certificate": "c"},
        image=Image(reference=image),
        host="purveyor-x",
        tls=Tls(authorities="PEM", file=AUTHORITIES) if tls else None,
    )


def variables(found: Service) -> dict[str, str]:
    plugin = {"mongodb": mongodb, "s3": s3}[found.service_type]
    return {item.name: item.value for item in plugin.environment(found, BINDING)}


async def retold(found: Service) -> dict[str, Any]:
    """What is told by the container that was made of a service."""
    plugin = {"mongodb": mongodb, "s3": s3}[found.service_type]
    spec = plugin.container(found)
    made = FoundContainer(
        id="1",
        name="x",
        image=found.image,
        running=True,
        ports=(),
        environment=dict(spec.environment),
        command=spec.command,
    )

    async def read(path: str) -> str | None:
        return next((file.content for file in spec.files if file.path == path), None)

    return dict((await plugin.retell(made, read)).parameters)


@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca", "verify-full"])
async def test_mongodbs_address_asks_for_tls_where_plain_text_is_refused(mode: str) -> None:
    demanded = mode not in ("disable", "prefer")
    made = service("mongodb", "mongo:8.0", ssl_mode=mode)
    found = variables(made)
    assert found["MONGODB_URL"].endswith(f"&tls=true&tlsCAFile={AUTHORITIES}") == demanded
    assert ("tls" in found["MONGODB_URL"]) == demanded
    assert (found["MONGODB_CA_CERT"], found["MONGODB_CA_PEM"]) == (AUTHORITIES, "PEM")
    spec = mongodb.container(made)
    mode_of = spec.command[spec.command.index("--tlsMode") + 1]
    assert mode_of == ("requireTLS" if demanded else "allowTLS")
    assert (await retold(made))["ssl_mode"] == ("require" if demanded else "disable")
    unknown = variables(service("mongodb", "mongo:8.0", tls=False, ssl_mode=mode))
    assert unknown["MONGODB_URL"].endswith("&tls=true") == demanded
    assert "MONGODB_CA_CERT" not in unknown


@pytest.mark.parametrize("image", ["rustfs/rustfs:1.0.1", "minio/minio:1"])
async def test_s3_is_https_where_it_was_chosen(image: str) -> None:
    for chosen, scheme in (("off", "http"), ("on", "https")):
        made = service("s3", image, tls=chosen == "on")
        made.parameters["tls"] = chosen
        found = variables(made)
        assert found["S3_ENDPOINT"] == found["AWS_ENDPOINT_URL"] == f"{scheme}://purveyor-x:9000"
        assert ("S3_CA_CERT" in found) == (chosen == "on")
        wanted = s3.container(made).certificate
        assert (wanted is not None) == (chosen == "on")
        # MinIO takes no key's file with a certificate in it
        assert wanted is None or wanted.chain
        assert (await retold(made))["tls"] == chosen
    # one from before there was a choice
    assert variables(service("s3", image))["S3_ENDPOINT"].startswith("http://")


def test_seaweedfs_is_given_no_certificate_and_says_why() -> None:
    made = service("s3", "seaweedfs:4")
    assert s3.container(made).certificate is None
    made.parameters["tls"] = "on"
    with pytest.raises(BadInput, match="only hours later") as caught:
        s3.container(made)
    assert set(caught.value.errors) == {"tls"}
