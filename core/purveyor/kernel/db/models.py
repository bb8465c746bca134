"""The base of what tables hold."""

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A row."""
