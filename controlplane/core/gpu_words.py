"""Why nothing new starts on a GPU, in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from controlplane.domain.model import Gpu, GpuHealthName, NodeInventory
from riseml.spec.model import GIB

# Foreign processes below this leave a GPU usable: a display server needs a little everywhere.
FOREIGN_MEMORY_LIMIT_BYTES: Final = 256 << 20

# Reasons of our own in `Gpu.health_reason`, whose words say when: see `quarantine.py`.
IN_PROBATION: Final = "probation"
TEST_FAILED: Final = "test_failed"

_XID: Final = "xid_"


def unusable_reason(gpu: Gpu) -> str:
    """Complete, for people; empty when the GPU may be used."""
    if gpu.health != GpuHealthName.HEALTHY:
        return _sick_words(gpu)
    return foreign_words(gpu)


def lottery_reason(inventory: NodeInventory, held: Mapping[str, int]) -> str:
    """Why no GPU of a node may be asked for although it is well itself; "" if they may.

    Where a device plugin chooses the GPU, a job could be given one that is not: who asks for any
    asks for each. `held`: thousandths that attempts have, by UUID.
    """
    if not inventory.capabilities.whole_gpus:
        return ""
    for gpu in inventory.gpus:
        if gpu.withheld:
            continue
        unusable = _sick_words(gpu) if gpu.health != GpuHealthName.HEALTHY else ""
        if not unusable and not gpu.pod and gpu.uuid not in held:
            # What a pod or a job of ours has is given to nobody, whoever else uses it.
            unusable = foreign_words(gpu)
        if unusable:
            return (
                f"the node's device plugin might give GPU {gpu.index} in its place, which is not "
                f"usable: {unusable}"
            )
    return ""


def untestable_reason(gpu: Gpu, tested_uuid: str) -> str:
    """The same for the test of one GPU in probation; empty when it may use this one."""
    if gpu.uuid != tested_uuid:
        return "it is not the one to be tested"
    if gpu.health != GpuHealthName.PROBATION:
        return "it is not in probation"
    return foreign_words(gpu)


def foreign_words(gpu: Gpu) -> str:
    """`used by process 812 of user ana that RiseML did not start (3.1 GiB)`; "" for what is too
    little to matter.
    """
    if gpu.foreign_memory_bytes < FOREIGN_MEMORY_LIMIT_BYTES:
        return ""
    held = _size(gpu.foreign_memory_bytes)
    if not gpu.foreign_processes:
        return f"used by a process that RiseML did not start ({held})"
    largest = gpu.foreign_processes[0]
    who = f"process {largest.pid}"
    if largest.user_name:
        # A pod has no process that could be named from outside.
        who = f"{who} of user {largest.user_name}" if largest.pid else largest.user_name
    if len(gpu.foreign_processes) > 1:
        return f"used by {who} and others that RiseML did not start ({held} in all)"
    return f"used by {who} that RiseML did not start ({held})"


def _sick_words(gpu: Gpu) -> str:
    words = gpu.health_message or short_reason(gpu.health_reason) or gpu.health.lower()
    sick = gpu.health in (GpuHealthName.QUARANTINED, GpuHealthName.LOST)
    if sick and gpu.health_time is not None and gpu.health_reason != TEST_FAILED:
        # What an admin has to do about it follows, and is of no use to those who wait.
        return f"{words.partition(';')[0]} (since {moment(gpu.health_time)})"
    return words


def short_reason(reason: str) -> str:
    """What a health reason says in a word or two: `XID 79`, `ecc uncorrected`."""
    if reason.startswith(_XID):
        return f"XID {reason.removeprefix(_XID)}"
    return reason.replace("_", " ")


def moment(time: float) -> str:
    """`25 Nov 10:12 UTC`."""
    return f"{datetime.fromtimestamp(time, UTC):%d %b %H:%M} UTC".removeprefix("0")


def _size(count: int) -> str:
    """`3.1 GiB`; below one GiB in MiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count >> 20} MiB"
