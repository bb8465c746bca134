"""Files that are put into containers: which go where by one call, and packed for it.

The engine takes them for "/" alone, or, where the root file system of a container is not written to
(`ContainerSpec.read_only`), for a folder that is in one of its volumes.
"""

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from purveyor_hooks import ContainerSpec, File

OURS = "/etc/purveyor"
Owner = tuple[int, int]  # numbers of a user and a group


class Placed(NamedTuple):
    """A file that is put into a container, for the first of the `owners` that it has as a user; for
    everybody in it where it has none of them. Where none is named, it is root's."""

    file: File
    owners: tuple[str, ...] = ()


def folders_of(spec: ContainerSpec, further: Iterable[Placed] = ()) -> list[str]:
    """The folders that a container's files and certificate are in, but for those of its volume."""
    wanted = spec.certificate
    paths = [file.path for file in spec.files] + [item.file.path for item in further]
    paths += [path for path in (wanted.file, wanted.chain) if path] if wanted else []
    mount = spec.mount.target if spec.mount else ""
    found = {_place(path, mount) for path in paths} | ({OURS} if wanted else set())
    return sorted(found - {mount})


def by_place(files: Iterable[Placed], mount: str | None) -> dict[str, list[Placed]]:
    """The files by the folder that each is put into: the volume that is mounted at `mount`, that of
    ours, or its own; None: the root for all."""
    found: dict[str, list[Placed]] = {}
    for item in files:
        place = "/" if mount is None else _place(item.file.path, mount)
        found.setdefault(place, []).append(item)
    return found


def _place(path: str, mount: str) -> str:
    for folder in (mount, OURS):
        if folder and path.startswith(f"{folder}/"):
            return folder
    return path.rpartition("/")[0] or "/"


def archive(files: Sequence[Placed], place: str, users: Mapping[str, Owner]) -> bytes:
    """The files as the engine takes them for a folder above them, with folders of ours. `users` are
    those of the container."""
    buffer, above = io.BytesIO(), place.rstrip("/") + "/"
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folders = {item.file.path.rpartition("/")[0] for item in files}
        for folder in sorted(folders):
            if f"{folder}/".startswith(f"{OURS}/") and folder.startswith(above):
                entry = tarfile.TarInfo(folder.removeprefix(above))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
        for file, owners in files:
            content = file.content.encode()
            entry = tarfile.TarInfo(file.path.removeprefix(above))
            entry.size, entry.mode = len(content), file.mode
            known = [users[name] for name in owners if name in users]
            if known:
                entry.uid, entry.gid = known[0]
            elif owners:
                entry.mode |= 0o444
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
