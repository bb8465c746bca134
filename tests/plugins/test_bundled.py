"""Every bundled service type keeps what the contract promises: the kit that third parties use, on our own."""

import pytest

from purveyor_hooks.conformance import Conformance
from support import MINIO, MONGODB, POSTGRES, REDIS, RUSTFS, SEAWEEDFS

pytestmark = pytest.mark.usefixtures("engine")


class TestPostgres(Conformance):
    service_type, image = "postgres", POSTGRES


class TestRedis(Conformance):
    service_type, image = "redis", REDIS


class TestMongodb(Conformance):
    service_type, image = "mongodb", MONGODB


@pytest.mark.usefixtures("rustfs")
class TestRustfs(Conformance):
    service_type, image = "s3", RUSTFS


class TestSeaweedfs(Conformance):
    service_type, image = "s3", SEAWEEDFS


@pytest.mark.usefixtures("minio")
class TestMinio(Conformance):
    service_type, image = "s3", MINIO


class TestKv(Conformance):
    service_type, image = "kv", REDIS


@pytest.mark.usefixtures("rustfs")
class TestBlob(Conformance):
    service_type, image = "blob", RUSTFS
