"""How an app uses an S3 server: for the conformance kit."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from purveyor_hooks import Account

ODD = ("a b+c&d", "%2F", "'\"<>", "folder/", "\u00fc \U0001f49a")
METADATA = {"a": "=?utf-8?q?=C3=BC?="}
TAGS = [{"Key": "a b", "Value": "+=&"}]


class Objects:
    """Things are objects of the app's own bucket."""

    def account(self, variables: Mapping[str, str]) -> Account:
        return Account(
            host=variables["S3_HOST"],
            port=int(variables["S3_PORT"]),
            user=variables["S3_ACCESS_KEY"],
            password=variables["S3_SECRET_KEY"],
            resource=variables["S3_BUCKET"],
        )

    @asynccontextmanager
    async def _opened(self, account: Account) -> AsyncIterator[Any]:
        from purveyor_s3.driver import config, session
        from purveyor_s3.flavours import REGION

        made = session().client(
            "s3",
            endpoint_url=f"http://{account.host}:{account.port}",
            region_name=REGION,
            aws_access_key_id=account.user,
            aws_secret_access_key=account.password,
            config=config(10.0),
        )
        async with made as client:
            yield client

    async def write(self, account: Account, name: str, value: str) -> None:
        async with self._opened(account) as client:
            await client.put_object(Bucket=account.resource, Key=name, Body=value.encode())

    async def read(self, account: Account, name: str) -> str | None:
        from botocore.exceptions import ClientError

        from purveyor_s3.driver import code
        from purveyor_s3.server import MISSING

        async with self._opened(account) as client:
            try:
                found = await client.get_object(Bucket=account.resource, Key=name)
                async with found["Body"] as body:
                    return str((await body.read()).decode())
            except ClientError as error:
                if code(error) in MISSING:
                    return None
                raise

    async def mischief(self, account: Account) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        bucket = account.resource
        everything = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        }
        async with self._opened(account) as client:
            policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
            tried = [
                partial(client.put_bucket_policy, Bucket=bucket, Policy=policy),
                partial(
                    client.put_bucket_versioning,
                    Bucket=bucket,
                    VersioningConfiguration={"Status": "Enabled"},
                ),
                *(
                    partial(client.put_object, Bucket=bucket, Key=key, Body=b"x", Metadata=METADATA)
                    for key in ODD
                ),
                partial(
                    client.put_object_tagging, Bucket=bucket, Key=ODD[0], Tagging={"TagSet": TAGS}
                ),
            ]
            for attempt in tried:
                with suppress(BotoCoreError, ClientError):
                    await attempt()

    async def gained(self, account: Account) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        from purveyor_s3.server import OWN_BUCKET

        async with self._opened(account) as client:
            with suppress(BotoCoreError, ClientError):
                await client.list_objects_v2(Bucket=OWN_BUCKET)
                return "it reads what the installation keeps for itself"
        return ""
