"""GPUs where a device plugin chooses them: who has which, and when nothing is asked for at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from controlplane.core.devices import align
from controlplane.core.settings import Settings
from controlplane.domain.events import NodeInventoryChanged, PlanMade, TimePassed
from controlplane.domain.model import Attempt, ForeignProcess, Gpu, GpuShare, NodeCapabilities
from controlplane.domain.plan import GangPlacement, Plan
from controlplane.domain.snapshot import MemberPlacement
from controlplane.domain.states import AttemptState
from riseml.spec.model import GIB, Resources
from tests.unit.core.world import World, gang, gpu, inventory, spec

PODS = NodeCapabilities(output_root="shared", runs_images=True, whole_gpus=True, pod_network=True)
XID = {"health": "LOST", "health_reason": "xid_79", "health_message": "XID 79: off the bus"}
ONE = Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=1000)
TWO = Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=2000)
FIRST, SECOND = "ana.1.train.1-1", "ana.2.train.1-1"


# --- who has which


def attempt(name: str, *uuids: str) -> Attempt:
    shares = tuple(GpuShare(uuid, 1000) for uuid in uuids)
    return Attempt(name, name, name, 1, "n1", AttemptState.RUNNING, create_time=0.0, gpus=shares)


def gpus(*uuids: str, **fields: Any) -> list[Gpu]:
    return [gpu(uuid, index, **fields) for index, uuid in enumerate(uuids)]


@pytest.mark.parametrize(
    ("held", "given", "found"),
    [
        # As planned, or not seen yet.
        ({"a": "x", "b": "y"}, {}, {}),
        ({"a": "x", "b": "y"}, {"a": ["x"]}, {}),
        ({"a": "xy"}, {"a": ["y", "x"]}, {}),
        # The other way round than planned, be it that only one was seen.
        ({"a": "x", "b": "y"}, {"a": ["y"], "b": ["x"]}, {"a": "y", "b": "x"}),
        ({"a": "x", "b": "y"}, {"a": ["y"]}, {"a": "y", "b": "x"}),
        ({"a": "x"}, {"a": ["z"]}, {"a": "z"}),
        ({"a": "xy", "b": "z"}, {"b": ["x"]}, {"a": "zy", "b": "x"}),
        # Names that were made up before a daemon told the real ones.
        ({"a": "0", "b": "1"}, {"b": ["x"]}, {"a": "y", "b": "x"}),
        # What cannot be true is not believed.
        ({"a": "x"}, {"a": ["y", "z"]}, {}),
        ({"a": "x"}, {"a": ["unknown"]}, {}),
        ({"a": "x", "b": "y"}, {"a": ["z"], "b": ["z"]}, {"a": "z"}),
        # Too little is left: the name stays that nobody has.
        ({"a": "0123"}, {}, {"a": "xyz3"}),
    ],
)
def test_attempts_have_what_they_were_seen_with(
    held: Mapping[str, str], given: Mapping[str, Sequence[str]], found: Mapping[str, str]
) -> None:
    attempts = [attempt(name, *uuids) for name, uuids in held.items()]
    changed = align(gpus("x", "y", "z"), attempts, given)
    assert {name: "".join(s.uuid for s in shares) for name, shares in changed.items()} == found


def test_a_gpu_that_nobody_is_given_is_the_last_guess() -> None:
    node = [gpu("x", 0, withheld=True), gpu("y", 1, **XID), gpu("z", 2)]
    changed = align(node, [attempt("a", "0"), attempt("b", "1")], {})
    assert [shares[0].uuid for shares in changed.values()] == ["z", "y"]


class Lab(World):
    """A node with two GPUs whose device plugin chooses."""

    def __init__(self) -> None:
        super().__init__(Settings(launcher="kubernetes", probation_seconds=300.0))
        self.connect(gpus=self.gpus(), capabilities=PODS)

    def gpus(self, **first: Any) -> tuple[Gpu, ...]:
        return (gpu("g0", 0, **first), gpu("g1", 1))

    def says(self, *given: tuple[str, tuple[str, ...]], **first: Any) -> None:
        """What is said of its first GPU, and which GPUs attempts were seen with."""
        described = inventory(gpus=self.gpus(**first), capabilities=PODS)
        self.send(NodeInventoryChanged(described, 1, given))

    def usable(self) -> list[bool]:
        (node,) = self.cluster.snapshot().nodes
        return [view.usable for view in node.gpus]

    def why(self, index: int) -> str:
        (node,) = self.cluster.snapshot().nodes
        return node.gpus[index].unusable_reason


def started(lab: Lab, count: int = 1) -> None:
    for _ in range(count):
        lab.submit(spec(roles=gang(("train", 1), resources=ONE)))
    lab.plan()


def test_what_the_kubelet_chose_is_what_counts_as_held() -> None:
    lab = Lab()
    started(lab)
    assert [share.uuid for share in lab.cluster.attempts[FIRST].gpus] == ["g0"]
    lab.says((FIRST, ("g1",)))
    assert [share.uuid for share in lab.cluster.attempts[FIRST].gpus] == ["g1"]
    assert lab.cluster.usage_of("n1").gpu_milli == {"g1": 1000}
    (node,) = lab.cluster.snapshot().nodes
    assert [view.free_milli for view in node.gpus] == [1000, 0]
    started(lab)
    assert [share.uuid for share in lab.cluster.attempts[SECOND].gpus] == ["g0"]
    lab.run(FIRST)
    lab.exit(FIRST)
    assert lab.cluster.usage_of("n1").gpu_milli == {"g0": 1000}
    lab.cluster.check_invariants()


def test_where_gpus_are_given_by_name_what_is_said_changes_nothing() -> None:
    world = World()
    world.connect(gpus=(gpu("g0", 0), gpu("g1", 1)))
    world.submit(spec(roles=gang(("train", 1), resources=ONE)))
    world.plan()
    described = inventory(gpus=(gpu("g0", 0), gpu("g1", 1)))
    world.send(NodeInventoryChanged(described, 1, ((FIRST, ("g1",)),)))
    assert [share.uuid for share in world.cluster.attempts[FIRST].gpus] == ["g0"]


# --- who asks for any asks for each


def test_a_sick_gpu_that_is_offered_closes_its_node_to_jobs_with_gpus() -> None:
    lab = Lab()
    lab.says(**XID)
    assert lab.usable() == [False, False]
    assert "might give GPU 0 in its place" in lab.why(1)
    assert "XID 79" in lab.why(1)
    # The applier says the same of a plan that was made before.
    lab.submit(spec(roles=gang(("train", 1), resources=ONE)))
    member = MemberPlacement("ana.1.train.1", "n1", (GpuShare("g1", 1000),), 1000, GIB)
    version = lab.cluster.snapshot().version
    reply = lab.send(PlanMade(Plan(version, (GangPlacement("ana.1", (member,)),))))
    assert not reply.started
    assert "might give GPU 0" in reply.rejected[0].reason
    # Jobs without GPUs may come.
    lab.submit(spec())
    lab.plan()
    assert SECOND in lab.cluster.attempts


def test_a_sick_gpu_that_is_not_offered_leaves_the_others_open() -> None:
    lab = Lab()
    lab.says(**XID, withheld=True)
    assert lab.usable() == [False, True]


def test_a_sick_gpu_closes_its_node_although_a_job_has_it() -> None:
    """When that job ends the kubelet may give it to the next."""
    lab = Lab()
    started(lab)
    lab.says((FIRST, ("g0",)), **XID, pod="jobs/ana-1-train-1-1")
    assert lab.usable() == [False, False]


def test_a_gpu_that_somebody_uses_outside_of_kubernetes_closes_its_node_too() -> None:
    lab = Lab()
    process = ForeignProcess(4711, "eve", GIB)
    foreign = {"foreign_memory_bytes": GIB, "foreign_processes": (process,)}
    lab.says(**foreign)
    assert lab.usable() == [False, False]
    assert "process 4711 of user eve" in lab.why(1)
    # A pod of others has it: the kubelet gives it to nobody else.
    lab.says(**foreign, pod="theirs/notebook")
    assert lab.usable() == [False, True]


def test_a_gpu_that_recovered_is_open_again_after_a_while_and_untested() -> None:
    lab = Lab()
    lab.says(**XID)
    lab.now += 10
    lab.says()
    assert lab.usable() == [False, False]
    assert "well again after XID 79" in lab.why(0)
    assert "jobs get it from" in lab.why(0)
    lab.now += 299
    lab.send(TimePassed())
    assert lab.usable() == [False, False]
    lab.now += 2
    lab.send(TimePassed())
    assert lab.usable() == [True, True]
    assert not lab.cluster.experiments
    lab.cluster.check_invariants()
