"""Builds helm, once for each version that go.mod names.

    python -m tests.e2e.helm.build      prints where it lies

The first build takes some minutes and needs Go and a module proxy; after that nothing is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parent
PACKAGE: Final = "helm.sh/helm/v3/cmd/helm"


class HelmUnavailable(Exception):
    """Helm is neither built nor can it be; the message says what would help."""


def version() -> str:
    """As go.mod pins it: `v3.22.0`."""
    found = re.search(r"helm\.sh/helm/v3 (v\S+)", (SOURCE / "go.mod").read_text())
    if found is None:
        raise HelmUnavailable(f"{SOURCE / 'go.mod'} names no version of helm.sh/helm/v3")
    return found[1]


def place() -> Path:
    """Where this helm lies once it is built: below RISEML_E2E_CACHE, or the user's cache.

    The name holds a hash of go.mod and go.sum: another pin of any dependency is another program.
    """
    given = os.environ.get("RISEML_E2E_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(given) if given else base / "riseml-e2e"
    pinned = b"".join((SOURCE / name).read_bytes() for name in ("go.mod", "go.sum"))
    return cache / f"helm-{version()}-{hashlib.sha256(pinned).hexdigest()[:12]}" / "helm"


def build() -> Path:
    """Builds helm if it is not there yet, and returns its path. Raises HelmUnavailable."""
    helm = place()
    if helm.exists():
        return helm
    go = shutil.which("go")
    if go is None:
        raise HelmUnavailable(
            f"The chart's tests need helm {version()}, which is built with Go, and there is no "
            "`go` on PATH: install Go (1.26 or newer), or set RISEML_E2E_CACHE to a folder that "
            f"holds {helm.parent.name}/helm."
        )
    helm.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is whole: two test runs at once do not see half a program.
    half = helm.with_name(f".helm-{os.getpid()}")
    command = [
        *(go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly"),
        *("-ldflags", f"-s -w -X helm.sh/helm/v3/internal/version.version={version()}"),
        *("-o", str(half), PACKAGE),
    ]
    settings = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    try:
        subprocess.run(command, cwd=SOURCE, env=settings, check=True)
        half.rename(helm)
    except subprocess.CalledProcessError as fault:
        raise HelmUnavailable(f"helm {version()} cannot be built: see above") from fault
    finally:
        half.unlink(missing_ok=True)
    return helm


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build()}\n")
    except HelmUnavailable as fault:
        sys.exit(str(fault))
