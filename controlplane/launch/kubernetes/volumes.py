"""Where files lie in a pod.

/riseml/code    the job's code, its working directory
/riseml/run     the SDK, results, what install steps add, home and temporary files
/data           DATA_DIR, read-only
/output         OUTPUT_DIR: a folder of the jobs' output volume that is this experiment's own
/dev/shm        shared memory, which counts as memory of the container
"""

from __future__ import annotations

from typing import Final

from controlplane.domain.model import AttemptOrder
from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.settings import KubernetesSettings, Volume

CODE_DIR: Final = "/riseml/code"
RUN_DIR: Final = "/riseml/run"
DATA_DIR: Final = "/data"
OUTPUT_DIR: Final = "/output"
OUTPUT_ROOT: Final = "/riseml/output-root"
"""Of the whole output volume, in the container that makes the experiment's folder in it."""

_CODE: Final = {"name": "code", "mountPath": CODE_DIR}
_RUN: Final = {"name": "run", "mountPath": RUN_DIR}


def pod_volumes(order: AttemptOrder, settings: KubernetesSettings) -> list[Object]:
    """Volumes of the pod."""
    return [
        {"name": "code", "emptyDir": {}},
        {"name": "run", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(_shm_bytes(order))}},
        {"name": "data", **_source(settings.data_volume, read_only=True)},
        {"name": "output", **_source(settings.output_volume)},
    ]


def _shm_bytes(order: AttemptOrder) -> int:
    """Left out, half of the memory, as Linux has it for a whole machine."""
    return order.shm_bytes or order.memory_bytes // 2 or 64 << 20


def _source(volume: Volume | None, *, read_only: bool = False) -> Object:
    if volume is None:
        return {"emptyDir": {}}
    if volume.claim:
        claim: Object = {"claimName": volume.claim}
        if read_only:
            claim["readOnly"] = True
        return {"persistentVolumeClaim": claim}
    return {"hostPath": {"path": volume.host_path, "type": "Directory"}}


def code_mounts(settings: KubernetesSettings) -> list[Object]:
    """In the container that brings the code."""
    output = OUTPUT_DIR if settings.output_volume is None else OUTPUT_ROOT
    return [_CODE, _RUN, {"name": "output", "mountPath": output}]


def job_mounts(order: AttemptOrder, settings: KubernetesSettings) -> list[Object]:
    """In the job's container: of the output volume it sees nothing but its own folder."""
    output: Object = {"name": "output", "mountPath": OUTPUT_DIR}
    if settings.output_volume is not None:
        output["subPath"] = order.output_path
    return [
        _CODE,
        _RUN,
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "data", "mountPath": DATA_DIR, "readOnly": True},
        output,
    ]
