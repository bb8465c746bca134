"""How an app uses KV: for the conformance kit. Its account is its token, its resource its
project."""

from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import msgspec

from purveyor_hooks import Account

ODD = ("purveyor:identity", "a:b/../c", "\r\nFLUSHALL\r\n", "\u00fc \U0001f49a", "x" * 300)


class Values:
    """Things are values over HTTP."""

    def account(self, variables: Mapping[str, str]) -> Account:
        api = urlsplit(variables["PURVEYOR_API_URL"])
        return Account(
            host=api.hostname or "",
            port=api.port or 80,
            user="",
            password=variables["PURVEYOR_TOKEN"],
            resource=variables["PURVEYOR_PROJECT_ID"],
        )

    async def _call(self, account: Account, verb: str, **body: str) -> dict[str, str | None]:
        headers = {"Authorization": f"Bearer {account.password}"}
        async with httpx.AsyncClient(
            base_url=f"http://{account.host}:{account.port}", headers=headers, timeout=10
        ) as http:
            answer = await http.post(
                f"/api/kv/{verb}", json={**body, "project_id": int(account.resource)}
            )
            answer.raise_for_status()
            found: dict[str, str | None] = answer.json()
            return found

    async def write(self, account: Account, name: str, value: str) -> None:
        await self._call(account, "set", key=name, value=value)

    async def read(self, account: Account, name: str) -> str | None:
        return (await self._call(account, "get", key=name))["value"]

    async def mischief(self, account: Account) -> None:
        for key in ODD:
            with suppress(httpx.HTTPError):
                await self.write(account, key, key)

    async def gained(self, account: Account) -> str:
        try:
            await self.read(
                msgspec.structs.replace(account, resource="1" if account.resource != "1" else "2"),
                "thing1",
            )
        except httpx.HTTPStatusError:
            return ""
        return "it reads another project's values"
