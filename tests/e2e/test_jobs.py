"""Jobs as pods, from the submission to the last byte of their logs."""

from __future__ import annotations

import pytest

from riseml.v1 import state_pb2
from tests.e2e.platform import POD_SECONDS, PodCluster, job
from tests.integration.cluster import ENDED, output, submit, wait_state

pytestmark = pytest.mark.timeout(3 * POD_SECONDS)


def test_a_job_runs_as_a_pod_and_its_log_is_what_it_wrote(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(client, job("echo hello; printf 'no newline'"))
    ended = wait_state(client, experiment_id, *ENDED, seconds=POD_SECONDS)
    assert ended.state == state_pb2.STATE_FINISHED, ended.message
    assert output(client, f"{experiment_id}.train.1-1") == b"hello\nno newline"
    platform.wait_no_pods()


def test_an_exit_code_is_told_with_the_last_lines(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(client, job("echo 'out of ideas' >&2; exit 7"))
    ended = wait_state(client, experiment_id, *ENDED, seconds=POD_SECONDS)
    assert ended.state == state_pb2.STATE_FAILED
    assert "exit code 7" in ended.message and "out of ideas" in ended.message
