"""How an app uses an S3 server: for the conformance kit."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from purveyor_hooks import Account


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
