"""The one thread that adds to the archive, for everybody who brings bytes."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from controlplane.domain.errors import ResourceExhausted
from controlplane.logs.archive import Archive, Kind

logger = logging.getLogger(__name__)

COMPLAIN_SECONDS: Final = 60.0


class ArchiveWriter:
    """Adds off the event loop."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._complained_at = -COMPLAIN_SECONDS
        # The archive takes appends from one thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="archive")

    async def append(
        self, attempt_id: str, kind: Kind, offset: int, data: bytes, *, final: bool = False
    ) -> int:
        """As `Archive.append`: returns the end. Raises ResourceExhausted, which the log tells too,
        now and then: everybody who brings bytes tries again each second."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._thread, self._append, attempt_id, kind, offset, data, final
            )
        except ResourceExhausted as fault:
            now = time.monotonic()
            if now - self._complained_at >= COMPLAIN_SECONDS:
                self._complained_at = now
                logger.warning("%s", fault.message)
            raise

    def _append(self, attempt_id: str, kind: Kind, offset: int, data: bytes, final: bool) -> int:
        return self._archive.append(attempt_id, kind, offset, data, final=final)

    def close(self) -> None:
        """Waits for what is under way."""
        self._thread.shutdown()
