"""The engine as the kit sees it: behind Purveyor's back, by its HTTP API."""

import io
import os
import tarfile
from collections.abc import Sequence
from typing import Any

import httpx

from purveyor_hooks import certificates
from purveyor_hooks.types import Certificate, ContainerSpec, File

SOCKET = "/var/run/docker.sock"


class EngineView:
    """A few calls to the Docker Engine: the one that DOCKER_HOST names, or that `http` reaches."""

    def __init__(self, http: httpx.Client | None = None) -> None:
        host = os.environ.get("DOCKER_HOST", f"unix://{SOCKET}")
        if http is not None:
            self._http = http
        elif host.startswith("unix://"):
            transport = httpx.HTTPTransport(uds=host.removeprefix("unix://"), verify=False)
            self._http = httpx.Client(transport=transport, base_url="http://docker", timeout=120)
        else:
            self._http = httpx.Client(base_url=host.replace("tcp://", "http://"), timeout=120)

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._http.request(method, path, **options)
        answer.raise_for_status()
        return (
            answer.json()
            if answer.content and "json" in answer.headers.get("content-type", "")
            else None
        )

    def containers(self, prefix: str) -> list[dict[str, Any]]:
        """All whose names begin so."""
        found = self.call("GET", "/containers/json", params={"all": "true"})
        return [
            item
            for item in found
            if any(name.lstrip("/").startswith(prefix) for name in item["Names"])
        ]

    def volumes(self, prefix: str) -> list[str]:
        found = self.call("GET", "/volumes")["Volumes"] or []
        return [item["Name"] for item in found if item["Name"].startswith(prefix)]

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/containers/{name}/json")
        return found

    def signal(self, name: str, word: str) -> None:
        """To every process of a container: the first one may be a launcher."""
        body = {"Cmd": ["sh", "-c", f"kill -{word} -1"], "User": "0", "Tty": True}
        exec_id = self.call("POST", f"/containers/{name}/exec", json=body)["Id"]
        # an image without a shell has one process
        self._http.post(f"/exec/{exec_id}/start", json={"Detach": False, "Tty": True})
        self.call("POST", f"/containers/{name}/kill", params={"signal": f"SIG{word}"})

    def remove(self, name: str) -> None:
        self.call("DELETE", f"/containers/{name}", params={"force": "true", "v": "true"})

    def image(self, reference: str) -> dict[str, Any] | None:
        answer = self._http.get(f"/images/{reference}/json")
        return answer.json() if answer.status_code == 200 else None

    def tag(self, reference: str, repository: str, tag: str) -> None:
        self.call("POST", f"/images/{reference}/tag", params={"repo": repository, "tag": tag})

    def untag(self, reference: str) -> None:
        self._http.delete(f"/images/{reference}")

    def run(self, name: str, spec: ContainerSpec) -> None:
        """A container as somebody else would make it: no label, no name that Purveyor knows."""
        body: dict[str, Any] = {
            "Image": spec.image,
            "Cmd": list(spec.command) or None,
            "Env": [f"{key}={value}" for key, value in spec.environment.items()],
            "User": spec.user,
            "HostConfig": {"ShmSize": spec.shared_memory},
        }
        if spec.entrypoint:
            body["Entrypoint"] = list(spec.entrypoint)
        self.call("POST", "/containers/create", params={"name": name}, json=body)
        self._put(name, spec.files)
        if spec.certificate is not None:
            self._put(
                name, _certified(name, spec.certificate), self._owner(name, spec.certificate.owners)
            )
        self.call("POST", f"/containers/{name}/start")

    def _put(self, name: str, files: Sequence[File], owner: tuple[int, int] = (0, 0)) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for file in files:
                entry = tarfile.TarInfo(file.path.lstrip("/"))
                content = file.content.encode()
                entry.size, entry.mode = len(content), file.mode
                entry.uid, entry.gid = owner
                tar.addfile(entry, io.BytesIO(content))
        self.call(
            "PUT", f"/containers/{name}/archive", params={"path": "/"}, content=buffer.getvalue()
        )

    def _owner(self, name: str, owners: Sequence[str]) -> tuple[int, int]:
        """The numbers of the first of these users that a container knows, root's where it knows
        none."""
        answer = self._http.get(f"/containers/{name}/archive", params={"path": "/etc/passwd"})
        known: dict[str, list[str]] = {}
        if answer.status_code == 200:
            with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
                held = tar.extractfile("passwd")
                lines = held.read().decode(errors="replace").splitlines() if held else []
            known = {
                fields[0]: fields
                for fields in (line.split(":") for line in lines)
                if len(fields) > 3
            }
        found = next((known[owner] for owner in owners if owner in known), None)
        return (int(found[2]), int(found[3])) if found else (0, 0)


def _certified(name: str, wanted: Certificate) -> list[File]:
    """A certificate of the owner's own, where the server wants it."""
    key, certificate = certificates.self_signed(name, [name], days=30)
    files = [
        File(path=wanted.file, content=key + ("" if wanted.chain else certificate), mode=0o600),
        File(path=certificates.AUTHORITIES, content=certificate),
    ]
    return [*files, File(path=wanted.chain, content=certificate)] if wanted.chain else files
