"""The record of decisions: read back after a restart, bounded, and never in the scheduler's way."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

from controlplane.cycles import Cycle, Cycles, PlannedCycle
from controlplane.decisions import DecisionLog
from controlplane.domain.effects import PlanApplied
from controlplane.domain.model import GpuShare
from controlplane.domain.plan import Decision, DecisionKind, Plan
from controlplane.domain.snapshot import MemberPlacement
from tests.unit.scheduler.pictures import NOW, snapshot

PLACED, RESERVED, PREEMPTED = DecisionKind.PLACED, DecisionKind.RESERVED, DecisionKind.PREEMPTED


def decision(
    name: str, kind: DecisionKind = PLACED, node: str = "n1", message: str = "why"
) -> Decision:
    member = MemberPlacement(f"{name}.train.1", node, (GpuShare("g", 1000),), 1000, 1 << 30)
    return Decision(name, kind, (member,), message, ("n2: is fuller",))


class Recorder:
    """Cycles whose decisions all became real, written by a log."""

    def __init__(self, folder: Path, **bounds: int) -> None:
        self.log = DecisionLog(folder, **bounds)
        self.cycles = Cycles()
        self.cycles.last_number = self.log.last_number()
        self.cycles.observers.append(self.log.observe)

    def cycle(self, *decisions: Decision, applied: PlanApplied | None = None) -> Cycle:
        names = tuple(one.experiment_id for one in decisions)
        plan = Plan(1, decisions=decisions)
        planned = PlannedCycle(snapshot([], []), NOW, 0.0, plan)
        return self.cycles.record(planned, applied or PlanApplied(names, (), names))


def test_what_was_decided_is_read_back_after_a_restart(tmp_path: Path) -> None:
    first = Recorder(tmp_path / "decisions")
    first.cycle(decision("ana.1"), decision("ana.17"))
    first.cycle(decision("ana.17", PREEMPTED, message="bo.1 has a higher priority: ü"))
    first.log.close()
    again = Recorder(tmp_path / "decisions")
    again.cycle(decision("ana.17", node="n2"), decision("ana.17.1"))
    found = again.log.read("ana.17")
    assert [(one.cycle_number, one.time) for one in found] == [(1, NOW), (2, NOW), (3, NOW)]
    assert [one.decision for one in found] == [
        decision("ana.17"),
        decision("ana.17", PREEMPTED, message="bo.1 has a higher priority: ü"),
        decision("ana.17", node="n2"),
    ]
    assert len(again.log.read("ana.17.1")) == 1 and again.log.read("ana.2") == []
    again.log.close()


def test_only_what_became_real_is_on_record(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    nothing = PlanApplied((), (), ())
    recorder.cycle(decision("ana.1"), decision("ana.2", PREEMPTED), applied=nothing)
    assert recorder.log.read("ana.1") == [] == recorder.log.read("ana.2")
    recorder.log.close()


def test_a_reservation_is_written_when_it_is_made_and_when_it_moves(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for node in ("n1", "n1", "n1", "n2", "n2"):
        recorder.cycle(decision("ana.1", RESERVED, node, message=f"at {node}"))
    recorder.cycle(decision("ana.1", PLACED, "n2"))
    recorder.cycle(decision("ana.1", RESERVED, "n2"))
    kinds = [(one.cycle_number, one.decision.kind) for one in recorder.log.read("ana.1")]
    assert kinds == [(1, RESERVED), (4, RESERVED), (6, PLACED), (7, RESERVED)]
    recorder.log.close()


def test_files_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, file_bytes=600, files=3)
    for number in range(40):
        recorder.cycle(decision("ana.1", message=f"number {number}"))
    found = recorder.log.read("ana.1")
    assert found[-1].decision.message == "number 39"
    assert 4 < len(found) < 20
    assert len(list(tmp_path.iterdir())) == 3
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3 * (600 + 400)
    recorder.log.close()


def test_a_line_torn_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.cycle(decision("ana.1"))
    recorder.log.close()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2] + b"\n" + b'{"cycle_number": 9}\n')
    again = Recorder(tmp_path)
    assert again.cycles.last_number == 1
    again.cycle(decision("ana.1"))
    assert [one.cycle_number for one in again.log.read("ana.1")] == [1, 2]
    again.log.close()


def test_what_cannot_be_written_is_said_and_scheduling_goes_on(tmp_path: Path) -> None:
    """A file in the folder's place: as full as a disk can be."""
    folder = tmp_path / "decisions"
    folder.write_text("in the way")
    recorder = Recorder(folder)
    recorder.cycle(decision("ana.1"))
    assert recorder.log.read("ana.1") == []
    assert "not recorded" in recorder.log.fault and "Scheduling goes on" in recorder.log.fault
    folder.unlink()
    recorder.cycle(decision("ana.1"))
    assert len(recorder.log.read("ana.1")) == 1
    assert recorder.log.fault == ""
    recorder.log.close()


def test_a_disk_that_is_full_in_the_middle_of_a_line_leaves_no_torn_one(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.cycle(decision("ana.1"))
    recorder.log.read("ana.1")
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) + 20, hard))
    try:
        recorder.cycle(decision("ana.1", message="lost"))
        recorder.log.read("ana.1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == good and recorder.log.fault
    recorder.cycle(decision("ana.1", message="again"))
    found = recorder.log.read("ana.1")
    assert [one.decision.message for one in found] == ["why", "again"]
    assert recorder.log.fault == ""
    recorder.log.close()


def test_cycles_without_decisions_cost_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "decisions")
    recorder.cycle()
    forgotten = replace(recorder.cycle(), snapshot=None, plan=None)
    recorder.log.observe(forgotten)
    recorder.log.close()
    assert not (tmp_path / "decisions").exists()
