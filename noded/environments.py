"""Environments of jobs: a venv per user and content of its install steps, made once on this node
and kept.

`HOME/node/<name>/envs/<user>/<key>` is the user's; `<key>.complete` beside it is the daemon's own
word that the build
went through. What lies there without that word is half-made and is made anew. The build itself is
an attempt like any
other (it runs under a shim, with a log); this module knows what to build and what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noded.errors import BuildFailed
from noded.trees import TreeFile
from noded.uids import Identity, can_reach, write_durably

KEY_LENGTH: Final = 20
USER_NOTE: Final = "environment_user"
KEY_NOTE: Final = "environment_key"
"""An attempt's notes of the environment that it uses or makes."""
_SHELL_WORD: Final = re.compile(r"[^\s;&|<>()'\"`=,]+")
_REQUIREMENT_FILE: Final = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)")
_SHORT_OPTION: Final = re.compile(r"-[rce](?=[^-\s])")


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment, made or not."""

    user_name: str
    key: str
    """From its user, interpreter, steps and the files that these name."""
    path: Path
    python: str
    """The interpreter that it is made with."""

    @property
    def marker(self) -> Path:
        return self.path.with_name(f"{self.key}.complete")


class Environments:
    """What is below `root`."""

    def __init__(
        self,
        root: Path,
        max_bytes: int,
        max_age_seconds: float,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._max_age_seconds = max_age_seconds
        self._wall_clock = wall_clock
        # A thread that prepares goes on when the attempt that wanted it was stopped.
        self._changing = threading.Lock()

    def describe(
        self,
        user_name: str,
        steps: Sequence[str],
        python: str,
        tree: Sequence[TreeFile],
        read: Callable[[TreeFile], bytes],
    ) -> Environment:
        """The environment that these steps make in this tree."""
        key = environment_key(user_name, steps, python_identity(python), tree, read)
        return Environment(user_name, key, self._root / user_name / key, python)

    def named(self, user_name: str, key: str) -> Environment:
        """An environment by its key, when only that is known."""
        return Environment(user_name, key, self._root / user_name / key, "")

    def built_time(self, environment: Environment) -> float | None:
        """When it was completed; None while it is not. Marks it as used now."""
        try:
            content = json.loads(environment.marker.read_bytes())
            os.utime(environment.marker)
            return float(content["built_time"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None

    def prepare(self, environment: Environment, identity: Identity) -> None:
        """An empty directory for the build, owned by its user; whatever was half-made there goes.
        Blocks."""
        with self._changing:
            environment.path.parent.mkdir(mode=0o711, exist_ok=True)
            environment.marker.unlink(missing_ok=True)
            if environment.path.exists():
                shutil.rmtree(environment.path)
            environment.path.mkdir(mode=0o700)
            if identity.separate:
                os.chown(environment.path, identity.uid, identity.gid)

    def complete(self, environment: Environment, steps: Iterable[str]) -> None:
        """The build went through: from now on it is used as it is."""
        content = {"built_time": self._wall_clock(), "steps": list(steps)}
        write_durably(environment.marker, json.dumps(content, indent=1).encode())

    def discard(self, environment: Environment) -> None:
        """Removes it. Blocks."""
        with self._changing:
            environment.marker.unlink(missing_ok=True)
            shutil.rmtree(environment.path, ignore_errors=True)

    def collect(self, in_use: Iterable[Environment]) -> list[Environment]:
        """Removes what is too old or too much, least recently used first, and says what went.
        Blocks.

        Half-made ones that nobody builds go as well.
        """
        used = {e.path for e in in_use}
        found: list[tuple[float, Environment]] = []
        for user_directory in sorted(self._root.iterdir()):
            for path in sorted(user_directory.iterdir()):
                if path.suffix == ".complete" or path in used:
                    continue
                environment = self.named(user_directory.name, path.name)
                try:
                    last_used = os.stat(environment.marker).st_mtime
                except FileNotFoundError:
                    last_used = 0.0
                found.append((last_used, environment))
        gone = []
        oldest = self._wall_clock() - self._max_age_seconds
        sizes = {e.path: tree_size(e.path) for _, e in found}
        total = sum(sizes.values())
        for last_used, environment in sorted(found, key=lambda pair: pair[0]):
            if last_used < oldest or total > self._max_bytes:
                self.discard(environment)
                total -= sizes[environment.path]
                gone.append(environment)
        return gone


def environment_key(
    user_name: str,
    steps: Sequence[str],
    python: str,
    tree: Sequence[TreeFile],
    read: Callable[[TreeFile], bytes],
) -> str:
    """Hash of all that the outcome depends on, as far as it can be known beforehand."""
    content = {
        "version": 1,
        "user": user_name,
        "python": python,
        "steps": list(steps),
        "files": [[f.path, f.executable, f.sha256.hex()] for f in named_files(steps, tree, read)],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()[:KEY_LENGTH]


def named_files(
    steps: Sequence[str], tree: Sequence[TreeFile], read: Callable[[TreeFile], bytes]
) -> list[TreeFile]:
    """The files that install steps name, by path or by a directory above them, in the order of
    their paths.

    Requirement files are followed to the files that they name with `-r` and `-c`.
    """
    by_path = {f.path: f for f in tree}
    named: set[str] = set()
    pending = [word for step in steps for word in _words(step)]
    while pending:
        path = _normal(pending.pop())
        if path in named:
            continue
        if path in by_path:
            named.add(path)
            if path.endswith((".txt", ".in")):
                pending += _requirements_of(path, read(by_path[path]))
        elif path is not None:
            prefix = f"{path}/" if path else ""
            named.update(p for p in by_path if p.startswith(prefix))
    return [by_path[path] for path in sorted(named)]


def _words(step: str) -> list[str]:
    words = _SHELL_WORD.findall(step)
    with contextlib.suppress(ValueError):
        words += shlex.split(step)
    words += [_SHORT_OPTION.sub("", word, count=1) for word in words if word.startswith("-")]
    # `.[dev]` and `./package[extra]` name a directory too.
    return words + [word.partition("[")[0] for word in words if "[" in word]


def _normal(word: str) -> str | None:
    """As a path in the tree; "" for the tree itself, None for what cannot be one."""
    if not word or word.startswith(("/", "-", "~")):
        return None
    path = os.path.normpath(word)
    if path == ".":
        return ""
    return None if path.startswith("..") else path


def _requirements_of(path: str, content: bytes) -> list[str]:
    directory = os.path.dirname(path)
    found = []
    for line in content.decode(errors="replace").splitlines():
        match = _REQUIREMENT_FILE.match(line)
        name = match.group(1) if match else line.split("#")[0].strip().removeprefix("-e").strip()
        if name and (match or name.startswith(".")):
            found.append(os.path.join(directory, name.partition("[")[0]))
    return found


def find_python(configured: str, identity: Identity, search_path: str) -> str:
    """An interpreter that `identity` can run, best one first: the configured one, the daemon's
    own, PATH's.

    Raises BuildFailed, saying what was looked at.
    """
    if configured:
        if can_reach(Path(configured), identity):
            return configured
        raise BuildFailed(
            f"the configured interpreter {configured} cannot be run by the job's user (uid "
            f"{identity.uid}): check `python` in the daemon's configuration and the permissions"
        )
    candidates = [str(getattr(sys, "_base_executable", "") or sys.executable)]
    for name in (f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3", "python"):
        candidates += [f"{directory}/{name}" for directory in search_path.split(":") if directory]
    reachable = [c for c in dict.fromkeys(candidates) if c and can_reach(Path(c), identity)]
    if not reachable:
        raise BuildFailed(
            f"no Python that the job's user (uid {identity.uid}) can run was found; tried "
            f"{', '.join(dict.fromkeys(candidates))}. Install python3 and its venv module on this "
            "node, or set `python` in the daemon's configuration"
        )
    return next((c for c in reachable if _has_ensurepip(c)), reachable[0])


def _has_ensurepip(python: str) -> bool:
    real = os.path.realpath(python)
    library = f"{os.path.dirname(os.path.dirname(real))}/lib/{os.path.basename(real)}"
    return os.path.exists(f"{library}/ensurepip/__init__.py")


def python_identity(python: str) -> str:
    """An interpreter as part of a key: another one at the same path makes another environment."""
    real = os.path.realpath(python)
    try:
        status = os.stat(real)
    except OSError as error:
        raise BuildFailed(f"the interpreter {python} is gone: {error.strerror}") from error
    return f"{real} {status.st_size} {status.st_mtime_ns}"


def build_script(environment: Environment, steps: Sequence[str]) -> str:
    """What the build runs, by `sh -e`, in a copy of the tree: the first step that fails ends it."""
    lines = [
        f"echo {shlex.quote(f'environment {environment.key}: with {environment.python}')}",
        f"{shlex.quote(environment.python)} -m venv {shlex.quote(str(environment.path))}",
    ]
    for step in steps:
        lines += [f"printf '%s\\n' {shlex.quote('$ ' + step)}", step]
    return "\n".join(lines)


def environment_variables(environment: Environment, path: str) -> Mapping[str, str]:
    """What makes commands find the environment's programs first."""
    return {"VIRTUAL_ENV": str(environment.path), "PATH": f"{environment.path}/bin:{path}"}


def tree_size(path: Path) -> int:
    """Bytes of all files below a directory, links not followed."""
    total = 0
    pending = [str(path)]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
