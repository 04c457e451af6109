"""Jobs as pods, from the submission to the last byte of their logs."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from riseml.client import Client
from riseml.spec.config import read_config
from riseml.sync import sync_tree
from riseml.v1 import experiment_pb2, state_pb2
from tests.e2e.platform import POD_SECONDS, PodCluster, job
from tests.integration.cluster import ENDED, output, submit, wait_for, wait_state

pytestmark = pytest.mark.timeout(4 * POD_SECONDS)

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def ended(
    client: Client, experiment_id: str, seconds: float = POD_SECONDS
) -> experiment_pb2.Experiment:
    return wait_state(client, experiment_id, *ENDED, seconds=seconds)


def finished(client: Client, experiment_id: str, seconds: float = POD_SECONDS) -> None:
    found = ended(client, experiment_id, seconds)
    assert found.state == state_pb2.STATE_FINISHED, found


def train(client: Client, folder: Path, text: str) -> str:
    """What `riseml train` does: sends the code and creates the experiment."""
    (folder / "riseml.yml").write_text(text)
    config = read_config(text, {}, "riseml.yml")
    revision = sync_tree(client, folder, config.spec.project, cache=folder.parent / "cache")
    return client.experiments.create(config.spec, revision_id=revision.id).experiment.id


def test_the_digits_example_runs_as_a_pod(
    platform: PodCluster, tmp_path: Path, image_prefix: str
) -> None:
    """With the code that was sent, its results, and a log that is what the container wrote."""
    client = platform.client()
    project = tmp_path / "digits"
    shutil.copytree(DIGITS, project)
    experiment_id = train(
        client,
        project,
        "project: digits\n"
        "train:\n"
        f"  image: {image_prefix}/sklearn:1\n"
        "  resources: {cpus: 0.5, mem: 1Gi}\n"
        "  run:\n"
        "    - python3 train.py --lr 0.001 --epochs 3 > $TMPDIR/log 2>&1\n"
        "    - cat $TMPDIR/log\n"
        "    - sha256sum < $TMPDIR/log\n",
    )
    finished(client, experiment_id, 2 * POD_SECONDS)
    written = output(client, f"{experiment_id}.train.1-1")
    text, _, digest = written.removesuffix(b"\n").rpartition(b"\n")
    assert hashlib.sha256(text + b"\n").hexdigest() == digest.split()[0].decode()
    assert b"epoch" in text
    results = list(client.results.list(experiment_id))
    assert len(results) >= 3
    assert [result.sequence for result in results] == list(range(1, len(results) + 1))
    platform.wait_no_pods()


def test_output_comes_as_it_was_written(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(client, job("printf 'a\\r50%%\\n\\n'; printf 'no newline'"))
    finished(client, experiment_id)
    assert output(client, f"{experiment_id}.train.1-1") == b"a\r50%\n\nno newline"


def test_an_image_needs_a_shell_and_nothing_else(platform: PodCluster, image_prefix: str) -> None:
    """In busybox a job is stopped with grace, and exit code and results come as from elsewhere."""
    client = platform.client()
    result = '{"sequence": 1, "time_ns": 1, "metrics": {"loss": 1}}'
    script = (
        f"trap 'echo saved; exit 3' TERM; echo '{result}' >> $RISEML_RESULTS; echo up; "
        "while :; do sleep 0.1; done"
    )
    wanted = job(script, image=f"{image_prefix}/busybox:1", grace_seconds=20)
    experiment_id = submit(client, wanted)
    attempt_id = f"{experiment_id}.train.1-1"
    wait_for(lambda: b"up" in output(client, attempt_id, follow=False), "it to run", POD_SECONDS)
    client.experiments.kill(experiment_id)
    found = ended(client, experiment_id, 30)
    assert found.state == state_pb2.STATE_KILLED
    assert found.jobs[0].attempts[0].exit_code == 3
    # The job's own shell may say that its `sleep` was terminated.
    assert output(client, attempt_id).replace(b"Terminated\n", b"") == b"up\nsaved\n"
    assert len(list(client.results.list(experiment_id))) == 1


def test_install_steps_are_a_build(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(
        client, job("greet", install=("mkdir -p $PYTHONUSERBASE/bin", _GREET, "echo installed"))
    )
    finished(client, experiment_id)
    found = client.experiments.get(experiment_id).experiment
    build, train_job = sorted(found.jobs, key=lambda one: one.type)
    assert (build.type, build.state) == ("build", state_pb2.STATE_FINISHED)
    assert b"installed\n" in output(client, build.attempts[0].id)
    assert output(client, train_job.attempts[0].id) == b"good morning\n"


_GREET = (
    "printf '#!/bin/sh\\necho good morning\\n' > $PYTHONUSERBASE/bin/greet; "
    "chmod +x $PYTHONUSERBASE/bin/greet"
)


def test_a_failed_install_is_the_builds(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(client, job("echo never", install=("echo missing wheel", "exit 3")))
    found = ended(client, experiment_id)
    assert (found.state, found.reason) == (state_pb2.STATE_FAILED, "BUILD_FAILED")
    assert "exit code 3" in found.message
    (build,) = [one for one in found.jobs if one.type == "build"]
    assert output(client, build.attempts[0].id) == b"missing wheel\n"


def test_an_exit_code_is_told_with_the_last_lines(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(client, job("echo 'out of ideas' >&2; exit 7"))
    found = ended(client, experiment_id)
    assert found.state == state_pb2.STATE_FAILED
    assert "exit code 7" in found.message and "out of ideas" in found.message


def test_a_job_that_needs_more_memory_is_told_so(platform: PodCluster) -> None:
    client = platform.client()
    hungry = "python3 -c 'x = bytearray(512 << 20); print(len(x))'"
    experiment_id = submit(client, job(hungry, memory_bytes=64 << 20))
    found = ended(client, experiment_id)
    assert (found.state, found.reason) == (state_pb2.STATE_FAILED, "OOM_KILLED")
    assert "mem" in found.message


def test_an_image_that_is_not_there_is_told_with_its_name(
    platform: PodCluster, image_prefix: str
) -> None:
    client = platform.client()
    image = f"{image_prefix}/missing:1"
    experiment_id = submit(client, job("true", image=image))

    def told() -> bool:
        (one,) = client.experiments.get(experiment_id).experiment.jobs
        return image in one.message

    # While it waits, and when it is given up.
    wait_for(told, "the image's name in the message", POD_SECONDS)
    found = ended(client, experiment_id, 2 * POD_SECONDS)
    assert (found.state, found.reason) == (state_pb2.STATE_FAILED, "IMAGE_PULL_FAILED")
    assert image in found.message
    platform.wait_no_pods()


def test_a_kill_leaves_time_for_a_checkpoint(platform: PodCluster) -> None:
    client = platform.client()
    script = (
        "python3 -u -c '"
        "import signal, sys, time\n"
        "def save(*_):\n"
        '    time.sleep(1); print("checkpoint written"); sys.exit(0)\n'
        "signal.signal(signal.SIGTERM, save)\n"
        'print("up")\n'
        "time.sleep(600)'"
    )
    experiment_id = submit(client, job(script, grace_seconds=20))
    attempt_id = f"{experiment_id}.train.1-1"
    wait_for(lambda: b"up" in output(client, attempt_id, follow=False), "it to run", POD_SECONDS)
    client.experiments.kill(experiment_id)
    found = ended(client, experiment_id, 30)
    assert found.state == state_pb2.STATE_KILLED
    assert output(client, attempt_id) == b"up\ncheckpoint written\n"
    platform.wait_no_pods()


def test_who_does_not_listen_is_killed_at_once_when_asked(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(client, job("trap '' TERM; echo up; sleep 600", grace_seconds=300))
    attempt_id = f"{experiment_id}.train.1-1"
    wait_for(lambda: b"up" in output(client, attempt_id, follow=False), "it to run", POD_SECONDS)
    # Once a kubelet has begun to wait for a container, it waits for as long as it was told first.
    client.experiments.kill(experiment_id, force=True)
    assert ended(client, experiment_id, 60).state == state_pb2.STATE_KILLED


def test_a_pod_that_somebody_deletes_is_tried_again(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(
        client, job('[ "$RISEML_ATTEMPT" = 1 ] && sleep 600; echo attempt $RISEML_ATTEMPT')
    )
    first = f"{experiment_id}.train.1-1"
    wait_state(client, experiment_id, state_pb2.STATE_RUNNING, seconds=POD_SECONDS)
    pod = platform.pod_of(first)
    platform.core.delete_namespaced_pod(pod.metadata.name, platform.namespace)
    finished(client, experiment_id)
    assert output(client, f"{experiment_id}.train.1-2") == b"attempt 2\n"
    (found,) = client.experiments.get(experiment_id).experiment.jobs
    assert found.attempts[0].reason == "POD_DELETED"


def test_secrets_are_masked_in_the_log(platform: PodCluster) -> None:
    from riseml.spec.model import EnvVar

    client = platform.client()
    secret = EnvVar("TOKEN", "hunter22$x", True)
    run = 'echo "token $TOKEN"; echo $TOKEN | wc -c; sleep 2'
    experiment_id = submit(client, job(run, env=(secret,)))
    pod = platform.pod_of(f"{experiment_id}.train.1-1")
    assert "hunter22" not in str(pod), "who may look at pods sees no secrets"
    finished(client, experiment_id)
    assert output(client, f"{experiment_id}.train.1-1") == b"token **********\n11\n"
    core, namespace = platform.core, platform.namespace
    wait_for(lambda: not core.list_namespaced_secret(namespace).items, "its Secret to be gone", 60)
