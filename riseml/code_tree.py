"""Which files of a project's folder are its code, and what they hash to. Nothing here talks to a
server.

Rules are git's: ``.gitignore`` and ``.risemlignore`` at every level, deeper ones first, within one
folder ``.risemlignore`` after ``.gitignore``; those of the folders above count up to the root of a
git repository. ``.git`` is never taken. Symbolic links and special files are refused, not followed
and not dropped in silence.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from riseml.errors import SyncError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILES: Final = (".gitignore", ".risemlignore")
MAX_PATH_BYTES: Final = 1024
READ_BYTES: Final = 1 << 20
SETTLED_NS: Final = 2_000_000_000
"""A file younger than this may change again within its time stamp's grain, so its hash is not
kept.
"""

_SHOWN: Final = 5

HashProgress: TypeAlias = Callable[[int], None]
"""Told the number of bytes that were hashed since the last call."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one revision may hold. The server has limits of its own above these."""

    max_files: int = 20_000
    max_file_bytes: int = 1 << 30
    max_total_bytes: int = 2 << 30


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A regular file of the tree."""

    path: str
    """Relative, with ``/``."""
    executable: bool
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file with the SHA-256 of its content (32 bytes)."""

    file: TreeFile
    sha256: bytes


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one folder, and the way from it to the folder that is being listed."""

    spec: GitIgnoreSpec
    way: str

    def below(self, name: str) -> _Rules:
        return _Rules(self.spec, f"{self.way}{name}/")


def list_tree(root: Path, limits: Limits = DEFAULT_LIMITS) -> list[TreeFile]:
    """The files that belong to the code, sorted by path. Raises SyncError with all that is wrong
    at once.
    """
    root = root.resolve()
    files: list[TreeFile] = []
    refused: list[str] = []
    pending: list[tuple[str, list[_Rules]]] = [("", _rules_above(root))]
    while pending:
        folder, rules = pending.pop()
        here = root / folder if folder else root
        rules = [*rules, *_rules_of(here)]
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise SyncError(
                f"{here} cannot be read: {error.strerror}. Make it readable or list it in "
                f".risemlignore."
            ) from error
        for entry in entries:
            path = folder + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name == ".git" or _ignored(entry.name, is_folder, rules):
                continue
            problem = _problem(root, path, entry)
            if problem:
                refused.append(problem)
            elif is_folder:
                pending.append((f"{path}/", [rule.below(entry.name) for rule in rules]))
            else:
                files.append(_tree_file(path, entry.stat(follow_symlinks=False)))
    if refused:
        raise SyncError(_first_of(sorted(refused)), reason="FILES_REFUSED")
    files.sort(key=lambda file: file.path)
    _check_limits(files, limits)
    return files


def _tree_file(path: str, found: os.stat_result) -> TreeFile:
    return TreeFile(
        path,
        bool(found.st_mode & stat.S_IXUSR),
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino,
    )


def _problem(root: Path, path: str, entry: os.DirEntry[str]) -> str:
    """Why an entry cannot be sent; empty if it can."""
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return f"{path!r}: its name is not valid UTF-8. Rename it, or list it in .risemlignore."
    if any(ord(character) < 32 or character == "\x7f" for character in path):
        return (
            f"{path!r}: its name has a control character. Rename it, or list it in .risemlignore."
        )
    if len(encoded) > MAX_PATH_BYTES:
        return f"{path[:60]}...: its path is longer than {MAX_PATH_BYTES} bytes. Shorten it."
    if entry.is_symlink():
        target = Path(root, path).resolve()
        if target.is_relative_to(root):
            return (
                f"{path}: is a symbolic link to {target.relative_to(root)}, and links are not "
                f"sent. "
                "Replace it by the file, or list it in .risemlignore."
            )
        return (
            f"{path}: is a symbolic link that leaves the project (to {target}). Copy what you "
            f"need into "
            "the project, put data under data:// ('riseml cp'), or list the link in .risemlignore."
        )
    if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
        return f"{path}: is no regular file. List it in .risemlignore."
    return ""


def _first_of(lines: Sequence[str]) -> str:
    shown = "\n".join(lines[:_SHOWN])
    rest = len(lines) - _SHOWN
    return f"{shown}\n... and {rest} more like these." if rest > 0 else shown


def _rules_of(folder: Path) -> list[_Rules]:
    from pathspec import GitIgnoreSpec

    lines: list[str] = []
    for name in IGNORE_FILES:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            try:
                lines += (folder / name).read_text("utf-8", errors="surrogateescape").splitlines()
            except PermissionError as error:
                raise SyncError(f"{folder / name} cannot be read: {error.strerror}.") from error
    if not lines:
        return []
    try:
        return [_Rules(GitIgnoreSpec.from_lines(lines), "")]
    except ValueError as error:
        raise SyncError(f"An ignore file in {folder} has a wrong line: {error}") from error


def _rules_above(root: Path) -> list[_Rules]:
    """Rules of the folders from the root of the git repository around ``root`` down to its
    parent.
    """
    above = list(root.parents)
    if (root / ".git").exists():
        return []
    top = next((depth for depth, folder in enumerate(above) if (folder / ".git").exists()), None)
    if top is None:
        return []
    found: list[_Rules] = []
    for folder in reversed(above[: top + 1]):
        way = root.relative_to(folder).as_posix() + "/"
        found += [_Rules(rules.spec, way) for rules in _rules_of(folder)]
    return found


def _ignored(name: str, is_folder: bool, rules: Sequence[_Rules]) -> bool:
    for rule in reversed(rules):
        verdict = rule.spec.check_file(f"{rule.way}{name}{'/' if is_folder else ''}").include
        if verdict is not None:
            return bool(verdict)
    return False


def _check_limits(files: Sequence[TreeFile], limits: Limits) -> None:
    total = sum(file.size_bytes for file in files)
    too_large = [file for file in files if file.size_bytes > limits.max_file_bytes]
    advice = "List what is not code in .risemlignore, or put data under data:// with 'riseml cp'."
    if too_large:
        raise SyncError(
            f"These files are larger than "
            f"{_size(limits.max_file_bytes)}:\n{_biggest(too_large)}\n{advice}",
            reason="FILE_TOO_LARGE",
        )
    if total > limits.max_total_bytes:
        raise SyncError(
            f"The project has {_size(total)}, and {_size(limits.max_total_bytes)} is the limit. "
            f"Its biggest files:\n{_biggest(files)}\n{advice}",
            reason="TREE_TOO_LARGE",
        )
    if len(files) > limits.max_files:
        raise SyncError(
            f"The project has {len(files):,} files, and {limits.max_files:,} is the limit. "
            f"Most lie in:\n{_fullest(files)}\n{advice}",
            reason="TOO_MANY_FILES",
        )


def _biggest(files: Iterable[TreeFile]) -> str:
    by_size = sorted(files, key=lambda file: -file.size_bytes)[:_SHOWN]
    return "\n".join(f"  {_size(file.size_bytes):>8}  {file.path}" for file in by_size)


def _fullest(files: Iterable[TreeFile]) -> str:
    counts: dict[str, int] = {}
    for file in files:
        folder = file.path.partition("/")[0] + "/" if "/" in file.path else "."
        counts[folder] = counts.get(folder, 0) + 1
    most = sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN]
    return "\n".join(f"  {count:>8,}  {folder}" for folder, count in most)


def _size(size_bytes: int) -> str:
    from riseml.spec.units import format_memory

    return format_memory(size_bytes)


def open_regular(path: Path) -> int:
    """A descriptor of a regular file, never of what a link points to."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SyncError(f"{path}: is no regular file any more. Run the command again.")
    return descriptor


def hash_tree(
    root: Path,
    files: Sequence[TreeFile],
    cache: HashCache,
    progress: HashProgress | None = None,
) -> list[HashedFile]:
    """The files with their hashes; only what changed since the cache was saved is read."""
    hashed = []
    for file in files:
        sha256 = cache.find(file)
        if sha256 is None:
            sha256 = _hash_file(root / file.path, progress)
            cache.keep(file, sha256)
        elif progress is not None:
            progress(file.size_bytes)
        hashed.append(HashedFile(file, sha256))
    return hashed


def _hash_file(path: Path, progress: HashProgress | None) -> bytes:
    digest = hashlib.sha256()
    try:
        with os.fdopen(open_regular(path), "rb") as opened:
            while block := opened.read(READ_BYTES):
                digest.update(block)
                if progress is not None:
                    progress(len(block))
    except OSError as error:
        raise SyncError(
            f"{path} cannot be read: {error.strerror}. Make it readable or list it in "
            f".risemlignore."
        ) from error
    return digest.digest()


class HashCache:
    """Hashes of a tree's files, trusted while path, size, times and inode are what they were.

    One JSON file per tree; a damaged or missing one only costs time.
    """

    def __init__(
        self, cache_dir: Path, root: Path, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:24]
        self._file = cache_dir / "hashes" / f"{name}.json"
        self._now_ns = now_ns
        self._known: dict[str, list[int | str]] = {}
        self._fresh: dict[str, list[int | str]] = {}
        with contextlib.suppress(OSError, ValueError):
            loaded = json.loads(self._file.read_text("utf-8"))
            if isinstance(loaded, dict):
                self._known = loaded

    def find(self, file: TreeFile) -> bytes | None:
        """The hash, if the file is unchanged as far as its metadata tells."""
        known = self._known.get(file.path)
        if not isinstance(known, list) or known[:4] != _mark(file) or len(known) != 5:
            return None
        self._fresh[file.path] = known
        try:
            sha256 = bytes.fromhex(str(known[4]))
        except ValueError:
            return None
        return sha256 if len(sha256) == 32 else None

    def keep(self, file: TreeFile, sha256: bytes) -> None:
        """Remember a hash, unless the file is so young that it could change unseen."""
        if self._now_ns() - max(file.mtime_ns, file.ctime_ns) > SETTLED_NS:
            self._fresh[file.path] = [*_mark(file), sha256.hex()]

    def save(self) -> None:
        """Write what was found or kept. That it cannot be written is no error: the cache is a
        comfort.
        """
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._file.parent)
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                json.dump(self._fresh, opened)
            os.replace(temporary, self._file)


def _mark(file: TreeFile) -> list[int | str]:
    return [file.size_bytes, file.mtime_ns, file.ctime_ns, file.inode]
