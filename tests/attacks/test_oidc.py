"""Signing in through an OpenID Connect provider: what a hostile one, page, app or person tries, and
what honest ones do all the same. The provider runs in this process."""

import gzip
import hashlib
import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from attacks.test_web import NETWORKS as OF_ENGINE
from attacks.test_web import OURS, Networks, Site, csrf, enter, neighbours
from attacks.test_web import site as site_of
from attacks.told import attack
from browsing import base_of, signed_out
from fake.scene import Scene
from purveyor.access import provider as provider_module
from purveyor.access.provider import Provider
from purveyor.kernel.api.peers import judge_peers
from purveyor.settings import FILE as SETTINGS_FILE
from purveyor.settings import load as load_settings
from purveyor_hooks import BadInput

pytestmark = pytest.mark.anyio
ISSUER = "https://id.example.com"
PUBLIC = "https://purveyor.example.com"
SECRET = "a secret & more"
SETTINGS = f"""
dashboard-url = "{PUBLIC}"
oidc-issuer = "{ISSUER}"
oidc-client-id = "purveyor"
oidc-admins = ["ada@example.com", "group:ops"]
oidc-readers = ["rob@example.com"]
"""
BEHIND = {"Host": "purveyor.example.com"}
KEY, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


class Fake:
    """A provider. `claims` changes what an ID token says, `spoil` an answer by its path, `sign` how
    a token is signed."""

    def __init__(self) -> None:
        self.codes: dict[str, dict[str, str]] = {}
        self.who: dict[str, Any] = {"sub": "1", "email": "ada@example.com", "email_verified": True}
        self.claims: dict[str, Any] = {}
        self.beside: dict[str, Any] = {}
        self.described: dict[str, Any] = {}
        self.spoil: dict[str, Callable[[], Any]] = {}
        self.sign: Callable[[dict[str, Any]], str] = self.signed
        self.asked: list[httpx.Request] = []

    def signed(
        self, claims: dict[str, Any], key: Any = KEY, algorithm: str = "RS256", kid: str = "one"
    ) -> str:
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})

    def sign_in(self, location: str) -> dict[str, str]:
        """What a person does there; the answer is what the browser brings back."""
        asked = {name: value[0] for name, value in parse_qs(urlsplit(location).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": ISSUER}

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path
        if path in self.spoil:
            found = self.spoil[path]()
            return await found if not isinstance(found, httpx.Response) else found
        if path == "/.well-known/openid-configuration":
            paths = {"authorization": "/auth", "token": "/token", "userinfo": "/me"}
            shown = {f"{name}_endpoint": f"{ISSUER}{value}" for name, value in paths.items()}
            shown |= {
                "issuer": ISSUER,
                "jwks_uri": f"{ISSUER}/keys",
                "authorization_response_iss_parameter_supported": True,
            }
            return httpx.Response(200, json={**shown, **self.described})
        if path == "/keys":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
            return httpx.Response(200, json={"keys": [{**key, "kid": "one", "use": "sig"}]})
        if path == "/me":
            return httpx.Response(200, json={**self.who, **self.beside})
        return self.tokens(
            {name: value[0] for name, value in parse_qs(request.content.decode()).items()}
        )

    def tokens(self, form: dict[str, str]) -> httpx.Response:
        asked = self.codes.pop(form["code"], None)
        challenge = (
            urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
            .rstrip(b"=")
            .decode()
        )
        if asked is None or (challenge, form["redirect_uri"]) != (
            asked["code_challenge"],
            asked["redirect_uri"],
        ):
            return httpx.Response(400, json={"error": "invalid_grant"})
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": "purveyor",
            "nonce": asked["nonce"],
            "iat": now,
            "exp": now + 60,
            **self.who,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return httpx.Response(200, json={"id_token": self.sign(claims), "access_token": "opaque"})


class Stage(Site):
    provider: Fake

    def browser(self, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.api, client=("127.0.0.1", 1))
        return httpx.AsyncClient(
            transport=transport, base_url=PUBLIC, headers=BEHIND, timeout=30, **options
        )

    async def arrive(self, browser: httpx.AsyncClient, wanted: str = "/projects") -> httpx.Response:
        """The whole way: to the provider and back."""
        away = await browser.get("/sign-in/oidc", params={"next": wanted})
        assert away.status_code == 302, away.text
        return await browser.get(
            "/sign-in/oidc/return", params=self.provider.sign_in(away.headers["location"])
        )


@asynccontextmanager
async def staged(scene: Scene, settings: str = SETTINGS) -> AsyncIterator[Stage]:
    path = scene.state / SETTINGS_FILE
    path.write_text((path.read_text() if path.exists() else "") + settings)
    async with site_of(scene) as made:
        stage = Stage(made.app, made.api)
        stage.provider = Fake()
        stage.app.sign_ins.oidc = Provider(
            made.app.context.settings, httpx.MockTransport(stage.provider)
        )
        yield stage


def onward(answer: httpx.Response) -> str:
    found = re.search(r'href="(/~/[^"]+)">Go on', answer.text)
    assert answer.status_code == 200, answer.text
    assert found, answer.text
    return found[1]


async def entries(stage: Stage) -> list[Any]:
    return await stage.app.context.store.read(
        lambda tx: list(tx.rows("SELECT * FROM audit WHERE action = 'sign in' ORDER BY id"))
    )


# ---------------------------------------------------------------- the honest way


async def test_who_is_named_signs_in_as_a_user_and_the_log_says_by_which_way(scene: Scene) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        page = await browser.get("/sign-in")
        assert f'href="{PUBLIC}/sign-in/oidc?next=%2Fservices"' in page.text
        assert "Sign in with id.example.com" in page.text
        address = onward(await stage.arrive(browser))
        assert address.endswith("/projects")
        assert "shop" in (await browser.get(address)).text
        opened = (await stage.told("session.opened"))[-1]
        assert opened["token"] == "oidc"
        base = base_of(address)
        assert "oidc of ada@example.com" in (await browser.get(f"{base}/sessions")).text
        last = (await entries(stage))[-1]
        assert (last["actor"], last["outcome"], last["detail"]) == (
            "ada@example.com",
            "ok",
            "through id.example.com",
        )
        await browser.post(f"{base}/sign-out", data=await csrf(browser, base))
        assert signed_out(await browser.get(address))
        cookies = stage.provider.asked[-1].headers
        assert "authorization" not in cookies or "Basic" not in cookies["authorization"]


async def test_cookies_of_both_halves_are_of_this_host_alone_and_only_the_passing_one_comes_from_elsewhere(
    scene: Scene,
) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        away = await browser.get("/sign-in/oidc")
        passing = away.headers["set-cookie"]
        assert passing.startswith("__Host-purveyor-oidc=")
        assert {"secure", "httponly", "samesite=lax"} <= {
            part.strip().lower() for part in passing.split(";")
        }
        back = await browser.get(
            "/sign-in/oidc/return", params=stage.provider.sign_in(away.headers["location"])
        )
        kept, ended = back.headers.get_list("set-cookie")
        assert kept.startswith("__Host-purveyor=")
        assert "samesite=strict" in kept.lower()
        assert "max-age=0" in ended.lower()


@pytest.mark.parametrize(("who", "scope"), [
    ({"email": "Ada@Example.com"}, "admin"),
    ({"email": "rob@example.com"}, "read"),
    ({"email": "eve@example.com", "groups": ["dev", "ops"]}, "admin"),
    ({"email": "eve@example.com", "groups": ["dev"]}, None),
    ({"email": "eve@example.com", "groups": "ops"}, None),
    ({"email": "group:ops"}, None),
    ({"email": "eve@example.com"}, None),
    ({"email": "ada@example.com.evil.example"}, None),
    ({"email": "ada@example.com", "email_verified": False}, None),
    ({"email": "ada@example.com", "email_verified": "true"}, None),
    ({"email": "ada@example.com", "email_verified": None}, None),
    ({"email": None}, None),
    ({"email": ["ada@example.com"]}, None),
    ({"email": "local"}, None),
])  # fmt: skip
async def test_who_may_come_in_is_who_is_named_and_nobody_because_of_having_come_first(
    who: dict[str, Any], scope: str | None, scene: Scene
) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        stage.provider.who |= who
        stage.provider.who = {
            name: value for name, value in stage.provider.who.items() if value is not None
        }
        answer = await stage.arrive(browser)
        if scope is None:
            assert answer.status_code == 403
            assert "__Host-purveyor=" not in answer.headers["set-cookie"]
            assert not await stage.told("session.opened")
            assert (await entries(stage))[-1]["outcome"] == "refused"
            assert not await stage.app.context.store.read(
                lambda tx: list(tx.rows("SELECT * FROM users"))
            )
            return
        address = onward(answer)
        changed = await browser.post(
            f"{base_of(address)}/projects",
            data={"name": "new"} | await csrf(browser, base_of(address)),
        )
        assert (changed.status_code < 400) is (scope == "admin"), changed.text


async def test_claims_that_the_token_lacks_are_asked_for_and_only_of_the_same_person(
    scene: Scene,
) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        stage.provider.claims = {"email": None, "email_verified": None}
        onward(await stage.arrive(browser))
        stage.provider.beside = {"sub": "2"}
        assert (await stage.arrive(browser)).status_code == 403


@attack(
    "tokens and sign-in",
    "sign in as who had one's name at the provider before",
    honest=(
        "who has it still signs in; an administrator lets another account in, and another provider"
    ),
)
async def test_a_name_that_the_provider_gave_to_somebody_else_is_not_theirs_here(
    scene: Scene,
) -> None:
    async with staged(scene) as stage, stage.browser() as browser, stage.client() as host:
        onward(await stage.arrive(browser))
        onward(await stage.arrive(browser))
        stage.provider.who["sub"] = "2"
        answer = await stage.arrive(browser)
        assert answer.status_code == 403
        assert "given it to another person" in answer.text
        assert (await entries(stage))[-1]["outcome"] == "refused"
        bearer = {"Authorization": f"Bearer {await stage.token()}"}
        for verb in ("disable", "enable"):
            assert (
                await host.post(f"/api/users/ada@example.com/{verb}", headers=bearer)
            ).is_success
        onward(await stage.arrive(browser))
        stage.provider.who["sub"] = "1"
        assert (await stage.arrive(browser)).status_code == 403
        moved = json.dumps(["https://old.example.com", "2"])
        await stage.app.context.store.write(
            lambda tx: tx.update("users", "name = ?", ["ada@example.com"], account=moved)
        )
        onward(await stage.arrive(browser))


# ------------------------------------------- answers that are not from it, for us, for this sign-in


def _none(fake: Fake, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, None, algorithm="none")


def _hmac(fake: Fake, claims: dict[str, Any]) -> str:
    """Signed with what everybody knows, the public key's number."""
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))["n"]
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": "one"})


SIGNED = {
    "alg none": _none,
    "HMAC with the public key": _hmac,
    "another's key of the same name": lambda fake, claims: fake.signed(claims, OTHER),
    "a key that there is not": lambda fake, claims: fake.signed(claims, OTHER, kid="two"),
    "a changed payload": lambda fake, claims: ".".join(
        (
            fake.signed(claims).split(".")[0],
            fake.signed({**claims, "sub": "2"}).split(".")[1],
            fake.signed(claims).split(".")[2],
        )
    ),
    "no token": lambda fake, claims: "x.y",
}
CLAIMED: dict[str, Callable[[], dict[str, Any]]] = {
    "wrong nonce": lambda: {"nonce": "another"},
    "no nonce": lambda: {"nonce": None},
    "for another": lambda: {"aud": "other"},
    "for nobody": lambda: {"aud": None},
    "for another as well": lambda: {"aud": ["purveyor", "other"]},
    "handed to another": lambda: {"azp": "other"},
    "of another issuer": lambda: {"iss": "https://evil.example"},
    "expired": lambda: {"exp": int(time.time()) - 120},
    "without an end": lambda: {"exp": None},
    "not yet": lambda: {"iat": int(time.time()) + 600},
    "without a subject": lambda: {"sub": None},
}


@attack(
    "tokens and sign-in",
    "sign in with an ID token that nobody signed",
    "with one signed by what everybody knows",
    "with one of another key",
    "with one of an unknown key",
    "with one whose claims were changed",
    "with what is none",
    "with one of another sign-in",
    "with one that is for another",
    "with one that was handed to another",
    "with one of another provider",
    "with one that is over",
    "with one of tomorrow",
    "with one of nobody",
    honest="signs in with one whose end is five seconds past",
)
@pytest.mark.parametrize("how", [*SIGNED, *CLAIMED])
async def test_an_id_token_that_is_not_the_providers_for_us_and_for_this_sign_in_opens_nothing(
    how: str, scene: Scene
) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        if how in SIGNED:
            stage.provider.sign = lambda claims: SIGNED[how](stage.provider, claims)
        else:
            stage.provider.claims = CLAIMED[how]()
        answer = await stage.arrive(browser)
        assert answer.status_code == 403, how
        assert not await stage.told("session.opened")
        stage.provider.sign, stage.provider.claims = (
            stage.provider.signed,
            {"exp": int(time.time()) - 5},
        )
        onward(await stage.arrive(browser))  # clocks may differ a little


@attack(
    "tokens and sign-in",
    "use an answer in another browser",
    "put another's code into one's own sign-in",
    "guess the state",
    "use an answer twice",
    honest="the browser that was sent signs in",
)
async def test_an_answer_is_taken_once_and_from_the_browser_that_was_sent(scene: Scene) -> None:
    async with staged(scene) as stage, stage.browser() as browser, stage.browser() as thief:
        answers = stage.provider.sign_in((await browser.get("/sign-in/oidc")).headers["location"])
        stolen = await thief.get("/sign-in/oidc/return", params=answers)
        assert stolen.status_code == 403, "the answer without the browser"
        own = stage.provider.sign_in((await thief.get("/sign-in/oidc")).headers["location"])
        injected = await thief.get("/sign-in/oidc/return", params={**own, "code": answers["code"]})
        assert injected.status_code == 403, (
            "another's code in one's own sign-in: the verifier is another"
        )
        assert "invalid_grant" in injected.text
        answers = stage.provider.sign_in((await browser.get("/sign-in/oidc")).headers["location"])
        secret = browser.cookies["__Host-purveyor-oidc"]
        assert (
            await browser.get("/sign-in/oidc/return", params={**answers, "state": "guessed"})
        ).status_code == 403
        browser.cookies.set("__Host-purveyor-oidc", secret)
        onward(await browser.get("/sign-in/oidc/return", params=answers))
        browser.cookies.set("__Host-purveyor-oidc", secret)
        stage.provider.codes[answers["code"]] = {}
        assert (await browser.get("/sign-in/oidc/return", params=answers)).status_code == 403, (
            "replayed"
        )


@attack(
    "tokens and sign-in",
    "answer as another provider",
    honest="the provider's own answer signs in",
)
@pytest.mark.parametrize("sender", ["https://evil.example", "", None])
async def test_an_answer_of_another_provider_is_none_of_ours(
    sender: str | None, scene: Scene
) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        answers = stage.provider.sign_in((await browser.get("/sign-in/oidc")).headers["location"])
        answers = {
            name: value for name, value in {**answers, "iss": sender}.items() if value is not None
        }
        assert (await browser.get("/sign-in/oidc/return", params=answers)).status_code == 403
        assert not [item for item in stage.provider.asked if item.url.path == "/token"], (
            "the code went nowhere"
        )
        onward(await stage.arrive(browser))


async def test_somebody_who_does_not_agree_there_is_told_so_here(scene: Scene) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        answers = stage.provider.sign_in((await browser.get("/sign-in/oidc")).headers["location"])
        given = {
            "error": "access_denied",
            "error_description": "<b>no</b>",
            "state": answers["state"],
            "iss": ISSUER,
        }
        answer = await browser.get("/sign-in/oidc/return", params=given)
        assert answer.status_code == 403
        assert "did not complete the sign-in" in answer.text
        assert "<b>" not in answer.text


# ---------------------------------------------------------------- where it leads


@attack(
    "tokens and sign-in",
    "have people come back to an app",
    "have them led on to another host",
    honest="comes back to where the settings say",
)
async def test_no_app_is_where_people_come_back_to(scene: Scene) -> None:
    """Whatever a request calls its host, and whatever page it wants."""
    async with staged(scene) as stage, stage.browser() as browser:
        for host in ("127.0.0.1:31001", "shop-production:8000", "evil.example"):
            headers = {
                "Host": host,
                "X-Forwarded-Host": host,
                "Forwarded": f"host={host}",
                "Origin": f"http://{host}",
            }
            away = await browser.get(
                "/sign-in/oidc", params={"redirect_uri": f"http://{host}/"}, headers=headers
            )
            asked = parse_qs(urlsplit(away.headers["location"]).query)
            assert asked["redirect_uri"] == [f"{PUBLIC}/sign-in/oidc/return"]
            assert asked["code_challenge_method"] == ["S256"]
        for wanted in (
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "http://127.0.0.1:31001/",
        ):
            assert onward(await stage.arrive(browser, wanted)).endswith("/services"), wanted
        door = judge_peers(stage.api, neighbours(Networks(*OF_ENGINE)), at_gateway=True)
        async with stage.client(door, OURS) as container:
            for path in ("/sign-in/oidc", "/sign-in/oidc/return?code=a&state=b"):
                assert (await container.get(path)).status_code == 403


async def test_nobody_s_secret_is_told(scene: Scene) -> None:
    path = scene.state.parent / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    async with (
        staged(scene, f'{SETTINGS}oidc-client-secret-file = "{path}"\n') as stage,
        stage.browser() as browser,
    ):
        onward(await stage.arrive(browser))
        asked = next(item for item in stage.provider.asked if item.url.path == "/token")
        assert asked.headers["authorization"].startswith("Basic ")
        assert "secret" not in asked.content.decode()
        path.chmod(0o644)
        answer = await stage.arrive(browser)
        assert answer.status_code == 400
        assert "Others may read" in answer.text
        assert SECRET not in answer.text
        held = b"".join(item.read_bytes() for item in scene.state.glob("purveyor.db*"))
        assert SECRET.encode() not in held


# ---------------------------------------------------------------- users


async def test_a_user_who_is_disabled_or_removed_is_out_at_once_and_stays_out(scene: Scene) -> None:
    async with staged(scene) as stage, stage.browser() as browser, stage.client() as host:
        address = onward(await stage.arrive(browser))
        bearer = {"Authorization": f"Bearer {await stage.token()}"}
        assert (
            await host.post("/api/users/ada@example.com/disable", headers=bearer)
        ).status_code == 200
        assert signed_out(await browser.get(address))
        answer = await stage.arrive(browser)
        assert (answer.status_code, "is disabled" in answer.text) == (403, True)
        await host.post("/api/users/ada@example.com/enable", headers=bearer)
        onward(await stage.arrive(browser))
        assert (await host.delete("/api/users/ada@example.com", headers=bearer)).status_code == 204
        answer = await stage.arrive(browser)
        assert (answer.status_code, "was removed" in answer.text) == (403, True)


async def test_who_may_do_less_now_has_no_session_left_that_may_more(scene: Scene) -> None:
    async with staged(scene) as stage, stage.browser() as browser, stage.browser() as second:
        stage.provider.who = {
            "sub": "3",
            "email": "rob@example.com",
            "email_verified": True,
            "groups": ["ops"],
        }
        before = onward(await stage.arrive(browser))
        assert (await browser.get(before)).status_code == 200
        stage.provider.who["groups"] = []
        after = onward(await stage.arrive(second))
        assert signed_out(await browser.get(before))
        assert (await second.get(after)).status_code == 200
        found = await stage.app.context.store.read(
            lambda tx: list(tx.rows("SELECT * FROM tokens WHERE name = 'oidc'"))
        )
        for row in found:  # what is in the database opens nothing
            answer = await second.get(
                "/api/projects", headers={"Authorization": f"Bearer {row['hash']}"}
            )
            assert answer.status_code == 401


# ---------------------------------------------------------------- a provider that is away


def _hangs() -> Any:
    return anyio.sleep(60)


def _redirects() -> httpx.Response:
    return httpx.Response(302, headers={"location": "http://127.0.0.1:1/"})


AWAY: dict[str, Callable[[], Any]] = {
    "an error": lambda: httpx.Response(503),
    "too large": lambda: httpx.Response(
        200, content=b'{"a": "' + b"x" * provider_module.LARGEST + b'"}'
    ),
    "no JSON": lambda: httpx.Response(200, content=b"<html>"),
    "another kind of JSON": lambda: httpx.Response(200, content=b"[1]"),
    "deep JSON": lambda: httpx.Response(200, content=b"[" * 100_000),
    "packed": lambda: httpx.Response(
        200, headers={"content-encoding": "gzip"}, content=gzip.compress(b"{}")
    ),
    "led elsewhere": _redirects,
    "hangs": _hangs,
}


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
@pytest.mark.parametrize("how", [*AWAY])
async def test_a_provider_that_is_away_is_said_to_be_and_tokens_work_all_the_same(
    how: str, path: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        if how == "hangs":
            monkeypatch.setattr(provider_module, "DEADLINE", 0.05)
        stage.provider.spoil[path] = AWAY[how]
        away = await browser.get("/sign-in/oidc")
        if away.status_code == 302:
            away = await browser.get(
                "/sign-in/oidc/return", params=stage.provider.sign_in(away.headers["location"])
            )
        assert away.status_code == 502
        assert "id.example.com cannot sign anybody in now" in away.text
        assert await enter(browser, await stage.token())
        monkeypatch.undo()
        stage.provider.spoil.clear()
        onward(await stage.arrive(browser))


@pytest.mark.parametrize("described", [
    {"issuer": "https://evil.example"},
    {"token_endpoint": "http://id.example.com/token"},
    {"jwks_uri": "file:///etc/passwd"},
    {"authorization_endpoint": "javascript:alert(1)"},
    {"userinfo_endpoint": "http://169.254.169.254/"},
])  # fmt: skip
async def test_a_description_that_is_another_s_or_leads_to_plain_text_is_not_followed(
    described: dict[str, str], scene: Scene
) -> None:
    async with staged(scene) as stage, stage.browser() as browser:
        stage.provider.described = described
        assert (await browser.get("/sign-in/oidc")).status_code == 502
        assert len(stage.provider.asked) == 1


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(("change", "named"), [
    ({"oidc-issuer": '"http://id.example.com"'}, "oidc-issuer"),
    ({"dashboard-url": '""'}, "dashboard-url"),
    ({"dashboard-url": '"http://purveyor.example.com"'}, "dashboard-url"),
    ({"dashboard-url": '"https://purveyor.example.com/x"'}, "dashboard-url"),
    ({"oidc-client-id": '""'}, "oidc-client-id"),
    ({"oidc-admins": "[]", "oidc-readers": "[]"}, "nobody could sign in"),
    ({"oidc-admins": '["group:"]'}, "oidc-admins[0]"),
    ({"oidc-scopes": '["email"]'}, "openid"),
    ({"oidc-client-secret-file": '"secret"'}, "oidc-client-secret-file"),
])  # fmt: skip
async def test_settings_that_let_nobody_or_anybody_in_are_refused(
    change: dict[str, str], named: str, scene: Scene
) -> None:
    given = dict(line.split(" = ", 1) for line in SETTINGS.strip().splitlines()) | change
    (scene.state / SETTINGS_FILE).write_text(
        "\n".join(f"{name} = {value}" for name, value in given.items())
    )
    with pytest.raises(BadInput, match=re.escape(named)):
        load_settings(scene.state)


async def test_without_a_provider_there_is_no_button_and_no_way(scene: Scene) -> None:
    async with staged(scene, "") as stage, stage.browser() as browser:
        stage.app.sign_ins.oidc = None
        assert "Sign in with" not in (await browser.get("/sign-in")).text
        for path in ("/sign-in/oidc", "/sign-in/oidc/return?code=a&state=b"):
            assert (await browser.get(path)).status_code == 404
