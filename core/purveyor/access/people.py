"""Who of a provider's people may sign in here, as what, and as which user. Nobody may because of
having come first."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from purveyor.access import store as users
from purveyor.access.models import UserRecord
from purveyor.kernel.db import Tx
from purveyor.settings import Settings
from purveyor_hooks import Forbidden

GROUP = "group:"
MAIL = "email"


class Account(NamedTuple):
    """Whom a provider means, for good (OpenID Connect Core 1.0 section 2): names and addresses are
    given to others one day."""

    issuer: str
    subject: str


class Person(NamedTuple):
    """Somebody who may come in, by the name of the user."""

    name: str
    scope: Literal["admin", "read"]
    account: Account


def person(settings: Settings, claims: Mapping[str, Any]) -> Person:
    """Whom claims are about. Raises `Forbidden` for somebody whom the settings do not name."""
    claim = settings.oidc_claim
    name = claims.get(claim)
    if not isinstance(name, str) or not name:
        raise Forbidden(
            f"The provider says nothing of the claim {claim}.",
            remedy="See oidc-claim and oidc-scopes in the settings.",
        )
    name = name.casefold()
    if not users.NAME.fullmatch(name):
        raise Forbidden(
            f"What the provider says of {claim} cannot be a user's name.",
            remedy="Choose another claim: oidc-claim.",
        )
    if claim == MAIL and claims.get("email_verified") is not True:
        raise Forbidden(
            f"The provider does not say that it has verified the address {name}.",
            remedy=(
                "Verify it there; or have oidc-claim name a claim that people cannot choose "
                "themselves."
            ),
        )
    groups = claims.get(settings.oidc_groups_claim)
    known = (
        {name, *(f"{GROUP}{item}" for item in groups if isinstance(item, str))}
        if isinstance(groups, list)
        else {name}
    )
    for scope, named in (("admin", settings.oidc_admins), ("read", settings.oidc_readers)):
        if any((item if item.startswith(GROUP) else item.casefold()) in known for item in named):
            account = Account(str(claims["iss"]), str(claims["sub"]))
            return Person(name, "admin" if scope == "admin" else "read", account)
    raise Forbidden(
        f"{name} may not sign in here.",
        remedy="The settings file lists who may: oidc-admins, oidc-readers, by name or group.",
    )


def user_of(tx: Tx, found: Person) -> UserRecord:
    """The user of a person, made now if there has never been one. Raises `Forbidden` for one who is
    disabled or was removed, and for another account of the provider than the one that first signed
    in as that user."""
    row = tx.row("SELECT disabled_at, removed_at, account FROM users WHERE name = ?", [found.name])
    if row is None:
        made = users.add(tx, found.name)
        _bind(tx, found)
        tx.emit("user.created", data={"id": made.id, "name": made.name, "actor": "purveyor"})
        return made
    if row["removed_at"] is not None:
        raise Forbidden(
            f"The user {found.name} was removed.",
            remedy="The name is never given again: use another account.",
        )
    if row["disabled_at"] is not None:
        raise Forbidden(
            f"The user {found.name} is disabled.",
            remedy=f"An administrator can: purveyor user enable {found.name}",
        )
    known = msgspec.json.decode(row["account"], type=Account) if row["account"] else None
    if known is not None and known.issuer == found.account.issuer and known != found.account:
        raise Forbidden(
            f"The name {found.name} belongs to another account of the provider here: the provider has "
            "given it to another person.",
            remedy=(
                "If it is the same person, an administrator can: purveyor user disable "
                f"{found.name}, then user enable it."
            ),
        )
    # a provider that the settings name instead of another tells of the same people
    if known != found.account:
        _bind(tx, found)
    return users.get(tx, found.name)


def _bind(tx: Tx, found: Person) -> None:
    tx.update(
        "users", "name = ?", [found.name], account=msgspec.json.encode(found.account).decode()
    )
