"""A GPU that was sick gets no job until a test passed, whatever its node says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.core.quarantine import LONGEST_WAIT_SECONDS
from controlplane.core.settings import Settings
from controlplane.domain.errors import FailedPrecondition, NotFound
from controlplane.domain.events import (
    GpuReleased,
    NodeCordoned,
    NodeDisconnected,
    NodeForgotten,
    NodeInventoryChanged,
    NodeLeaseExpired,
    NodeTainted,
    PlanMade,
    TimePassed,
    UserCreated,
    UserUpdated,
)
from controlplane.domain.model import ApiKey, Gpu, GpuShare, NodeCapabilities
from controlplane.domain.plan import GangPlacement
from controlplane.domain.snapshot import GpuView, MemberPlacement
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import Resources
from riseml.spec.system_test import gpu_under_test
from tests.unit.core.world import World, gang, gpu, inventory, report, spec

XID = {"health": "LOST", "health_reason": "xid_79", "health_message": "XID 79: off the bus"}
ONE_GPU = Resources(cpu_milli=1000, memory_bytes=1 << 30, gpu_milli=1000)
WAIT = 300.0
TEST, ATTEMPT = "ana.1", "ana.1.train.1-1"


class Lab(World):
    """A node with two GPUs, of which the first falls ill."""

    def __init__(self) -> None:
        super().__init__(Settings(probation_seconds=WAIT))
        self.said: dict[str, Any] = {}
        self.connect(gpus=self.gpus())

    def gpus(self) -> tuple[Gpu, ...]:
        return (gpu("g0", 0, **self.said), gpu("g1", 1))

    def says(self, **health: Any) -> None:
        """What the node says of its first GPU from now on."""
        self.said = health
        self.send(NodeInventoryChanged(inventory(gpus=self.gpus()), 1))

    def recover(self) -> None:
        """It was sick, is well again, and its test is submitted."""
        self.says(**XID)
        self.says()
        self.wait()

    def wait(self, seconds: float = WAIT) -> None:
        self.pass_time(seconds)
        self.send(TimePassed())

    def run_test(self) -> None:
        assert self.plan().started == (TEST,)
        self.run(ATTEMPT)

    def look(self) -> GpuView:
        """The first GPU as the scheduler is shown it."""
        return self.cluster.snapshot().nodes[0].gpus[0]

    @property
    def health(self) -> str:
        return self.look().gpu.health


def test_a_gpu_comes_back_after_a_test() -> None:
    lab = Lab()
    lab.says(**XID)
    assert lab.health == "LOST"
    lab.says()
    assert lab.health == "PROBATION"
    assert not lab.look().usable
    assert lab.look().probation
    lab.wait(WAIT - 1)
    assert TEST not in lab.cluster.experiments, "it has to be healthy for a while"
    lab.wait(1)
    test = lab.experiment(TEST)
    assert (test.project, gpu_under_test(test.spec)) == ("system-test", "g0")
    assert test.spec.node_selector == (("riseml.com/node", "n1"),)
    lab.run_test()
    assert lab.attempt(ATTEMPT).gpus == (GpuShare("g0", 1000),)
    assert lab.health == "PROBATION"
    lab.exit(ATTEMPT, 0)
    assert lab.health == "HEALTHY"
    assert lab.look().usable
    assert lab.woke
    assert lab.cluster.nodes["n1"].quarantines == ()


def test_the_real_scheduler_gives_a_test_its_gpu_and_no_other() -> None:
    lab = Lab()
    lab.recover()
    plan = schedule(lab.cluster.snapshot(), lab.now)
    (placement,) = plan.placements
    assert placement.members[0].gpus == (GpuShare("g0", 1000),)
    # While the GPU is sick again there is no place for it, though the other one is free.
    (request,) = lab.cluster.snapshot().pending
    lab.says(**XID)
    snapshot = lab.cluster.snapshot()
    assert not snapshot.pending, "its test was given up"
    assert request.tests_gpu == "g0"


def test_jobs_do_not_get_a_gpu_in_probation() -> None:
    lab = Lab()
    lab.says(**XID)
    lab.says()
    lab.submit(spec(roles=gang(("train", 1), resources=replace(ONE_GPU, gpu_milli=2000))))
    assert not schedule(lab.cluster.snapshot(), lab.now).placements
    lab.submit(spec(roles=gang(("train", 1), resources=ONE_GPU)))
    plan = schedule(lab.cluster.snapshot(), lab.now)
    assert [p.members[0].gpus[0].uuid for p in plan.placements] == ["g1"]


@pytest.mark.parametrize("uuid", ["g0", "g1"])
def test_the_applier_keeps_jobs_off_and_tests_on_their_gpu(uuid: str) -> None:
    lab = Lab()
    lab.recover()
    job = lab.submit(spec(roles=gang(("train", 1), resources=ONE_GPU)))
    for experiment, allowed in ((TEST, "g0"), (job, "g1")):
        member = MemberPlacement(f"{experiment}.train.1", "n1", (GpuShare(uuid, 1000),))
        plan = replace(
            schedule(lab.cluster.snapshot(), lab.now),
            placements=(GangPlacement(experiment, (member,)),),
        )
        applied = lab.send(PlanMade(plan))
        assert bool(applied.started) is (uuid == allowed)


def test_a_test_that_failed_quarantines_it_again_for_longer() -> None:
    lab = Lab()
    lab.recover()
    lab.run_test()
    lab.exit(ATTEMPT, 1)
    view = lab.look()
    assert (view.gpu.health, view.gpu.health_reason) == ("QUARANTINED", "test_failed")
    failed = "its test ana.1 failed: train.1 ended with exit code 1; waits for another test, due "
    assert view.unusable_reason.startswith(failed)
    assert not view.probation
    lab.wait(2 * WAIT - 1)
    assert "ana.2" not in lab.cluster.experiments
    lab.wait(1)
    assert lab.health == "PROBATION"
    lab.plan()
    lab.run("ana.2.train.1-1")
    lab.exit("ana.2.train.1-1", 0)
    assert lab.health == "HEALTHY"


def test_each_failure_doubles_the_wait_up_to_a_day() -> None:
    lab = Lab()
    lab.recover()
    waits = []
    for number in range(1, 14):
        lab.plan()
        attempt = f"ana.{number}.train.1-1"
        lab.run(attempt)
        lab.exit(attempt, 1)
        (quarantine,) = lab.cluster.nodes["n1"].quarantines
        assert quarantine.test_time is not None
        waits.append(quarantine.test_time - lab.now)
        lab.wait(waits[-1])
    assert waits[:3] == [2 * WAIT, 4 * WAIT, 8 * WAIT]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_a_gpu_that_falls_ill_again_gives_up_its_test() -> None:
    lab = Lab()
    lab.recover()
    lab.run_test()
    lab.says(**{**XID, "health_reason": "xid_48"})
    assert lab.stopped == {ATTEMPT: "killed"}
    assert lab.health == "LOST"
    lab.exit(ATTEMPT, 0)
    assert lab.health == "LOST", "what a given up test says does not count"
    lab.says()
    lab.wait()
    assert "ana.2" in lab.cluster.experiments


def test_a_killed_test_is_made_again() -> None:
    lab = Lab()
    lab.recover()
    lab.kill(TEST)
    assert lab.health == "PROBATION"
    lab.wait()
    assert "ana.2" in lab.cluster.experiments


def test_a_gpu_of_which_nothing_is_heard_has_to_be_healthy_anew() -> None:
    lab = Lab()
    lab.says(**XID)
    lab.says()
    lab.wait(WAIT - 10)
    lab.says(health="UNKNOWN", health_reason="late")
    lab.says()
    lab.wait(20)
    assert TEST not in lab.cluster.experiments
    lab.wait(WAIT - 20)
    assert TEST in lab.cluster.experiments


def test_a_restart_of_daemon_and_control_plane_forgets_nothing() -> None:
    lab = Lab()
    lab.says(**XID)
    lab.cluster = lab.reload()
    lab.said = {}
    lab.connect(epoch=2, gpus=lab.gpus())
    assert lab.health == "PROBATION"
    lab.wait()
    lab.cluster = lab.reload()
    lab.connect(epoch=3, gpus=lab.gpus())
    lab.run_test()
    lab.cluster = lab.reload()
    lab.connect(
        epoch=4,
        gpus=lab.gpus(),
        attempts=[report(ATTEMPT, "EXITED", exit_code=0)],
    )
    assert lab.health == "HEALTHY"


def test_nothing_is_tested_on_a_node_that_is_closed() -> None:
    lab = Lab()
    lab.send(NodeCordoned("n1", True))
    lab.recover()
    assert TEST not in lab.cluster.experiments
    lab.send(NodeCordoned("n1", False))
    lab.wait(0)
    assert TEST in lab.cluster.experiments


def test_taints_do_not_keep_a_test_away() -> None:
    lab = Lab()
    lab.send(NodeTainted("n1", (("gpu", "old"),)))
    lab.recover()
    assert schedule(lab.cluster.snapshot(), lab.now).placements


def test_the_first_enabled_admin_owns_the_test() -> None:
    lab = Lab()
    for number, (name, admin) in enumerate((("bob", False), ("eve", True), ("zoe", True))):
        lab.pass_time(1)
        key = ApiKey(f"k{number}", name, f"{number:064}", "", lab.now)
        lab.send(UserCreated(name, "", admin, key))
    lab.send(UserUpdated("ana", enabled=False))
    lab.recover()
    assert list(lab.cluster.experiments) == ["eve.1"]


def test_a_node_of_one_user_is_tested_by_that_user() -> None:
    lab = Lab()
    lab.send(UserCreated("bob", "", False, ApiKey("k", "bob", "1" * 64, "", lab.now)))
    only_bob = NodeCapabilities(only_user="bob")
    for said in (XID, {}):
        lab.said = said
        lab.send(NodeInventoryChanged(inventory(gpus=lab.gpus(), capabilities=only_bob), 1))
    lab.wait()
    assert list(lab.cluster.experiments) == ["bob.1"]


def test_two_gpus_are_tested_one_after_the_other() -> None:
    lab = Lab()
    for health in (XID, {}):
        both = (gpu("g0", 0, **health), gpu("g1", 1, **health))
        lab.send(NodeInventoryChanged(inventory(gpus=both), 1))
    lab.wait()
    lab.wait(1)
    assert {gpu_under_test(e.spec) for e in lab.cluster.experiments.values()} == {"g0", "g1"}


def test_an_admin_may_release_a_gpu_without_a_test() -> None:
    lab = Lab()
    lab.says(**XID)
    with pytest.raises(FailedPrecondition, match="off the bus"):
        lab.send(GpuReleased("n1", "g0", "ana"))
    lab.says()
    lab.wait()
    node = lab.send(GpuReleased("n1", "g0", "ana"))
    assert node.inventory.gpus[0].health == "HEALTHY"
    assert lab.state(TEST) == "KILLED"
    assert lab.send(GpuReleased("n1", "g1")) == node, "a healthy one is free anyway"
    for name, uuid in (("n9", "g0"), ("n1", "g9")):
        with pytest.raises(NotFound):
            lab.send(GpuReleased(name, uuid))


def test_a_forgotten_node_takes_its_quarantines_along() -> None:
    lab = Lab()
    lab.recover()
    lab.run_test()
    lab.send(NodeDisconnected("n1", 1))
    lab.send(NodeLeaseExpired("n1"))
    lab.send(NodeForgotten("n1"))
    assert lab.state(TEST) == "KILLED"
    assert not lab.cluster.quarantined


def test_reasons_carry_their_time() -> None:
    lab = Lab()
    lab.now = 1_764_065_520.0
    lab.says(**XID, health_time=lab.now - 60)
    assert lab.look().unusable_reason == "XID 79: off the bus (since 25 Nov 10:11 UTC)"
    lab.says()
    assert lab.look().unusable_reason == (
        "well again after XID 79 (25 Nov 10:11 UTC); waits for its test, due 25 Nov 10:17 UTC"
    )
    lab.wait()
    words = "well again after XID 79 (25 Nov 10:11 UTC); ana.1 tests it"
    assert lab.look().unusable_reason == words
