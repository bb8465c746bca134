"""What a plugin keeps of one service, as the plugin is handed it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from purveyor.kernel.db import Store, Tx
from purveyor.services import document_store as documents
from purveyor.services import store as services
from purveyor_hooks import BadInput, NotFound

PAGE = 1000


@dataclass(frozen=True)
class ServiceDocuments:
    """`Documents` of one plugin and one service."""

    store: Store
    plugin: str
    service_id: int
    of_type: str = ""  # the plugin's own, where that is not known already

    def _require_own(self, tx: Tx) -> None:
        if self.of_type and services.get(tx, self.service_id).service_type != self.of_type:
            raise NotFound(f"There is no service {self.service_id} of the type {self.of_type}.")

    async def get(self, key: str) -> Any:
        def work(tx: Tx) -> Any:
            self._require_own(tx)
            return documents.get(tx, self.plugin, self.service_id, _key(key))

        return await self.store.read(work)

    async def write(self, changes: Mapping[str, Any], *, sealed: bool = False) -> None:
        texts = {_key(key): _text(key, value) for key, value in changes.items()}

        def work(tx: Tx) -> None:
            self._require_own(tx)
            documents.write(tx, self.plugin, self.service_id, texts, sealed=sealed)

        await self.store.write(work)

    async def list(self, prefix: str = "", after: str = "", limit: int = 100) -> Sequence[str]:
        def work(tx: Tx) -> Sequence[str]:
            self._require_own(tx)
            return documents.keys(
                tx,
                self.plugin,
                self.service_id,
                prefix=prefix,
                after=after,
                limit=max(0, min(limit, PAGE)),
            )

        return await self.store.read(work)


def _key(key: str) -> str:
    if not (isinstance(key, str) and 0 < len(key) <= documents.LONGEST_KEY and _is_told(key)):
        raise BadInput(
            f"A document's key has 1 to {documents.LONGEST_KEY} characters, and none that controls.",
            errors={"key": "cannot be used"},
        )
    return key


def _is_told(key: str) -> bool:
    """Whether a text can be stored and shown: no control characters, no half of a pair."""
    return all(ord(char) >= 0x20 and ord(char) != 0x7F for char in key) and not any(
        0xD800 <= ord(char) <= 0xDFFF for char in key
    )


def _text(key: str, value: Any) -> str | None:
    if value is None:
        return None
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(
            f"The document {key!r} is no JSON: {error}.", errors={"value": "is no JSON"}
        ) from None
    if len(text.encode()) > documents.LARGEST:
        raise BadInput(
            f"The document {key!r} is larger than {documents.LARGEST} bytes.",
            errors={"value": "too large"},
        )
    return text
