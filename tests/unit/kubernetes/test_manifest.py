"""Manifests: taken by Kubernetes' own schemas, and with what a job needs and no more."""

from __future__ import annotations

import json
import re
from typing import Any

import kubernetes_validate
import pytest

from controlplane.domain.model import AttemptOrder, GpuShare
from controlplane.launch.kubernetes import names
from controlplane.launch.kubernetes.containers import NoImage
from controlplane.launch.kubernetes.job_secrets import job_secret, secret_manifest
from controlplane.launch.kubernetes.manifest import (
    PodContext,
    owner_manifest,
    pod_manifest,
    service_manifest,
)
from controlplane.launch.kubernetes.settings import read_settings
from tests.unit.kubernetes.launching import gang, order

SETTINGS: dict[str, Any] = {
    "namespace": "jobs",
    "control_plane_address": "riseml:7433",
    "platform_image": "platform:1",
    "default_image": "python:3.12",
    "run_as_user": 1000,
}


def pod(one: AttemptOrder | None = None, **settings: Any) -> dict[str, Any]:
    one = one or order()
    secret = job_secret([one], {one.attempt_id: "TOKEN"}, "c1")
    context = PodContext(
        settings=read_settings({**SETTINGS, **settings}),
        cluster_id="c1",
        ca_pem="PEM",
        secret=secret,
        owner_uid="u1",
        configuration="project: digits\n",
    )
    return pod_manifest(one, "n1", context)


def job(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["containers"][0]  # type: ignore[no-any-return]


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def references(container: dict[str, Any]) -> dict[str, str]:
    """Keys of the Secret by the variables that have their values."""
    found = [one for one in container["env"] if "valueFrom" in one]
    return {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in found}


@pytest.mark.parametrize(
    ("one", "settings"),
    [
        (order(), {}),
        (order(gpus=(GpuShare("n1/0", 1000), GpuShare("n1/1", 1000))), {}),
        (order(install=("pip install x",), build_attempt_id="ana.17.build.1-1"), {}),
        (gang(3)[1], {"scheduling": "gates"}),
        (order(cpu_milli=0, memory_bytes=0), {"pod_security": "baseline"}),
        (order(), {"data_volume": "claim:data", "output_volume": "claim:output"}),
        (
            order(),
            {
                "pod_security": "privileged",
                "data_volume": "hostPath:/data",
                "output_volume": "hostPath:/output",
                "image_pull_secrets": ["registry"],
                "node_selector": {"pool": "gpu"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            },
        ),
    ],
)
def test_kubernetes_takes_it(one: AttemptOrder, settings: dict[str, Any]) -> None:
    read = read_settings({**SETTINGS, **settings})
    for manifest in (
        pod(one, **settings),
        owner_manifest("ana.17", read, "c1"),
        service_manifest("ana.17", read, "c1", "u1"),
    ):
        assert kubernetes_validate.validate(manifest, "1.35", strict=True) == "1.35"


def test_memory_and_gpus_are_guaranteed_and_cpu_may_burst() -> None:
    gpus = (GpuShare("n1/0", 1000), GpuShare("n1/1", 1000))
    resources = job(pod(order(gpus=gpus)))["resources"]
    assert resources == {
        "requests": {"cpu": "1000m", "memory": str(1 << 30), "nvidia.com/gpu": "2"},
        "limits": {"memory": str(1 << 30), "nvidia.com/gpu": "2"},
    }


def test_the_first_container_never_holds_more_than_the_job() -> None:
    """A pod holds the larger of the two, and the scheduler counts the job's alone."""
    small = pod(order(cpu_milli=10, memory_bytes=16 << 20))
    requests = small["spec"]["initContainers"][0]["resources"]["requests"]
    assert requests == {"cpu": "10m", "memory": str(16 << 20)}


def test_devices_are_the_plugins_to_name() -> None:
    env = variables(job(pod(order(gpus=(GpuShare("n1/0", 1000),)))))
    assert "CUDA_VISIBLE_DEVICES" not in env and "NVIDIA_VISIBLE_DEVICES" not in env
    assert env["RISEML_GPUS_PER_NODE"] == "1"
    without = variables(job(pod()))
    assert (without["CUDA_VISIBLE_DEVICES"], without["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")


def test_shared_memory_is_what_was_asked_for_or_half() -> None:
    def size(one: AttemptOrder) -> str:
        volumes = {v["name"]: v for v in pod(one)["spec"]["volumes"]}
        return str(volumes["shm"]["emptyDir"]["sizeLimit"])

    assert size(order()) == str(1 << 29)
    assert size(order(shm_bytes=7 << 20)) == str(7 << 20)


def test_restricted_is_the_level_unless_an_admin_says_more() -> None:
    spec = pod()["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    privileged = pod(pod_security="privileged")["spec"]
    assert "runAsNonRoot" not in privileged["securityContext"]
    assert privileged["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is True


def test_jobs_have_no_business_with_the_api_and_no_token() -> None:
    spec = pod()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert "TOKEN" not in repr(spec["containers"])
    assert "TOKEN" not in variables(spec["initContainers"][0]).values()


def test_a_job_sees_its_own_folder_of_the_output_volume() -> None:
    spec = pod(output_volume="claim:output")["spec"]
    mounts = {m["name"]: m for m in spec["containers"][0]["volumeMounts"]}
    assert mounts["output"]["subPath"] == "ana/digits/17"
    env = variables(spec["initContainers"][0])
    assert env["RISEML_OUTPUT_PATH"] == "ana/digits/17"
    assert env["RISEML_OUTPUT_DIR"] == "/riseml/output-root"


def test_a_gang_has_names_and_a_service() -> None:
    member = pod(gang(3)[1])
    assert (member["spec"]["hostname"], member["spec"]["subdomain"]) == ("worker-2", "ana-17")
    service = service_manifest("ana.17", read_settings(SETTINGS), "c1", "u1")
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= member["metadata"]["labels"].items()
    assert "hostname" not in pod()["spec"]


def test_who_gives_a_pod_its_node() -> None:
    assert pod()["spec"]["schedulerName"] == names.SCHEDULER_NAME
    gated = pod(scheduling="gates")["spec"]
    assert gated["schedulingGates"] and "schedulerName" not in gated
    required = gated["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["n1"]


def test_a_silent_node_keeps_its_pods() -> None:
    kept = {t["key"]: t for t in pod()["spec"]["tolerations"]}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        assert "tolerationSeconds" not in kept[key]


@pytest.mark.parametrize("value", ["$(HOME)", "$$", "a$b", "$$(X)", "100 %"])
def test_text_reaches_the_container_as_it_is(value: str) -> None:
    manifest = pod(order(env=(("X", value),), run=(f"echo '{value}'",)))
    assert _expanded(variables(job(manifest))["X"]) == value
    assert _expanded(job(manifest)["command"][-1]) == f"echo '{value}'"


def _expanded(text: str) -> str:
    """As the kubelet does (k8s.io/kubernetes/third_party/forked/golang/expansion)."""
    return re.sub(r"\$(\$|\([^)]*\))", lambda m: "$" if m[1] == "$" else "EXPANDED", text)


def test_what_is_secret_stands_in_a_secret_and_nowhere_else() -> None:
    one = order(env=(("A", "plain"), ("B", "hun$ter")), secret_env_names=("B",))
    manifest = pod(one)
    assert references(job(manifest)) == {"B": "env.B"}
    assert variables(job(manifest))["A"] == "plain"
    (code,) = manifest["spec"]["initContainers"]
    assert references(code) == {"RISEML_TOKEN": "token.ana-17-train-1-1"}
    assert "hun" not in json.dumps(manifest)
    assert "TOKEN" not in variables(code).values()
    secret = job_secret([one], {one.attempt_id: "TOKEN"}, "c1")
    assert secret is not None
    settings = read_settings(SETTINGS)
    made = secret_manifest(secret, one.experiment_id, settings, "c1", "u1")
    assert kubernetes_validate.validate(made, "1.35", strict=True)
    assert made["stringData"] == {"env.B": "hun$ter", "token.ana-17-train-1-1": "TOKEN"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
    name = job(manifest)["env"][-1]["valueFrom"]["secretKeyRef"]["name"]
    assert name == made["metadata"]["name"]


def test_equal_secrets_have_one_name_and_others_have_others() -> None:
    def name(token: str = "T", cluster_id: str = "c1", **more: Any) -> str:
        one = order(**more)
        secret = job_secret([one], {one.attempt_id: token}, cluster_id)
        return "" if secret is None else secret.name

    assert name() == name() != name(token="U")
    assert name() != name(cluster_id="c2")
    assert name(revision_id="") == ""
    # A variable that RiseML sets itself is not the user's secret.
    kept = order(env=(("RISEML_ATTEMPT", "x"),), secret_env_names=("RISEML_ATTEMPT",))
    assert references(job(pod(kept))) == {}


@pytest.mark.parametrize(
    ("one", "image"),
    [
        (order(image="mine:1", framework="pytorch"), "mine:1"),
        (order(framework="pytorch", framework_version="2.5"), "torch:2.5"),
        (order(framework="jax"), "python:3.12"),
    ],
)
def test_which_image(one: AttemptOrder, image: str) -> None:
    images = {"pytorch": "torch:{version}"}
    assert job(pod(one, framework_images=images))["image"] == image


def test_no_image_is_said_with_what_to_do() -> None:
    with pytest.raises(NoImage, match="name an `image`"):
        pod(default_image="")
    with pytest.raises(NoImage, match="framework_version"):
        pod(order(framework="pytorch"), framework_images={"pytorch": "torch:{version}"})


# ---------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("attempt_id", "name"),
    [
        ("ana.17.train.1-1", "ana-17-train-1-1"),
        ("ana.17.3.worker.12-4", "ana-17-3-worker-12-4"),
    ],
)
def test_pods_are_named_after_their_attempts(attempt_id: str, name: str) -> None:
    assert names.pod_name(attempt_id) == name


def test_names_that_would_be_equal_are_told_apart() -> None:
    ids = [
        "a-1.7.train.1-1",
        "a.1.7.train.1-1",
        "a_1.7.train.1-1",
        "a" * 32 + ".1234567.4.worker.99-1",
    ]
    made = [names.pod_name(one) for one in ids]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) for name in made)
    assert all(len(name) <= 63 for name in made)
