"""What the API tells of itself."""

import msgspec


class Version(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    contract: int
