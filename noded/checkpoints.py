"""When a job last wrote a checkpoint, as far as names and times of the files in its output tell.

The control plane asks, when it has to choose whom to preempt, how much work would be lost. A look
is bounded and rare, in a thread, and jobs that end before the first one cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 15.0
"""Between two looks at one output, and before the first."""
REST_PER_LOOK: Final = 50.0
"""A long look is followed by a pause of so many times its length."""
MOST_ENTRIES: Final = 4096
"""So many files and folders are looked at, those near the root first."""
DEEPEST: Final = 5
"""Levels of folders below the output's root."""
SETTLED_SECONDS: Final = 2.0
"""A file that was written a moment ago may not be whole yet."""

_SUFFIXES: Final = (
    *(".ckpt", ".pt", ".pth", ".safetensors", ".h5", ".hdf5", ".keras", ".msgpack", ".joblib"),
    *(".npz", ".distcp", ".orbax"),
)
_NAMED: Final = re.compile(
    # checkpoint-500, ckpt_3, model.ckpt-100.index, pytorch_model-00001-of-00002.bin
    r"checkpoint|ckpt|.*\.ckpt[-.]|pytorch_model.*\.bin$|optimizer.*\.bin$"
    # step_1000, global_step500, epoch=3, iter_0000100
    r"|(global_?)?(step|epoch|iter(ation)?)[_=-]?\d"
)
_NONE: Final = (".log", ".txt", ".csv", ".tsv", ".tmp", ".temp", ".partial", ".incomplete", ".lock")


def looks_like_checkpoint(name: str) -> bool:
    """Whether a file or folder of this name is (a part of) a checkpoint. Pure."""
    name = name.lower()
    if name.endswith(_NONE):
        return False
    return name.endswith(_SUFFIXES) or _NAMED.match(name) is not None


def newest_checkpoint(
    root: str, after: float, until: float, most_entries: int = MOST_ENTRIES
) -> float | None:
    """When the newest checkpoint below `root` was written, if that was later than `after` and not
    later than `until`.

    Blocking. Links are not followed. What cannot be read is passed over.
    """
    newest: float | None = None
    left = most_entries
    folders = deque([(root, 0)])
    while folders and left > 0:
        path, depth = folders.popleft()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        break
                    if depth < DEEPEST and entry.is_dir(follow_symlinks=False):
                        folders.append((entry.path, depth + 1))
                    if looks_like_checkpoint(entry.name):
                        written = _write_time(entry)
                        if after < written <= until:
                            newest = after = written
        except OSError as error:
            log.debug("%s is passed over: %s", path, error)
    return newest


def _write_time(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:  # it was removed while we looked: jobs keep the last few
        return 0.0


@dataclass(frozen=True, slots=True)
class LiveOutput:
    """Where an attempt that runs may write checkpoints."""

    attempt_id: str
    path: str
    start_time: float
    """Wall time: what is older was there before."""


@dataclass(slots=True)
class _Watched:
    due: float
    checkpoint_time: float | None = None


class Checkpoints:
    """Looks at the outputs of all attempts that run here, and says when one has a newer checkpoint.

    `outputs` and `tell` are called on the event loop.
    """

    def __init__(
        self,
        outputs: Callable[[], Sequence[LiveOutput]],
        tell: Callable[[str, float], None],
        look_seconds: float = LOOK_SECONDS,
        settled_seconds: float = SETTLED_SECONDS,
    ) -> None:
        self._outputs = outputs
        self._tell = tell
        self._look_seconds = look_seconds
        self._settled_seconds = settled_seconds
        self._watched: dict[str, _Watched] = {}

    def seen(self) -> list[tuple[str, float]]:
        """Newest checkpoints of attempts that run, as they were told."""
        return [
            (attempt_id, watched.checkpoint_time)
            for attempt_id, watched in self._watched.items()
            if watched.checkpoint_time is not None
        ]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._look_seconds)
            await self._look(self._outputs())

    async def _look(self, outputs: Sequence[LiveOutput]) -> None:
        now = time.monotonic()
        known = self._watched
        # The first time that an attempt is seen here it may just have begun: it has its time.
        self._watched = {
            output.attempt_id: known.get(output.attempt_id)
            or _Watched(now + self._look_seconds / 2)
            for output in outputs
        }
        for output in outputs:
            watched = self._watched[output.attempt_id]
            if watched.due > now:
                continue
            begin = time.monotonic()
            found = await asyncio.to_thread(
                newest_checkpoint,
                output.path,
                watched.checkpoint_time or output.start_time,
                time.time() - self._settled_seconds,
            )
            end = time.monotonic()
            watched.due = end + (end - begin) * REST_PER_LOOK
            if found is not None:
                watched.checkpoint_time = found
                log.debug("%s wrote a checkpoint", output.attempt_id)
                self._tell(output.attempt_id, found)
