"""KV: JSON values by key. In an app: ``from purveyor_kv import KV``, or ``AsyncKV``.

Both are configured from the variables that a link injects. This is the SDK, a distribution of its
own; the server's part is the plugin `purveyor_kv_service`.
"""

from purveyor_kv.client import KV, AsyncKV
from purveyor_kv.errors import KVError

__all__ = ["KV", "AsyncKV", "KVError"]
