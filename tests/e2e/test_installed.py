"""The chart installed into a cluster, and a newcomer's first steps through its Service."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from kubernetes import client

from tests.e2e.cluster.control import CONTROL
from tests.e2e.helm.build import build as build_helm
from tests.integration.cluster import wait_for

pytestmark = pytest.mark.timeout(600)
CHART: Final = Path(__file__).parents[2] / "deploy" / "helm" / "riseml"
UID: Final = 10001
RELEASE: Final = "riseml"


@dataclass(frozen=True)
class Installed:
    """A release, and a pod in which somebody works with `riseml`."""

    namespace: str

    def kubectl(self, *words: str, text: str = "", check: bool = True) -> str:
        done = subprocess.run(
            ["kubectl", "-n", self.namespace, *words],
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECONFIG": os.environ["RISEML_E2E_KUBECONFIG"]},
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def inside(self, *words: str, text: str = "", check: bool = True) -> str:
        """What a newcomer types; standard input is `text`."""
        return self.kubectl("exec", "-i", "newcomer", "--", *words, text=text, check=check)


def helm(*words: str) -> str:
    done = subprocess.run(
        [str(build_helm()), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "KUBECONFIG": os.environ["RISEML_E2E_KUBECONFIG"]},
        check=False,
    )
    assert done.returncode == 0, f"helm {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(api: client.ApiClient, image_prefix: str) -> Iterator[Installed]:
    core = client.CoreV1Api(api)
    name = f"riseml-e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    folder = Path(tempfile.mkdtemp(prefix="riseml-e2e-volume-"))
    try:
        values = {
            "image": {"repository": f"{image_prefix}/platform", "tag": "1"},
            "jobs": {"defaultImage": f"{image_prefix}/base:1"},
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        }
        if os.environ.get(CONTROL):
            # Nobody makes volumes in the cluster of the tests.
            folder.chmod(0o777)
            core.create_persistent_volume(_volume(name, folder))
            values["home"] = {"size": "1Gi", "storageClass": "-"}
        file = folder / "values.json"
        file.write_text(json.dumps(values))
        helm(
            *("install", RELEASE, str(CHART), "--namespace", name, "--values", str(file)),
            *("--wait", "--timeout", "120s"),
        )
        made = Installed(name)
        _make_newcomer(made, f"{image_prefix}/platform:1")
        yield made
    finally:
        core.delete_namespace(name)
        shutil.rmtree(folder, ignore_errors=True)


def _volume(name: str, folder: Path) -> dict[str, object]:
    return {
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": name, "name": f"{RELEASE}-home"},
            "hostPath": {"path": str(folder)},
        },
    }


def _make_newcomer(made: Installed, image: str) -> None:
    """Somebody with `riseml` and nothing else, where the Service has a name."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "newcomer"},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "shell",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "3600"],
                    "workingDir": "/home/newcomer",
                    "env": [{"name": "HOME", "value": "/home/newcomer"}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "home", "mountPath": "/home/newcomer"}],
                }
            ],
            "volumes": [{"name": "home", "emptyDir": {}}],
        },
    }
    made.kubectl("apply", "-f", "-", text=json.dumps(pod))
    made.kubectl("wait", "--for=condition=Ready", "pod/newcomer", "--timeout=60s")


def test_helm_asks_for_its_health(installed: Installed) -> None:
    said = helm("test", RELEASE, "--namespace", installed.namespace, "--timeout", "90s")
    assert "Succeeded" in said


def test_a_newcomers_first_steps(installed: Installed) -> None:
    """Log in at the Service, train, look at it, kill another one: as the notes and guides say."""
    control = f"deployment/{RELEASE}"
    home = "/var/lib/riseml/control"
    authority = installed.kubectl("exec", control, "--", "cat", f"{home}/tls/ca.pem")
    key = installed.kubectl("exec", control, "--", "cat", f"{home}/admin-key").strip()
    installed.inside("sh", "-c", "cat > ca.pem", text=authority)
    service = f"{RELEASE}.{installed.namespace}.svc:7433"
    installed.inside("riseml", "user", "login", service, "--ca", "ca.pem", text=f"{key}\n")
    assert "admin" in installed.inside("riseml", "whoami")
    nodes = json.loads(installed.inside("riseml", "node", "list", "--format", "json"))
    assert nodes, "the cluster's nodes are RiseML's"
    installed.inside(
        "sh", "-c", "mkdir -p project && cat > project/train.py", text="print('learned', 6 * 7)\n"
    )
    installed.inside(
        *("sh", "-c", "cat > project/riseml.yml"),
        text=(
            "project: first\ntrain:\n  resources: {cpus: 0.1, mem: 128Mi}\n"
            "  run: python3 train.py\n"
        ),
    )
    said = installed.inside("sh", "-c", "cd project && riseml train")
    assert "learned 42" in said
    assert "FINISHED" in said
    assert "FINISHED" in installed.inside("riseml", "status", "-a")
    assert "learned 42" in installed.inside("riseml", "logs", "1")
    installed.inside(
        *("sh", "-c", "cat > project/riseml.yml"),
        text=(
            "project: first\ntrain:\n  resources: {cpus: 0.1, mem: 128Mi}\n"
            "  run: trap 'exit 0' TERM; while :; do sleep 0.2; done\n"
        ),
    )
    installed.inside("sh", "-c", "cd project && riseml train -d")
    installed.inside("riseml", "kill", "2")
    wait_for(lambda: "KILLED" in installed.inside("riseml", "status", "-a"), "it to be killed", 60)


def test_the_control_plane_has_the_rights_that_it_needs_and_no_more(installed: Installed) -> None:
    account = f"system:serviceaccount:{installed.namespace}:{RELEASE}"

    def may(*words: str) -> bool:
        said = installed.kubectl("auth", "can-i", *words, f"--as={account}", check=False)
        return said.strip() == "yes"

    assert may("create", "pods")
    assert may("create", "pods", "--subresource=binding")
    assert may("get", "pods", "--subresource=log")
    assert may("list", "nodes") and may("list", "pods", "--all-namespaces")
    for words in (
        ("get", "secrets"),
        ("create", "pods", "--subresource=exec"),
        ("delete", "nodes"),
        ("delete", "pods", "-n", "kube-system"),
        ("create", "deployments"),
    ):
        assert not may(*words), words
