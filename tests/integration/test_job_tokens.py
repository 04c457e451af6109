"""A pod's init container and its token, against a real control plane: its own code while its
attempt lives, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from controlplane.job_tokens import JobTokens
from controlplane.rpc.access import ACCESS, Access
from riseml.client import Client
from riseml.spec.code_fetch import FetchExit
from riseml.sync import sync_tree
from riseml.v1 import daemon_service_pb2 as pb
from riseml.v1 import state_pb2
from tests.integration.cluster import Cluster, running_cluster, spec, wait_for, wait_state
from tests.integration.empty_calls import call_empty, methods
from tests.integration.scripted_daemon import ScriptedDaemon
from tests.integration.small_disk import needs_root, small_disk

FETCH = "/riseml.v1.DaemonService/FetchRevision"


@dataclass(frozen=True)
class Held:
    """An attempt that its node holds, with the code that it needs."""

    experiment_id: str
    revision_id: str
    files: Mapping[str, bytes]

    @property
    def attempt_id(self) -> str:
        return f"{self.experiment_id}.train.1-1"


class Pod:
    """The volumes of a pod, and its init container."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self.code, self.run, self.output = (folder / n for n in ("code", "run", "output"))
        for directory in (self.code, self.run, self.output):
            directory.mkdir(parents=True, exist_ok=True)

    def start(self, held: Held, token: str = "", **changed: str) -> subprocess.Popen[str]:
        address = self._cluster.address
        variables = {
            "RISEML_CONTROL_PLANE": f"127.0.0.1:{address.rpartition(':')[2]}",
            "RISEML_TOKEN": token or token_of(self._cluster, held.attempt_id),
            "RISEML_ATTEMPT_ID": held.attempt_id,
            "RISEML_REVISION": held.revision_id,
            "RISEML_CA_PEM": self._cluster.ca_pem,
            "RISEML_CODE_DIR": str(self.code),
            "RISEML_RUN_DIR": str(self.run),
            "RISEML_OUTPUT_DIR": str(self.output),
            "RISEML_CONFIGURATION": "project: digits\n",
            "RISEML_FETCH_DEADLINE": "20",
            **changed,
        }
        # Nothing of this machine's own environment: a pod has none.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "noded.pod.fetch_code"],
            env={"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **variables},
            stderr=subprocess.PIPE,
            text=True,
        )

    def fetch(self, held: Held, token: str = "", **changed: str) -> tuple[int, str]:
        """Exit code and what it said."""
        with self.start(held, token, **changed) as container:
            _, said = container.communicate(timeout=40)
        return container.returncode, said

    def files(self) -> dict[str, bytes]:
        found = [p for p in self.code.rglob("*") if not p.is_dir()]
        return {str(p.relative_to(self.code)): p.read_bytes() for p in found}


def token_of(cluster: Cluster, attempt_id: str, seconds: float = 600) -> str:
    """As the launcher would issue it."""
    key = (cluster.home / "control" / "job-token-key").read_bytes()
    return JobTokens(key).issue(attempt_id, time.time() + seconds)


def hold(client: Client, folder: Path, **files: bytes) -> Held:
    """Submits an experiment with code, and waits until its attempt is on the node."""
    content = {"train.py": b"print('hello')\n", "empty": b"", "lib/a.py": b"", "lib/run.sh": b"#!"}
    content |= files
    for name, data in content.items():
        path = folder / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "project" / "lib" / "run.sh").chmod(0o755)
    revision = sync_tree(client, folder / "project", "digits", cache=folder / "cache")
    created = client.experiments.create(spec("python train.py"), revision_id=revision.id)
    experiment_id = created.experiment.id
    wait_state(client, experiment_id, state_pb2.STATE_STARTING)
    return Held(experiment_id, revision.id, content)


def fetch_directly(
    cluster: Cluster, token: str, attempt_id: str, revision_id: str
) -> tuple[grpc.StatusCode, str]:
    """FetchRevision as anybody may try it: the code and the words."""
    with grpc.insecure_channel(cluster.address) as channel:
        call: Any = channel.unary_stream(
            FETCH,
            request_serializer=pb.FetchRevisionRequest.SerializeToString,
            response_deserializer=pb.FetchRevisionResponse.FromString,
        )
        request = pb.FetchRevisionRequest(revision_id=revision_id, attempt_id=attempt_id)
        try:
            parts = list(call(request, timeout=10, metadata=[("authorization", f"Bearer {token}")]))
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
    assert parts[0].WhichOneof("part") == "manifest"
    return grpc.StatusCode.OK, ""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(node=False) as started:
        yield started


@pytest.fixture(scope="module")
def daemon(cluster: Cluster) -> Iterator[ScriptedDaemon]:
    with contextlib.closing(ScriptedDaemon(cluster, "n9")) as connected:
        connected.sample()
        yield connected


@pytest.fixture
def held(cluster: Cluster, daemon: ScriptedDaemon, tmp_path: Path) -> Held:
    daemon.sample()
    return hold(cluster.client(), tmp_path)


@pytest.fixture
def pod(cluster: Cluster, tmp_path: Path) -> Pod:
    return Pod(cluster, tmp_path / "pod")


def test_a_pod_gets_its_code_the_sdk_and_the_configuration(pod: Pod, held: Held) -> None:
    code, said = pod.fetch(held)
    assert code == FetchExit.DONE, said
    assert pod.files() == held.files
    assert os.access(pod.code / "lib" / "run.sh", os.X_OK)
    assert not os.access(pod.code / "train.py", os.X_OK)
    assert "files 4" in said.splitlines()[-1]
    assert yaml.safe_load((pod.output / "riseml-configuration.yml").read_text()) == {
        "project": "digits"
    }
    assert os.listdir(pod.output) == ["riseml-configuration.yml"]
    sdk = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; sys.path = sys.argv[1:] + sys.path; "
         "import riseml; print(riseml.__file__, riseml.report_result.__module__)", pod.run / "sdk"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sdk.stdout == f"{pod.run}/sdk/riseml/__init__.py riseml.results\n"


def test_a_job_without_code_gets_the_rest_and_asks_nobody(pod: Pod, held: Held) -> None:
    code, said = pod.fetch(held, RISEML_REVISION="", RISEML_CONTROL_PLANE="")
    assert (code, said) == (FetchExit.DONE, "")
    assert pod.files() == {}
    assert (pod.run / "sdk" / "riseml" / "results.py").exists()


def test_a_token_opens_no_other_call(cluster: Cluster, held: Held) -> None:
    token = token_of(cluster, held.attempt_id)
    reflection = ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True, True)
    asked = [*methods(), reflection]
    health = {path for path, access in ACCESS.items() if access is Access.ANYONE}
    assert {path for path, _, _ in asked} == set(ACCESS) - health
    with grpc.insecure_channel(cluster.address) as channel:
        codes = {method[0]: call_empty(channel, method, token)[0] for method in asked}
    # Let in, and an empty request names no attempt.
    assert codes.pop(FETCH) is grpc.StatusCode.NOT_FOUND
    assert set(codes.values()) == {grpc.StatusCode.UNAUTHENTICATED}


def test_a_token_opens_its_own_attempts_code_only(
    cluster: Cluster, daemon: ScriptedDaemon, held: Held, tmp_path: Path
) -> None:
    other = hold(cluster.client(), tmp_path / "other", secret=b"of another experiment")
    token = token_of(cluster, held.attempt_id)
    for attempt_id, revision_id in (
        (other.attempt_id, other.revision_id),
        (held.attempt_id, other.revision_id),
        (other.attempt_id, held.revision_id),
        ("", held.revision_id),
    ):
        code, words = fetch_directly(cluster, token, attempt_id, revision_id)
        assert code is grpc.StatusCode.NOT_FOUND
        assert "uses no such revision" in words
    code, _ = fetch_directly(cluster, token, held.attempt_id, held.revision_id)
    assert code is grpc.StatusCode.OK


def test_nothing_is_given_after_the_attempt_has_ended(
    cluster: Cluster, daemon: ScriptedDaemon, held: Held, pod: Pod
) -> None:
    token = token_of(cluster, held.attempt_id)
    daemon.end(held.attempt_id)
    wait_state(cluster.client(), held.experiment_id, state_pb2.STATE_FINISHED)
    code, _ = fetch_directly(cluster, token, held.attempt_id, held.revision_id)
    assert code is grpc.StatusCode.NOT_FOUND
    status, said = pod.fetch(held, token)
    assert status == FetchExit.REVISION_GONE
    assert "is over" in said.splitlines()[-1]
    assert pod.files() == {}


def test_expired_and_foreign_tokens_are_refused_in_words(
    cluster: Cluster, held: Held, pod: Pod
) -> None:
    expired = token_of(cluster, held.attempt_id, seconds=-1)
    code, said = pod.fetch(held, expired)
    assert code == FetchExit.TOKEN_REFUSED
    assert f"The job token of {held.attempt_id} has expired" in said.splitlines()[-1]
    foreign = JobTokens(bytes(32)).issue(held.attempt_id, time.time() + 600)
    code, said = pod.fetch(held, foreign)
    assert code == FetchExit.TOKEN_REFUSED
    assert "not known" in said.splitlines()[-1]
    assert foreign not in said


@needs_root
def test_a_full_disk_is_told_apart(
    cluster: Cluster, daemon: ScriptedDaemon, pod: Pod, tmp_path: Path
) -> None:
    big = hold(cluster.client(), tmp_path, big=os.urandom(3 << 20))
    with small_disk(pod.code, "2m"):
        code, said = pod.fetch(big)
    assert code == FetchExit.NO_SPACE
    assert "no space for the code" in said.splitlines()[-1]


@needs_root
def test_the_code_needs_no_more_room_than_its_files(
    cluster: Cluster, daemon: ScriptedDaemon, pod: Pod, tmp_path: Path
) -> None:
    big = hold(cluster.client(), tmp_path, big=os.urandom(3 << 20), other=os.urandom(1 << 20))
    with small_disk(pod.code, "4300k"):
        code, said = pod.fetch(big)
        assert code == FetchExit.DONE, said
        assert pod.files() == big.files


def test_it_waits_for_a_control_plane_that_is_away_and_not_for_ever(tmp_path: Path) -> None:
    with running_cluster(host="0.0.0.0") as cluster:
        held = hold_running(cluster, tmp_path)
        pod = Pod(cluster, tmp_path / "pod")
        token = token_of(cluster, held.attempt_id)
        port = cluster.address.rpartition(":")[2]
        cluster.control_plane.kill()
        code, said = pod.fetch(held, token, RISEML_FETCH_DEADLINE="0.5")
        assert code == FetchExit.UNREACHABLE
        assert "nothing new came from the control plane for 0.5 s" in said.splitlines()[-1]
        with pod.start(held, token, RISEML_CONTROL_PLANE=f"127.0.0.1:{port}") as waiting:
            assert waiting.stderr is not None
            assert "trying on" in waiting.stderr.readline()
            cluster.start_control_plane()
            _, said = waiting.communicate(timeout=40)
        assert waiting.returncode == FetchExit.DONE, said
        assert pod.files() == held.files


def hold_running(cluster: Cluster, folder: Path) -> Held:
    """An attempt that really runs, so that it lives on while the control plane is away."""
    client = cluster.client()
    (folder / "project").mkdir()
    (folder / "project" / "train.py").write_bytes(b"x")
    revision = sync_tree(client, folder / "project", "digits", cache=folder / "cache")
    created = client.experiments.create(spec("sleep 600"), revision_id=revision.id)
    held = Held(created.experiment.id, revision.id, {"train.py": b"x"})
    wait_state(client, held.experiment_id, state_pb2.STATE_RUNNING)
    return held


def test_a_pod_that_is_deleted_meanwhile_ends_at_once(cluster: Cluster, pod: Pod) -> None:
    nobody = Held("ana.1", "abc", {})
    with pod.start(nobody, "riseml-job.x", RISEML_CONTROL_PLANE="127.0.0.1:9") as container:
        assert container.stderr is not None
        assert "trying on" in container.stderr.readline()
        container.terminate()
        wait_for(lambda: container.poll() is not None, "the program to end")
        assert container.stderr.read().splitlines()[-1] == "riseml-fetch-code: stopped"
    assert container.returncode == FetchExit.STOPPED
