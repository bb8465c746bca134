"""What images are called by the registries that they came from, in the database: a tag may mean
another one tomorrow."""

from purveyor.kernel.db.database import Tx
from purveyor_hooks import Image


def note(tx: Tx, image: Image) -> None:
    """Record an image that is used. One that came from no registry has no digest, only its id."""
    if image.digest and digest_of(tx, image.id) != image.digest:
        tx.db.execute(
            "INSERT OR REPLACE INTO images (id, digest) VALUES (?, ?)", [image.id, image.digest]
        )


def digest_of(tx: Tx, image_id: str) -> str:
    """``repository@sha256:…``, "" where none is known."""
    return str(tx.value("SELECT digest FROM images WHERE id = ?", [image_id]) or "")
