"""A client that stops reading its log stream costs the server bounded memory and no one else's
speed.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Final

import psutil
import pytest

from riseml.client import Client
from riseml.cri import CriDecoder
from riseml.v1 import state_pb2
from tests.integration.cluster import Cluster, running_cluster, spec, submit, wait_state

SILENT_SECONDS: Final = 60.0
PRINTED_BYTES: Final = 200_000_000
MAX_GROWTH_BYTES: Final = 64 << 20

# Prints 200 MB in lines of 100 bytes, at the speed that the system takes.
JOB: Final = f"yes {'x' * 99} | head -c {PRINTED_BYTES}"


class Reader(threading.Thread):
    """Follows a log; can be made to stop reading while its stream stays open."""

    def __init__(self, client: Client, experiment_id: str, *, silent_after: int = -1) -> None:
        super().__init__(daemon=True)
        self._records = client.logs.tail(experiment_id, follow=True)
        self._silent_after = silent_after
        self.silent = threading.Event()
        self.go_on = threading.Event()
        self.received = 0
        self.seconds = 0.0
        self._payload = hashlib.sha256()
        self._decoder = CriDecoder()

    def run(self) -> None:
        begin = time.monotonic()
        offset = 0
        for record in self._records:
            if not record.HasField("chunk"):
                continue
            assert record.chunk.offset == offset
            offset += len(record.chunk.data)
            for line in self._decoder.feed(record.chunk.data):
                text = line.text if line.partial else line.text + b"\n"
                self.received += len(text)
                self._payload.update(text)
            if 0 <= self._silent_after <= offset and not self.go_on.is_set():
                self.silent.set()
                self.go_on.wait()
        self.seconds = time.monotonic() - begin

    @property
    def sha256(self) -> str:
        return self._payload.hexdigest()


def resident_bytes(cluster: Cluster) -> int:
    return int(psutil.Process(cluster.control_plane.pid).memory_info().rss)


@pytest.mark.timeout(240)
def test_a_reader_that_is_silent_for_a_minute_costs_bounded_memory_and_slows_nobody() -> None:
    with running_cluster() as cluster:
        client = cluster.client()
        experiment_id = submit(client, spec(JOB, cpu_milli=500))
        silent = Reader(cluster.client(), experiment_id, silent_after=1 << 20)
        silent.start()
        assert silent.silent.wait(30)
        silent_since = time.monotonic()
        before = resident_bytes(cluster)

        brisk = Reader(cluster.client(), experiment_id)
        brisk.start()
        highest = before
        while brisk.is_alive() or time.monotonic() - silent_since < SILENT_SECONDS:
            brisk.join(0.2)
            highest = max(highest, resident_bytes(cluster))
        assert brisk.received == PRINTED_BYTES
        assert brisk.seconds < SILENT_SECONDS, "the silent reader held the other one up"
        assert highest - before < MAX_GROWTH_BYTES
        wait_state(client, experiment_id, state_pb2.STATE_FINISHED)

        silent.go_on.set()
        silent.join(60)
        assert silent.received == PRINTED_BYTES
        expected = hashlib.sha256((b"x" * 99 + b"\n") * (PRINTED_BYTES // 100))
        assert silent.sha256 == brisk.sha256 == expected.hexdigest()
