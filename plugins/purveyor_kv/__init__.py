"""KV: JSON values by key. In an app: ``from purveyor_kv import KV``, or ``AsyncKV``.

Both are configured from the variables that a link injects. Nothing of the server is imported here; the plugin is
`purveyor_kv.plugin`.
"""

from purveyor_kv.client import KV, AsyncKV
from purveyor_kv.errors import KVError

__all__ = ["KV", "AsyncKV", "KVError"]
