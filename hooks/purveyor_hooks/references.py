"""The grammar of image references, in one place: ``[registry[:port]/]path[:tag][@digest]``.

As Docker reads them (github.com/distribution/reference): what stands before the first slash is a
registry only when it has a dot or a port, or is ``localhost``.
"""

import re

import msgspec

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])"
_GRAMMAR = re.compile(
    rf"(?:(?P<registry>(?=[^/]*[.:]|localhost/){_HOST}(?::[0-9]+)?)/)?"
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
LONGEST = 255


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an image reference; a part that it does not have is "".

    `path` is the name without its registry: ``acme/postgres``.
    """

    path: str
    registry: str = ""
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The last part of the path: ``postgres``."""
        return self.path.rpartition("/")[2]

    @property
    def repository(self) -> str:
        """Registry and path, without tag and digest."""
        return f"{self.registry}/{self.path}" if self.registry else self.path

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """The parts of a reference. Raises `ValueError` for what is none."""
    found = _GRAMMAR.fullmatch(text)
    if found is None or len(text) > LONGEST:
        raise ValueError("must be an image reference such as postgres:17")
    parts = found.groupdict(default="")
    return Reference(
        path=parts["path"], registry=parts["registry"], tag=parts["tag"], digest=parts["digest"]
    )


def parts_of(text: str) -> Reference:
    """The parts of what an engine calls an image; one that is no reference is all path."""
    try:
        return parse(text)
    except ValueError:
        return Reference(path=text)
