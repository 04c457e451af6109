"""HyperQueue beside us: its own server and a worker, driven through its Python package.

    COUNT SLOTS       seconds for COUNT `true` tasks in one job (its array), output to files; and of
                      single tasks, one after the other, from submission to the start of the process

Run by a Python that has `hyperqueue` and nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SINGLES = 50


def main(count: str, slots: str) -> None:
    from hyperqueue import Job, LocalCluster  # type: ignore[import-not-found]
    from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]
    from hyperqueue.ffi import get_version  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(prefix="riseml-bench-") as folder:
        os.chdir(folder)
        # It leaves folders of its own behind.
        os.environ["TMPDIR"] = folder
        with LocalCluster(worker_config=WorkerConfig(cores=int(slots))) as cluster:
            client = cluster.client()
            _array(client, Job, Path(folder, "warm"), 64)
            seconds = _array(client, Job, Path(folder, "array"), int(count))
            started = [_single(client, Job, Path(folder, f"one-{n}")) for n in range(SINGLES)]
    result = {"version": get_version(), "seconds": seconds, "start_ms": started}
    sys.stdout.write("\n" + json.dumps(result) + "\n")


def _array(client: Any, job_class: Any, folder: Path, count: int) -> float:
    """Until the last task's output was written; waiting itself asks only now and then."""
    folder.mkdir()
    job = job_class(default_workdir=folder)
    for _ in range(count):
        job.program(["true"])
    begin = time.time()
    client.wait_for_jobs([client.submit(job)])
    files = list(folder.glob("*.stdout"))
    if len(files) != count:
        raise RuntimeError(f"{len(files)} of {count} outputs")
    return max(file.stat().st_mtime for file in files) - begin


def _single(client: Any, job_class: Any, folder: Path) -> float:
    """Milliseconds until the process looks at the clock, which is a little after its start."""
    folder.mkdir()
    job = job_class(default_workdir=folder)
    job.program(["date", "+%s.%N"])
    begin = time.time()
    client.wait_for_jobs([client.submit(job)])
    return (float((folder / "0.stdout").read_text()) - begin) * 1e3


if __name__ == "__main__":
    main(*sys.argv[1:])
