"""Redis and Valkey containers that somebody else made: told by image and environment, and logged in
to first."""

import itertools
import re

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from purveyor_hooks import Access, FoundContainer, Health, Recognition, Service
from purveyor_redis.server import connection

NAMES = re.compile(r"(redis|valkey)(-(stack|stack-server|alpine|server|walg))?")
OLDEST = 7


def recognise(container: FoundContainer) -> Recognition | None:
    """The images' own names, or the version that they leave in the environment."""
    environment = container.environment
    told = {"REDIS_VERSION", "VALKEY_VERSION"} & set(environment)
    if not NAMES.fullmatch(container.image_name) and not told:
        return None
    version = next((environment[name] for name in told), container.tag)
    password = (
        environment.get("REDIS_PASSWORD")
        or environment.get("VALKEY_PASSWORD")
        or _required(container.command)
    )
    return Recognition(
        service_type="redis",
        version=version.partition("-")[0],
        suggested={"password": password} if password else {},
    )


def _required(command: tuple[str, ...]) -> str:
    """The argument of --requirepass."""
    words = " ".join(command).split()
    return next(
        (after for word, after in itertools.pairwise(words) if word == "--requirepass"), ""
    ).strip("\"'")


async def adopt(service: Service, access: Access) -> Health:
    """Log in as the user `default` and ask for what links need: users, and a database of our
    own."""
    try:
        async with connection(service, access) as client:
            info = await client.info("server")
            version = str(info.get("valkey_version") or info.get("redis_version", ""))
            if int(version.partition(".")[0]) < OLDEST:
                return Health(
                    healthy=False,
                    stage="query",
                    version=version,
                    detail=f"It is older than Redis {OLDEST}.",
                )
            await client.execute_command("ACL", "LIST")
            return Health(healthy=True, stage="query", version=version)
    except AuthenticationError:
        return Health(
            healthy=False, stage="login", detail="The password of the user `default` is refused."
        )
    except ResponseError as error:
        if str(error).startswith("DENIED"):
            detail = (
                "It is in protected mode: it has no password, and answers its own container "
                "only. Give it a password."
            )
            return Health(healthy=False, stage="login", detail=detail)
        few = "It has fewer than 16 databases (its setting `databases`)."
        return Health(
            healthy=False, stage="login", detail=few if "out of range" in str(error) else str(error)
        )
    except (RedisError, OSError, TimeoutError) as error:
        return Health(
            healthy=False, stage="tcp", detail=str(error).partition("\n")[0] or type(error).__name__
        )
