"""Signing in and out: a token opens a session, which two halves open from then on. What the
contract calls `Sessions`."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

import anyio

from purveyor.access import people
from purveyor.access import session_store as sessions
from purveyor.access.flows import Flows
from purveyor.access.models import SessionRecord
from purveyor.access.provider import Provider
from purveyor.audit.log import AuditLog
from purveyor.kernel.api import tokens
from purveyor.kernel.api.models import TokenRecord
from purveyor.kernel.api.refusals import Buckets, Refusals
from purveyor.kernel.api.tokens import actor_of
from purveyor.kernel.cache import Cache
from purveyor.kernel.db import Store, Tx
from purveyor.settings import Settings
from purveyor_hooks import (
    Arrival,
    Departure,
    Forbidden,
    NotFound,
    OpenSession,
    StateUnavailable,
    TooMany,
    Unauthorized,
)

# wrong tokens of one peer, or with one beginning, at once; seconds until one more
TRIES, REFILL = 10, 30.0
SLOWER = 0.5  # seconds that each of them waits longer than the one before
PREFIX = 12  # characters of a token that tell which one it is, and open nothing
NOTED = 60.0  # seconds between two notes of a session's use
AGENT = 200  # characters


class Opened(NamedTuple):
    """An open session, and the token that it was opened with."""

    session: SessionRecord
    token: TokenRecord

    @property
    def number(self) -> int:
        return self.session.id


class SignIns:
    """The sessions of one installation."""

    def __init__(
        self,
        store: Store,
        memory: Cache,
        audit: AuditLog,
        now: Callable[[], datetime],
        settings: Settings,
    ) -> None:
        self._store = store
        self._settings = settings
        self.oidc = Provider(settings) if settings.oidc_issuer else None
        self._flows = Flows()
        self._audit = audit
        self._memory = memory
        self._now = now
        self._peers = Buckets(TRIES, REFILL)
        self._prefixes = Buckets(TRIES, REFILL)
        self._uses: dict[int, datetime] = {}
        self.refusals = Refusals(store, "session.refused")

    async def open(self, token: str, peer: str, agent: str = "") -> OpenSession:
        """Sign in. The right token waits for nobody's failures: behind a proxy all come from one
        address.

        Raises `Unauthorized` for a wrong one, later each time, `TooMany` after too many,
        `Forbidden` for a project's.
        """
        record = await self._store.read(lambda tx: tokens.check(tx, token))
        if record is None:
            await self._refuse(token, peer)
        elif record.scope == "project":
            raise Forbidden(
                "A project's token may only use its own project.",
                remedy="Use a token of the scope read or admin.",
            )
        else:
            return await self._begin(lambda tx: record, peer, agent)
        raise Unauthorized(
            "This token is unknown, expired or revoked.",
            remedy="Make another: purveyor token create NAME",
        )

    async def _begin(
        self, token_of: Callable[[Tx], TokenRecord], peer: str, agent: str, way: str = ""
    ) -> OpenSession:
        credential = sessions.new()
        shown = "".join(letter for letter in agent[:AGENT] if letter.isprintable())

        def work(tx: Tx) -> tuple[int, TokenRecord]:
            token = token_of(tx)
            return sessions.create(
                tx, token.id, credential, peer=peer or "local", agent=shown
            ), token

        number, token = await self._store.write(work)
        await self._note("sign in", token, peer, number, way)
        return OpenSession(id=number, credential=credential, admin=token.scope == "admin")

    async def _note(
        self, action: str, token: TokenRecord, origin: str, number: int, way: str = ""
    ) -> None:
        origin = origin or "local"
        target = f"session {number}"
        found = self._audit.entry(
            action,
            actor=actor_of(token),
            token_id=token.id,
            origin=origin,
            target=target,
            detail=way,
        )
        await self._audit.record(found)

    # ------------------------------------------------------------ through a provider

    @property
    def public(self) -> str:
        return self._settings.dashboard_url

    @property
    def provider(self) -> str:
        return self.oidc.name if self.oidc else ""

    async def leave(self, path: str, wanted: str) -> Departure:
        """Begin to sign in at the provider. People come back to where the settings say, whatever a
        request says of itself."""
        redirect = f"{self.public}{path}"
        secret, flow = self._flows.begin(redirect, wanted)
        address = await self._provider().address(
            redirect, state=flow.state, nonce=flow.nonce, challenge=flow.challenge
        )
        return Departure(address=address, secret=secret)

    async def arrive(
        self, secret: str, answer: Mapping[str, str], peer: str, agent: str = ""
    ) -> Arrival:
        """Sign in with the provider's answer. An answer is taken once, and only from the browser
        that was sent there."""
        provider = self._provider()
        flow = self._flows.end(secret, answer.get("state", ""))
        try:
            if flow is None:
                raise Unauthorized(
                    "This sign-in was not begun in this browser, or is over.",
                    remedy="Sign in again.",
                )
            await provider.check_sender(answer.get("iss"))
            if not answer.get("code"):
                raise Unauthorized(
                    f"{provider.name} did not complete the sign-in.",
                    remedy="Sign in again, or with a token.",
                )
            claims = await provider.claims(
                answer["code"], flow.redirect, verifier=flow.verifier, nonce=flow.nonce
            )
            found = people.person(self._settings, claims)

            def token_of(tx: Tx) -> TokenRecord:
                return tokens.of_provider(
                    tx, people.user_of(tx, found).id, found.scope, tx.now + sessions.LIFE
                )

            session = await self._begin(token_of, peer, agent, f"through {provider.name}")
        except (Unauthorized, Forbidden) as error:
            why = f"through {provider.name}: {error.detail}"
            refused = self._audit.entry(
                "sign in",
                actor="",
                origin=peer or "local",
                outcome="refused",
                status=error.status,
                detail=why,
            )
            await self._audit.record(refused, ("sign in", peer, why))
            await self.refusals.note(peer)
            raise
        return Arrival(session=session, wanted=flow.wanted)

    def _provider(self) -> Provider:
        if self.oidc is None:
            raise NotFound(
                "There is no provider to sign in at.",
                remedy="Sign in with a token; or say one: oidc-issuer.",
            )
        return self.oidc

    # ------------------------------------------------------------ who is refused

    async def _refuse(self, token: str, peer: str) -> None:
        refused = self._audit.entry(
            "sign in", actor="", origin=peer or "local", outcome="refused", status=401
        )
        await self._audit.record(refused, ("sign in", peer))
        await self.refusals.note(peer)
        used = [self._peers.take(peer), self._prefixes.take(token[:PREFIX])]
        if None in used:
            raise TooMany(
                "Too many wrong tokens came from there.",
                remedy="Wait half a minute. A right token is let in at once.",
            )
        await anyio.sleep(SLOWER * max(count or 0 for count in used))

    async def refuse_foreign(self, peer: str) -> None:
        """A page of somebody else sent a form to sign in with."""
        await self.refusals.note(peer)

    async def find(self, credential: str, *, used: bool) -> OpenSession | None:
        """The session that this opens now; `used` for what a person does, which keeps it from
        ending."""
        found = await self.lookup(credential)
        if found is None:
            return None
        if used:
            await self._touch(found.session)
        return OpenSession(
            id=found.session.id, credential=credential, admin=found.token.scope == "admin"
        )

    async def lookup(self, credential: str) -> Opened | None:
        """The session that this opens now."""
        if sessions.MARK not in credential:
            return None
        question = ("session", sessions.hash_of(credential))
        found = await self._memory.get_or_load(
            question,
            lambda: self._store.read(lambda tx: _look_up(tx, credential)),
            lambda found: (
                [("web_sessions", found.session.id), ("tokens", found.token.id)] if found else []
            ),
        )
        if found is None:
            return None
        now, used = self._now(), self._used(found.session)
        token_over = found.token.expires_at is not None and found.token.expires_at <= now
        return (
            None
            if token_over or found.session.expires_at <= now or now - used >= sessions.IDLE
            else found
        )

    def _used(self, session: SessionRecord) -> datetime:
        return max(self._uses.get(session.id, session.last_used_at), session.last_used_at)

    async def _touch(self, session: SessionRecord) -> None:
        """Note the use, at most once a minute: looking must not mean writing."""
        now = self._now()
        if (now - self._used(session)).total_seconds() > NOTED:
            self._uses[session.id] = now
            with suppress(StateUnavailable):  # looking goes on while nothing can be written
                await self._store.write(lambda tx: sessions.touch(tx, session.id))

    async def end(self, credential: str) -> None:
        """Sign out. One that has ended already is fine."""
        found = await self.lookup(credential)
        if found is not None:
            number, actor = found.session.id, actor_of(found.token)
            await self._store.write(lambda tx: sessions.end(tx, actor, number=number))
            await self._note("sign out", found.token, found.session.peer, number)

    async def run(self) -> None:
        """Forget sessions that are over, and tell of refusals, for as long as the daemon serves."""
        while True:
            await anyio.sleep(NOTED)
            await self.refusals.tell()
            now = self._now()
            self._uses = {
                number: at for number, at in self._uses.items() if now - at < sessions.IDLE
            }
            if await self._store.read(sessions.any_over):
                await self._store.write(sessions.forget)


def _look_up(tx: Tx, credential: str) -> Opened | None:
    session = sessions.find(tx, credential)
    token = tokens.get(tx, session.token_id) if session else None
    return Opened(session, token) if session and token else None
