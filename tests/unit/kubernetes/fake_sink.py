"""An archive in memory, with the rules of the real one."""

from __future__ import annotations

from controlplane.launch.kubernetes.ports import LogKind


class FakeSink:
    """Implements `LogSink`."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, LogKind], bytes] = {}
        self.finished: list[str] = []

    def end(self, attempt_id: str, kind: LogKind) -> int:
        return len(self.logs.get((attempt_id, kind), b""))

    def read(self, attempt_id: str, kind: LogKind, offset: int, length: int) -> bytes:
        return self.logs.get((attempt_id, kind), b"")[offset : offset + length]

    async def append(self, attempt_id: str, kind: LogKind, offset: int, data: bytes) -> None:
        had = self.logs.get((attempt_id, kind), b"")
        assert offset <= len(had), "a gap"
        self.logs[attempt_id, kind] = had + data[len(had) - offset :]

    async def finish(self, attempt_id: str) -> None:
        self.finished.append(attempt_id)
