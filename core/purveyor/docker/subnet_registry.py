"""The ranges of addresses of the containers' network, in the database."""

from purveyor.docker.protocols import Subnet
from purveyor.kernel.db import Tx
from purveyor.kernel.db.database import note, read_note

SUBNETS = "network-subnets"


def note_subnets(tx: Tx, subnets: tuple[Subnet, ...]) -> None:
    """Note the ranges of addresses that the containers' network has."""
    text = " ".join("=".join(item) for item in subnets)
    if text and text != read_note(tx, SUBNETS):
        note(tx, SUBNETS, text)


def subnets(tx: Tx) -> tuple[Subnet, ...]:
    """The ranges that the network had when it was last seen: one that is made anew asks for them,
    for apps know the host by its address there."""
    parts = (item.partition("=") for item in (read_note(tx, SUBNETS) or "").split())
    return tuple((subnet, gateway) for subnet, _, gateway in parts)
