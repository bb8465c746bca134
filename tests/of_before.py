"""Containers as an older Purveyor left them: its own image, command, ports and data, and with that
all that Docker gives by itself."""

import os
from typing import Any

import httpx

from support import docker

SOCKET = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
KEPT = (
    "Image", "Cmd", "Entrypoint", "Env", "User", "StopTimeout", "ExposedPorts", "Healthcheck",
)  # fmt: skip
SPEC = "dev.purveyor.spec"
OF_DOCKER = 14  # capabilities


def shown(name: str) -> Any:
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=SOCKET), base_url="http://docker", timeout=60
    ) as client:
        return client.get(f"/containers/{name}/json").raise_for_status().json()


def as_before(name: str, network: str, *, alias: str = "") -> str:
    """Replace a container by one of before; the answer is its id.

    Its root is written to and holds its files, it has Docker's capabilities and no limits, may gain
    more rights, passes packets on, and is on the installation's own network alone.
    """
    now = shown(name)
    config, host = now["Config"], now["HostConfig"]
    mounts = host.get("Mounts") or []
    body = {
        **{key: config[key] for key in KEPT if config.get(key)},
        "Labels": {**config["Labels"], SPEC: "of before"},
        "HostConfig": {
            "PortBindings": host["PortBindings"],
            "RestartPolicy": {"Name": "unless-stopped"},
            "ShmSize": host["ShmSize"],
            "NetworkMode": network,
            "Mounts": [item for item in mounts if item.get("Source")],
        },
        "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": [alias] if alias else []}}},
    }
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=SOCKET), base_url="http://docker", timeout=60
    ) as client:
        docker("stop", name)
        docker("rename", name, f"{name}-now")
        made = client.post("/containers/create", params={"name": name}, json=body)
        number = str(made.raise_for_status().json()["Id"])
        for item in mounts:
            if not item.get("Source"):  # files that are in volumes of their own now
                folder = item["Target"]
                got = client.get(f"/containers/{name}-now/archive", params={"path": folder})
                place = folder.rpartition("/")[0] or "/"
                client.put(
                    f"/containers/{number}/archive",
                    params={"path": place},
                    content=got.raise_for_status().content,
                ).raise_for_status()
    docker("rm", "-v", f"{name}-now")
    docker("start", name)
    held = shown(name)["HostConfig"]
    assert not held["CapDrop"]
    assert not held["SecurityOpt"]
    assert not held["ReadonlyRootfs"]
    assert not held["PidsLimit"]
    assert "mine" in docker("exec", "-u", "0", name, "sh", "-c", "echo mine >/mine && cat /mine")
    return number


def require_contained(name: str, *, closed: bool = True) -> None:
    """All that a container of now has to be; `closed`: its root is not written to."""
    held = shown(name)["HostConfig"]
    assert (held["CapDrop"], held["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert len(held["CapAdd"] or []) < OF_DOCKER / 2
    assert "CAP_NET_RAW" not in (held["CapAdd"] or [])
    assert held["PidsLimit"] > 0
    assert held["Sysctls"] == {"net.ipv4.ip_forward": "0"}
    assert held["ReadonlyRootfs"] == closed
