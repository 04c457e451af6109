"""GPUs of a node, as Kubernetes counts them and as a daemon tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from controlplane.core.gpu_words import unusable_reason
from controlplane.domain.model import ForeignProcess, Gpu, GpuHealthName
from controlplane.launch.kubernetes.node_gpus import (
    Devices,
    Holding,
    PodKey,
    counted_gpus,
    fits,
    given_gpus,
    is_told,
    remembered,
    told_gpus,
)
from riseml.spec.model import GIB

KIND = Gpu("", 0, "NVIDIA H100", "H100", 80 * GIB)
OURS: PodKey = ("jobs", "ana-1-train-1-1")
THEIRS: PodKey = ("other", "notebook")
ENDED: PodKey = ("jobs", "ana-0-train-1-1")


def gpu(index: int, **fields: object) -> Gpu:
    return replace(KIND, uuid=f"GPU-{index}", index=index, **fields)  # type: ignore[arg-type]


def devices(*gpus: Gpu, withheld: tuple[str, ...] = (), **holders: PodKey) -> Devices:
    offered = frozenset(one.uuid for one in gpus) - set(withheld)
    return Devices(gpus, offered, {f"GPU-{uuid[1:]}": key for uuid, key in holders.items()})


def holding(
    *foreign: tuple[PodKey, int],
    own: Mapping[PodKey, str] | None = None,
    attempts: tuple[str, ...] = (),
    all_known: bool = True,
) -> Holding:
    return Holding(foreign, own or {}, attempts, all_known)


def pods(gpus: tuple[Gpu, ...]) -> list[str]:
    return [one.pod for one in gpus]


def test_counted_gpus_of_others_are_those_that_we_hold_last() -> None:
    found = counted_gpus("n1", 3, 3, KIND, holding((THEIRS, 1), attempts=("n1/2",)))
    assert [one.uuid for one in found] == ["n1/0", "n1/1", "n1/2"]
    assert pods(found) == ["", "other/notebook", ""]
    assert not is_told(found, "n1")


def test_a_daemons_gpus_have_their_names_and_holders() -> None:
    told = devices(gpu(0), gpu(1), gpu(2), _1=OURS, _2=THEIRS)
    found = told_gpus(told, holding((THEIRS, 1), own={OURS: "ana.1.train.1-1"}))
    assert [one.uuid for one in found] == ["GPU-0", "GPU-1", "GPU-2"]
    assert pods(found) == ["", "jobs/ana-1-train-1-1", "other/notebook"]
    assert [bool(unusable_reason(one)) for one in found] == [False, False, True]
    assert "pod other/notebook" in unusable_reason(found[2])
    assert is_told(found, "n1")
    assert given_gpus(told, {OURS: "ana.1.train.1-1"}) == (("ana.1.train.1-1", ("GPU-1",)),)


def test_who_has_ended_holds_nothing_whatever_the_kubelet_lists() -> None:
    told = devices(gpu(0), _0=ENDED)
    assert pods(told_gpus(told, holding())) == [""]
    # Where the pods of others are not watched nobody knows better than the kubelet.
    assert pods(told_gpus(told, holding(all_known=False))) == ["jobs/ana-0-train-1-1"]


def test_a_pod_of_others_that_the_kubelet_does_not_list_yet_takes_what_is_free() -> None:
    told = devices(gpu(0), gpu(1), gpu(2), withheld=("GPU-2",), _0=OURS)
    found = told_gpus(told, holding((THEIRS, 1), own={OURS: "a"}, attempts=("GPU-0",)))
    assert pods(found) == ["jobs/ana-1-train-1-1", "other/notebook", ""]


def test_what_the_plugin_withholds_is_not_used_and_keeps_what_is_known_of_it() -> None:
    sick = {"health": GpuHealthName.LOST, "health_reason": "xid_79", "health_message": "XID 79"}
    told = devices(gpu(0), gpu(1, **sick), withheld=("GPU-0", "GPU-1"))
    found = told_gpus(told, holding())
    assert [one.withheld for one in found] == [True, True]
    assert [one.health for one in found] == [GpuHealthName.UNKNOWN, GpuHealthName.LOST]
    assert "device plugin" in unusable_reason(found[0])
    assert "XID 79" in unusable_reason(found[1])


def test_processes_in_our_pod_are_ours_before_the_daemon_knows_it() -> None:
    process = (ForeignProcess(77, "1000", GIB),)
    told = devices(gpu(0, foreign_memory_bytes=GIB, foreign_processes=process), _0=OURS)
    (found,) = told_gpus(told, holding(own={OURS: "a"}))
    assert found.foreign_memory_bytes == 0 and not found.foreign_processes
    (found,) = told_gpus(Devices(told.gpus, told.offered), holding(own={OURS: "a"}))
    assert found.foreign_processes == process


def test_after_a_restart_what_was_told_is_believed_until_it_is_told_anew() -> None:
    sick = {"health": GpuHealthName.LOST, "health_reason": "xid_79"}
    told = devices(gpu(0), gpu(1), gpu(2), gpu(3, **sick), withheld=("GPU-2",), _0=OURS, _1=THEIRS)
    around = holding((THEIRS, 1), own={OURS: "a"})
    found = told_gpus(told, around)
    assert remembered(found) == told
    assert told_gpus(remembered(found), around) == found
    probation = replace(found[0], health=GpuHealthName.PROBATION, health_reason="probation")
    assert remembered((probation, *found[1:])) == told


def test_slices_of_gpus_are_only_counted() -> None:
    assert fits(devices(gpu(0), gpu(1)), 2)
    # One that fell off the bus before the plugin began is known to the driver alone.
    assert fits(devices(gpu(0), gpu(1), withheld=("GPU-1",)), 1)
    assert not fits(devices(gpu(0)), 4)
    assert not fits(Devices((gpu(0),), frozenset({"GPU-0::0", "GPU-0::1"})), 1)
    assert not fits(Devices((gpu(0),), frozenset({"MIG-7"})), 1)
