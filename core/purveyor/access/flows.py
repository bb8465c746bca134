"""Sign-ins that are under way: what binds the answer that comes back to the browser that went."""

import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from typing import NamedTuple

LIFE = 600.0  # seconds for signing in at the provider
MOST = 10_000  # at once; the oldest make room


class Flow(NamedTuple):
    """One sign-in. `redirect` is the address that the answer comes to, `wanted` the page that
    somebody wanted."""

    state: str
    nonce: str
    verifier: str
    redirect: str
    wanted: str
    until: float

    @property
    def challenge(self) -> str:
        """What the provider is told of `verifier` (RFC 7636)."""
        return (
            urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        )


class Flows:
    """Kept in memory, each for one answer."""

    def __init__(self) -> None:
        self._open: dict[str, Flow] = {}

    def begin(self, redirect: str, wanted: str) -> tuple[str, Flow]:
        """A new one, and the secret of the browser that goes."""
        now, secret = time.monotonic(), secrets.token_urlsafe(32)
        while self._open and (
            len(self._open) >= MOST or next(iter(self._open.values())).until <= now
        ):
            del self._open[next(iter(self._open))]
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = Flow(state, nonce, verifier, redirect, wanted, now + LIFE)
        self._open[_hash(secret)] = flow
        return secret, flow

    def end(self, secret: str, state: str) -> Flow | None:
        """The one that an answer belongs to; no other answer does from now on."""
        flow = self._open.get(_hash(secret))
        if flow is None or not secrets.compare_digest(flow.state.encode(), state.encode()):
            return None
        del self._open[_hash(secret)]
        return flow if flow.until > time.monotonic() else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
