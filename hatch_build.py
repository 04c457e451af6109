"""Compiles the shim while the package is built, for a wheel and for an editable install alike.

The shim is the parent of every job process and must start in about a millisecond, so it is C, not
Python. Whatever ``*.c`` stands in ``noded/shim`` becomes one program, ``noded/shim/riseml-shim``,
and the wheel is tagged for this platform. ``python hatch_build.py`` (`make shim`) only compiles.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIM_FOLDER = Path("noded", "shim")
PROGRAM_NAME = "riseml-shim"
COMPILE_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE")


class ShimNotBuilt(RuntimeError):
    """The shim could not be compiled; the message says what to do."""


def find_compiler() -> list[str]:
    """The C compiler as an argument list: ``$CC`` where set, else cc, gcc or clang on PATH."""
    chosen = os.environ.get("CC")
    if chosen:
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return [found]
    raise ShimNotBuilt(
        "no C compiler found, and the node daemon's shim is written in C. Install one (Debian:"
        " apt install gcc libc6-dev; Fedora: dnf install gcc) or name it in the variable CC."
    )


def compile_shim(root: Path) -> Path:
    """Compiles ``noded/shim/*.c`` below ``root`` and returns the program's path.

    The program is replaced in one step: a daemon that runs from this tree never starts half a file.

    Raises:
        ShimNotBuilt: there is no compiler, no source, or the compiler refused the source.
    """
    folder = root / SHIM_FOLDER
    sources = sorted(folder.glob("*.c"))
    if not sources:
        raise ShimNotBuilt(f"no C source in {folder}")
    program = folder / PROGRAM_NAME
    fresh = folder / f"{PROGRAM_NAME}.{os.getpid()}.tmp"
    plain = [*find_compiler(), *COMPILE_FLAGS, "-o", str(fresh), *map(str, sources)]
    command = [*plain, "-static"]  # starts a millisecond sooner; not every system has the libraries
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        if outcome.returncode != 0:
            command = plain
            outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ShimNotBuilt(f"could not start the C compiler {command[0]!r}: {error}") from error
    if outcome.returncode != 0:
        fresh.unlink(missing_ok=True)
        raise ShimNotBuilt(
            f"the C compiler refused the shim: {shlex.join(command)}\n{outcome.stderr}"
        )
    if outcome.stderr:
        sys.stderr.write(outcome.stderr)
    fresh.replace(program)
    return program


def wheel_tag() -> str:
    """Any Python 3, no ABI, but this platform: the shim is a program, not an extension module."""
    if not sys.platform.startswith("linux"):
        raise ShimNotBuilt(f"RiseML's node daemon runs on Linux; this is {platform.system()}")
    machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"py3-none-{machine}"


class ShimBuildHook(BuildHookInterface[Any]):
    """Hatchling's hook: compile the shim, put it in the wheel, tag the wheel for this platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before hatchling collects files; ``version`` is ``standard`` or ``editable``."""
        compile_shim(Path(self.root))
        build_data["pure_python"] = False
        build_data["tag"] = wheel_tag()


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{compile_shim(Path(__file__).resolve().parent)}\n")
    except ShimNotBuilt as error:
        sys.exit(f"error: {error}")
