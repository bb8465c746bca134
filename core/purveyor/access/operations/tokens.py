"""Make and revoke tokens."""

from datetime import timedelta
from typing import ClassVar

import msgspec

from purveyor.access import session_store as sessions
from purveyor.access import store as users
from purveyor.access.schemas import NewToken, TokenRequest
from purveyor.kernel.actors import Who, actor_fields, name_of
from purveyor.kernel.api import tokens
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import ImmediateOperation, Result, Target
from purveyor.kernel.parts import Kernel
from purveyor.kernel.subjects import Subject
from purveyor_hooks import BadInput

LONGEST = 10 * 365 * 86400  # seconds


class TokenArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    token: int


class CreateToken(ImmediateOperation):
    """`projects` finds the project of a token of that scope."""

    name: ClassVar[str] = "create-token"
    arguments = TokenRequest

    def __init__(self, kernel: Kernel, projects: Subject) -> None:
        super().__init__(kernel)
        self._projects = projects

    async def prepare(self, given: TokenRequest) -> TokenRequest:
        if not given.name.strip() or len(given.name) > 80 or not given.name.isprintable():
            why = "1 to 80 characters that can be printed"
            raise BadInput(
                "A token needs a name.", remedy=f"Give one of {why}.", errors={"name": why}
            )
        if (given.scope == "project") != (given.project is not None):
            why = "needed for the scope project, and only for it"
            raise BadInput(
                "The token's scope and project do not go together.", errors={"project": why}
            )
        if given.expires_in is not None and not 0 < given.expires_in <= LONGEST:
            why = "seconds, more than 0, at most ten years"
            raise BadInput("expires_in is out of range.", errors={"expires_in": why})
        return given

    def change(self, tx: Tx, given: TokenRequest, actor: Who) -> Result:
        project = self._projects.find(tx, given.project) if given.project is not None else None
        expires = tx.now + timedelta(seconds=given.expires_in) if given.expires_in else None
        user = users.require_enabled(tx, given.user) if given.user is not None else None
        shown = {"name": given.name.strip(), "scope": given.scope}
        number, token = tokens.create(
            tx,
            **shown,
            project_id=project,
            expires_at=expires,
            user_id=user.id if user else None,
        )
        data = {"id": number, **shown, "user": user.name if user else "", **actor_fields(actor)}
        tx.emit("token.created", project=project, data=data)
        made = NewToken(id=number, **shown, token=token, user=given.user)
        return Result(answer=made, subject=shown["name"], project=project)


class RevokeToken(ImmediateOperation):
    """What was signed in with it ends too."""

    name: ClassVar[str] = "revoke-token"
    arguments = TokenArguments

    def target(self, tx: Tx, given: TokenArguments) -> Target:
        return Target(also=(("token", given.token),))

    def change(self, tx: Tx, given: TokenArguments, actor: Who) -> Result:
        tokens.revoke(tx, given.token)
        sessions.end(tx, name_of(actor), token_id=given.token)
        tx.emit("token.revoked", data={"id": given.token, **actor_fields(actor)})
        warning = f"Whoever uses token {given.token} is refused from then on."
        return Result(answer=None, subject=str(given.token), warnings=[warning])
