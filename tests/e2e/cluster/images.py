"""Images of the cluster, built here and never pulled."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tests.e2e.cluster.parts import CONTAINERD_SOCKET, PAUSE_IMAGE
from tests.e2e.cluster.places import SOURCE, cache

PREFIX: Final = "localhost/riseml-e2e"
_BUILDAH: Final = ("buildah", "--storage-driver", "vfs")
REPOSITORY: Final = SOURCE.parents[2]
# Images of Debian with some packages: a Python for most jobs, which the platform's image is built
# over too; and what examples/digits uses.
_DEBIAN: Final = {
    "base": "python3,python3-venv,ca-certificates",
    "sklearn": "python3,python3-sklearn,python3-joblib",
}
_BUSYBOX: Final = "busybox-static"
# Nobody needs them here, and every start of a cluster would copy them.
_LEFT_OUT: Final = ("doc", "man", "locale", "info", "fonts", "icons")
# Of sklearn alone, whose packages bring compilers along; where the platform is built they are used.
_WITHOUT_COMPILERS: Final = (
    'rm -rf "$1"/usr/lib/gcc "$1"/usr/include "$1"/usr/bin/*-lto-dump-*; '
    'find "$1"/usr/lib -name "*.a" -delete'
)


def build() -> list[Path]:
    """Archives of all images; those that are there already are not built again."""
    cache().mkdir(parents=True, exist_ok=True)
    debian = {name: _debian(name, packages) for name, packages in _DEBIAN.items()}
    return [_pause(), _busybox(), *debian.values(), _platform(debian["base"])]


def load(archives: Sequence[Path]) -> None:
    """Into the containerd that serves the cluster."""
    for archive in archives:
        subprocess.run(
            ["ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io", "images", "import", str(archive)],
            check=True,
            capture_output=True,
        )


def _pause() -> Path:
    source = SOURCE / "images" / "pause.c"
    archive = _archive("pause", source.read_bytes())
    if not archive.exists():
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "pause"
            subprocess.run(["gcc", "-Os", "-static", "-o", program, source], check=True)
            _commit(archive, PAUSE_IMAGE, program, "/", entrypoint='["/pause"]')
    return archive


def _busybox() -> Path:
    """The least that a job's image can be: a shell and its tools."""
    archive = _archive("busybox", _BUSYBOX.encode())
    if not archive.exists():
        with tempfile.TemporaryDirectory() as folder:
            run = partial(subprocess.run, cwd=folder, check=True, capture_output=True, text=True)
            run(["apt-get", "download", "--quiet", _BUSYBOX])
            (package,) = Path(folder).glob("*.deb")
            run(["dpkg-deb", "--extract", str(package), "unpacked"])
            tools = Path(folder) / "tree" / "bin"
            tools.mkdir(parents=True)
            program = shutil.copy(Path(folder) / "unpacked" / "bin" / "busybox", tools)
            for name in run([program, "--list"]).stdout.split():
                if name != "busybox":
                    (tools / name).symlink_to("busybox")
            _commit(archive, f"{PREFIX}/busybox:1", tools.parent, "/")
    return archive


def _debian(name: str, packages: str) -> Path:
    """Its package sources are those of this machine."""
    hooks = [f"--dpkgopt=path-exclude=/usr/share/{one}/*" for one in _LEFT_OUT]
    if name != "base":
        hooks.append(f"--customize-hook={_WITHOUT_COMPILERS}")
    archive = _archive(name, repr((packages, hooks)).encode())
    if not archive.exists():
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / f"{name}.tar"
            sources = sorted(
                str(path)
                for pattern in ("sources.list", "sources.list.d/*.sources", "sources.list.d/*.list")
                for path in Path("/etc/apt").glob(pattern)
            )
            command = ["mmdebstrap", "--variant=minbase", f"--include={packages}", *hooks]
            subprocess.run([*command, "--quiet", "bookworm", str(tree), *sources], check=True)
            _commit(archive, f"{PREFIX}/{name}:1", tree, "/")
    return archive


def _platform(base: Path) -> Path:
    """The platform's own image, from deploy/docker/Dockerfile and the working tree."""
    archive = _archive("platform", _sources_of_platform() + base.name.encode())
    older = sorted(cache().glob("image-platform-*.tar"))
    if older and os.environ.get("RISEML_E2E_OLD_PLATFORM"):
        # For work on what does not run in pods: it takes minutes to build.
        return older[0]
    if not archive.exists():
        for old in cache().glob("image-platform-*"):
            old.unlink()
        with tempfile.TemporaryDirectory(dir=cache()) as root:
            (Path(root) / "pip.conf").write_text(_pip_settings())
            command = (
                *(*_tool(root), "bud", "--quiet", "--isolation", "chroot", "--network", "host"),
                *("--secret", f"id=pip.conf,src={root}/pip.conf"),
                *("--secret", f"id=ca.pem,src={_authorities()}"),
                *("--build-arg", f"BASE=docker-archive:{base}", "--tag", f"{PREFIX}/platform:1"),
                *("-f", str(REPOSITORY / "deploy/docker/Dockerfile"), str(REPOSITORY)),
            )
            subprocess.run(command, check=True)
            _push(root, f"{PREFIX}/platform:1", archive)
    return archive


_PLATFORM: Final = (
    *("controlplane", "noded", "riseml", "shell", "requirements", "deploy/docker"),
    *("hatch_build.py", "pyproject.toml"),
)


def _sources_of_platform() -> bytes:
    """What goes into the image, as one hash."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *_PLATFORM],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    ).stdout
    digest = hashlib.sha256()
    for name in sorted(filter(None, listed.decode().split("\0"))):
        path = REPOSITORY / name
        if path.is_file():
            digest.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _pip_settings() -> str:
    """From where this machine takes packages."""
    lines = ["[global]", "cert = /run/secrets/ca.pem"]
    for key in ("index-url", "extra-index-url", "trusted-host"):
        given = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"global.{key}"],
            capture_output=True,
            text=True,
        )
        if given.returncode == 0:
            lines.append(f"{key} = {given.stdout.strip()}")
    return "\n".join(lines) + "\n"


def _authorities() -> str:
    """Whom this machine trusts."""
    return os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt"


def _archive(name: str, made_from: bytes) -> Path:
    return cache() / f"image-{name}-{hashlib.sha256(made_from).hexdigest()[:12]}.tar"


def _commit(archive: Path, image: str, content: Path, target: str, entrypoint: str = "") -> None:
    """One layer with `content` (a tar is unpacked), written whole or not at all."""
    with tempfile.TemporaryDirectory(dir=cache()) as root:
        tool = _tool(root)
        container = subprocess.run(
            [*tool, "from", "scratch"], check=True, capture_output=True, text=True
        ).stdout.strip()
        subprocess.run([*tool, "add", "--quiet", container, str(content), target], check=True)
        if entrypoint:
            subprocess.run([*tool, "config", "--entrypoint", entrypoint, container], check=True)
        subprocess.run(
            [*tool, "commit", "--quiet", container, image], check=True, capture_output=True
        )
        _push(root, image, archive)


def _tool(root: str) -> list[str]:
    """buildah with storage of its own, which nobody else's images are in."""
    return [*_BUILDAH, "--root", f"{root}/storage", "--runroot", f"{root}/run"]


def _push(root: str, image: str, archive: Path) -> None:
    """Writes the archive, whole or not at all."""
    half = Path(root) / "image.tar"
    subprocess.run(
        [*_tool(root), "push", "--quiet", image, f"docker-archive:{half}:{image}"],
        check=True,
        capture_output=True,
    )
    half.rename(archive)
