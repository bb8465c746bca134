"""The HTTP API: thin handlers over verbs and the store."""

from purveyor.api.server import create_api

__all__ = ["create_api"]
