"""Deletions: grace first, sooner when asked, by force only where a kubelet reports."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from controlplane.launch.kubernetes.http_api import KubernetesApi
from controlplane.launch.kubernetes.removal import PodRemover
from tests.unit.kubernetes.fake_api import FakeApi

FORCE_SECONDS = 60.0
# When the fake server says that the grace period is over.
OVER = datetime(2026, 11, 23, 20, tzinfo=UTC).timestamp()


@pytest.fixture
def remover(server: FakeApi, api: KubernetesApi) -> PodRemover:
    server.put(
        "pods", {"metadata": {"name": "a", "namespace": "riseml"}, "spec": {"nodeName": "n1"}}
    )
    return PodRemover(api, "riseml", FORCE_SECONDS)


def graces(server: FakeApi) -> list[int | None]:
    return [request.body.get("gracePeriodSeconds") for request in server.asked("delete")]


async def test_the_pods_own_grace_period_comes_first(server: FakeApi, remover: PodRemover) -> None:
    assert await remover.remove(server.pod("a"), None, True, OVER) == FORCE_SECONDS
    # Once is enough.
    await remover.remove(server.pod("a"), None, True, OVER + 59)
    assert graces(server) == [None]


async def test_who_insists_shortens_the_grace_period(server: FakeApi, remover: PodRemover) -> None:
    await remover.remove(server.pod("a"), None, True, OVER - 30)
    await remover.remove(server.pod("a"), 0.0, True, OVER - 29)
    await remover.remove(server.pod("a"), 0.0, True, OVER - 28)
    assert graces(server) == [None, 1]


async def test_what_outlives_its_grace_is_killed_and_then_removed_by_force(
    server: FakeApi, remover: PodRemover
) -> None:
    await remover.remove(server.pod("a"), None, True, OVER)
    assert await remover.remove(server.pod("a"), None, True, OVER + 40) == 20
    await remover.remove(server.pod("a"), None, True, OVER + 61)
    await remover.remove(server.pod("a"), None, True, OVER + 90)
    assert graces(server) == [None, 1]
    await remover.remove(server.pod("a"), None, True, OVER + 121)
    assert graces(server) == [None, 1, 0]
    assert ("pods", "riseml", "a") not in server.objects


async def test_nothing_is_forced_while_the_node_is_silent(
    server: FakeApi, remover: PodRemover
) -> None:
    for seconds in (0, 61, 121, 10_000):
        await remover.remove(server.pod("a"), None, False, OVER + seconds)
    assert graces(server) == [None]


async def test_a_pod_that_is_gone_needs_nothing(server: FakeApi, remover: PodRemover) -> None:
    pod = server.pod("a")
    server.finish("a")
    await remover.remove(pod, None, True, OVER)
    assert len(server.asked("delete")) == 1
