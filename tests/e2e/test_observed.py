"""Daemons on the nodes: what they tell of GPUs, what follows from it, and logs from the files."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Final

import pytest

from tests.e2e.cluster.device_plugin import gpu_ids
from tests.e2e.pods import GPU, GPUS
from tests.e2e.release import RELEASE, Installed, healthy_gpus
from tests.integration.cluster import wait_for
from tests.nvml_stub.library import NvmlStub

pytestmark = pytest.mark.timeout(600)
SECONDS: Final = 120.0


@pytest.fixture
def driver(installed: Installed) -> NvmlStub:
    if installed.driver is None:
        pytest.skip("the driver of this cluster's nodes is real: nothing can be made up there")
    return installed.driver


def gpus(installed: Installed) -> dict[str, dict[str, Any]]:
    """GPUs of all nodes by UUID, with who has them by RiseML's books."""
    found = {}
    for node in installed.nodes():
        for gpu in node.get("gpus", ()):
            mine = [a for a in node.get("gpu_allocations", ()) if a["gpu_uuid"] == gpu["uuid"]]
            found[gpu["uuid"]] = {**gpu, "attempts": [a["attempt_id"] for a in mine]}
    return found


def wait_healthy(installed: Installed) -> None:
    def all_healthy() -> bool:
        found = gpus(installed)
        return set(found) == set(gpu_ids(GPUS)) and all(
            gpu["health"] == "GPU_HEALTH_HEALTHY" for gpu in found.values()
        )

    wait_for(all_healthy, "the GPUs to be told of", SECONDS)


def test_gpus_have_the_names_that_the_driver_gives_them(
    installed: Installed, driver: NvmlStub
) -> None:
    wait_healthy(installed)
    found = gpus(installed)
    assert {gpu["model"] for gpu in found.values()} == {"H100"}
    # Power and temperature are the driver's words.
    assert re.search(r"\d+W +\d+C", installed.inside("riseml", "monitor", "--once"))


def test_each_gpu_shows_its_pod_and_its_experiment(installed: Installed, driver: NvmlStub) -> None:
    wait_healthy(installed)
    number = installed.submit("echo got $NVIDIA_VISIBLE_DEVICES; sleep 30", gpus=1)

    def shown() -> list[dict[str, Any]]:
        held = [gpu for gpu in gpus(installed).values() if gpu.get("pod")]
        return [gpu for gpu in held if gpu["attempts"]]

    (gpu,) = wait_for(shown, "a GPU with a pod", SECONDS)
    assert gpu["attempts"] == [f"admin.{number}.train.1-1"]
    assert gpu["pod"] == f"{installed.namespace}/admin-{number}-train-1-1"
    wait_for(lambda: "got" in installed.inside("riseml", "logs", number), "its output", SECONDS)
    assert f"got {gpu['uuid']}" in installed.inside("riseml", "logs", number)
    assert gpu["pod"] in installed.inside("riseml", "system", "info", "-g")
    # What a pod uses is read from the host, and shown with its experiment.

    def used() -> list[int]:
        samples = json.loads(installed.inside("riseml", "monitor", "--format", "json"))
        attempts = [a for sample in samples for a in sample.get("attempts", ())]
        return [int(a["memory_bytes"]) for a in attempts if a["attempt_id"] in gpu["attempts"]]

    wait_for(lambda: any(used()), "its memory", 60)
    installed.inside("riseml", "kill", "--force", number)


def test_a_pod_of_others_is_named_at_its_gpu(installed: Installed, driver: NvmlStub) -> None:
    wait_healthy(installed)
    wait_for(lambda: not any(g.get("pod") for g in gpus(installed).values()), "free GPUs", SECONDS)
    installed.apply_pod("notebook", "sleep 3600", limits={GPU: "1"})

    (own,) = installed.kubectl(
        "exec", "notebook", "--", "printenv", "NVIDIA_VISIBLE_DEVICES"
    ).split()
    (other,) = set(gpu_ids(GPUS)) - {own}

    def holders() -> tuple[str, str]:
        found = gpus(installed)
        return found[own].get("pod", ""), found[other].get("pod", "")

    # Before the kubelet tells which one it is, one is taken for it.
    name = f"{installed.namespace}/notebook"
    wait_for(lambda: holders() == (name, ""), "the pod at its GPU", SECONDS)
    assert gpus(installed)[own]["foreign_processes"][0]["user_name"] == f"pod {name}"
    # The other one is still given out.
    number = installed.submit("echo got $NVIDIA_VISIBLE_DEVICES", gpus=1)
    installed.wait_state(number, "FINISHED")
    assert f"got {other}" in installed.inside("riseml", "logs", number)
    installed.kubectl("delete", "pod", "notebook", "--grace-period=0", "--force")
    wait_for(lambda: holders() == ("", ""), "the GPU to be free", SECONDS)


WHO = """\
import sys, grpc
from riseml.v1 import daemon_pb2, daemon_service_pb2 as pb, daemon_service_pb2_grpc as stubs
ca, token, node = open("ca.pem", "rb").read(), sys.stdin.read().strip(), sys.argv[2]
channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials(ca))
hello = pb.SessionRequest(hello=pb.Hello(
    inventory=daemon_pb2.NodeInventory(node_name=node), observes=True))
try:
    call = stubs.DaemonServiceStub(channel).Session(
        iter([hello]), metadata=[("authorization", f"Bearer {token}")], timeout=20)
    print("WELCOME", next(call).WhichOneof("order"))
except grpc.RpcError as error:
    print(error.code().name, error.details())
"""


def test_only_the_daemon_of_a_node_speaks_for_it(installed: Installed) -> None:
    installed.inside("sh", "-c", "cat > who.py", text=WHO)
    host = f"{RELEASE}.{installed.namespace}.svc"
    daemons = f"{installed.namespace}-noded"
    (daemon,) = installed.kubectl(
        *("-n", daemons, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}")
    ).split()
    node = installed.kubectl("-n", daemons, "get", "pod", daemon, "-o", "jsonpath={.spec.nodeName}")

    def says(token: str, of: str = node) -> str:
        python = "/opt/riseml/bin/python"
        return installed.inside(python, "who.py", f"{host}:7433", of, text=token)

    def made(account: str, namespace: str, *words: str) -> str:
        return installed.kubectl("-n", namespace, "create", "token", account, *words).strip()

    audience = ("--audience", host)
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", daemon)
    noded = f"{RELEASE}-noded"
    assert "names no node" in says(made(noded, daemons, *audience))
    assert "is not the daemons' account" in says(made("default", installed.namespace, *audience))
    assert "invalid for the target audiences" in says(made(noded, daemons))
    assert says("eyJhbGciOi.eyJhdWQi.c2ln").startswith("UNAUTHENTICATED")
    good = made(noded, daemons, *audience, *bound)
    assert says(good, "another-node").startswith("PERMISSION_DENIED")
    assert "WELCOME welcome" in says(good)


PRINT_MUCH = """\
import sys, time
text = "x" * 80
for n in range({lines}):
    sys.stdout.write(f"{{n:07d}} {{text}}\\n")
    if n % 5000 == 4999:
        sys.stdout.flush()
        time.sleep(0.2)
"""


def test_what_is_rotated_away_while_the_control_plane_is_gone_is_not_lost(
    installed: Installed,
) -> None:
    """The API server forgets it; the daemon of the node reads it from the files."""
    lines = 560_000
    code = PRINT_MUCH.format(lines=lines)
    number = installed.submit("python3 train.py", code=code)
    wait_for(
        lambda: (
            "0020000" in installed.inside("sh", "-c", f"riseml logs {number} | head -c 4000000")
        ),
        "it to print",
        SECONDS,
    )
    installed.kubectl("scale", "deployment", RELEASE, "--replicas=0")
    time.sleep(12)
    installed.kubectl("scale", "deployment", RELEASE, "--replicas=1")
    installed.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")
    installed.wait_state(number, "FINISHED", seconds=200)
    # Each line once, and nothing but those: said of it in a few words, for it is 50 MB.
    judge = (
        f"riseml logs {number} | grep -v ' --> ' | sed 's/^[0-9.]*train | //' > said;"
        "wc -l < said; sort -n said | uniq -d | wc -l; grep -cv '^[0-9]* x*$' said;"
        "sort -n said | tail -1; grep -v '^[0-9]* x*$' said | head -5"
    )
    said = installed.inside("sh", "-c", judge)
    found = said.split()
    assert found[:3] == [str(lines), "0", "0"], said
    assert found[3] == f"{lines - 1:07d}"


def test_daemons_and_control_planes_may_go_at_any_time(installed: Installed) -> None:
    """Logs come now from the one source and now from the other, and have each line once."""
    lines = 60
    run = f"n=0; while [ $n -lt {lines} ]; do echo line $n; n=$((n+1)); sleep 0.5; done"
    numbers = [installed.submit(run) for _ in range(5)]
    daemons = f"{installed.namespace}-noded"
    for _ in range(3):
        time.sleep(3)
        installed.kubectl("-n", daemons, "delete", "pod", "--all", "--wait=false")
        time.sleep(3)
        installed.kubectl("rollout", "restart", f"deployment/{RELEASE}")
        installed.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")
    expected = "".join(f"line {n}\n" for n in range(lines))
    for number in numbers:
        installed.wait_state(number, "FINISHED")
        said = installed.inside("sh", "-c", f"riseml logs {number} | sed 's/^[0-9.]*train | //'")
        assert _without_states(said) == expected, said


def _without_states(said: str) -> str:
    """What the job printed, out of what `riseml logs` shows."""
    return "".join([line for line in said.splitlines(keepends=True) if "-->" not in line])


def test_a_sick_gpu_closes_its_node_and_an_admin_opens_it(
    installed: Installed, driver: NvmlStub
) -> None:
    wait_healthy(installed)
    sick, well = gpu_ids(GPUS)
    driver.play("no-gpus", *healthy_gpus(), "event 1 79 0")
    wait_for(lambda: gpus(installed)[sick]["health"] == "GPU_HEALTH_LOST", "XID 79", SECONDS)
    number = installed.submit("echo it ran", gpus=1)
    wait_for(
        lambda: "might give GPU 0 in its place" in installed.inside("riseml", "why", number),
        "the reason for waiting",
        SECONDS,
    )
    assert gpus(installed)[well]["health"] == "GPU_HEALTH_HEALTHY"
    # Jobs without GPUs go on there.
    installed.wait_state(installed.submit("echo fine"), "FINISHED")
    driver.play("no-gpus", *healthy_gpus())
    wait_for(
        lambda: gpus(installed)[sick]["health"] == "GPU_HEALTH_PROBATION",
        "the GPU to be well again",
        SECONDS,
    )
    assert "jobs get it from" in json.dumps(gpus(installed)[sick])
    (node,) = [n["name"] for n in installed.nodes() if n.get("gpus")]
    installed.inside("riseml", "node", "gpu-release", node, "0")
    installed.wait_state(number, "FINISHED")
