"""One experiment as a sequence of lines: what its jobs print and how its states change, to the end.

    for line in Follower(client, "17"):
        print(line.source, line.text)

Two threads read the logs and the changes; the lines come out in the thread that iterates.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from riseml.errors import ChangesCompacted, RisemlError, Unavailable
from riseml.log_merge import HOLD_SECONDS, LogLine, LogMerger
from riseml.logs import LogBytes, LogEnd, LogHole, LogReader, LogRecord
from riseml.retry import STREAM, Backoff
from riseml.spec import ids
from riseml.states import JobNames, StateNotes, has_ended, history
from riseml.transport import AnswerStream
from riseml.v1 import experiment_pb2, experiment_service_pb2

if TYPE_CHECKING:
    from riseml.client import Client

LATE_LOG_SECONDS: Final = 15.0
"""How long after the end of an experiment its last output is waited for."""

_QUEUE_LENGTH: Final = 64


class _LogsDone:
    """The log stream ended."""


_Item: TypeAlias = LogRecord | experiment_pb2.Experiment | RisemlError | _LogsDone


class Follower:
    """Follows an experiment, a job type or a job. Iterate it once; raises RisemlError."""

    def __init__(
        self,
        client: Client,
        id: str,
        *,
        tail_lines: int = 0,
        since_ns: int = 0,
        backoff: Backoff = STREAM,
        sleep: Callable[[float], None] = time.sleep,
        on_lost: Callable[[RisemlError], None] | None = None,
    ) -> None:
        """``id`` must be canonical. ``on_lost`` hears, in other threads, of lost connections."""
        self._client = client
        self._backoff = backoff
        self._sleep = sleep
        self._on_lost = on_lost or (lambda _: None)
        self._root_id = str(ids.experiment_of(ids.parse_id(id)))
        first = client.experiments.get(self._root_id)
        self.experiment = first.experiment
        """The newest that is known of it, without spec after the first change."""
        self._change_number = first.change_number
        self.names = JobNames()
        """Names to print before the lines."""
        self._known: set[str] = set()
        self._notes = StateNotes(self._root_id)
        self._merger = LogMerger(since_ns=since_ns, hold_seconds=HOLD_SECONDS)
        self._reader = LogReader(
            client,
            id,
            follow=True,
            tail_lines=tail_lines,
            since_ns=since_ns,
            backoff=backoff,
            sleep=sleep,
            on_lost=self._on_lost,
        )
        self._items: queue.Queue[_Item] = queue.Queue(_QUEUE_LENGTH)
        self._watch: AnswerStream[experiment_service_pb2.WatchExperimentsResponse] | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the iteration, from any thread."""
        self._stopped.set()
        self._reader.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def __iter__(self) -> Iterator[LogLine]:
        for work in (self._read_logs, self._read_changes):
            name = f"riseml-follow-{self._root_id}"
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True).start()
        try:
            yield from self._lines()
        finally:
            self.stop()

    def _lines(self) -> Iterator[LogLine]:
        self._note(self.experiment)
        logs_done = False
        deadline = math.inf
        while True:
            yield from self._merger.take(time.monotonic())
            ended = has_ended(self.experiment)
            if ended and deadline == math.inf:
                deadline = time.monotonic() + LATE_LOG_SECONDS
            if ended and (logs_done or time.monotonic() >= deadline):
                break
            item = self._next(deadline)
            if isinstance(item, _LogsDone):
                logs_done = True
            elif isinstance(item, RisemlError):
                yield from self._merger.take_all()
                raise item
            elif item is not None:
                self._take(item)
        yield from self._merger.take_all()
        now = time.time_ns()
        if not logs_done:
            yield LogLine(now, self._root_id, "note", b"the last output has not arrived yet")
        for about, text in self._notes.last_words():
            yield LogLine(now, about, "note", text.encode())

    def _next(self, deadline: float) -> _Item | None:
        now = time.monotonic()
        waits = [self._merger.wait_seconds(now), deadline - now if deadline < math.inf else None]
        timeout = min((wait for wait in waits if wait is not None), default=None)
        try:
            return self._items.get(timeout=timeout if timeout is None else max(timeout, 0.001))
        except queue.Empty:
            return None

    def _take(self, item: LogRecord | experiment_pb2.Experiment) -> None:
        now = time.monotonic()
        if isinstance(item, LogBytes):
            if item.attempt_id not in self._known:
                self._known.add(item.attempt_id)
                self._merger.await_note([item.attempt_id])
            self._merger.add(item.attempt_id, item.data, now)
        elif isinstance(item, LogHole):
            self._merger.add_hole(item.attempt_id, item.length_bytes, item.reason, now)
        elif isinstance(item, LogEnd):
            self._merger.introduce([item.attempt_id])
            self._merger.end(item.attempt_id, now)
        else:
            if item.id == self._root_id:
                self.experiment = item
            self._note(item)

    def _note(self, experiment: experiment_pb2.Experiment) -> None:
        self.names.learn(experiment)
        for time_ns, about, text in self._notes.changes(experiment, time.time_ns()):
            self._merger.add_note(time_ns, about, text, time.monotonic())
        running = [
            attempt.id
            for job in experiment.jobs
            for attempt in job.attempts
            if attempt.HasField("start_time") or attempt.HasField("end_time")
        ]
        self._known.update(running)
        self._merger.introduce(running)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except RisemlError as error:
            self._put(error)

    def _put(self, item: _Item) -> None:
        """Waits while the reader is slow: memory stays bounded, and the server holds back too."""
        while not self._stopped.is_set():
            try:
                self._items.put(item, timeout=0.5)
                return
            except queue.Full:
                continue

    def _read_logs(self) -> None:
        for record in self._reader:
            self._put(record)
        self._put(_LogsDone())

    def _read_changes(self) -> None:
        pauses = self._backoff.pauses()
        while not self._stopped.is_set():
            try:
                self._watch = self._client.experiments.watch(self._root_id, self._change_number)
                if self._stopped.is_set():
                    # It was opened while somebody stopped us, who could not see it yet.
                    self._watch.cancel()
                for change in self._watch:
                    pauses = self._backoff.pauses()
                    self._change_number = change.change_number
                    self._put(change.experiment)
                    if change.experiment.id == self._root_id and has_ended(change.experiment):
                        return
                if self._stopped.is_set():
                    return
                lost: RisemlError = Unavailable("The server ended the watch.")
            except (Unavailable, ChangesCompacted) as error:
                lost = error
            pause = next(pauses, None)
            if pause is None:
                raise lost
            if not isinstance(lost, ChangesCompacted):
                self._on_lost(lost)
            self._sleep(pause)
            self._catch_up()

    def _catch_up(self) -> None:
        """What changed while nobody listened, from the present state: numbers begin anew after a
        restart.
        """
        try:
            found = self._client.experiments.get(self._root_id)
        except Unavailable:
            return
        self._change_number = found.change_number
        self._put(found.experiment)


def past_lines(
    client: Client, id: str, *, names: JobNames, tail_lines: int = 0, since_ns: int = 0
) -> Iterator[LogLine]:
    """The lines that are there now, merged by time, with the states that the attempts went through.

    ``id`` must be canonical; ``names`` learns what to print before the lines.
    """
    wanted = ids.parse_id(id)
    root = str(ids.experiment_of(wanted))
    experiments = [client.experiments.get(root).experiment]
    if experiments[0].HasField("set"):
        experiments += client.experiments.list(set_id=root, with_jobs=True)
    for experiment in experiments:
        names.learn(experiment)
    merger = LogMerger(since_ns=since_ns)
    merger.expect(attempt_ids(experiments, wanted))
    if not tail_lines:
        # A set ends in the same moment as the last of its children: its line comes after theirs.
        for experiment in (*experiments[1:], experiments[0]):
            _note_history(merger, experiment, since_ns)
    for record in LogReader(client, id, tail_lines=tail_lines, since_ns=since_ns):
        if isinstance(record, LogBytes):
            merger.add(record.attempt_id, record.data, 0.0)
        elif isinstance(record, LogHole):
            merger.add_hole(record.attempt_id, record.length_bytes, record.reason, 0.0)
        else:
            merger.end(record.attempt_id, 0.0)
        yield from merger.take(0.0)
    yield from merger.take_all()


def _note_history(merger: LogMerger, experiment: experiment_pb2.Experiment, since_ns: int) -> None:
    for time_ns, about, text in history(experiment):
        if time_ns >= since_ns:
            merger.add_note(time_ns, about, text, 0.0)


def attempt_ids(experiments: Iterable[experiment_pb2.Experiment], wanted: ids.AnyId) -> list[str]:
    """The attempts of these experiments that an id means."""
    found = []
    for experiment in experiments:
        for job in experiment.jobs:
            for attempt in job.attempts:
                text = str(wanted)
                names = (attempt.id, job.id, f"{experiment.id}.{job.type}", experiment.id)
                if text in names or experiment.id.startswith(f"{text}."):
                    found.append(attempt.id)
    return found
