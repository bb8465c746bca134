"""An OpenID Connect provider: where it sends people, and whom its answers are about.

Authorization code with PKCE (OpenID Connect Core 1.0 section 3.1, RFC 7636, RFC 9207). Whatever it
says is checked to be from it and for us; it may be away, slow or wrong, and then nobody is signed
in.
"""

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import anyio
import anyio.to_thread
import httpx
import msgspec

from purveyor.settings import Settings, is_safe_address
from purveyor_hooks import BadInput, Failed, Unauthorized

DEADLINE = 10.0  # seconds for one answer, its body included
LARGEST = 256 * 1024  # bytes of one
KEPT = 3600.0  # seconds for which its description and keys are taken as they were
LEEWAY = 60  # seconds that its clock and ours may differ
# never none or HS*
ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
# what older versions of PyJWT raise of a claim that is no number, or of JSON that is too deep
OF_PYTHON = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, AttributeError)
NEEDED = ("iss", "sub", "aud", "exp", "iat", "nonce")
BESIDE = "Signing in with a token works all the same: purveyor token create NAME"
Claims = Mapping[str, Any]
T = TypeVar("T")


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of itself (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that it signs with (RFC 7517)."""

    keys: list[dict[str, Any]]


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What it gives for a code."""

    id_token: str
    access_token: str = ""


class Provider:
    """The one of the settings. `transport` carries the requests."""

    def __init__(
        self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._known: dict[str, tuple[Any, float]] = {}

    @property
    def name(self) -> str:
        """What people call it: its host."""
        return urlsplit(self._settings.oidc_issuer).netloc

    async def address(self, redirect: str, *, state: str, nonce: str, challenge: str) -> str:
        """Where a browser goes to sign in there, and comes back from to `redirect`."""
        found = await self._described()
        asked = {
            "response_type": "code", "client_id": self._settings.oidc_client_id,
            "redirect_uri": redirect,
            "scope": " ".join(self._settings.oidc_scopes), "state": state, "nonce": nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{found.authorization_endpoint}{'&' if '?' in found.authorization_endpoint else '?'}{urlencode(asked)}"

    async def check_sender(self, given: str | None) -> None:
        """Raise `Unauthorized` for another provider's answer, and for one without a sender if this
        one names itself."""
        expected = (await self._described()).authorization_response_iss_parameter_supported
        if given != self._settings.oidc_issuer and (given is not None or expected):
            raise self._refused("the answer is of another provider")

    async def claims(self, code: str, redirect: str, *, verifier: str, nonce: str) -> Claims:
        """What it says of who signed in, for the code that it sent. Raises `Unauthorized` for what
        is not from it, for us and for this very sign-in, `Failed` when it cannot be asked."""
        found = await self._described()
        tokens = await self._exchange(found, code, redirect, verifier)
        claims = await self._verified(found, tokens.id_token, nonce)
        wanted = (self._settings.oidc_claim, self._settings.oidc_groups_claim)
        if (
            tokens.access_token
            and found.userinfo_endpoint
            and any(name not in claims for name in wanted)
        ):
            return {**await self._told(found, tokens.access_token, str(claims["sub"])), **claims}
        return claims

    # ------------------------------------------------------------ what it is asked

    async def _described(self) -> Described:
        issuer = self._settings.oidc_issuer
        address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._remembered(address, Described, "its description")
        addresses = (
            found.authorization_endpoint,
            found.token_endpoint,
            found.jwks_uri,
            found.userinfo_endpoint or issuer,
        )
        if found.issuer != issuer:
            raise self._away(f"it calls itself {found.issuer[:200]!r}, not {issuer!r}")
        if not all(is_safe_address(item) for item in addresses):
            raise self._away("not all of its addresses begin with https://")
        return found

    async def _exchange(self, found: Described, code: str, redirect: str, verifier: str) -> Tokens:
        client, secret = self._settings.oidc_client_id, await anyio.to_thread.run_sync(self._secret)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
        }
        auth: tuple[str, str] | None = None
        if secret and "client_secret_basic" in found.token_endpoint_auth_methods_supported:
            auth = (quote(client, safe=""), quote(secret, safe=""))  # RFC 6749 section 2.3.1
        else:
            form |= {"client_id": client} | ({"client_secret": secret} if secret else {})
        status, text = await self._ask("POST", found.token_endpoint, data=form, auth=auth)
        if status in (400, 401, 403):
            raise self._refused(f"it did not take the code ({_code(text)})")
        if status != 200:
            raise self._away(f"it answered {status} instead of tokens")
        return self._read(text, Tokens, "its tokens")

    async def _told(self, found: Described, token: str, subject: str) -> Claims:
        """What it says beside the ID token, and only of the same person."""
        status, text = await self._ask(
            "GET", found.userinfo_endpoint, headers={"Authorization": f"Bearer {token}"}
        )
        if status != 200:
            raise self._away(f"it answered {status} when asked who that is")
        told = self._read(text, dict[str, Any], "who that is")
        if told.get("sub") != subject:
            raise self._refused("its user information is about another user")
        return told

    async def _verified(self, found: Described, text: str, nonce: str) -> Claims:
        """The claims of an ID token (OpenID Connect Core 1.0 section 3.1.3.7)."""
        import jwt  # only where there is a provider

        client = self._settings.oidc_client_id
        try:
            head = jwt.get_unverified_header(text)
            if head.get("alg") not in ALGORITHMS:
                raise self._refused("its ID token is not signed by a key of its own")
            if "crit" in head:  # RFC 7515 section 4.1.11; older versions of PyJWT pass over it
                raise self._refused("its ID token has a critical header that is not supported")
            key = await self._key(found, head)
            claims: dict[str, Any] = jwt.decode(
                text, key, algorithms=[head["alg"]], audience=client, issuer=found.issuer,
                leeway=LEEWAY,
                options={"require": list(NEEDED)},
            )  # fmt: skip
        except (jwt.PyJWTError, *OF_PYTHON) as error:
            raise self._refused(f"its ID token cannot be used: {type(error).__name__}") from None
        others = [item for item in _list(claims["aud"]) if item != client]
        if claims["nonce"] != nonce:
            raise self._refused("its ID token is of another sign-in")
        if (others and claims.get("azp") != client) or claims.get("azp", client) != client:
            raise self._refused("its ID token is issued to another client as well")
        return claims

    async def _key(self, found: Described, head: Mapping[str, Any]) -> Any:
        """The provider's key that an ID token names; its keys are asked for again when that is none
        of those that are known."""
        import jwt

        for fresh in (False, True):
            keys = (await self._remembered(found.jwks_uri, Keys, "its keys", fresh=fresh)).keys
            fitting = [
                item
                for item in keys
                if item.get("use", "sig") == "sig" and item.get("kty") != "oct"
                if head.get("kid") in (None, item.get("kid"))
                and item.get("alg", head["alg"]) == head["alg"]
            ]
            if len(fitting) == 1:
                return jwt.PyJWK(fitting[0], algorithm=head["alg"]).key
        raise self._refused("its ID token is not signed by one of its keys")

    def _secret(self) -> str:
        """Our own secret at the provider, "" for a client that has none. Raises `BadInput` for a
        file that others may read."""
        path = self._settings.oidc_client_secret_file
        if not path:
            return ""
        try:
            with open(path) as file:
                mode = os.fstat(file.fileno()).st_mode
                if stat.S_IMODE(mode) & 0o077:
                    raise BadInput(
                        f"Others may read {path}, the secret of oidc-client-secret-file.",
                        remedy=f"chmod 600 {path}",
                    )
                return file.read(LARGEST).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise BadInput(
                f"{Path(path)}, the file of oidc-client-secret-file, cannot be read: {why}.",
                remedy=BESIDE,
            ) from None

    # ------------------------------------------------------------ how it is asked

    async def _remembered(
        self, address: str, kind: type[T], what: str, *, fresh: bool = False
    ) -> T:
        """What is at an address, for a while as it was; what cannot be used is not kept."""
        known, until = self._known.get(address, (None, 0.0))
        if isinstance(known, kind) and not fresh and time.monotonic() < until:
            return known
        status, text = await self._ask("GET", address)
        if status != 200:
            raise self._away(f"it answered {status} at {address}")
        found = self._read(text, kind, what)
        self._known[address] = found, time.monotonic() + KEPT
        return found

    async def _ask(self, method: str, address: str, **given: Any) -> tuple[int, bytes]:
        """One answer, of a bounded size and within a bounded time. It leads nowhere else, and
        nothing is unpacked."""
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **given.pop("headers", {}),
        }
        body = bytearray()
        try:
            with anyio.fail_after(DEADLINE):
                async with (
                    httpx.AsyncClient(transport=self._transport, timeout=DEADLINE) as client,
                    client.stream(method, address, headers=headers, **given) as answer,
                ):
                    if "content-encoding" in answer.headers:
                        raise self._away("its answer is packed")
                    async for part in answer.aiter_bytes():
                        body += part
                        if len(body) > LARGEST:
                            raise self._away("its answer is too large")
                    return answer.status_code, bytes(body)
        except TimeoutError:
            raise self._away(f"no answer within {DEADLINE:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(str(error) or type(error).__name__) from None

    def _read(self, text: bytes, kind: type[T], what: str) -> T:
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.DecodeError, RecursionError):
            raise self._away(f"{what} cannot be read") from None

    def _away(self, why: str) -> Failed:
        return Failed(f"{self.name} cannot sign anybody in now: {why}.", remedy=BESIDE)

    def _refused(self, why: str) -> Unauthorized:
        return Unauthorized(
            f"The answer of {self.name} was refused: {why}.", remedy="Sign in again."
        )


def _code(text: bytes) -> str:
    """The error that an answer names, if it is one of its few words."""
    try:
        said = str(msgspec.json.decode(text, type=dict[str, Any]).get("error"))
    except msgspec.DecodeError:
        said = ""
    return (
        said
        if said.isascii() and said.replace("_", "").isalnum() and len(said) < 60
        else "no reason"
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
