"""Brings an app's image up on the network: the new container first, the old one goes when the new
one answers."""

from time import monotonic

import anyio

from purveyor_hooks import (
    Address,
    AppRuntime,
    AppSpec,
    DeadlineExceeded,
    Deployment,
    DeployResult,
    Failed,
    bases,
)

PAUSE = 0.1
SETTLE = 2.0  # an app that listens on nothing is up when it has stayed up for so long
LINGER = 0.3  # Docker's proxy accepts for an app that does not listen, and hangs up at once
ANSWER_LIMIT = 5.0
LINE = 256  # bytes of an answer's first line that are waited for


async def _is_up(
    app: AppSpec, address: Address | None, health: str, age: float
) -> tuple[bool, str]:
    """Whether the app is up, and what was seen."""
    # its image's own check says nothing of the port and the path that were asked for
    if health and health != "healthy":
        return False, f"its health check says {health}"
    if health and address is None:
        return True, "its health check says healthy"
    if address is None:
        return age >= SETTLE, "it runs"
    try:
        with anyio.fail_after(ANSWER_LIMIT):
            if app.health_path:
                status = await _status(address, app.health_path)
                return 0 < status < 500, f"{app.health_path} answers {status or 'nothing'}"
            return await _stays_open(address), f"nothing listens on port {app.port}"
    except (OSError, TimeoutError) as error:
        return False, f"port {app.port} gives {type(error).__name__}"


async def _status(address: Address, path: str) -> int:
    """The HTTP status that a path answers with, 0 when the answer is none."""
    async with await anyio.connect_tcp(address.host, address.port) as stream:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nConnection: "
            "close\r\n\r\n"
        )
        await stream.send(request.encode())
        said = b""
        try:  # a server may write its first line in pieces
            while b"\n" not in said and len(said) < LINE:
                said += await stream.receive(LINE)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return 0
        words = said.split(b" ", 2)
    return (
        int(words[1])
        if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit()
        else 0
    )


async def _stays_open(address: Address) -> bool:
    async with await anyio.connect_tcp(address.host, address.port) as stream:
        with anyio.move_on_after(LINGER):
            try:
                await stream.receive(1)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return False
    return True


class Deploy(bases.Everyones):
    """Runs an app's new container, and waits until it answers."""

    async def deploy(self, deployment: Deployment, runtime: AppRuntime) -> DeployResult | None:
        app = deployment.app
        if app is None:
            return None
        name = await runtime.run(deployment, app)
        seen = "it did not start"
        with anyio.move_on_after(app.timeout):
            started = monotonic()
            while True:
                state, health = await runtime.state(deployment)
                if state in ("exited", "dead", "restarting") or health == "unhealthy":
                    words = " / ".join((await runtime.log(deployment, 8)).splitlines())
                    raise Failed(
                        f"The app ended up {health or state}: {words or 'it printed nothing'}"
                    )
                up, seen = await _is_up(
                    app, await runtime.address(deployment), health, monotonic() - started
                )
                if up:
                    address = await runtime.address(deployment)
                    return DeployResult(
                        container=name,
                        url=f"http://{address.host}:{address.port}" if address else "",
                    )
                await anyio.sleep(PAUSE)
        words = " / ".join((await runtime.log(deployment, 8)).splitlines())
        raise DeadlineExceeded(
            f"The app was not up within {app.timeout:.0f} s: {seen}. It printed: {words or 'nothing'}",
            remedy="Give it longer (--timeout), or correct its port or health path.",
        )


plugin = Deploy()
