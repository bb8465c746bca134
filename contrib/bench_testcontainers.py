"""The process in which `contrib/bench` uses testcontainers: a line of JSON asks, a line of text
answers."""

import json
import sys
from typing import Any

from testcontainers.postgres import PostgresContainer
from testcontainers.redis import RedisContainer

made: dict[str, Any] = {}


def create(kind: str, name: str, image: str) -> None:
    container = (
        RedisContainer(image, password="bench")
        if kind == "redis"
        else PostgresContainer(image, driver=None)
    )
    made[name] = container.with_name(name)
    container.start()


try:
    for line in sys.stdin:
        word, kind, name, image = json.loads(line)
        try:
            if word == "create":
                create(kind, name, image)
            elif word == "remove":
                made.pop(name).stop()
            print("done", flush=True)
        except Exception as error:
            print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)
finally:
    for container in made.values():
        container.stop()
