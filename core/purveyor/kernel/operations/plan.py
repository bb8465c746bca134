"""What an operation would do, in words and lists."""

import msgspec


class PlannedContainer(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    action: str
    image: str = ""


class PlannedVolume(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    action: str


class PlannedPort(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int
    container_port: int
    action: str = "publish"


class PlannedApp(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that is active, and what it loses or has to do; `effect` is a sentence."""

    project: str
    environment: str
    deployment: int
    service: str
    effect: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation would do, computed by the code that does it; nothing has been changed.

    `variables` are names only. `downtime` is a sentence, "none" when nothing stops serving. `apps`
    are those that run and lose, or have to change, something.
    """

    verb: str
    subject: str
    steps: list[str]
    containers: list[PlannedContainer] = []
    volumes: list[PlannedVolume] = []
    ports: list[PlannedPort] = []
    resources: list[str] = []
    variables: list[str] = []
    apps: list[PlannedApp] = []
    downtime: str = "none"
    warnings: list[str] = []
