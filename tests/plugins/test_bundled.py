"""Every bundled service type keeps what the contract promises: the kit that third parties use, on
our own.

Of the S3 servers the ordinary run takes the one that is the default. What is done with all of a
type's data (a backup, a copy, an upgrade) is shown with Redis; the other types' own tests show the
same, beside writers, with more in it, and kv and blob leave it to the types that they stand on:
those checks are made of them by ``contrib/test --nightly``.
"""

from typing import ClassVar

import pytest

from purveyor_hooks.conformance import CHECKS, Bench, Check, Conformance
from support import MINIO, MONGODB, POSTGRES, REDIS, RUSTFS, SEAWEEDFS

pytestmark = pytest.mark.usefixtures("engine")
ALL_DATA = (
    "a_backup_is_restored",
    "a_backup_is_proven",
    "a_backup_is_restored_in_place",
    "contents_are_told",
    "a_hostile_project_gains_nothing",
    "it_is_cloned",
    "it_is_upgraded",
    "the_administrator_is_rotated",
)


class Sparing(Conformance):
    """A type of which the ordinary run leaves out what tests of its own show with all of its
    data."""

    @pytest.mark.parametrize(
        "check",
        [
            pytest.param(
                check, id=check.name, marks=[pytest.mark.nightly] * (check.name in ALL_DATA)
            )
            for check in CHECKS
        ],
    )
    def test_promise(self, check: Check, bench: Bench) -> None:
        super().test_promise(check, bench)


@pytest.mark.fortnightly
class TestPostgres(Sparing):
    service_type, image = "postgres", POSTGRES


@pytest.mark.fortnightly
class TestRedis(Conformance):
    service_type, image = "redis", REDIS


@pytest.mark.fortnightly
@pytest.mark.nightly
class TestRedisWithOneServer(Conformance):
    service_type, image = "redis", REDIS
    parameters: ClassVar[dict[str, str]] = {"channels": "divided"}


@pytest.mark.fortnightly
class TestMongodb(Sparing):
    service_type, image = "mongodb", MONGODB


@pytest.mark.fortnightly
@pytest.mark.usefixtures("rustfs")
class TestRustfs(Sparing):
    service_type, image = "s3", RUSTFS


@pytest.mark.fortnightly
@pytest.mark.nightly
class TestSeaweedfs(Conformance):
    service_type, image = "s3", SEAWEEDFS


@pytest.mark.fortnightly
@pytest.mark.nightly
@pytest.mark.usefixtures("minio")
class TestMinio(Conformance):
    service_type, image = "s3", MINIO


@pytest.mark.fortnightly
class TestKv(Sparing):
    service_type, image = "kv", REDIS


@pytest.mark.fortnightly
@pytest.mark.usefixtures("rustfs")
class TestBlob(Sparing):
    service_type, image = "blob", RUSTFS
