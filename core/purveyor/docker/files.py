"""Files that are put into containers: which go where by one call, and packed for it.

The engine takes them for "/" alone, or, where the root file system of a container is not written to
(`ContainerSpec.read_only`), for a folder that is in one of its volumes.
"""

import io
import tarfile
from collections.abc import Iterable, Sequence

from purveyor_hooks import ContainerSpec, File

OURS = "/etc/purveyor"


def folders_of(spec: ContainerSpec) -> list[str]:
    """The folders that a container's files and certificate are in, but for those of its volume."""
    wanted = spec.certificate
    paths = [file.path for file in spec.files]
    paths += [path for path in (wanted.file, wanted.chain) if path] if wanted else []
    mount = spec.mount.target if spec.mount else ""
    found = {_place(path, mount) for path in paths} | ({OURS} if wanted else set())
    return sorted(found - {mount})


def by_place(files: Iterable[File], mount: str | None) -> dict[str, list[File]]:
    """The files by the folder that each is put into: the volume that is mounted at `mount`, that of
    ours, or its own; None: the root for all."""
    found: dict[str, list[File]] = {}
    for file in files:
        found.setdefault("/" if mount is None else _place(file.path, mount), []).append(file)
    return found


def _place(path: str, mount: str) -> str:
    for folder in (mount, OURS):
        if folder and path.startswith(f"{folder}/"):
            return folder
    return path.rpartition("/")[0] or "/"


def archive(
    files: Sequence[File],
    place: str,
    owner: tuple[int, int] | None = None,
    *,
    open_to_all: bool = False,
) -> bytes:
    """The files as the engine takes them for a folder above them, with folders of ours."""
    buffer, above = io.BytesIO(), place.rstrip("/") + "/"
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folders = {file.path.rpartition("/")[0] for file in files}
        for folder in sorted(folders):
            if f"{folder}/".startswith(f"{OURS}/") and folder.startswith(above):
                entry = tarfile.TarInfo(folder.removeprefix(above))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
        for file in files:
            content = file.content.encode()
            entry = tarfile.TarInfo(file.path.removeprefix(above))
            entry.size, entry.mode = len(content), file.mode | (0o444 if open_to_all else 0)
            if owner is not None:
                entry.uid, entry.gid = owner
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
