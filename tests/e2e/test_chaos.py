"""Everything at once and at random: jobs run while what runs them is killed and restarted.

The seed is printed; RISEML_CHAOS_SEED repeats a run, RISEML_CHAOS_SECONDS makes it longer.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from riseml.v1 import job_pb2, state_pb2
from tests.e2e.conftest import PartsControl
from tests.e2e.platform import ATTEMPT, POD_SECONDS, PodCluster, job
from tests.integration.cluster import ENDED, output, submit, wait_state

SECONDS = float(os.environ.get("RISEML_CHAOS_SECONDS", "45"))
pytestmark = pytest.mark.timeout(600 + SECONDS)
LINES = 8
SCRIPT = f"n=0; while [ $n -lt {LINES} ]; do echo line $n; n=$((n+1)); sleep 0.4; done"


def test_nothing_is_lost_doubled_or_left(platform: PodCluster, parts: PartsControl) -> None:
    seed = int(os.environ.get("RISEML_CHAOS_SEED", "0")) or random.randrange(1, 10**6)
    print(f"RISEML_CHAOS_SEED={seed}")  # noqa: T201
    chance = random.Random(seed)
    ids: list[str] = []
    uids: dict[str, set[str]] = {}
    deleted: set[str] = set()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        ids.append(submit(platform.client(), job(SCRIPT, count=chance.choice((1, 1, 2)))))
        match chance.randrange(8):
            case 0:
                platform.control_plane.kill()
                time.sleep(chance.random())
                platform.start_control_plane()
            case 1:
                with parts.stopped("kube-apiserver"):
                    time.sleep(2 * chance.random())
            case 2:
                with parts.stopped("kubelet"):
                    time.sleep(4 * chance.random())
            case 3:
                pods = [p for p in platform.pods() if p.status.phase == "Running"]
                if pods:
                    victim = chance.choice(pods)
                    deleted.add(victim.metadata.annotations[ATTEMPT].rpartition("-")[0])
                    platform.core.delete_namespaced_pod(
                        victim.metadata.name, platform.namespace, grace_period_seconds=1
                    )
            case _:
                time.sleep(chance.random())
        for pod in platform.pods():
            uids.setdefault(pod.metadata.annotations[ATTEMPT], set()).add(pod.metadata.uid)
    client = platform.client()
    for experiment_id in ids:
        found = wait_state(client, experiment_id, *ENDED, seconds=4 * POD_SECONDS)
        assert found.state == state_pb2.STATE_FINISHED, found
        touched = any(one.id in deleted for one in found.jobs)
        for one in found.jobs:
            for earlier in [] if touched else one.attempts[:-1]:
                # A kubelet that is killed while it starts a container: nothing of it has run.
                assert earlier.state == job_pb2.ATTEMPT_STATE_LOST, found
                assert output(client, earlier.id) == b"", found
            said = output(client, one.attempts[-1].id).decode().splitlines()
            assert said == [f"line {number}" for number in range(LINES)], one.attempts[-1]
    assert all(len(found) == 1 for found in uids.values()), uids
    platform.wait_no_pods()
