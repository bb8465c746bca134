"""Names of blobs: what one may be, and where it is found."""

import mimetypes
import re
import secrets
from urllib.parse import quote, unquote, urlsplit

from purveyor_hooks import BadInput

LENGTH = 950  # bytes; S3 takes 1024, and a random suffix must fit in
SEGMENT = 255  # bytes; a segment is a file's name on the servers' disks
SUFFIX = 16
BASE = "/api/blob"
PLAIN = "application/octet-stream"
MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:\s*;\s*[\w!#$&^.+-]+=(?:[\w!#$&^.+-]+|\"[^\"\r\n]*\"))*"
)
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def _refused(name: str, why: str, remedy: str) -> BadInput:
    return BadInput(f"The {name} cannot be used: {why}.", remedy=remedy, errors={name: why})


def check(pathname: str, name: str = "pathname") -> str:
    """A blob's name. Raises `BadInput`."""
    remedy = "For example: images/cat.png"
    if not pathname:
        raise _refused(name, "it is empty", remedy)
    try:
        size = len(pathname.encode())
    except UnicodeEncodeError:
        raise _refused(name, "it is not text that UTF-8 can hold", remedy) from None
    if size > LENGTH:
        raise _refused(name, f"it has {size} bytes; at most {LENGTH} are taken", "Shorten it.")
    if any(ord(character) < 32 or ord(character) == 127 for character in pathname):
        raise _refused(name, "it holds a control character", remedy)
    if "\\" in pathname:
        raise _refused(name, "it holds a backslash", "Folders are divided by /.")
    for segment in pathname.split("/"):
        if segment in ("", ".", ".."):
            why = (
                "it begins or ends with /, or holds //"
                if not segment
                else f"it holds the segment {segment}"
            )
            raise _refused(name, why, remedy)
        if len(segment.encode()) > SEGMENT:
            raise _refused(
                name, f"a part between two / has more than {SEGMENT} bytes", "Shorten it."
            )
    return pathname


def check_prefix(prefix: str) -> str:
    if len(prefix.encode("utf-8", "replace")) > LENGTH or any(
        ord(character) < 32 for character in prefix
    ):
        raise _refused(
            "prefix", "it is too long, or holds a control character", "For example: images/"
        )
    return prefix


def suffixed(pathname: str) -> str:
    """The name with a random part that nobody can guess, before its extension."""
    folder, slash, name = pathname.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    mark = secrets.token_hex(SUFFIX // 2)
    named = f"{stem}-{mark}{dot}{extension}" if stem else f"{name}-{mark}"
    return check(f"{folder}{slash}{named}")


def media_type(given: str | None, header: str, pathname: str) -> str:
    """What a blob is: what was said, else what the request's header says, else what the name's
    extension says."""
    if given:
        if not MEDIA_TYPE.fullmatch(given):
            raise _refused("content_type", "it is not a media type", "For example: image/png")
        return given
    plain = header.partition(";")[0].strip().lower()
    if MEDIA_TYPE.fullmatch(header) and plain not in (*FORMS, PLAIN):
        return header
    return mimetypes.guess_type(pathname)[0] or PLAIN


def url(root: str, project_id: int, pathname: str) -> str:
    """Where a blob is read."""
    return f"{root.rstrip('/')}{BASE}/{project_id}/{quote(pathname)}"


def of_url(given: str, project_id: int, name: str) -> str:
    """The blob that a URL of ours, or a name, says. Raises `BadInput` for a URL of somebody
    else."""
    if not given.startswith(("http://", "https://")):
        return check(given, name)
    path = urlsplit(given).path
    prefix = f"{BASE}/{project_id}/"
    if not path.startswith(prefix):
        raise _refused(
            name,
            "it is the URL of no blob of this project",
            "Give the blob's url, or its pathname.",
        )
    return check(unquote(path.removeprefix(prefix)), name)
