"""Images of the cluster, built here and never pulled."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.e2e.cluster.parts import CONTAINERD_SOCKET, PAUSE_IMAGE
from tests.e2e.cluster.places import SOURCE, cache

BASE_IMAGE: Final = "localhost/riseml-e2e/base:1"
_BUILDAH: Final = ("buildah", "--storage-driver", "vfs")
# What jobs of tests use beyond a shell.
_PACKAGES: Final = "python3-minimal,ca-certificates"


def build() -> list[Path]:
    """Archives of all images; those that are there already are not built again."""
    cache().mkdir(parents=True, exist_ok=True)
    return [_pause(), _base()]


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


def _base() -> Path:
    """Debian with a Python; its sources are those of this machine."""
    archive = _archive("base", _PACKAGES.encode())
    if not archive.exists():
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "base.tar"
            sources = sorted(
                str(path)
                for pattern in ("sources.list", "sources.list.d/*.sources", "sources.list.d/*.list")
                for path in Path("/etc/apt").glob(pattern)
            )
            command = ["mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}"]
            subprocess.run([*command, "--quiet", "bookworm", str(tree), *sources], check=True)
            _commit(archive, BASE_IMAGE, tree, "/")
    return archive


def _archive(name: str, made_from: bytes) -> Path:
    return cache() / f"image-{name}-{hashlib.sha256(made_from).hexdigest()[:12]}.tar"


def _commit(archive: Path, image: str, content: Path, target: str, entrypoint: str = "") -> None:
    """One layer with `content` (a tar is unpacked), written whole or not at all."""
    with tempfile.TemporaryDirectory(dir=cache()) as root:
        tool = [*_BUILDAH, "--root", f"{root}/storage", "--runroot", f"{root}/run"]
        container = subprocess.run(
            [*tool, "from", "scratch"], check=True, capture_output=True, text=True
        ).stdout.strip()
        subprocess.run([*tool, "add", "--quiet", container, str(content), target], check=True)
        if entrypoint:
            subprocess.run([*tool, "config", "--entrypoint", entrypoint, container], check=True)
        half = Path(root) / "image.tar"
        subprocess.run(
            [*tool, "commit", "--quiet", container, f"docker-archive:{half}:{image}"],
            check=True,
            capture_output=True,
        )
        shutil.move(half, archive.with_suffix(f".{os.getpid()}"))
    archive.with_suffix(f".{os.getpid()}").rename(archive)
