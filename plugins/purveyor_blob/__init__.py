"""Blob: files by name. In an app: ``from purveyor_blob import Blob``, or ``AsyncBlob``.

Both are configured from the variables that a link injects. Nothing of the server is imported here; the plugin is
`purveyor_blob.plugin`.
"""

from purveyor_blob.client import AsyncBlob, Blob, BlobError, BlobInfo, Page

__all__ = ["AsyncBlob", "Blob", "BlobError", "BlobInfo", "Page"]
