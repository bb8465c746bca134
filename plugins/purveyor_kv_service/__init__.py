"""The service type ``kv``: JSON values over HTTP, on a Redis of its own.

It is built on the Redis plugin: each environment has a database number and an ACL user there, and
whatever comes over HTTP is run as that user, so that the server itself keeps projects apart.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from purveyor_hooks import (
    Application,
    Binding,
    ContainerSpec,
    Exercise,
    Naming,
    Parameter,
    Port,
    Service,
    ServiceType,
    Variable,
    bases,
)
from purveyor_redis import Server, server

PORT = server.PORT
FIRST_SLOT, LAST_SLOT = server.OWN_DATABASE + 1, 1024


class KV(Server, bases.Everyones):
    """What the type does; the rest is as the Redis plugin does it for its own services."""

    def service_type(self) -> ServiceType:
        return ServiceType(
            name="kv",
            label="KV",
            description="Key-value store over HTTP, for the SDK and clients of the Upstash REST protocol",
            default_image="gotempsh/redis-walg:8-bookworm",
            color="#7c3aed",
            icon_url="/static/icons/kv.svg",
            ports=(Port(container=PORT),),
            naming=Naming(separator="_", limit=63),
            slots=(FIRST_SLOT, LAST_SLOT),
            uses_api=True,
            parameters=(
                Parameter(
                    name="port",
                    help="Port of its Redis on 127.0.0.1.",
                    kind="integer",
                    generated="port",
                    base=PORT,
                ),
                Parameter(
                    name="password",
                    help="The password of the user `default` of its Redis; no app ever gets it.",
                    generated="password",
                    length=32,
                    editable=False,
                    secret=True,
                ),
                server.MAXMEMORY,
            ),
        )

    def container(self, service: Service) -> ContainerSpec:
        return server.container(service, LAST_SLOT + 1)

    def environment(self, service: Service, binding: Binding) -> list[Variable]:
        """The API under both names, what Upstash's clients look for, and Redis itself for the SDK's
        direct path."""
        assert binding.api is not None
        api = binding.api
        account, password = quote(binding.account, safe=""), quote(binding.password, safe="")
        direct = f"redis://{account}:{password}@{service.host}:{service.port(PORT)}/{binding.slot}"
        return [
            *api.variables(),
            Variable(name="KV_REST_API_URL", value=f"{api.url}/api/kv/rest"),
            Variable(name="KV_REST_API_TOKEN", value=api.token, secret=True),
            Variable(name="KV_URL", value=direct, secret=True),
        ]

    def cli_commands(self) -> Sequence[click.Command]:
        from purveyor_kv_service.cli import kv

        return [kv]

    def http_routes(self, app: Application) -> Sequence[Any]:
        from purveyor_kv_service.routes import routers

        return routers(app)

    def exercise(self) -> Exercise:
        from purveyor_kv_service.apps import Values

        return Values()


plugin = KV()
