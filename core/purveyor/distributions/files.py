"""The files of an installed distribution, compared with what was noted when it was installed.

Its list of files (RECORD) has a hash of each but for what Python compiles by itself. Whoever may
write there may as well change Purveyor: this finds what was changed or put in another version by
hand, and not somebody who hides.
"""

import base64
import hashlib
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from purveyor.distributions.models import InstalledRecord


def canonical(name: str) -> str:
    """A distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256_of(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def record_of(found: Distribution) -> str:
    """The hash of a distribution's list of files."""
    return hashlib.sha256((found.read_text("RECORD") or "").encode()).hexdigest()


def differs(noted: InstalledRecord) -> str:
    """How what is installed differs from what was noted, "" when it does not."""
    try:
        found = distribution(noted.distribution)
    except PackageNotFoundError:
        return "it is not installed any more"
    if found.version != noted.version:
        return f"version {noted.version} was installed, and {found.version} is there"
    if record_of(found) != noted.record_sha256:
        return "its list of files is another one: it was installed again by other means"
    for item in found.files or ():
        if item.hash is None or item.hash.mode != "sha256":
            continue
        try:
            digest = bytes.fromhex(sha256_of(Path(str(found.locate_file(item)))))
        except OSError:
            return f"{item} cannot be read"
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != item.hash.value:
            return f"{item} is not as it was installed"
    return ""
