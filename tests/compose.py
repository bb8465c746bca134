"""Docker compose with providers, from Debian's newest suite: unpacked into a cache of its own, not
installed."""

import importlib.machinery
import importlib.util
import io
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path.home() / ".cache/purveyor-compose"
SUITE = "forky"
MEMBER = "usr/libexec/docker/cli-plugins/docker-compose"


def _images() -> Any:
    """The module of contrib/images/build, which knows how to fetch a package."""
    loader = importlib.machinery.SourceFileLoader(
        "purveyor_images", str(ROOT / "contrib/images/build")
    )
    spec = importlib.util.spec_from_loader("purveyor_images", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["purveyor_images"] = module
    loader.exec_module(module)
    return module


def compose() -> Path:
    """The binary; fetched once."""
    target = CACHE / "docker-compose"
    if target.exists():
        return target
    images = _images()
    with tempfile.TemporaryDirectory(prefix="purveyor-compose-") as folder:
        debs = images.Debs(Path(folder) / "apt")
        sources = debs.folder / "etc/sources.list"
        sources.write_text(f"deb [signed-by={images.keyring()}] {images.mirror()} {SUITE} main\n")
        images.run("apt-get", *debs.options, "update")
        with tarfile.open(fileobj=io.BytesIO(debs.fetch("docker-compose", SUITE))) as tar:
            found = tar.extractfile(next(item for item in tar if item.name.lstrip("./") == MEMBER))
            assert found is not None
            CACHE.mkdir(parents=True, exist_ok=True)
            part = CACHE / f"part-{Path(folder).name}"
            part.write_bytes(found.read())
    part.chmod(0o755)
    part.rename(target)
    return target
