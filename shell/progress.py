"""Progress of what takes time: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from shell.context import Context

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


QUICK_SECONDS: Final = 0.3
"""What is done sooner needs no bar."""


class Bar:
    """A bar of bytes on standard error. Drawn only if the work is not done at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """Set how far it is; ``what`` names the bar."""
        if not self._context.err_is_terminal or total_bytes <= 0:
            return
        if self._progress is None and time.monotonic() - self._begun < QUICK_SECONDS:
            return
        progress = self._progress or self._start()
        if what not in self._tasks:
            self._tasks[what] = progress.add_task(what, total=total_bytes)
        progress.update(self._tasks[what], completed=done_bytes, total=total_bytes)

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(
            file=self._context.stderr, no_color=bool(self._context.environ.get("NO_COLOR"))
        )
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._progress.start()
        return self._progress
