"""How an app uses Blob: for the conformance kit. Its account is its token, its resource its
project."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httpx
import msgspec

from purveyor_hooks import Account

ODD = ("../above", "a b+c&d", "%2F", "'\"<>", "folder/", "\u00fc \U0001f49a")


class Files:
    """Things are files over HTTP."""

    def account(self, variables: Mapping[str, str]) -> Account:
        api = urlsplit(variables["PURVEYOR_API_URL"])
        return Account(
            host=api.hostname or "",
            port=api.port or 80,
            user="",
            password=variables["PURVEYOR_TOKEN"],
            resource=variables["PURVEYOR_PROJECT_ID"],
        )

    @asynccontextmanager
    async def _opened(self, account: Account) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {account.password}"}
        async with httpx.AsyncClient(
            base_url=f"http://{account.host}:{account.port}", headers=headers, timeout=10
        ) as http:
            yield http

    async def write(self, account: Account, name: str, value: str) -> None:
        async with self._opened(account) as http:
            params = {"pathname": name, "project_id": account.resource}
            answer = await http.post("/api/blob", params=params, content=value.encode())
            answer.raise_for_status()

    async def read(self, account: Account, name: str) -> str | None:
        async with self._opened(account) as http:
            answer = await http.get(f"/api/blob/{account.resource}/{name}")
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
            return answer.text

    async def mischief(self, account: Account) -> None:
        for name in ODD:
            with suppress(httpx.HTTPError):
                await self.write(account, name, name)

    async def gained(self, account: Account) -> str:
        other = msgspec.structs.replace(account, resource="1" if account.resource != "1" else "2")
        try:
            await self.write(other, "mischief", "of another")
        except httpx.HTTPStatusError:
            return ""
        return "it writes another project's files"
