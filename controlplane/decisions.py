"""The record of decisions on disk: what the scheduler decided on whom, and why.

JSON lines in HOME/control/decisions, in files of bounded size of which the oldest go. It serves
`why` after a restart and is no part of the state: it is written behind, without fsync, in a thread
of its own, and when it cannot be written the scheduler goes on and `system info` says so.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from controlplane.cycles import Cycle
from controlplane.domain.decision_record import DecisionRecord
from controlplane.domain.json_values import UnreadableJson, decoder, encoder
from controlplane.domain.plan import Decision, DecisionKind

logger = logging.getLogger(__name__)

FILE_BYTES: Final = 8 << 20
FILES: Final = 16
# Cycles that wait to be written; more of them are dropped.
QUEUE_LIMIT: Final = 4096
# What is decided within this time is written together.
GATHER_SECONDS: Final = 0.1
# Of one experiment at most so many records are read, the newest.
READ_LIMIT: Final = 1000
# Experiments whose reservation is remembered, so that it is not written again in each cycle.
_RESERVED_KEPT: Final = 4096

_encode = encoder(DecisionRecord)
_decode = decoder(DecisionRecord)


class DecisionLog:
    """Appends what `observe` is given; reads by experiment."""

    def __init__(self, folder: Path, file_bytes: int = FILE_BYTES, files: int = FILES) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._files = files
        # Why the last records are missing; "" when all are written.
        self.fault = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decisions")
        # Records that wait to be written, by cycle. The thread takes from the front.
        self._waiting: deque[list[DecisionRecord]] = deque()
        # Whether the thread is on its way, and what hurries it.
        self._coming = False
        self._hurry = threading.Event()
        self._reserved: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def last_number(self) -> int:
        """Number of the newest cycle on record, 0 if there is none. Blocking."""
        for path in reversed(self._paths()):
            try:
                lines = path.read_bytes().splitlines()
            except OSError as fault:
                logger.warning("%s cannot be read: %s", path, fault)
                continue
            for line in reversed(lines):
                record = _read(line)
                if record is not None:
                    return record.cycle_number
        return 0

    def observe(self, cycle: Cycle) -> None:
        """Writes the decisions of a cycle that were made real, soon. Never blocks, never raises."""
        if cycle.plan is None or not cycle.plan.decisions:
            return
        records = [
            DecisionRecord(cycle.number, cycle.start_time, decision)
            for decision in cycle.plan.decisions
            if self._is_news(decision, cycle)
        ]
        if not records:
            return
        if len(self._waiting) >= QUEUE_LIMIT:
            self.fault = "Decisions of the scheduler come faster than they can be recorded."
            return
        self._waiting.append(records)
        if not self._coming:
            self._coming = True
            self._thread.submit(self._write_soon)

    def _is_news(self, decision: Decision, cycle: Cycle) -> bool:
        name = decision.experiment_id
        match decision.kind:
            case DecisionKind.PLACED:
                self._reserved.pop(name, None)
                return name in cycle.applied.started
            case DecisionKind.PREEMPTED:
                return name in cycle.applied.evicted
            case DecisionKind.RESERVED:
                nodes = tuple(dict.fromkeys(member.node_name for member in decision.members))
                if self._reserved.get(name) == nodes:
                    return False
                self._reserved[name] = nodes
                self._reserved.move_to_end(name)
                if len(self._reserved) > _RESERVED_KEPT:
                    self._reserved.popitem(last=False)
                return True

    def read(self, experiment_id: str) -> list[DecisionRecord]:
        """What was decided on an experiment, oldest first. Blocking; sees all that was observed."""
        self._hurry.set()
        return self._thread.submit(self._read, experiment_id).result()

    def close(self) -> None:
        """Returns when all is written."""
        self._hurry.set()
        self._thread.shutdown()

    # ------------------------------------------------------------------------- in the own thread

    def _write_soon(self) -> None:
        """Under load many cycles are written at once: the scheduler's thread is woken less."""
        self._hurry.wait(GATHER_SECONDS)
        self._hurry.clear()
        self._coming = False
        records: list[DecisionRecord] = []
        while self._waiting:
            records += self._waiting.popleft()
        if records:
            self._append(records)

    def _append(self, records: Iterable[DecisionRecord]) -> None:
        text = bytearray()
        try:
            for record in records:
                text += f"{_line(record)}\n".encode()
                if len(text) >= self._file_bytes:
                    self._write(text)
                    text.clear()
            if text:
                self._write(text)
        except OSError as fault:
            reason = fault.strerror or str(fault)
            if not self.fault:
                logger.error("decisions are not recorded: %s", reason)
            self.fault = (
                f"Decisions of the scheduler are not recorded: {reason} ({self._folder}). "
                "Scheduling goes on."
            )
            return
        self.fault = ""

    def _write(self, text: bytearray) -> None:
        self._folder.mkdir(exist_ok=True, mode=0o700)
        paths = self._paths()
        path = paths[-1] if paths else self._folder / _name(1)
        if paths and path.stat().st_size >= self._file_bytes:
            path = self._folder / _name(int(path.stem) + 1)
            for oldest in paths[: max(0, len(paths) + 1 - self._files)]:
                oldest.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, text)
            except OSError:
                # A torn line would spoil the next one.
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def _paths(self) -> list[Path]:
        """The files, oldest first."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        numbered = [name for name in names if name.endswith(".jsonl") and name[:-6].isdigit()]
        return [self._folder / name for name in sorted(numbered, key=lambda name: int(name[:-6]))]

    def _read(self, experiment_id: str) -> list[DecisionRecord]:
        self._hurry.clear()
        needle = f'"experiment_id":{json.dumps(experiment_id)}'.encode()
        found: list[DecisionRecord] = []
        for path in reversed(self._paths()):
            try:
                content = path.read_bytes()
            except OSError as fault:
                logger.warning("%s cannot be read: %s", path, fault)
                continue
            records = [record for line in _lines_with(content, needle) if (record := _read(line))]
            mine = [one for one in records if one.decision.experiment_id == experiment_id]
            found = mine + found
            if len(found) >= READ_LIMIT:
                break
        return found[-READ_LIMIT:]


def _name(number: int) -> str:
    return f"{number:08}.jsonl"


def _line(record: DecisionRecord) -> str:
    return json.dumps(_encode(record), ensure_ascii=False, separators=(",", ":"))


def _read(line: bytes) -> DecisionRecord | None:
    """The record of a line; None for one that was torn by a crash or comes from another version."""
    try:
        record: DecisionRecord = _decode(json.loads(line), "record")
    except (ValueError, UnreadableJson):
        return None
    return record


def _lines_with(content: bytes, needle: bytes) -> Iterator[bytes]:
    start = content.find(needle)
    while start >= 0:
        begin = content.rfind(b"\n", 0, start) + 1
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        yield content[begin:end]
        start = content.find(needle, end)


def _write_all(descriptor: int, text: bytearray) -> None:
    done = 0
    while done < len(text):
        done += os.write(descriptor, text[done:])
