"""The programs of the cluster: Kubernetes from its Go sources, the rest from Debian."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.places import SOURCE, cache

MODULE: Final = SOURCE / "kubernetes"
NAMES: Final = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
)
# Program, and the Debian package that has it.
DEBIAN: Final = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "gcc": "gcc",
    "unshare": "util-linux",
}
CNI_PLUGINS: Final = Path("/usr/lib/cni")


def version() -> str:
    """Of Kubernetes: `v1.35.4`."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text())
    if found is None:
        raise ClusterError(f"{MODULE / 'go.mod'} names no version of k8s.io/kubernetes")
    return found[1]


def missing_packages() -> list[str]:
    """Debian packages to install first."""
    missing = {package for name, package in DEBIAN.items() if shutil.which(name) is None}
    if not (CNI_PLUGINS / "bridge").exists():
        missing.add("containernetworking-plugins")
    return sorted(missing)


def check_packages() -> None:
    """Raises ClusterError with the command that helps."""
    missing = missing_packages()
    if missing:
        raise ClusterError(
            f"The test cluster lacks {', '.join(missing)}: apt-get install {' '.join(missing)}"
        )


def folder() -> Path:
    """Where these versions lie once they are built."""
    pinned = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    return cache() / f"kubernetes-{version()}-{hashlib.sha256(pinned).hexdigest()[:12]}"


def build() -> Path:
    """Builds what is not there yet, and returns its folder. Takes minutes the first time."""
    place = folder()
    if all((place / name).exists() for name in NAMES):
        return place
    go = shutil.which("go")
    if go is None:
        raise ClusterError("Kubernetes is built with Go, and there is no `go`: install it.")
    half = place.with_name(f".{place.name}-{os.getpid()}")
    half.mkdir(parents=True)
    number = version()
    major, minor, _ = number[1:].split(".")
    stamps = [
        f"-X k8s.io/{package}/version.{name}={value}"
        for package in ("component-base", "client-go/pkg")
        for name, value in (("gitVersion", number), ("gitMajor", major), ("gitMinor", minor))
    ]
    command = [
        *(go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly"),
        *("-ldflags", " ".join(["-s", "-w", *stamps])),
        *("-o", f"{half}/", "tool"),
    ]
    try:
        subprocess.run(
            command, cwd=MODULE, env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}, check=True
        )
        half.rename(place)
    except subprocess.CalledProcessError as fault:
        raise ClusterError(f"Kubernetes {number} cannot be built: see above") from fault
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return place
