"""The main job, end to end: real control plane, real daemons, real processes, real code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from riseml import errors
from riseml.client import Client
from riseml.spec.config import read_config
from riseml.spec.model import ParameterValues, Resources, RetryPolicy, RoleSpec, TrainSpec
from riseml.sync import sync_tree
from riseml.v1 import experiment_pb2, job_pb2, state_pb2
from tests.integration.cluster import (
    ENDED,
    Cluster,
    output,
    running_cluster,
    spec,
    submit,
    wait_for,
    wait_state,
)

WHEELS = Path(__file__).parents[1] / "wheels"
GIB = 1 << 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three daemons on this host; n2 and n3 have simulated GPUs and ports of their own."""
    with running_cluster() as started:
        for number, name in enumerate(("n2", "n3"), start=1):
            config = started.home / f"{name}.toml"
            config.write_text(
                f"first_port = {29400 + 100 * number}\nlast_port = {29449 + 100 * number}\n"
            )
            options = ("--config", str(config), "--simulate-gpus", "2xH100")
            started.start_node(name, options=options)
        yield started


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Client:
    return cluster.client()


def on(node: str, wanted: TrainSpec) -> TrainSpec:
    from dataclasses import replace

    return replace(wanted, node_selector=(("riseml.com/node", node),))


def train(client: Client, folder: Path, text: str) -> str:
    """What `riseml train` does: reads riseml.yml, sends the code, creates the experiment."""
    (folder / "riseml.yml").write_text(text)
    config = read_config(text, {}, "riseml.yml")
    revision = sync_tree(client, folder, config.spec.project, cache=folder.parent / "cache")
    return client.experiments.create(config.spec, revision_id=revision.id).experiment.id


def finished(client: Client, experiment_id: str) -> experiment_pb2.Experiment:
    ended = wait_state(client, experiment_id, *ENDED, seconds=60)
    assert ended.state == state_pb2.STATE_FINISHED, ended
    return ended


def attempts(
    experiment: experiment_pb2.Experiment, job_type: str = "train"
) -> list[job_pb2.Attempt]:
    return [a for job in experiment.jobs if job.type == job_type for a in job.attempts]


def printed(client: Client, experiment_id: str) -> str:
    """The output of the experiment's newest train attempt."""
    (*_, newest) = attempts(client.experiments.get(experiment_id).experiment)
    return output(client, newest.id).decode()


def test_code_parameters_output_and_results_reach_where_they_belong(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    (project / "package").mkdir(parents=True)
    (project / "package" / "message.py").write_text("TEXT = 'from my package'\n")
    (project / "train.py").write_text(
        "import os, sys, riseml\n"
        "from package.message import TEXT\n"
        "print(TEXT, sys.argv[1:], os.environ['LR'], os.environ['RISEML_ATTEMPT'])\n"
        "print(repr(os.environ['CUDA_VISIBLE_DEVICES']))\n"
        "for step in range(3):\n"
        "    riseml.report_result(accuracy=0.5 + step / 10, step=step)\n"
        "open(os.path.join(os.environ['OUTPUT_DIR'], 'model.bin'), 'wb').write(b'weights' * 1000)\n"
    )
    (project / "ignored.log").write_text("not code")
    (project / ".risemlignore").write_text("*.log\n")
    experiment_id = train(
        client,
        project,
        "project: shapes\ntrain:\n  resources: {cpus: 0.1, mem: 256Mi}\n"
        "  parameters: {lr: 0.1}\n  run: python train.py --lr {{lr}} && ls\n",
    )
    finished(client, experiment_id)
    text = printed(client, experiment_id)
    assert text.startswith("from my package ['--lr', '0.1'] 0.1 1\n''\n")
    assert "ignored.log" not in text

    results = list(client.results.list(experiment_id))
    assert [r.sequence for r in results] == [1, 2, 3]
    assert {m.name: m.value for m in results[-1].metrics} == {"accuracy": 0.7, "step": 2.0}

    files = {f.path: f for f in client.storage.list(f"output://{experiment_id}/")}
    assert {"model.bin", "riseml-configuration.yml"} <= set(files)
    model = b"".join(r.data for r in client.storage.read(f"output://{experiment_id}/model.bin"))
    assert model == b"weights" * 1000
    with pytest.raises(errors.NotFound, match=rf"^output://{experiment_id}/none: no such file"):
        client.storage.remove(f"output://{experiment_id}/none")
    number = experiment_id.partition(".")[2]
    path = cluster.home / "output" / "admin" / "shapes" / number / "model.bin"
    assert path.read_bytes() == model
    if os.geteuid() == 0:
        assert path.stat().st_uid >= 1000, "a user's job ran as root"


def test_install_steps_run_once_and_are_cached_then(client: Client, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copytree(WHEELS, project / "wheels")
    text = (
        "project: greeting\ntrain:\n  resources: {cpus: 0.1, mem: 512Mi}\n"
        "  node_selector: {riseml.com/node: n1}\n"
        "  install: [pip install --no-index --find-links wheels riseml-greeting]\n"
        "  run: python -c \"import riseml_greeting as g; print(g.greet('{name}'))\"\n"
    )
    first = train(client, project, text.replace("{name}", "first"))
    finished(client, first)
    assert printed(client, first) == "hello first\n"
    (build,) = attempts(client.experiments.get(first).experiment, "build")
    assert "Successfully installed riseml-greeting-1.0" in output(client, build.id).decode()

    second = train(client, project, text.replace("{name}", "second"))
    finished(client, second)
    assert printed(client, second) == "hello second\n"
    (build,) = attempts(client.experiments.get(second).experiment, "build")
    log = output(client, build.id).decode()
    assert "cached" in log
    assert "Successfully installed" not in log


def test_a_failing_install_step_fails_the_experiment_with_its_last_words(
    client: Client, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    experiment_id = train(
        client,
        project,
        "project: greeting\ntrain:\n  resources: {cpus: 0.1, mem: 256Mi}\n"
        "  install: ['echo about to fail', 'echo no such thing >&2; exit 9']\n  run: 'true'\n",
    )
    ended = wait_state(client, experiment_id, *ENDED, seconds=60)
    assert ended.state == state_pb2.STATE_FAILED
    assert ended.reason == "BUILD_FAILED"
    assert "no such thing" in ended.message
    (build,) = attempts(client.experiments.get(experiment_id).experiment, "build")
    log = output(client, build.id).decode().splitlines()
    assert "about to fail" in log
    assert log[-1] == "no such thing"


def test_a_set_runs_every_combination_with_limited_concurrency(
    cluster: Cluster, client: Client
) -> None:
    from dataclasses import replace

    wanted = replace(
        spec("echo lr={{lr}} depth={{depth}}; [ {{depth}} != 3 ]"),
        parameters=(
            ParameterValues("lr", ("0.1", "0.01")),
            ParameterValues("depth", ("1", "2", "3")),
        ),
        concurrency=2,
    )
    set_id = submit(client, wanted)
    ended = wait_state(client, set_id, *ENDED, seconds=60)
    assert ended.state == state_pb2.STATE_FINISHED, "a failed child failed its set"
    assert (ended.set.child_count, ended.set.finished_count, ended.set.failed_count) == (6, 4, 2)
    children = list(client.experiments.list(set_id=set_id, with_jobs=True))
    assert len(children) == 6
    for child in children:
        values = {p.name: p.value for p in child.parameters}
        (attempt,) = attempts(child)
        expected = f"lr={values['lr']} depth={values['depth']}\n"
        assert output(client, attempt.id).decode() == expected
    assert {tuple(p.value for p in c.parameters) for c in children} == {
        (lr, depth) for lr in ("0.1", "0.01") for depth in ("1", "2", "3")
    }


def test_gpus_are_given_whole_and_in_shares_and_waiting_is_explained(
    cluster: Cluster, client: Client
) -> None:
    stop = cluster.home / "stop-gpus"
    wait = f"echo $CUDA_VISIBLE_DEVICES; while [ ! -e {stop} ]; do sleep 0.05; done"
    whole = [submit(client, spec(wait, gpu_milli=2000)), submit(client, spec(wait, gpu_milli=1000))]
    shares = [submit(client, spec(wait, gpu_milli=500)) for _ in range(2)]
    for experiment_id in (*whole, *shares):
        wait_state(client, experiment_id, state_pb2.STATE_RUNNING)
    blocked = submit(client, spec(wait, gpu_milli=500))
    too_large = submit(client, spec(wait, gpu_milli=64_000))
    wait_for(lambda: client.experiments.get(blocked).experiment.pending_reasons, "a reason")
    reasons = client.experiments.get(too_large).experiment.pending_reasons
    assert reasons

    held: dict[str, int] = {}
    for experiment_id in (*whole, *shares):
        (attempt,) = attempts(client.experiments.get(experiment_id).experiment)
        wait_for(
            lambda a=attempt: output(client, a.id, follow=False).strip(),  # type: ignore[misc]
            "the job to name its GPUs",
        )
        uuids = output(client, attempt.id, follow=False).decode().strip().split(",")
        assert uuids == [g.gpu_uuid for g in attempt.gpus]
        for share in attempt.gpus:
            held[share.gpu_uuid] = held.get(share.gpu_uuid, 0) + share.milli
    assert held and all(milli == 1000 for milli in held.values())
    assert len(held) == 4

    stop.touch()
    finished(client, blocked)
    client.experiments.kill(too_large)
    wait_state(client, too_large, state_pb2.STATE_KILLED)


def test_a_gang_over_three_nodes_meets(client: Client) -> None:
    node_cpus = {n.name: n.cpu_milli for n in client.nodes.list()}
    # More than half a node each, so that no two share one.
    needs = Resources(cpu_milli=min(node_cpus.values()) // 2 + 100, memory_bytes=GIB // 8)
    script = (
        "import os, socket\n"
        "rank, size = int(os.environ['RISEML_NODE_RANK']), int(os.environ['RISEML_NODES_NUM'])\n"
        "host, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])\n"
        "if rank == 0:\n"
        "    server = socket.create_server((host, port))\n"
        "    print(sorted(server.accept()[0].recv(9) for _ in range(size - 1)))\n"
        "else:\n"
        "    import time\n"
        "    while True:\n"
        "        try:\n"
        "            socket.create_connection((host, port)).sendall(b'rank %d' % rank)\n"
        "            break\n"
        "        except ConnectionRefusedError:\n"
        "            time.sleep(0.05)\n"
    )
    wanted = TrainSpec(
        project="gangs",
        framework="pytorch",
        run=(f"python3 - <<'END'\n{script}END",),
        roles=(RoleSpec("worker", 3, needs),),
    )
    experiment_id = submit(client, wanted)
    ended = finished(client, experiment_id)
    members = attempts(ended, "worker")
    assert {a.node_name for a in members} == {"n1", "n2", "n3"}
    assert {a.generation for a in members} == {1}
    first = f"{experiment_id}.worker.1-1"
    assert output(client, first).decode() == "[b'rank 1', b'rank 2']\n"


def test_kill_gives_a_job_its_grace_and_leaves_no_orphan(cluster: Cluster, client: Client) -> None:
    folder = cluster.home / "kill"
    folder.mkdir()
    folder.chmod(0o777)
    job = (
        f"trap 'echo saving; sleep 0.3; echo saved; exit 0' TERM\n"
        f"setsid sh -c 'echo $$ > {folder}/orphan; exec sleep 1000' &\n"
        f"while true; do touch {folder}/runs; sleep 0.05; done"
    )
    experiment_id = submit(client, spec(job, grace_seconds=10))
    wait_for(lambda: (folder / "runs").exists() and (folder / "orphan").exists(), "it to run")
    client.experiments.kill(experiment_id)
    ended = wait_state(client, experiment_id, *ENDED)
    assert ended.state == state_pb2.STATE_KILLED
    lines = printed(client, experiment_id).splitlines()
    # The shell adds a word of its own on the child that it lost.
    assert [line for line in lines if line != "Terminated"] == ["saving", "saved"]
    orphan = Path("/proc") / (folder / "orphan").read_text().strip()
    wait_for(lambda: not orphan.exists(), "the double-forked child to be gone")


def test_retries_make_new_attempts_until_one_works(cluster: Cluster, client: Client) -> None:
    job = 'echo attempt $RISEML_ATTEMPT; [ "$RISEML_ATTEMPT" -eq 3 ]'
    experiment_id = submit(client, spec(job, retry=RetryPolicy(("error",), 5)))
    ended = finished(client, experiment_id)
    tried = attempts(ended)
    assert [a.generation for a in tried] == [1, 2, 3]
    assert [a.exit_code for a in tried] == [1, 1, 0]
    text = output(client, tried[0].id) + output(client, tried[2].id)
    assert text == b"attempt 1\nattempt 3\n"


def test_a_drained_node_gives_its_jobs_back_and_a_later_attempt_runs(
    cluster: Cluster, client: Client
) -> None:
    marker = cluster.home / "drained"
    job = f'[ "$RISEML_ATTEMPT" -gt 1 ] || while [ ! -e {marker} ]; do sleep 0.05; done'
    experiment_id = submit(client, on("n3", spec(job)))
    wait_state(client, experiment_id, state_pb2.STATE_RUNNING)
    client.nodes.drain("n3")
    waiting = wait_state(client, experiment_id, state_pb2.STATE_PENDING)
    assert [a.state for a in attempts(waiting)] == [job_pb2.ATTEMPT_STATE_PREEMPTED]
    client.nodes.uncordon("n3")
    assert [a.generation for a in attempts(finished(client, experiment_id))] == [1, 2]


def test_files_are_copied_resumably_and_paths_cannot_leave(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    from riseml.v1 import storage_service_pb2 as pb

    content = os.urandom(700_000)

    def upload(offset: int, until: int, *, finish: bool) -> Iterator[pb.WriteFileRequest]:
        sha256 = hashlib.sha256(content).digest()
        for begin in range(offset, until, 65536):
            yield pb.WriteFileRequest(
                uri="data://sets/numbers.bin" if begin == offset else "",
                offset=begin,
                data=content[begin : min(begin + 65536, until)],
            )
        if finish:
            yield pb.WriteFileRequest(
                finish=True, offset=until, total_size_bytes=len(content), sha256=sha256
            )

    with pytest.raises(errors.FailedPrecondition, match="ended early"):
        client.storage.write(upload(0, 131072, finish=False), seconds=30)
    partial = client.storage.stat("data://sets/numbers.bin").partial_size_bytes
    assert partial == 131072
    client.storage.write(upload(partial, len(content), finish=True), seconds=30)
    assert (cluster.home / "data" / "sets" / "numbers.bin").read_bytes() == content
    tail = b"".join(r.data for r in client.storage.read("data://sets/numbers.bin", 600_000))
    assert tail == content[600_000:]
    for uri in ("data://../control/admin-key", "data:///../../etc/passwd", "output://1/../../x"):
        with contextlib.suppress(StopIteration), pytest.raises(errors.RisemlError):
            next(iter(client.storage.read(uri)))
    assert client.storage.remove("data://sets", recursive=True) == 2
    with pytest.raises(errors.NotFound, match=r"^data://sets: no such file"):
        client.storage.remove("data://sets")


def test_secrets_from_the_callers_environment_are_masked_in_logs_and_hidden_in_status(
    client: Client,
) -> None:
    from dataclasses import replace

    from riseml.spec.model import EnvVar

    wanted = replace(
        spec('echo "token is $TOKEN"; [ "$TOKEN" = abcdef123456 ]'),
        env=(EnvVar("TOKEN", "abcdef123456", secret=True),),
    )
    experiment_id = submit(client, wanted)
    finished(client, experiment_id)
    assert printed(client, experiment_id) == "token is ************\n"
    shown = client.experiments.get(experiment_id).experiment.spec.env
    assert [(v.name, v.value) for v in shown] == [("TOKEN", "")]


def test_a_command_that_is_not_there_and_a_signal_are_told_apart(client: Client) -> None:
    missing = wait_state(client, submit(client, spec("no-such-program --x")), *ENDED)
    assert missing.state == state_pb2.STATE_FAILED
    assert "127" in missing.message
    killed = wait_state(client, submit(client, spec("kill -SEGV $$")), *ENDED)
    assert killed.state == state_pb2.STATE_FAILED
    (attempt,) = attempts(killed)
    assert attempt.exit_signal == 11


def test_a_job_that_runs_longer_than_its_max_duration_is_ended_and_says_so(client: Client) -> None:
    from dataclasses import replace

    experiment_id = submit(client, replace(spec("exec sleep 1000"), max_duration_seconds=1))
    ended = wait_state(client, experiment_id, *ENDED)
    assert (ended.state, ended.reason) == (state_pb2.STATE_FAILED, "MAX_DURATION")
