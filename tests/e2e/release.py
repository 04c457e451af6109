"""A release of the chart in the tests' cluster, and somebody who works with it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes import client

from tests.e2e.cluster.control import CONTROL
from tests.e2e.cluster.device_plugin import gpu_ids
from tests.e2e.helm.build import build as build_helm
from tests.e2e.pods import GPUS
from tests.integration.cluster import wait_for
from tests.nvml_stub.library import NvmlStub, build_library

CHART: Final = Path(__file__).parents[2] / "deploy" / "helm" / "riseml"
UID: Final = 10001
RELEASE: Final = "riseml"
HOME: Final = "/home/newcomer"


@dataclass(frozen=True)
class Installed:
    """A release, and a pod in which somebody works with `riseml`."""

    namespace: str
    image: str
    """The platform's."""
    driver: NvmlStub | None
    """That the daemons see; None: whatever the nodes have."""

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

    def apply_pod(
        self, name: str, run: str, *, home: bool = False, limits: dict[str, str] | None = None
    ) -> None:
        """A pod that is none of a job's, up to its being ready."""
        container: dict[str, Any] = {
            "name": "shell",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", f"exec {run}"],
            "resources": {"limits": limits or {}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        if home:
            container |= {
                "workingDir": HOME,
                "env": [{"name": "HOME", "value": HOME}],
                "volumeMounts": [{"name": "home", "mountPath": HOME}],
            }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": UID,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": [{"name": "home", "emptyDir": {}}],
            },
        }
        self.kubectl("apply", "-f", "-", text=json.dumps(pod))
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")

    def log_in(self) -> None:
        """The newcomer has the first admin's key from now on."""
        control, home = f"deployment/{RELEASE}", "/var/lib/riseml/control"
        authority = self.kubectl("exec", control, "--", "cat", f"{home}/tls/ca.pem")
        key = self.kubectl("exec", control, "--", "cat", f"{home}/admin-key").strip()
        self.inside("sh", "-c", "cat > ca.pem", text=authority)
        service = f"{RELEASE}.{self.namespace}.svc:7433"
        self.inside("riseml", "user", "login", service, "--ca", "ca.pem", text=f"{key}\n")

    def nodes(self) -> list[dict[str, Any]]:
        """All of them, as the contract has them."""
        found: list[dict[str, Any]] = json.loads(
            self.inside("riseml", "node", "list", "--format", "json")
        )
        return found

    def submit(self, run: str, *, gpus: int = 0, code: str = "") -> str:
        """Its number."""
        self.inside("sh", "-c", "mkdir -p job && cat > job/train.py", text=code or "pass\n")
        needs = f"{{cpus: 0.1, mem: 128Mi, gpus: {gpus}}}"
        text = f"project: e2e\ntrain:\n  resources: {needs}\n  run: {json.dumps(run)}\n"
        self.inside("sh", "-c", "cat > job/riseml.yml", text=text)
        said = self.inside("sh", "-c", "cd job && riseml train -d 2>&1")
        (number,) = re.findall(r"admin\.([0-9]+)", said)[:1]
        return str(number)

    def wait_state(self, number: str, state: str, seconds: float = 120.0) -> None:
        """Until it has come to this end."""

        def ended() -> bool:
            said = self.inside("riseml", "status", number)
            assert state in said or not re.search("FINISHED|FAILED|KILLED", said), said
            return state in said

        wait_for(ended, f"{number} to be {state}", seconds)

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


@contextlib.contextmanager
def installed_release(api: client.ApiClient, image_prefix: str) -> Iterator[Installed]:
    """The chart in a namespace of its own, with daemons that find a driver where it can be faked,
    and a newcomer."""
    core = client.CoreV1Api(api)
    name = f"riseml-e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    folder = Path(tempfile.mkdtemp(prefix="riseml-e2e-volume-"))
    try:
        values: dict[str, Any] = {
            "image": {"repository": f"{image_prefix}/platform", "tag": "1"},
            "jobs": {"defaultImage": f"{image_prefix}/base:1"},
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
            "noded": {"namespace": f"{name}-noded"},
        }
        driver = None
        if os.environ.get(CONTROL):
            # Nobody makes volumes in the cluster of the tests.
            folder.chmod(0o777)
            core.create_persistent_volume(_volume(name, folder))
            values["home"] = {"size": "1Gi", "storageClass": "-"}
            driver = fake_driver(folder)
            values["noded"] |= _with_driver(folder)
        file = folder / "values.json"
        file.write_text(json.dumps(values))
        helm(
            *("install", RELEASE, str(CHART), "--namespace", name, "--values", str(file)),
            *("--wait", "--timeout", "180s"),
        )
        made = Installed(name, f"{image_prefix}/platform:1", driver)
        _make_newcomer(made)
        made.log_in()
        yield made
    finally:
        helm("uninstall", RELEASE, "--namespace", name, "--ignore-not-found")
        core.delete_namespace(name)
        shutil.rmtree(folder, ignore_errors=True)


def fake_driver(folder: Path) -> NvmlStub:
    """A driver with the GPUs that the cluster's device plugin offers."""
    library = build_library(folder / "driver")
    driver = NvmlStub(library, library / "scenario")
    driver.play("no-gpus", *healthy_gpus())
    return driver


def healthy_gpus() -> list[str]:
    """Lines of a scenario."""
    uuids = [f"gpu {index} uuid {uuid}" for index, uuid in enumerate(gpu_ids(GPUS))]
    return [f"devices {GPUS}", *uuids]


def _with_driver(folder: Path) -> dict[str, object]:
    return {
        "extraEnv": [
            {"name": "LD_LIBRARY_PATH", "value": "/driver"},
            {"name": "RISEML_NVML_SCENARIO", "value": "/driver/scenario"},
        ],
        "extraVolumes": [{"name": "driver", "hostPath": {"path": str(folder / "driver")}}],
        "extraVolumeMounts": [{"name": "driver", "mountPath": "/driver", "readOnly": True}],
    }


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


def _make_newcomer(made: Installed) -> None:
    """Somebody with `riseml` and nothing else, where the Service has a name."""
    made.apply_pod("newcomer", "sleep 3600", home=True)
