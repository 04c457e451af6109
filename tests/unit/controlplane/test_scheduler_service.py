"""SchedulerService on a runtime in memory: true words, rights, plans, cycles, records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.cycles import Cycle, PlannedCycle
from controlplane.decisions import DecisionLog
from controlplane.domain.effects import PlanApplied
from controlplane.domain.errors import InvalidRequest, NotFound, PermissionDenied
from controlplane.domain.events import (
    AttemptReported,
    ExperimentSubmitted,
    KillRequested,
    NodeConnected,
    UserCreated,
)
from controlplane.domain.model import (
    ApiKey,
    AttemptReport,
    Experiment,
    Gpu,
    NodeCapabilities,
    NodeInventory,
)
from controlplane.domain.plan import Decision, DecisionKind, Plan
from controlplane.domain.recording import read
from controlplane.domain.snapshot import Backlog, MemberPlacement, Snapshot
from controlplane.domain.states import AttemptState
from controlplane.explain.trial import find_gang
from controlplane.launch.daemon import DaemonLauncher
from controlplane.rpc import scheduler_service as service_module
from controlplane.rpc.backend import Backend
from controlplane.rpc.caller import Caller, set_caller
from controlplane.rpc.experiment_service import ExperimentService
from controlplane.rpc.explainer import Explainer
from controlplane.rpc.scheduler_service import SchedulerService
from controlplane.rpc.system_service import SystemFacts, SystemService
from controlplane.runtime import Runtime
from controlplane.scheduler.cycle import schedule
from controlplane.store.memory import MemoryStore
from controlplane.trials import SchedulerTrials
from riseml.convert import train_spec_to_proto
from riseml.spec.model import GIB, ParameterValues, Resources, RoleSpec, TrainSpec
from riseml.v1 import experiment_service_pb2, scheduler_pb2, state_pb2, system_service_pb2
from riseml.v1 import scheduler_service_pb2 as pb


def spec(gpus: int = 1, **more: Any) -> TrainSpec:
    needs = Resources(1000, GIB, gpus * 1000)
    return TrainSpec(project="digits", run=("true",), roles=(RoleSpec("train", 1, needs),), **more)


def inventory(name: str, gpus: int) -> NodeInventory:
    return NodeInventory(
        name,
        "boot",
        "1",
        16_000,
        64 * GIB,
        tuple(Gpu(f"{name}-{i}", i, "NVIDIA H100", "H100", 80 * GIB) for i in range(gpus)),
        capabilities=NodeCapabilities(isolates_users=True),
        first_port=40_000,
        last_port=40_100,
    )


@dataclass
class World:
    """A control plane without a network; the caller is ana."""

    runtime: Runtime
    backend: Backend
    service: SchedulerService
    experiments: ExperimentService
    decisions: DecisionLog
    last_request: int = 0

    async def submit(self, wanted: TrainSpec, user: str = "ana") -> str:
        self.last_request += 1
        children = ((("x", "1"),), (("x", "2"),), (("x", "3"),)) if wanted.is_set else ((),)
        event = ExperimentSubmitted(user, f"r{self.last_request}", wanted, "", children)
        experiment, _ = await self.runtime.submit(event)
        assert isinstance(experiment, Experiment)
        return experiment.id

    async def considered(self, id: str) -> None:
        """Returns when a cycle has come to it."""
        await self.cycle_in_which(
            lambda one: one.snapshot is not None and find_gang(one.snapshot, id) is not None
        )

    async def placed(self, id: str) -> None:
        """Returns when a cycle has placed it; after a long one the next comes a little later."""
        await self.cycle_in_which(
            lambda one: (
                one.plan is not None
                and any(placed.experiment_id == id for placed in one.plan.placements)
            )
        )

    async def cycle_in_which(self, seen: Callable[[Cycle], bool]) -> None:
        cycles = self.runtime.cycles
        recorded = asyncio.Event()
        cycles.observers.append(lambda _: recorded.set())
        while not any(seen(one) for one in cycles.newest_first()):
            recorded.clear()
            self.runtime.wake_scheduler()
            await asyncio.wait_for(recorded.wait(), 10)

    async def run(self, attempt_id: str, node: str = "n1") -> None:
        report = AttemptReport(attempt_id, AttemptState.RUNNING, start_time=1.0)
        await self.runtime.submit(AttemptReported(node, report))

    async def end(self, attempt_id: str, node: str = "n1") -> None:
        report = AttemptReport(
            attempt_id,
            AttemptState.EXITED,
            exit_code=3,
            start_time=1.0,
            end_time=2.0,
            final_log_offset=0,
            final_results_offset=0,
        )
        await self.runtime.submit(AttemptReported(node, report))

    async def why(self, id: str) -> scheduler_pb2.Explanation:
        request = pb.ExplainExperimentRequest(id=id)
        return (await self.service.ExplainExperiment(request, None)).explanation

    async def plan(self, wanted: TrainSpec) -> pb.PlanExperimentResponse:
        request = pb.PlanExperimentRequest(spec=train_spec_to_proto(wanted))
        return await self.service.PlanExperiment(request, None)

    async def cycle(self, **asked: Any) -> tuple[scheduler_pb2.SchedulerCycle, bytes]:
        request = pb.GetSchedulerCycleRequest(**asked)
        answers = [one async for one in self.service.GetSchedulerCycle(request, None)]
        return answers[0].cycle, b"".join(one.snapshot for one in answers[1:])


@contextlib.asynccontextmanager
async def world(folder: Path, *nodes: NodeInventory) -> AsyncIterator[World]:
    store = MemoryStore()
    runtime = Runtime(store, DaemonLauncher(), schedule)
    decisions = DecisionLog(folder / "decisions")
    runtime.cycles.last_number = decisions.last_number()
    runtime.cycles.observers.append(decisions.observe)
    task = asyncio.create_task(runtime.run())
    for name in ("ana", "bo"):
        await runtime.submit(UserCreated(name, "", False, ApiKey(name, name, name, "", 0.0)))
    for node in nodes or (inventory("n1", 4),):
        await runtime.submit(NodeConnected(node, 1))
    backend = Backend(runtime, store)
    explainer = Explainer(backend, SchedulerTrials(), decisions)
    service = SchedulerService(backend, explainer)
    set_caller(Caller("ana"))
    try:
        yield World(runtime, backend, service, ExperimentService(backend), decisions)
    finally:
        runtime.stop()
        await task
        explainer.close()
        backend.close()
        decisions.close()


async def test_a_waiting_one_is_told_who_has_what_and_what_would_start_it(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(2), "bo")
        await cluster.submit(spec(4))
        await cluster.considered("ana.1")
        found = await cluster.why("1")
        assert found.state == state_pb2.STATE_PENDING and not found.impossible
        assert found.summary.startswith("ana.1 has waited ")
        assert "n1 has 2 of 4 GPUs free: 2 are held by bo.1 with no known end." in found.lines, (
            found.lines
        )
        assert found.suggestions == [
            "With 2 GPUs instead of 4 it would start now on n1 (GPUs 2, 3)."
        ]
        assert [gpu.code for gpu in found.nodes[0].gpus] == ["HELD", "HELD", "FREE", "FREE"]
        assert found.nodes[0].gpus[0].experiment_ids == ["bo.1"]
        assert found.cycle_number == cluster.runtime.cycles.last_number


async def test_an_answer_is_found_once_for_each_cycle(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(4))
        await cluster.submit(spec(4))
        await cluster.considered("ana.2")
        first, second = await cluster.why("2"), await cluster.why("2")
        assert first == second
        await cluster.runtime.submit(KillRequested("ana.1", True, "ana"))
        await cluster.end("ana.1.train.1-1")
        await cluster.placed("ana.2")
        third = await cluster.why("2")
        assert third.state == state_pb2.STATE_STARTING


async def test_one_that_came_after_the_last_cycle_is_tried_now(tmp_path: Path) -> None:
    """What is known to wait is not planned again: the last cycle has not seen it."""
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(4))
        await cluster.submit(spec(4))
        await cluster.considered("ana.2")
        cycles = cluster.runtime.cycles.last_number
        await cluster.submit(spec(4))
        assert cluster.runtime.cycles.last_number == cycles
        found = await cluster.why("3")
        assert found.cycle_number == 0
        assert "n1 has none of 4 GPUs free" in found.lines[0]


async def test_impossible_is_said_at_submission_and_by_why(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        request = experiment_service_pb2.CreateExperimentRequest(
            request_id="x", spec=train_spec_to_proto(spec(8))
        )
        created = await cluster.experiments.CreateExperiment(request, None)
        (warning,) = created.warnings
        assert warning.startswith("No node of this cluster could ever hold it: the only node has")
        found = await cluster.why("1")
        assert found.impossible and "could ever hold it" in found.summary
        assert not found.HasField("estimate")
        planned = await cluster.plan(spec(8))
        assert planned.explanation.impossible
        assert planned.explanation.summary.startswith(
            "It would wait: it asks for 8 GPUs, 1 CPU and 1Gi on one node, and no node of this "
        )


async def test_running_and_ended_ones_tell_why_there_even_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(2))
        await cluster.run("ana.1.train.1-1")
        found = await cluster.why("1")
        assert found.summary.startswith("ana.1 runs on n1 (GPUs 0, 1) since ")
        assert found.lines[0].startswith("It was placed there in cycle 1")
        await cluster.end("ana.1.train.1-1")
        found = await cluster.why("1")
        assert found.state == state_pb2.STATE_FAILED
        assert "train.1 ended with exit code 3" in found.summary
        assert any(line.startswith("It was placed there in cycle 1") for line in found.lines)
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(1))
        decisions = await cluster.service.ListSchedulerDecisions(
            pb.ListSchedulerDecisionsRequest(experiment_id="1"), None
        )
        # ana.1 of the first world and of the second: the record outlives the store of this test.
        assert [one.cycle_number for one in decisions.decisions] == [1, 2]


async def test_a_preempted_one_is_told_for_whom_and_what_was_lost(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(4, priority=10))
        await cluster.run("ana.1.train.1-1")
        await cluster.submit(spec(4, priority=90), "bo")
        await cluster.considered("bo.1")
        making_room = await cluster.why("1")
        assert "made room for bo.1" in making_room.summary
        await cluster.end("ana.1.train.1-1")
        await cluster.considered("ana.1")
        found = await cluster.why("1")
        assert found.state == state_pb2.STATE_PENDING
        assert found.lines[0] == "It was preempted 1 time:"
        assert "made room for bo.1: its priority is 90, this one's 10" in found.lines[1]
        assert "of work since it started are lost" in found.lines[1]


async def test_an_estimate_is_compared_with_what_came(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        for number in (1, 2, 3):
            await cluster.submit(spec(4, max_duration_seconds=3600))
            await cluster.considered(f"ana.{number}")
        await cluster.run("ana.1.train.1-1")
        told = (await cluster.why("2")).estimate
        assert told.earliest_time.seconds < told.latest_time.seconds
        assert told.past_count == 0
        started = asyncio.Event()

        def note(cycle: Cycle) -> None:
            if "ana.2" in cycle.applied.started:
                started.set()

        cluster.runtime.cycles.observers.append(note)
        await cluster.end("ana.1.train.1-1")
        await asyncio.wait_for(started.wait(), 10)
        # Foretold by its reservation and by `why`, and off by less than the hour it was within.
        again = (await cluster.why("3")).estimate
        assert again.past_count >= 1
        assert 0 <= again.past_median_error_seconds <= again.past_p90_error_seconds < 3700


async def test_others_learn_what_is_held_and_nothing_more(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(2), "bo")
        await cluster.submit(spec(3), "bo")
        held, waits = await cluster.why("bo.1"), await cluster.why("bo.2")
        assert held.summary == "bo.1 is STARTING and holds n1 (GPUs 0, 1)."
        assert [member.node_name for member in held.members] == ["n1"]
        assert waits.summary == "bo.2 is PENDING."
        for one in (held, waits):
            assert not one.nodes and not one.reasons and not one.suggestions
        with pytest.raises(NotFound):
            await cluster.service.ListSchedulerDecisions(
                pb.ListSchedulerDecisionsRequest(experiment_id="bo.1"), None
            )
        member = MemberPlacement("bo.9.train.1", "n1")
        told = Decision("bo.9", DecisionKind.PLACED, (member,), "why", ("n2: fuller",))
        planned = PlannedCycle(Snapshot(1, (), Backlog()), 0.0, 0.0, Plan(1, decisions=(told,)))
        number = cluster.runtime.cycles.record(planned, PlanApplied(("bo.9",), (), ())).number
        (decision,) = (await cluster.cycle(number=number))[0].decisions
        assert decision.experiment_id == "bo.9" and decision.members[0].node_name == "n1"
        assert not decision.message and not decision.alternatives
        set_caller(Caller("admin", admin=True))
        (decision,) = (await cluster.cycle(number=number))[0].decisions
        assert decision.message == "why" and decision.alternatives == ["n2: fuller"]


async def test_what_there_is_not_is_not_found(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        for id in ("99", "bo.99"):
            with pytest.raises(NotFound):
                await cluster.why(id)
        with pytest.raises(InvalidRequest):
            await cluster.why("1.worker.2")
        with pytest.raises(InvalidRequest):
            await cluster.service.ExplainExperiment(
                pb.ExplainExperimentRequest(id="1", utc_offset_seconds=99_999), None
            )


def family(gpus: int, concurrency: int) -> TrainSpec:
    return spec(gpus, parameters=(ParameterValues("x", ("1", "2", "3")),), concurrency=concurrency)


async def test_a_set_and_its_children(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        await cluster.submit(replace(family(4, 2), run=("echo {{x}}",)))
        whole = await cluster.why("1")
        assert whole.summary == (
            "ana.1 is a set of 3 children: 1 starting, 1 waiting for a place, 1 waiting for their "
            "turn."
        )
        assert "ana.1.1 starts on n1 (GPUs 0-3)." in whole.lines
        assert any(line.startswith("  n1 has none of 4 GPUs free") for line in whole.lines)
        turn = await cluster.why("1.3")
        assert turn.summary.startswith("ana.1.3 waits for its turn: at most 2 children of ana.1")
        assert turn.lines[:2] == ["Those are ana.1.1 and ana.1.2 now.", "It is the next."]


async def test_a_plan_creates_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(2), "bo")
        version = cluster.runtime.cluster.snapshot().version
        fits = (await cluster.plan(spec(2))).explanation
        assert fits.summary == "It would start now on n1 (GPUs 2, 3)."
        assert fits.experiment_id == "ana.1" and fits.state == state_pb2.STATE_STARTING
        waits = (await cluster.plan(spec(3))).explanation
        assert waits.state == state_pb2.STATE_PENDING
        assert waits.summary.startswith("It would wait for 3 GPUs, 1 CPU and 1Gi on one node: ")
        assert waits.suggestions == [
            "With 2 GPUs instead of 3 it would start now on n1 (GPUs 2, 3)."
        ]
        assert cluster.runtime.cluster.snapshot().version == version
        assert "ana.1" not in cluster.runtime.cluster.experiments


async def test_a_plan_of_a_set_speaks_of_the_first_children(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        wanted = replace(family(2, 3), run=("echo {{x}}",))
        found = (await cluster.plan(wanted)).explanation
        assert found.summary == "2 of its 3 children would start now."
        assert found.lines[:2] == ["ana.1.1 on n1 (GPUs 0, 1).", "ana.1.2 on n1 (GPUs 2, 3)."]
        assert found.lines[2].startswith("ana.1.3: it would wait for 2 GPUs")
        alone = (await cluster.plan(replace(wanted, concurrency=1))).explanation
        assert alone.summary == "Its first child would start now."
        assert "2 children more would wait for their turn" in alone.lines[1]


async def test_what_a_submission_refuses_a_plan_refuses(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        with pytest.raises(InvalidRequest, match=r"train\.queue"):
            await cluster.plan(spec(1, queue="nowhere"))
        with pytest.raises(InvalidRequest, match=r"train\.image"):
            await cluster.plan(spec(1, image="x:1"))


async def test_cycles_are_listed_in_pages_newest_first(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        for number in (1, 2, 3):
            await cluster.submit(spec(1))
            await cluster.considered(f"ana.{number}")
        numbers: list[int] = []
        token = ""
        while True:
            page = await cluster.service.ListSchedulerCycles(
                pb.ListSchedulerCyclesRequest(page_size=2, page_token=token), None
            )
            numbers += [one.number for one in page.cycles]
            assert all(not one.decisions for one in page.cycles)
            token = page.next_page_token
            if not token:
                break
        assert numbers == [3, 2, 1]
        with pytest.raises(InvalidRequest):
            await cluster.service.ListSchedulerCycles(
                pb.ListSchedulerCyclesRequest(page_token="x"), None
            )


async def test_a_saved_cycle_gives_the_same_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "CHUNK_BYTES", 500)
    async with world(tmp_path) as cluster:
        await cluster.submit(spec(3))
        await cluster.submit(spec(3))
        with pytest.raises(PermissionDenied):
            await cluster.cycle(with_snapshot=True)
        set_caller(Caller("admin", admin=True))
        message, content = await cluster.cycle(with_snapshot=True)
        recording = read(content)
        cycle = cluster.runtime.cycles.get(message.number)
        assert cycle is not None and recording.number == message.number
        assert schedule(recording.snapshot, recording.now) == recording.plan == cycle.plan


async def test_a_cycle_that_is_not_kept_is_said_to_be_none(tmp_path: Path) -> None:
    async with world(tmp_path) as cluster:
        with pytest.raises(NotFound, match="there was none yet"):
            await cluster.cycle()
        await cluster.submit(spec(1))
        with pytest.raises(NotFound, match="1 to 1 are kept"):
            await cluster.cycle(number=7)


async def test_decisions_that_cannot_be_recorded_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "decisions").write_text("in the way")
    async with world(tmp_path) as cluster:
        facts = SystemFacts("1", "c", ("daemon",), False)
        system = SystemService(cluster.backend, facts, cluster.decisions)
        await cluster.submit(spec(1))
        cluster.decisions.read("ana.1")
        answer = await system.GetSystemInfo(system_service_pb2.GetSystemInfoRequest(), None)
        assert "Scheduling goes on" in answer.warnings[0]
        assert (await cluster.why("1")).state == state_pb2.STATE_STARTING
