"""The service type ``blob``: files over HTTP, on an S3 server of its own.

It is built on the S3 plugin: each environment has a bucket and a key limited to it there, and
whatever comes over HTTP is done with that key, so that the server itself keeps projects apart.
"""

from collections.abc import Sequence
from typing import Any

import click

import purveyor_s3
from purveyor_hooks import Application, Binding, Exercise, Service, ServiceType, Variable, bases


class Blob(purveyor_s3.Server, bases.Everyones):
    """What the type does; the rest is as the S3 plugin does it for its own services."""

    def service_type(self) -> ServiceType:
        return ServiceType(
            name="blob",
            label="Blob",
            description="Files over HTTP, for the SDK and clients of @vercel/blob",
            default_image="rustfs/rustfs:1.0.1",
            color="#0e7490",
            icon_url="/static/icons/blob.svg",
            ports=purveyor_s3.flavours.PORTS,
            naming=purveyor_s3.NAMING,
            account_length=purveyor_s3.ACCOUNT_LENGTH,
            numbered_accounts=True,
            uses_api=True,
            parameters=purveyor_s3.PARAMETERS,
        )

    def environment(self, service: Service, binding: Binding) -> list[Variable]:
        """The API under both names, and what `@vercel/blob` looks for."""
        assert binding.api is not None
        return [
            *binding.api.variables(),
            Variable(name="VERCEL_BLOB_API_URL", value=f"{binding.api.url}/api/vercel-blob"),
            Variable(name="BLOB_READ_WRITE_TOKEN", value=binding.api.token, secret=True),
        ]

    def cli_commands(self) -> Sequence[click.Command]:
        from purveyor_blob_service.cli import blob

        return [blob]

    def http_routes(self, app: Application) -> Sequence[Any]:
        from purveyor_blob_service.routes import routers

        return routers(app)

    def exercise(self) -> Exercise:
        from purveyor_blob_service.apps import Files

        return Files()


plugin = Blob()
