"""Command line: see the package."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.e2e.cluster import groups, images, programs
from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.places import PRIVATE

NAMESPACES: Final = (
    # Each ends with the process that started it, and all of the namespaces with the last.
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--net", "--ipc", "--uts"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)
# Of folders and control groups; the process that made them follows.
PREFIX: Final = "riseml-e2e-"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="what", metavar="WHAT")
    commands.add_parser("build", help="programs and images, once; takes minutes")
    commands.add_parser("packages", help="print the Debian packages that are missing")
    runs = commands.add_parser("run", help="bring the cluster up, run a command in it, end it")
    runs.add_argument("--logs", type=Path, help="where the logs of all parts go if it fails")
    runs.add_argument("command", nargs=argparse.REMAINDER, help="after --; left out: a shell")
    given = parser.parse_args(arguments)
    if given.what == "packages":
        sys.stdout.write("".join(f"{name}\n" for name in programs.missing_packages()))
        return 0
    try:
        if os.geteuid() != 0:
            raise ClusterError("The test cluster makes namespaces and mounts: run it as root.")
        programs.check_packages()
        programs.build()
        images.build()
        if given.what == "build":
            return 0
        command = given.command[1:] if given.command[:1] == ["--"] else given.command
        return run(command, given.logs)
    except ClusterError as fault:
        sys.stderr.write(f"e2e: {fault}\n")
        return 1


def run(command: Sequence[str], logs: Path | None) -> int:
    """The command's exit status. All that the cluster made is gone afterwards, but `logs`."""
    _sweep()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    name = f"{PREFIX}{os.getpid()}"
    root = Path(tempfile.gettempdir()) / name
    root.mkdir(mode=0o755)
    status = 1
    try:
        with _folders():
            groups.make(name)
            inside = (sys.executable, "-m", "tests.e2e.cluster.inside", str(root))
            process = subprocess.Popen([*NAMESPACES, *inside, *command])
            try:
                status = process.wait()
            finally:
                process.kill()
                process.wait()
    finally:
        if status and logs is not None and (root / "logs").exists():
            shutil.copytree(root / "logs", logs, dirs_exist_ok=True)
            sys.stderr.write(f"e2e: the logs of all parts are in {logs}\n")
        _remove(root)
        groups.remove(name)
    return status


def _remove(root: Path) -> None:
    """Layers of images are a hundred thousand files, which Python takes a minute for."""
    subprocess.run(["rm", "-rf", "--", str(root)], check=True)


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _folders() -> Iterator[None]:
    """Those that the cluster mounts its own over: none stays that was not there."""
    made: list[Path] = []
    for path in (Path(one) for one in PRIVATE):
        for folder in (*reversed(path.parents), path):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
    try:
        yield
    finally:
        for folder in reversed(made):
            folder.rmdir()


def _sweep() -> None:
    """What runs left that were killed before they could."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not _lives(root.name):
            _remove(root)
    for name in groups.names(PREFIX):
        if not _lives(name):
            groups.remove(name)


def _lives(name: str) -> bool:
    return Path("/proc", name.removeprefix(PREFIX)).exists()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
