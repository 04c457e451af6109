"""The single writer: answers and acts after the commit, and survives a failing store."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from controlplane.cycles import Cycle
from controlplane.domain.changes import Change
from controlplane.domain.effects import StartAttempt
from controlplane.domain.errors import DomainError, NotFound, StoreUnavailable
from controlplane.domain.events import (
    ExperimentSubmitted,
    KillRequested,
    NodeConnected,
    NodeDisconnected,
    UserCreated,
)
from controlplane.domain.model import ApiKey, Experiment, NodeInventory, NodeStateName
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot
from controlplane.launch.protocol import LaunchEffect
from controlplane.leases import Leases
from controlplane.runtime import INLINE_CYCLE_SECONDS, Runtime, Schedule
from controlplane.scheduler.cycle import schedule
from controlplane.store.memory import MemoryStore
from controlplane.watching import watch_leases
from riseml.spec.model import TrainSpec

SPEC = TrainSpec(project="digits", run=("true",))


class RecordingLauncher:
    """Records what it is given, and how many commits there had been."""

    name = "recording"

    def __init__(self, store: GatedStore) -> None:
        self._store = store
        self.effects: list[tuple[int, LaunchEffect]] = []
        self.resyncs = 0

    def dispatch(self, effect: LaunchEffect) -> None:
        self.effects.append((self._store.commits, effect))

    def resync(self) -> None:
        self.resyncs += 1


class GatedStore(MemoryStore):
    """A store whose commits can be held up or made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.commits = 0
        self.failures = 0

    def commit(self, changes: Sequence[Change], change_number: int) -> None:
        self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("disk full: free some space")
        super().commit(changes, change_number)
        self.commits += 1


def submitted(request_id: str) -> ExperimentSubmitted:
    return ExperimentSubmitted("ana", request_id, SPEC)


@contextlib.asynccontextmanager
async def running(
    store: GatedStore, plan: Schedule = schedule
) -> AsyncIterator[tuple[Runtime, RecordingLauncher]]:
    launcher = RecordingLauncher(store)
    runtime = Runtime(store, launcher, plan)
    task = asyncio.create_task(runtime.run())
    if "ana" not in runtime.cluster.users:
        await runtime.submit(UserCreated("ana", "", True, ApiKey("k", "ana", "00", "", 0.0)))
    try:
        yield runtime, launcher
    finally:
        store.gate.set()
        runtime.stop()
        await task


async def test_an_answer_comes_only_after_the_commit() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        store.gate.clear()
        answer = asyncio.ensure_future(runtime.submit(submitted("r1")))
        done, _ = await asyncio.wait({answer}, timeout=0.05)
        assert not done
        assert store.experiment("ana.1") is None
        store.gate.set()
        experiment, _ = await answer
        assert store.experiment("ana.1") == experiment


async def test_what_arrives_during_a_commit_shares_the_next_one() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        before = store.commits
        store.gate.clear()
        first = asyncio.ensure_future(runtime.submit(submitted("r0")))
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(runtime.submit(submitted(f"r{n}"))) for n in range(1, 50)]
        await asyncio.wait({first}, timeout=0.05)
        store.gate.set()
        await asyncio.gather(first, *others)
        assert store.commits - before <= 2


async def test_what_is_not_needed_soon_shares_the_commit_of_the_next_that_is() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        before = store.commits
        runtime.post(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1), soon=False)
        await runtime.submit(submitted("r1"))
        assert store.commits - before == 1
        assert runtime.cluster.nodes["n1"].state == NodeStateName.READY


async def test_what_is_not_needed_soon_does_not_wait_for_ever() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        published = asyncio.Event()
        runtime.feed.observers.append(lambda _: published.set())
        runtime.post(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1), soon=False)
        runtime.post(NodeConnected(NodeInventory("n2", "boot", "1", 4000, 8 << 30), 1), soon=False)
        await asyncio.wait_for(published.wait(), 10)
        assert runtime.cluster.nodes.keys() == {"n1", "n2"}


async def test_events_are_taken_in_the_order_in_which_they_come() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        inventory = NodeInventory("n1", "boot", "1", 4000, 8 << 30)
        runtime.post(NodeConnected(inventory, 1), soon=False)
        runtime.post(NodeDisconnected("n1", 1))
        await runtime.submit(submitted("r1"))
        assert runtime.cluster.nodes["n1"].state == NodeStateName.DISCONNECTED


async def test_the_same_request_makes_one_experiment() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        answers = await asyncio.gather(*(runtime.submit(submitted("same")) for _ in range(5)))
    assert {experiment.id for experiment, _ in answers} == {"ana.1"}


async def test_effects_follow_their_commit() -> None:
    store = GatedStore()
    async with running(store) as (runtime, launcher):
        await runtime.submit(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1))
        before = store.commits
        await runtime.submit(submitted("r1"))
        starts = [(n, e) for n, e in launcher.effects if isinstance(e, StartAttempt)]
        assert [e.order.attempt_id for _, e in starts] == ["ana.1.train.1-1"]
        assert starts[0][0] > before


async def test_a_failed_commit_changes_nothing_and_is_said_to_every_caller() -> None:
    store = GatedStore()
    async with running(store) as (runtime, launcher):
        await runtime.submit(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1))
        await runtime.submit(submitted("kept"))
        seen = len(launcher.effects)
        store.failures = 1
        with pytest.raises(StoreUnavailable, match="free some space"):
            await runtime.submit(submitted("refused"))
        assert len(launcher.effects) == seen, "an effect of what was not committed"
        assert launcher.resyncs == 1
        assert runtime.store_fault
        experiment, _ = await runtime.submit(submitted("refused"))
        assert experiment.id == "ana.2"
        assert not runtime.store_fault
        runtime.cluster.check_invariants()


async def test_a_refused_event_reaches_its_caller_and_no_one_else() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        answers: list[object] = await asyncio.gather(
            runtime.submit(KillRequested("ana.99")),
            runtime.submit(submitted("r1")),
            return_exceptions=True,
        )
    assert isinstance(answers[0], NotFound)
    assert isinstance(answers[1], tuple)


async def test_an_event_that_cannot_be_handled_fails_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        malformed = NodeConnected(None, 1)  # type: ignore[arg-type]
        answers: list[object] = await asyncio.gather(
            runtime.submit(malformed), runtime.submit(submitted("r1")), return_exceptions=True
        )
        assert isinstance(answers[0], DomainError) and answers[0].reason == "INTERNAL"
        assert isinstance(answers[1], tuple)
    assert "NodeConnected cannot be handled" in caplog.text


def recording(runtime: Runtime) -> asyncio.Queue[Cycle]:
    """Gets each cycle from now on: after a long one the next may come a little later."""
    recorded: asyncio.Queue[Cycle] = asyncio.Queue()
    runtime.cycles.observers.append(recorded.put_nowait)
    return recorded


async def test_a_scheduler_that_fails_leaves_jobs_waiting_and_everything_else_going(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = 1

    def fail_once(snapshot: Snapshot, now: float) -> Plan:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ZeroDivisionError
        return schedule(snapshot, now)

    store = GatedStore()
    async with running(store, fail_once) as (runtime, launcher):
        await runtime.submit(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1))
        await runtime.submit(submitted("r1"))
        assert not launcher.effects
        recorded = recording(runtime)
        await runtime.submit(submitted("r2"))
        await asyncio.wait_for(recorded.get(), 10)
        assert len(launcher.effects) == 2
    assert "the scheduler failed" in caplog.text


async def test_a_cycle_can_be_asked_for_though_nothing_happened() -> None:
    store = GatedStore()
    planned: list[Snapshot] = []
    again = asyncio.Event()

    def recorded(snapshot: Snapshot, now: float) -> Plan:
        planned.append(snapshot)
        if len(planned) == 2:
            again.set()
        return Plan(snapshot.version)

    runtime = Runtime(store, RecordingLauncher(store), recorded)
    task = asyncio.create_task(runtime.run())
    await runtime.submit(UserCreated("ana", "", True, ApiKey("k", "ana", "00", "", 0.0)))
    await runtime.submit(submitted("r1"))
    assert len(planned) == 1
    runtime.wake_scheduler()
    await asyncio.wait_for(again.wait(), 5)
    runtime.stop()
    await task


async def test_submissions_are_answered_while_the_scheduler_is_being_loaded() -> None:
    """Then it plans what has come in the meantime."""
    store = GatedStore()
    loaded = threading.Event()
    planned = asyncio.Event()
    loop = asyncio.get_running_loop()

    def recorded(snapshot: Snapshot, now: float) -> Plan:
        assert loaded.is_set()
        loop.call_soon_threadsafe(planned.set)
        return Plan(snapshot.version)

    def load() -> None:
        loaded.wait()

    runtime = Runtime(store, RecordingLauncher(store), recorded, prepare=load)
    task = asyncio.create_task(runtime.run())
    await runtime.submit(UserCreated("ana", "", True, ApiKey("k", "ana", "00", "", 0.0)))
    await runtime.submit(submitted("r1"))
    await runtime.submit(submitted("r2"))
    assert not planned.is_set()
    loaded.set()
    await asyncio.wait_for(planned.wait(), 5)
    runtime.stop()
    await task


async def test_a_cycle_is_on_record_once_it_is_committed() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        await runtime.submit(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1))
        store.gate.clear()
        answer = asyncio.ensure_future(runtime.submit(submitted("r1")))
        await asyncio.wait({answer}, timeout=0.05)
        assert runtime.cycles.newest() is None
        store.gate.set()
        await answer
        cycle = runtime.cycles.newest()
        assert cycle is not None and cycle.applied.started == ("ana.1",)
        assert cycle.snapshot is not None and [g.experiment_id for g in cycle.snapshot.pending] == [
            "ana.1"
        ]


async def test_a_cycle_whose_commit_failed_is_not_on_record() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        await runtime.submit(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1))
        store.failures = 1
        with pytest.raises(StoreUnavailable):
            await runtime.submit(submitted("refused"))
        assert runtime.cycles.newest() is None
        recorded = recording(runtime)
        await runtime.submit(submitted("r1"))
        await asyncio.wait_for(recorded.get(), 10)
        assert [cycle.applied.started for cycle in runtime.cycles.newest_first()] == [("ana.1",)]


async def test_a_long_cycle_is_on_record_too() -> None:
    """It runs in a thread of its own, and its plan comes back as an event."""

    def slowly(snapshot: Snapshot, now: float) -> Plan:
        threading.Event().wait(INLINE_CYCLE_SECONDS * 2)
        return schedule(snapshot, now)

    store = GatedStore()
    async with running(store, slowly) as (runtime, _):
        recorded = recording(runtime)
        await runtime.submit(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1))
        for number in (1, 2):
            await runtime.submit(submitted(f"r{number}"))
            cycle = await asyncio.wait_for(recorded.get(), 10)
            assert cycle.applied.started == (f"ana.{number}",)
            assert cycle.duration_seconds > INLINE_CYCLE_SECONDS


async def test_a_stop_during_a_commit_is_not_missed() -> None:
    store = GatedStore()
    runtime = Runtime(store, RecordingLauncher(store), schedule)
    task = asyncio.create_task(runtime.run())
    store.gate.clear()
    made = UserCreated("ana", "", True, ApiKey("k", "ana", "00", "", 0.0))
    answer = asyncio.ensure_future(runtime.submit(made))
    await asyncio.wait({answer}, timeout=0.05)
    runtime.stop()
    store.gate.set()
    await asyncio.wait_for(task, 5)
    assert (await answer).name == "ana"


async def test_a_restart_finds_what_was_committed_and_numbers_go_on() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        await runtime.submit(submitted("r1"))
        number = runtime.feed.change_number
    async with running(store) as (runtime, _):
        assert isinstance(runtime.cluster.experiments["ana.1"], Experiment)
        await runtime.submit(submitted("r2"))
        assert runtime.feed.change_number == number + 1
        assert "ana.2" in runtime.cluster.experiments


async def test_a_lease_that_ran_out_while_the_disk_was_full_is_not_forgotten() -> None:
    store = GatedStore()
    async with running(store) as (runtime, _):
        await runtime.submit(NodeConnected(NodeInventory("n1", "boot", "1", 4000, 8 << 30), 1))
        store.failures = 1
        leases = Leases(0.05)
        leases.start(["n1"], time.monotonic())
        watching = asyncio.create_task(watch_leases(runtime, leases))
        async with asyncio.timeout(10):
            while runtime.cluster.nodes["n1"].state != NodeStateName.LOST:
                await asyncio.wait({watching}, timeout=0.01)
        watching.cancel()
    assert not store.failures
