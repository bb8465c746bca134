"""Blob: files by name. In an app: ``from purveyor_blob import Blob``, or ``AsyncBlob``.

Both are configured from the variables that a link injects. This is the SDK, a distribution of its
own; the server's part is the plugin `purveyor_blob_service`.
"""

from purveyor_blob.client import AsyncBlob, Blob, BlobError, BlobInfo, Page

__all__ = ["AsyncBlob", "Blob", "BlobError", "BlobInfo", "Page"]
