"""Directories made in advance. Making one costs a journaling file system far more than renaming
it, and an attempt
needs several before its process can start; these are made in a thread while nothing waits for
them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from noded.uids import Identity

log = logging.getLogger(__name__)

KEPT: Final = 64
_FEW: Final = KEPT // 2
_REFILL_SECONDS: Final = 0.005


class Skeletons:
    """Up to KEPT directories of one kind below `root`, which is on the file system where they are
    needed."""

    def __init__(
        self, root: Path, make: Callable[[str], tuple[str, ...]], threads: Executor
    ) -> None:
        """`make` fills a path with a new directory and names all in it that its user is to own, ""
        for itself."""
        self._root = root
        self._make = make
        self._threads = threads
        self._ready: deque[tuple[str, tuple[str, ...]]] = deque()
        self._counter = 0
        self._filling = False
        self._loop = asyncio.get_running_loop()
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o700)
        self._refill()

    def take(
        self,
        target: str,
        identity: Identity,
        dir_fd: int | None = None,
        fill: Callable[[str], None] = lambda _: None,
    ) -> bool:
        """Puts a directory at `target`, which does not exist, owned by `identity` where that is
        separate.

        `fill` completes it at its present path. False: none is ready, make it yourself. Raises
        OSError.
        """
        if not self._ready:
            self._refill()
            return False
        path, owned = self._ready.popleft()
        try:
            fill(path)
            if identity.separate:
                for name in owned:
                    os.chown(f"{path}/{name}" if name else path, identity.uid, identity.gid)
            os.rename(path, target, dst_dir_fd=dir_fd)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        finally:
            self._refill()
        return True

    def _refill(self) -> None:
        if not self._filling and len(self._ready) < _FEW:
            self._filling = True
            # Not at once: the process that is about to start goes first.
            self._loop.call_later(_REFILL_SECONDS, self._submit)

    def _submit(self) -> None:
        with contextlib.suppress(RuntimeError):  # closing
            self._threads.submit(self._fill)

    def _fill(self) -> None:
        try:
            while len(self._ready) < KEPT:
                self._counter += 1
                path = f"{self._root}/{self._counter}"
                self._ready.append((path, self._make(path)))
        except OSError as error:
            log.warning("no directories can be made in advance: %s", error)
        finally:
            self._filling = False


def attempt_skeleton(path: str) -> tuple[str, ...]:
    """What every attempt's directory holds (see attempt_dir)."""
    os.mkdir(path)
    os.chmod(path, 0o711)
    for name in ("log", "work", "tmp"):
        os.mkdir(f"{path}/{name}", 0o700)
    _touch(f"{path}/results.jsonl", 0o600)
    return ("work", "tmp", "results.jsonl")


def output_skeleton(path: str) -> tuple[str, ...]:
    """The output directory of an experiment, with its configuration still empty."""
    os.mkdir(path)
    os.chmod(path, 0o755)
    _touch(f"{path}/riseml-configuration.yml", 0o644)
    return ("", "riseml-configuration.yml")


def _touch(path: str, mode: int) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
