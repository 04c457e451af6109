"""Where the test cluster keeps things."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parent
NODE: Final = "e2e-node"
# Folders that programs know by name; each run mounts fresh ones over them.
PRIVATE: Final = (
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/run/containerd",
    "/run/netns",
    "/var/log/pods",
    "/var/log/containers",
    "/etc/cni",
)


def cache() -> Path:
    """What is built once and used again: programs and images (RISEML_E2E_CACHE)."""
    given = os.environ.get("RISEML_E2E_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "riseml-e2e"


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of one run, all below `root`."""

    root: Path

    @property
    def logs(self) -> Path:
        """One file per part of the cluster."""
        return self.root / "logs"

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    @property
    def settings(self) -> Path:
        """Configuration files of the parts."""
        return self.root / "settings"

    @property
    def state(self) -> Path:
        """What the parts keep on disk."""
        return self.root / "state"

    @property
    def control(self) -> Path:
        """A socket: see `control.py`."""
        return self.root / "control"

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator."""
        return self.settings / "admin.kubeconfig"

    def make(self) -> None:
        for folder in (self.logs, self.certificates, self.settings, self.state):
            folder.mkdir(parents=True, exist_ok=True)
