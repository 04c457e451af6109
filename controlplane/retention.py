"""Removes the logs of experiments that ended long ago. The experiments themselves stay listed."""

from __future__ import annotations

import time
from typing import Final

from controlplane.logs.archive import Archive
from controlplane.store.protocol import Store

BATCH: Final = 200
DAY_SECONDS: Final = 86_400.0


def remove_old_logs(store: Store, archive: Archive, retention_days: float, since: float) -> float:
    """Removes logs of experiments that ended after `since` and longer ago than the retention.

    Returns the time up to which it is done, to be given as `since` next time. Blocking.
    """
    limit = time.time() - retention_days * DAY_SECONDS
    done = since
    while True:
        ended = store.ended_between(done, limit, BATCH)
        for attempt in store.attempts([e.id for e in ended]):
            archive.remove(attempt.id)
        done = limit if len(ended) < BATCH else ended[-1].end_time or limit
        archive.removed_until = done
        if done == limit:
            return limit
