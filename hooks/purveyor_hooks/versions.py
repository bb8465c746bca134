"""What version a text tells: of a server's own words, of an image's environment or tag."""

import re

from packaging.version import Version

from purveyor_hooks.types import Image

_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)")


def version_of(text: str) -> Version | None:
    """The version that a text begins with, without what follows it: 8.1.3 of ``v8.1.3-alpine``."""
    found = _RELEASE.match(text)
    return Version(found[1]) if found else None


def image_version(image: Image, *names: str) -> Version | None:
    """The version in the first of these variables of the image's own environment that is set, else
    in its tag."""
    return version_of(
        next(
            (image.environment[name] for name in names if image.environment.get(name)),
            image.parts.tag,
        )
    )
