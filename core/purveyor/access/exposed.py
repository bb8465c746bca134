"""What is done to users and tokens, as people come to it."""

from functools import partial

from purveyor.exposed import Command, Exposed

USERS, TOKENS = "/api/users", "/api/tokens"
USER = f"{USERS}/{{name}}"
SCHEMAS = "purveyor.access.schemas"
LOST = "Whoever uses a token of {name} is refused from now on"

_of_access = partial(Exposed, tag="installation")
_of_user = partial(_of_access, answers=f"{SCHEMAS}:UserView")

CREATE_USER = _of_user(
    "create-user",
    f"POST {USERS}",
    "create_user",
    body=f"{SCHEMAS}:UserRequest",
    status=201,
    command=Command(
        "add",
        "Add a user. A token for that one: purveyor token create laptop --user NAME",
        words=("name",),
        says="Created user {name}. Make a token: purveyor token create laptop --user {name}",
    ),
)
DISABLE_USER = _of_user(
    "disable-user",
    f"POST {USER}/disable",
    "disable_user",
    about="End a user's tokens, all of them and at once; no new ones are made until the user is\n"
    "enabled.",
    command=Command(
        "disable",
        "Revoke a user's tokens at once, and refuse new ones.",
        interrupts=f"{LOST}.",
        says="The user {name} is disabled, and has no valid token.",
    ),
)
ENABLE_USER = _of_user(
    "enable-user",
    f"POST {USER}/enable",
    "enable_user",
    about="Allow a user tokens again. Revoked tokens stay revoked.",
    command=Command(
        "enable",
        "Allow a user tokens again. Revoked tokens stay revoked.",
        says="The user {name} may have tokens. Make one: purveyor token create laptop --user "
        "{name}",
    ),
)
REMOVE_USER = _of_access(
    "remove-user",
    f"DELETE {USER}",
    "remove_user",
    about="End a user's tokens and forget the user; the name stays in the journal and is never "
    "given\nagain.",
    status=204,
    command=Command(
        "remove",
        "Revoke a user's tokens and remove the user. The name stays in the journal, and is not "
        "given again.",
        interrupts=f"{LOST}, and nobody can be called {{name}} again.",
        says="The user {name} is removed.",
        tells={"removed": "{name}"},
    ),
)
CREATE_TOKEN = _of_access(
    "create-token",
    f"POST {TOKENS}",
    "create_token",
    body=f"{SCHEMAS}:TokenRequest",
    status=201,
    answers="purveyor.access.routes:token_made",
    reveals="token",
)
REVOKE_TOKEN = _of_access(
    "revoke-token",
    f"DELETE {TOKENS}/{{number:token}}",
    "revoke_token",
    about="End a token, and what was signed in with it.",
    status=204,
)
