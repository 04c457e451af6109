"""What servicers read: memory where it holds everything, the store for the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from controlplane.domain.events import ExperimentSubmitted, KillRequested, UserCreated
from controlplane.domain.model import ApiKey, Attempt, Job
from controlplane.domain.states import State
from controlplane.launch.daemon import DaemonLauncher
from controlplane.rpc import backend as backend_module
from controlplane.rpc.backend import Backend
from controlplane.runtime import Runtime
from controlplane.scheduler.cycle import schedule
from controlplane.store.memory import MemoryStore
from riseml.spec.model import TrainSpec

SPEC = TrainSpec(project="digits", run=("true",))


class CountingStore(MemoryStore):
    """Counts how often jobs and attempts are read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def jobs(self, experiment_ids: Sequence[str]) -> list[Job]:
        self.reads += 1
        return super().jobs(experiment_ids)

    def attempts(self, experiment_ids: Sequence[str]) -> list[Attempt]:
        self.reads += 1
        return super().attempts(experiment_ids)


@contextlib.asynccontextmanager
async def backend(store: CountingStore) -> AsyncIterator[Backend]:
    runtime = Runtime(store, DaemonLauncher(), schedule)
    task = asyncio.create_task(runtime.run())
    if "ana" not in runtime.cluster.users:
        await runtime.submit(UserCreated("ana", "", True, ApiKey("k", "ana", "00", "", 0.0)))
    made = Backend(runtime, store)
    try:
        yield made
    finally:
        runtime.stop()
        await task
        made.close()


async def ended_experiment(made: Backend, request_id: str) -> str:
    experiment, _ = await made.runtime.submit(ExperimentSubmitted("ana", request_id, SPEC))
    await made.runtime.submit(KillRequested(experiment.id, True, "ana"))
    return str(experiment.id)


async def test_jobs_of_a_live_experiment_need_no_store() -> None:
    store = CountingStore()
    async with backend(store) as made:
        experiment, _ = await made.runtime.submit(ExperimentSubmitted("ana", "r1", SPEC))
        jobs, _ = await made.jobs_of([experiment.id])
        assert [job.id for job in jobs[experiment.id]] == [f"{experiment.id}.train.1"]
    assert store.reads == 0


async def test_watchers_find_the_jobs_of_what_just_ended_in_memory() -> None:
    store = CountingStore()
    async with backend(store) as made:
        experiment_id = await ended_experiment(made, "r1")
        assert experiment_id not in made.runtime.cluster.experiments
        jobs, _ = await made.jobs_of([experiment_id])
        assert [job.state for job in jobs[experiment_id]] == [State.KILLED]
    assert store.reads == 0


async def test_what_ended_longer_ago_comes_from_the_store() -> None:
    store = CountingStore()
    async with backend(store) as made:
        first = await ended_experiment(made, "r0")
        for number in range(backend_module.JUST_ENDED):
            await ended_experiment(made, f"r{number + 1}")
        jobs, _ = await made.jobs_of([first])
        assert [job.state for job in jobs[first]] == [State.KILLED]
    assert store.reads == 2
