"""A provider that signs what it likes, and answers what it likes: nobody is signed in by what
cannot be understood in one way, nothing of ours fails over it, and it is a sentence on the sign-in
page."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from attacks.test_oidc import KEY, OTHER, onward, staged
from attacks.told import attack
from fake.scene import Scene

pytestmark = pytest.mark.anyio

DEEP = b"[" * 100_000
HEAD: Mapping[str, Any] = {"alg": "RS256", "kid": "one"}
INFINITE = float("inf")


def signed(head: object, claims: object, key: Any = KEY) -> str:
    """A token that is signed rightly, whatever is in it: an object, or bytes as they are."""

    def part(value: bytes) -> str:
        return urlsafe_b64encode(value).rstrip(b"=").decode()

    packed = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in (head, claims)]  # fmt: skip
    text = ".".join(part(item) for item in packed)
    return f"{text}.{part(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def known(key: Any) -> dict[str, Any]:
    """A key as a provider shows it."""
    found: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {**found, "kid": "one", "use": "sig"}


CLAIMS: tuple[dict[str, Any], ...] = (
    {"exp": INFINITE}, {"exp": float("nan")}, {"exp": "x"}, {"exp": [1]}, {"exp": {}},
    {"iat": INFINITE}, {"iat": None}, {"nbf": {}}, {"nbf": INFINITE},
    {"sub": 5}, {"sub": ["1"]}, {"sub": "\ud800"}, {"sub": "x" * 100_000},
    {"email": "\ud800"}, {"email": "ada@example.com\x1b[2J"}, {"email": "ada@example.com\0"},
    {"email": "ada@example.com "}, {"email": "\uff41da@example.com"},
    {"email": "\u0430da@example.com"}, {"email": "ada@example.com,eve@example.com"},
    {"email": {"ada@example.com": 1}}, {"email": "ada@example\u3002com"},
    {"email": "eve@example.com", "groups": {"ops": 1}},
    {"email": "eve@example.com", "groups": [["ops"]]}, {"email": "eve@example.com", "groups": 5},
    {"email": "eve@example.com", "groups": "group:ops"},
    {"aud": 5}, {"aud": [["purveyor"]]}, {"aud": {"purveyor": 1}}, {"aud": "purveyor2"},
    {"azp": ["purveyor"]}, {"nonce": ["x"]}, {"nonce": {}}, {"iss": ["https://id.example.com"]},
)  # fmt: skip
HEADS: tuple[object, ...] = (
    [], DEEP, {}, {"kid": "one"}, {"alg": ["RS256"], "kid": "one"}, {"alg": None, "kid": "one"},
    {**HEAD, "kid": ["one"]}, {**HEAD, "crit": ["x"], "x": 1},
    {**HEAD, "b64": False, "crit": ["b64"]},
)  # fmt: skip
ELSEWHERE: tuple[dict[str, Any], ...] = (
    {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/"}, {"jwk": known(OTHER)},
    {"x5c": ["AA"]}, {"kid": "../../two"}, {"kid": "one' OR '1'='1"},
)  # fmt: skip
KEYS: tuple[dict[str, Any], ...] = (
    {"n": 5}, {"n": ""}, {"n": "!!"}, {"n": [1]}, {"n": None}, {"n": "_" * 100_000}, {"e": "Ag"},
    {"e": ""}, {"kty": ["RSA"]}, {"kty": "odd"}, {"kty": None}, {"kty": "oct", "k": "AA"},
    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": "EC", "crv": "P-256", "x": 1},
    {"kty": "OKP", "crv": "Ed25519", "x": 1}, {"alg": ["RS256"]}, {"use": ["sig"]}, {"d": "AA"},
    {"d": 5, "p": 1},
)  # fmt: skip
ANSWERS: dict[str, tuple[httpx.Response, ...]] = {
    "/token": (
        httpx.Response(400, content=DEEP), httpx.Response(200, content=DEEP),
        httpx.Response(400, json={"error": "<script>"}), httpx.Response(200, json=[]),
        httpx.Response(200, json={"id_token": 5}), httpx.Response(200, json={"id_token": ""}),
        httpx.Response(200, json={"id_token": "." * 100_000}),
        httpx.Response(302, headers={"location": "http://169.254.169.254/"}),
        httpx.Response(200, content=b"\xff\xfe"),
    ),
    "/keys": (
        httpx.Response(200, content=b'{"keys":' + DEEP), httpx.Response(200, json={"keys": 5}),
        httpx.Response(200, json={"keys": ["x"]}), httpx.Response(200, json={"keys": []}),
        httpx.Response(307, headers={"location": "https://evil.example/keys"}),
    ),
    "/.well-known/openid-configuration": (
        httpx.Response(200, content=DEEP), httpx.Response(500, content=b"<script>"),
        httpx.Response(302, headers={"location": "http://127.0.0.1/"}),
    ),
}  # fmt: skip


@attack(
    "tokens and sign-in",
    "sign in with claims of another kind than they are",
    "sign in by letters that look like an administrator's",
    "have a key fetched from where an ID token says",
    "bring one's own key in the token",
    "say in the token what has to be understood and is not",
    "break the sign-in by keys that are none",
    "break it by answers without end",
    "have the daemon led on to another host",
    honest="who is named signs in at the same provider, before and afterwards",
)
async def test_whatever_a_provider_says_nobody_comes_in_by_it_and_nothing_fails(
    scene: Scene,
) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        provider, sign_in = stage.provider, stage.app.sign_ins
        assert sign_in.oidc is not None

        async def refused(what: object) -> None:
            sign_in.oidc._known.clear()
            answer = await browser.get("/sign-in/oidc")
            if answer.status_code == 302:
                back = provider.sign_in(answer.headers["location"])
                answer = await browser.get("/sign-in/oidc/return", params=back)
            assert answer.status_code in (403, 502), (what, answer.status_code)
            assert "Sign in" in answer.text, what
            assert "<script>" not in answer.text
            assert "__Host-purveyor=" not in str(answer.headers.get_list("set-cookie")), what

        onward(await stage.arrive(browser))
        sessions = len(await stage.told("session.opened"))
        for claims in CLAIMS:
            provider.sign = lambda given, claims=claims: signed(HEAD, {**given, **claims})
            await refused(claims)
        for whole in (b"[1]", DEEP, b"null", b'{"a":'):
            provider.sign = lambda given, whole=whole: signed(HEAD, whole)
            await refused(whole[:9])
        for head in HEADS:
            provider.sign = lambda given, head=head: signed(head, given)
            await refused(head)
        for more in ELSEWHERE:
            provider.sign = lambda given, more=more: signed({**HEAD, **more}, given, OTHER)
            await refused(more)
        provider.sign = provider.signed
        for changed in KEYS:
            key = {**known(KEY), **changed}
            provider.spoil = {"/keys": lambda key=key: httpx.Response(200, json={"keys": [key]})}
            await refused(changed)
        for path, answers in ANSWERS.items():
            for answer in answers:
                provider.spoil = {path: lambda answer=answer: answer}
                await refused(answer)
        assert len(await stage.told("session.opened")) == sessions
        hosts = {request.url.host for request in provider.asked}
        assert hosts == {"id.example.com"}
        provider.spoil = {}
        sign_in.oidc._known.clear()
        onward(await stage.arrive(browser))
