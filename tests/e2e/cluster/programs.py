"""The programs of the cluster: Kubernetes and CoreDNS from Go sources, the rest from Debian."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.places import SOURCE, cache

# Program, and the Debian package that has it.
DEBIAN: Final = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    # What kube-proxy clears away with.
    "conntrack": "conntrack",
    "ip": "iproute2",
    "gcc": "gcc",
    "unshare": "util-linux",
}
CNI_PLUGINS: Final = Path("/usr/lib/cni")


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


@dataclass(frozen=True, slots=True)
class GoModule:
    """Programs that are built from a module of ours, which pins what they are made of."""

    name: str
    # What it pins, whose version is the programs' own.
    pinned: str
    programs: tuple[str, ...]
    # What is built: packages as `go build` names them.
    packages: str
    # Packages of the linker's variables that hold the version.
    stamped: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        return SOURCE / self.name

    @property
    def version(self) -> str:
        """Such as `v1.35.4`."""
        found = re.search(rf"{self.pinned} (v\S+)", (self.source / "go.mod").read_text())
        if found is None:
            raise ClusterError(f"{self.source / 'go.mod'} names no version of {self.pinned}")
        return found[1]

    @property
    def folder(self) -> Path:
        """Where these versions lie once they are built."""
        files = [self.source / "go.mod", self.source / "go.sum", *sorted(self.source.glob("*.go"))]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        return cache() / f"{self.name}-{self.version}-{digest[:12]}"

    def build(self) -> None:
        """Builds what is not there yet. Takes minutes the first time."""
        place = self.folder
        if all((place / name).exists() for name in self.programs):
            return
        go = shutil.which("go")
        if go is None:
            raise ClusterError(f"{self.name} is built with Go, and there is no `go`: install it.")
        half = place.with_name(f".{place.name}-{os.getpid()}")
        half.mkdir(parents=True)
        command = [
            *(go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly"),
            *("-ldflags", " ".join(["-s", "-w", *self._stamps()])),
            *("-o", f"{half}/", self.packages),
        ]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        try:
            subprocess.run(command, cwd=self.source, env=environment, check=True)
            half.rename(place)
        except subprocess.CalledProcessError as fault:
            raise ClusterError(f"{self.name} {self.version} cannot be built: see above") from fault
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def _stamps(self) -> list[str]:
        number = self.version
        major, minor, _ = number[1:].split(".")
        return [
            f"-X {package}/version.{name}={value}"
            for package in self.stamped
            for name, value in (("gitVersion", number), ("gitMajor", major), ("gitMinor", minor))
        ]


KUBERNETES: Final = GoModule(
    "kubernetes",
    "k8s.io/kubernetes",
    (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubelet",
        "kubectl",
    ),
    "tool",
    ("k8s.io/component-base", "k8s.io/client-go/pkg"),
)
DNS: Final = GoModule("dns", "github.com/coredns/coredns", ("dns",), ".")


def build() -> None:
    """All that is built from Go."""
    for module in (KUBERNETES, DNS):
        module.build()
