"""Which keys a server cannot hold as they are: seen on RustFS 1.0.1, MinIO of 2026-02-12 and
SeaweedFS 4.48.

S3 takes any 1,024 bytes. A server that keeps objects as files drops a leading slash, or takes two
names for one: what was there under the other name would be overwritten.
"""

import re
from collections.abc import Mapping
from typing import Any

from purveyor_s3 import flavours

LONGEST_PART = 255  # bytes
FOLDED = "it would be kept under another name: {}"


def unheld(flavour: str, key: str, size: int) -> str:
    """Why this server does not take such an object, "" where it does."""
    parts = key.split("/")
    if key.startswith("/"):
        return FOLDED.format("the server drops a leading slash")
    if "." in parts or ".." in parts:
        return "the server takes no . or .. between slashes"
    if flavour == flavours.SEAWEEDFS:
        return _seaweedfs(key, size, parts)
    if "" in parts[:-1]:
        return "the server takes no two slashes in a row"
    if any(len(part.encode()) > LONGEST_PART for part in parts):
        return f"the server takes no more than {LONGEST_PART} bytes between slashes"
    if flavour == flavours.RUSTFS and ("\n" in key or "\r" in key):
        return "the server takes no line breaks in a key"
    return ""


def _seaweedfs(key: str, size: int, parts: list[str]) -> str:
    if "" in parts[:-1]:
        return FOLDED.format("the server makes one slash of two")
    if "\\" in key:
        return FOLDED.format("the server makes a slash of a backslash")
    if key.endswith("/") and size:
        return "the server keeps no content in an object whose key ends with a slash"
    if len((parts[-1] or parts[-2]).encode()) > LONGEST_PART:
        return f"the server takes no more than {LONGEST_PART} bytes behind the last slash"
    return ""


REDIRECT = "WebsiteRedirectLocation"
NOT_KEPT = {
    flavours.RUSTFS: ("Expires", REDIRECT),
    flavours.MINIO: (REDIRECT,),
    flavours.SEAWEEDFS: (REDIRECT,),
}
NO_SETTINGS = {  # of a bucket, as `settings` names them
    flavours.RUSTFS: (),
    flavours.MINIO: ("cors", "website", "public access block", "access control list", "encryption"),
    flavours.SEAWEEDFS: ("website", "public access block"),
}
FOLDERS = (
    "application/x-directory",
    "httpd/unix-directory",
    "binary/octet-stream",
    "application/octet-stream",
)
TAG = re.compile(r"[\w +\-=.:/@]*")
REDUCED = "REDUCED_REDUNDANCY"  # the one class beside the standard that these servers have
# as Purveyor runs them: the others would need a key service of their own
SEALS = ((flavours.RUSTFS, "AES256"),)


def untaggable(flavour: str, tags: list[list[str]]) -> list[str]:
    """The tags that this server refuses, and the whole object with them. SeaweedFS does not ask for
    AWS's rules."""
    return (
        []
        if flavour == flavours.SEAWEEDFS
        else [tag[0] for tag in tags if not all(TAG.fullmatch(text) for text in tag)]
    )


def unkept(flavour: str, key: str, described: Mapping[str, Any]) -> str:
    """What of an object's headers this server forgets without a word, "" for nothing."""
    lost = [name for name in NOT_KEPT[flavour] if name in described]
    if flavour == flavours.SEAWEEDFS and key.endswith("/"):
        usual = {"ContentType"} if described.get("ContentType") in FOLDERS else set()
        lost = [name for name in described if name not in usual]
    return ", ".join(lost)


def unsealed(flavour: str, described: Mapping[str, Any]) -> str:
    """Why an object would lie open that is encrypted, "" where it is not or is here as well."""
    kind = described.get("ServerSideEncryption")
    return (
        f"they are not encrypted here: the server has no {kind}"
        if kind and (flavour, kind) not in SEALS
        else ""
    )


def lessened(
    flavour: str, key: str, described: Mapping[str, Any], tags: list[list[str]]
) -> list[str]:
    """What of an object this server does not keep, but for its encryption."""
    said = []
    refused = untaggable(flavour, tags)
    if refused:
        said.append(f"the server does not take its tags {', '.join(refused)}")
    tagged = {"Tagging": ""} if len(tags) > len(refused) else {}
    if lost := unkept(flavour, key, {**described, **tagged}):
        said.append(f"the server does not keep its {lost}")
    if (kind := described.get("StorageClass", REDUCED)) != REDUCED:
        said.append(f"its storage class {kind} is the standard one here")
    return said


class Prefixes:
    """Finds the keys that have another one as their folder; keys come in the order of a listing."""

    def __init__(self, flavour: str) -> None:
        self._hidden = flavour == flavours.MINIO
        self._open: list[str] = []

    def hidden_by(self, key: str) -> str:
        """The key whose object hides this one from every list, "" for none."""
        while self._open and not key.startswith(self._open[-1]):
            self._open.pop()
        found = (
            # the marker of a folder of the very same name stands beside it
            next((it for it in self._open if key.startswith(f"{it}/") and key != f"{it}/"), "")
            if self._hidden
            else ""
        )
        if not key.endswith("/") and (not self._open or self._open[-1] != key):
            self._open.append(key)
        return found
