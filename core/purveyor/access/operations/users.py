"""Add, disable, enable and remove users."""

from typing import ClassVar

import msgspec

from purveyor.access import store as users
from purveyor.access.models import UserRecord
from purveyor.access.schemas import UserRequest, UserView, user_view
from purveyor.kernel.actors import Who, actor_fields
from purveyor.kernel.api import tokens
from purveyor.kernel.db import Tx
from purveyor.kernel.operations import ImmediateOperation, Result, Target


class UserArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


class _OnUser(ImmediateOperation):
    """What is done with one who is there."""

    arguments = UserArguments

    def target(self, tx: Tx, given: UserArguments) -> Target:
        return Target(also=(("user", users.get(tx, given.name).id),))


class CreateUser(ImmediateOperation):
    name: ClassVar[str] = "create-user"
    arguments = UserRequest

    def change(self, tx: Tx, given: UserRequest, actor: Who) -> Result:
        record = users.add(tx, given.name)
        _changed(tx, "created", record, actor)
        return Result(answer=_view(tx, record), subject=record.name)


class DisableUser(_OnUser):
    """No new tokens are made until the user is enabled."""

    name: ClassVar[str] = "disable-user"

    def change(self, tx: Tx, given: UserArguments, actor: Who) -> Result:
        record = users.get(tx, given.name)
        if record.disabled_at is None:
            users.disable(tx, record)
            _changed(tx, "disabled", record, actor)
        ended = _end_tokens(tx, record, actor)
        answer = _view(tx, users.get(tx, given.name))
        return Result(answer=answer, subject=record.name, warnings=ended)


class EnableUser(_OnUser):
    name: ClassVar[str] = "enable-user"

    def change(self, tx: Tx, given: UserArguments, actor: Who) -> Result:
        record = users.get(tx, given.name)
        if record.disabled_at is not None:
            users.enable(tx, record)
            _changed(tx, "enabled", record, actor)
        return Result(answer=_view(tx, users.get(tx, given.name)), subject=record.name)


class RemoveUser(_OnUser):
    """The name stays in the journal, and is never given again."""

    name: ClassVar[str] = "remove-user"

    def change(self, tx: Tx, given: UserArguments, actor: Who) -> Result:
        record = users.get(tx, given.name)
        ended = _end_tokens(tx, record, actor)
        users.remove(tx, record)
        _changed(tx, "removed", record, actor)
        warning = f"Nobody can be called {record.name} again."
        return Result(answer=None, subject=record.name, warnings=[*ended, warning])


def _view(tx: Tx, record: UserRecord) -> UserView:
    return user_view(record, len(tokens.of_user(tx, record.id)))


def _changed(tx: Tx, how: str, record: UserRecord, who: Who) -> None:
    tx.emit(f"user.{how}", data={"id": record.id, "name": record.name, **actor_fields(who)})


def _end_tokens(tx: Tx, record: UserRecord, who: Who) -> list[str]:
    """The answer is what a plan warns of."""
    ended = tokens.of_user(tx, record.id)
    for number in ended:
        tokens.revoke(tx, number)
        tx.emit("token.revoked", data={"id": number, **actor_fields(who)})
    return [f"Whoever uses token {number} is refused from then on." for number in ended]
