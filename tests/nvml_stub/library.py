"""Builds the stub of NVIDIA's library and plays scenarios on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
SCENARIOS = HERE / "scenarios"
LIBRARY = "libnvidia-ml.so.1"


def build_library(folder: Path, *, old_driver: bool = False) -> Path:
    """Compiles libnvidia-ml.so.1 into a folder, which goes into LD_LIBRARY_PATH."""
    return _build(folder, "nvml_stub.c", LIBRARY, *(["-DOLD_DRIVER"] if old_driver else []))


def build_cuda(folder: Path) -> Path:
    """Compiles libcuda.so.1 into a folder, which goes into LD_LIBRARY_PATH."""
    return _build(folder, "cuda_stub.c", "libcuda.so.1")


def _build(folder: Path, source: str, name: str, *options: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    command += ["-fvisibility=hidden", f"-Wl,-soname,{name}", *options]
    command += ["-o", str(folder / name), str(HERE / source), "-lpthread"]
    subprocess.run(command, check=True)
    return folder


class NvmlStub:
    """A driver whose behaviour changes whenever a test says so."""

    def __init__(self, library: Path, scenario: Path) -> None:
        self._library = library
        self._scenario = scenario
        self.play("healthy-8")

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs to find the stub instead of a driver."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self._library),
            "RISEML_NVML_SCENARIO": str(self._scenario),
        }

    def play(self, name: str, *more: str) -> None:
        """From now on the driver does what this scenario says, and these lines after it."""
        text = (SCENARIOS / f"{name}.scenario").read_text()
        fresh = self._scenario.with_suffix(".fresh")
        fresh.write_text("\n".join([text, *more, ""]))
        os.replace(fresh, self._scenario)
