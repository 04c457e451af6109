"""The chart installed into a cluster, and a newcomer's first steps through its Service."""

from __future__ import annotations

import re

import pytest

from tests.e2e.release import RELEASE, Installed, helm

pytestmark = pytest.mark.timeout(600)


def test_helm_asks_for_its_health(installed: Installed) -> None:
    said = helm("test", RELEASE, "--namespace", installed.namespace, "--timeout", "90s")
    assert "Succeeded" in said


def test_a_newcomers_first_steps(installed: Installed) -> None:
    """Log in at the Service, train, look at it, kill another one: as the notes and guides say."""
    assert "admin" in installed.inside("riseml", "whoami")
    assert installed.nodes(), "the cluster's nodes are RiseML's"
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
    (number,) = re.findall(r"([0-9]+)\.train", said)[:1]
    assert "FINISHED" in installed.inside("riseml", "status", "-a")
    assert "learned 42" in installed.inside("riseml", "logs", number)
    installed.inside(
        *("sh", "-c", "cat > project/riseml.yml"),
        text=(
            "project: first\ntrain:\n  resources: {cpus: 0.1, mem: 128Mi}\n"
            "  run: trap 'exit 0' TERM; while :; do sleep 0.2; done\n"
        ),
    )
    said = installed.inside("sh", "-c", "cd project && riseml train -d 2>&1")
    (number,) = re.findall(r"admin\.([0-9]+)", said)[:1]
    installed.inside("riseml", "kill", number)
    installed.wait_state(number, "KILLED", 60)


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
        ("patch", "secrets"),
        ("list", "secrets"),
        ("create", "pods", "--subresource=exec"),
        ("delete", "nodes"),
        ("delete", "pods", "-n", "kube-system"),
        ("create", "deployments"),
    ):
        assert not may(*words), words
