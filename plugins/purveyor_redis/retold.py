"""What a container of ours tells after the record of its service was lost."""

import re

from purveyor_hooks import (
    Access,
    Command,
    Failed,
    FoundContainer,
    HeldAccount,
    Reader,
    Retold,
    Service,
    certificates,
)
from purveyor_redis import division
from purveyor_redis.division import MARK
from purveyor_redis.server import (
    CHANNELS,
    CONFIG_FILE,
    DIVIDED,
    MAXMEMORY,
    OPEN,
    POLICY,
    PROJECT_CONFIG_FILE,
    PROJECT_MAXMEMORY,
    UNITS,
    USERS_FILE,
    connection,
    hash_password,
    is_divided,
)

MARKED = re.compile(rf"user (\S+) .*&{MARK}(\d{{1,18}})(?: |$)")
SELECTS = re.compile(r"\+select\|(\d{1,9})(?: |$)")


async def retell(container: FoundContainer, read: Reader) -> Retold:
    """The limits of memory, how it is divided, and whether it refuses plain text. Of the password
    only a hash is kept."""
    config, of_projects = await read(CONFIG_FILE) or "", await read(PROJECT_CONFIG_FILE)
    mode = "require" if re.search(r"^port 0$", config, re.MULTILINE) else "disable"
    told = {
        MAXMEMORY.name: _maxmemory(config),
        certificates.SSL_MODE.name: mode,
        CHANNELS.name: DIVIDED if of_projects is None else OPEN,
    }
    if of_projects is not None:
        policy = re.search(r"^maxmemory-policy (\S+)$", of_projects, re.MULTILINE)
        told |= {PROJECT_MAXMEMORY.name: _maxmemory(of_projects)}
        told |= {POLICY.name: policy[1]} if policy else {}
    return Retold(parameters=told)


def _maxmemory(config: str) -> str:
    found = re.search(r"^maxmemory (\d{1,15})$", config, re.MULTILINE)
    size = int(found[1]) if found else 0
    unit = "gb" if size and size % UNITS["gb"] == 0 else "mb"
    return f"{size // UNITS[unit]}{unit}" if size else "0"


async def regain(service: Service, access: Access) -> None:
    """Give the user `default` another password in the file of users, which the server reads when it
    starts."""
    part = f"{USERS_FILE}.part"  # a copy, for its owner and mode are those that the server reads
    script = (
        f'cp -p {USERS_FILE} {part} && sed "s/^user default .*/$OWNER/" {USERS_FILE} > {part} '
        f'&& grep -qF "$HASH" {part}'
    )
    secret = hash_password(service.parameters["password"])
    environment = {"OWNER": f"user default on {secret} ~* \\&* +@all", "HASH": secret}
    done = await access.exec(
        Command(argv=("sh", "-c", f"{script} && mv {part} {USERS_FILE}"), environment=environment)
    )
    if done.exit_code:
        raise Failed(f"{USERS_FILE} of {service.name} cannot be changed: {done.stderr.strip()}")


async def held(service: Service, access: Access) -> list[HeldAccount]:
    """Users by the channel that is their mark; the database is the one that they may select."""
    if is_divided(service):
        return [
            HeldAccount(
                number=int(item.mark), resource=item.account, account=item.account, slot=number
            )
            for number, item in (await division.list_held(access)).items()
            if item.mark
        ]
    async with connection(service, access) as client:
        users = [
            item.decode() if isinstance(item, bytes) else str(item)
            for item in await client.acl_list()
        ]
    made = []
    for text in users:
        if found := MARKED.match(text):
            slot = SELECTS.search(text)
            made.append(
                HeldAccount(
                    number=int(found[2]),
                    resource=found[1],
                    account=found[1],
                    slot=int(slot[1]) if slot else None,
                )
            )
    return made
