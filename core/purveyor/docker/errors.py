"""What the engine and its connection raise, as our errors."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import aiodocker
import aiohttp
import anyio

from purveyor.docker.host import DEFAULT_HOST
from purveyor.docker.models import PortTaken
from purveyor_hooks import Conflict, EngineUnavailable, Failed, NotFound

UNREACHABLE = 900  # aiodocker's status for a connection that failed
LOOK = 5.0  # seconds that a call may take which looks at something
CHANGE = 60.0  # seconds that a call may take which makes, starts or removes something


@contextmanager
def translated(what: str, within: float | None = LOOK) -> Iterator[None]:
    """Turn what the engine or the connection raises into our errors; `what` ends "could not …".

    `within` is how many seconds the engine has; None is for what goes on for as long as it goes on.
    """
    limit: AbstractContextManager[object] = (
        nullcontext() if within is None else anyio.fail_after(within)
    )
    try:
        with limit:
            yield
    except aiodocker.DockerError as error:
        raise translate(error, what) from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise unavailable(str(error)) from error
    except TimeoutError as error:
        patience = "in time" if within is None else f"within {within:.0f} s"
        raise EngineUnavailable(
            f"The Docker Engine did not answer {patience}: could not {what}.",
            remedy="See: systemctl status docker",
        ) from error


def translate(error: aiodocker.DockerError, what: str) -> Exception:
    """Our error for the engine's."""
    message = str(error.message).strip().rstrip(".")
    if error.status == UNREACHABLE:
        return unavailable(message)
    if "port is already allocated" in message or "address already in use" in message:
        return PortTaken(
            f"Could not {what}: {message}.", remedy="Choose another port, or free this one."
        )
    if error.status == 404:
        return NotFound(f"Could not {what}: {message}.")
    if error.status == 409:
        return Conflict(f"Could not {what}: {message}.")
    return Failed(
        f"The Docker Engine could not {what}: {message}.", remedy="See: journalctl -u docker"
    )


def unavailable(message: str) -> EngineUnavailable:
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if "ermission denied" in message:
        remedy = "Run as root, or add your user to the group `docker` and sign in again."
        return EngineUnavailable(
            f"This user may not use the Docker Engine at {host}.", remedy=remedy
        )
    remedy = "Start it (systemctl start docker), or set DOCKER_HOST to where it listens."
    return EngineUnavailable(f"The Docker Engine at {host} does not answer.", remedy=remedy)
