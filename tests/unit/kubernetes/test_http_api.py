"""Calls of the Kubernetes API over real HTTP: plain objects, one error tree, careful retries."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controlplane.launch.kubernetes.api import (
    ApiError,
    Conflict,
    Gone,
    Kind,
    NotFound,
    Refused,
    Unavailable,
    WatchEvent,
)
from controlplane.launch.kubernetes.http_api import KubernetesApi
from tests.unit.kubernetes.fake_api import FakeApi, FakeLog

NAMESPACE = "riseml"


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"containers": []},
    }


async def test_an_object_comes_back_whole_with_what_no_model_knows(
    server: FakeApi, api: KubernetesApi
) -> None:
    created = await api.create(Kind.POD, NAMESPACE, {**pod("a"), "ofTheFuture": {"x": [1]}})
    assert created["ofTheFuture"] == {"x": [1]}
    assert (await api.get(Kind.POD, NAMESPACE, "a")) == created


async def test_a_list_comes_in_pages_and_honours_selectors(
    server: FakeApi, api: KubernetesApi
) -> None:
    for number in range(5):
        server.put("pods", pod(f"p{number}", team="even" if number % 2 == 0 else "odd"))
    first = await api.list_page(
        Kind.POD, namespace=NAMESPACE, label_selector="team in (even, none)", limit=2
    )
    second = await api.list_page(
        Kind.POD, namespace=NAMESPACE, limit=2, continue_token=first.continue_token
    )
    assert [item["metadata"]["name"] for item in first.items + second.items] == ["p0", "p2", "p4"]
    assert first.resource_version == second.resource_version == str(server.revision)
    assert second.continue_token == ""


async def test_a_taken_name_is_a_conflict(server: FakeApi, api: KubernetesApi) -> None:
    await api.create(Kind.POD, NAMESPACE, pod("a"))
    with pytest.raises(Conflict) as caught:
        await api.create(Kind.POD, NAMESPACE, pod("a"))
    assert caught.value.reason == "AlreadyExists"


async def test_a_pod_is_bound_once_and_only_if_it_is_the_one_that_was_meant(
    server: FakeApi, api: KubernetesApi
) -> None:
    uid = server.put("pods", pod("a"))["metadata"]["uid"]
    with pytest.raises(Conflict):
        await api.bind_pod(NAMESPACE, "a", "another", "n1")
    await api.bind_pod(NAMESPACE, "a", uid, "n1")
    assert server.pod("a")["spec"]["nodeName"] == "n1"
    with pytest.raises(Conflict):
        await api.bind_pod(NAMESPACE, "a", uid, "n2")


async def test_a_deletion_names_the_uid_and_the_grace(server: FakeApi, api: KubernetesApi) -> None:
    uid = server.put("pods", {**pod("a"), "spec": {"nodeName": "n1"}})["metadata"]["uid"]
    with pytest.raises(Conflict):
        await api.delete(Kind.POD, NAMESPACE, "a", uid="another")
    await api.delete(Kind.POD, NAMESPACE, "a", uid=uid, grace_period_seconds=7)
    assert server.pod("a")["metadata"]["deletionGracePeriodSeconds"] == 7
    server.finish("a")
    with pytest.raises(NotFound):
        await api.delete(Kind.POD, NAMESPACE, "a", uid=uid)


async def test_a_patch_merges(server: FakeApi, api: KubernetesApi) -> None:
    server.put("pods", pod("a", keep="1", drop="2"))
    patched = await api.patch(Kind.POD, NAMESPACE, "a", {"metadata": {"labels": {"drop": None}}})
    assert patched["metadata"]["labels"] == {"keep": "1"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, Refused), (404, NotFound), (409, Conflict), (410, Gone), (422, Refused)],
)
async def test_a_refusal_keeps_the_words_of_the_server(
    server: FakeApi, api: KubernetesApi, slept: list[float], status: int, kind: type[ApiError]
) -> None:
    server.fail("create", status, reason="Why", message="exceeded quota: gpus")
    with pytest.raises(kind) as caught:
        await api.create(Kind.POD, NAMESPACE, pod("a"))
    assert (caught.value.reason, caught.value.message) == ("Why", "exceeded quota: gpus")
    assert not slept


async def test_a_read_is_tried_again_after_500_and_a_lost_connection(
    server: FakeApi, api: KubernetesApi, slept: list[float]
) -> None:
    server.put("pods", pod("a"))
    server.fail("get", reset=True)
    server.fail("get", reset=True)  # aiohttp tries a read once more by itself
    server.fail("get", 500)
    assert (await api.get(Kind.POD, NAMESPACE, "a"))["metadata"]["name"] == "a"
    assert len(slept) == 2
    assert slept[0] < slept[1]


async def test_tries_end_after_a_few(
    server: FakeApi, api: KubernetesApi, slept: list[float]
) -> None:
    for _ in range(10):
        server.fail("get", 503, message="etcd is away")
    with pytest.raises(Unavailable, match="etcd is away"):
        await api.get(Kind.POD, NAMESPACE, "a")
    assert len(slept) == 3


async def test_a_creation_is_not_repeated_when_nobody_knows_whether_it_happened(
    server: FakeApi, api: KubernetesApi
) -> None:
    server.fail("create", reset=True, acted=True)
    with pytest.raises(Unavailable) as caught:
        await api.create(Kind.POD, NAMESPACE, pod("a"))
    assert not caught.value.untouched
    assert len(server.asked("create")) == 1
    assert server.pod("a")


async def test_a_creation_that_was_turned_away_unread_waits_as_long_as_the_server_says(
    server: FakeApi, api: KubernetesApi, slept: list[float]
) -> None:
    server.fail("create", 429, retry_after=7)
    await api.create(Kind.POD, NAMESPACE, pod("a"))
    assert slept == [7.0]


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with FakeApi() as gone:
        path = gone.kubeconfig(tmp_path)

    async def sleep(_: float) -> None: ...

    async with KubernetesApi(path, sleep=sleep) as api:
        with pytest.raises(Unavailable) as caught:
            await api.create(Kind.POD, NAMESPACE, pod("a"))
    assert caught.value.untouched


async def test_credentials_are_read_again_when_the_server_no_longer_takes_them(
    server: FakeApi, api: KubernetesApi, tmp_path: Path
) -> None:
    server.put("pods", pod("a"))
    server.token = "second"
    server.kubeconfig(tmp_path, token="second")
    assert await api.get(Kind.POD, NAMESPACE, "a")
    assert len(server.asked("get")) == 2


async def test_credentials_that_stay_wrong_are_refused(server: FakeApi, api: KubernetesApi) -> None:
    server.token = "unknown"
    with pytest.raises(Refused, match="who is that"):
        await api.get(Kind.POD, NAMESPACE, "a")


async def test_a_missing_kubeconfig_says_which(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="nowhere"):
        await KubernetesApi(str(tmp_path / "nowhere")).__aenter__()


async def test_a_watch_tells_what_happens_after_a_version(
    server: FakeApi, api: KubernetesApi
) -> None:
    before = str(server.revision)
    server.put("pods", pod("a", team="mine"))
    server.put("pods", pod("other"))
    async with api.watch(
        Kind.POD,
        namespace=NAMESPACE,
        label_selector="team=mine",
        resource_version=before,
        timeout_seconds=60,
    ) as events:
        seen: list[WatchEvent] = [await anext(events)]
        server.set_status("a", {"phase": "Running", "message": "x" * 300_000})
        server.remove("pods", NAMESPACE, "a")
        server.bookmark()
        server.end_watches()
        seen += [event async for event in events]
    assert [event.type for event in seen] == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    query = server.asked("watch")[0].query
    assert query["allowWatchBookmarks"] == "true"
    assert query["timeoutSeconds"] == "60"


async def test_a_watch_that_is_cut_within_an_event_is_unavailable(
    server: FakeApi, api: KubernetesApi
) -> None:
    async with api.watch(
        Kind.POD, resource_version=str(server.revision), timeout_seconds=60
    ) as events:
        server.put("pods", pod("a"))
        assert (await anext(events)).type == "ADDED"
        server.cut_watches()
        with pytest.raises(Unavailable):
            await anext(events)


async def test_a_watch_that_makes_no_sense_is_unavailable(
    server: FakeApi, api: KubernetesApi
) -> None:
    async with api.watch(
        Kind.POD, resource_version=str(server.revision), timeout_seconds=60
    ) as events:
        server.send_raw("<html>")
        with pytest.raises(Unavailable, match="no event"):
            await anext(events)


async def test_what_a_reader_of_a_watch_raises_stays_what_it_is(
    server: FakeApi, api: KubernetesApi
) -> None:
    with pytest.raises(TimeoutError):
        async with api.watch(Kind.POD, resource_version=str(server.revision), timeout_seconds=60):
            raise TimeoutError


async def test_a_cancelled_call_ends_at_once(server: FakeApi, api: KubernetesApi) -> None:
    held = server.fail("list", hold=asyncio.Event())
    call = asyncio.create_task(api.list_page(Kind.POD))
    await server.until(lambda: bool(server.asked("list")))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert held.hold is not None
    held.hold.set()


async def test_a_log_is_followed_from_a_second_on(server: FakeApi, api: KubernetesApi) -> None:
    log = server.logs["a", "job"] = FakeLog()
    log.write(10**9, b"early")
    log.write(2 * 10**9 + 5, b"late")
    async with api.read_log(
        NAMESPACE, "a", "job", follow=True, timestamps=True, since_time="1970-01-01T00:00:02Z"
    ) as chunks:
        assert await anext(chunks) == b"1970-01-01T00:00:02.000000005Z late\n"
        log.write(3 * 10**9, b"later")
        assert await anext(chunks) == b"1970-01-01T00:00:03.000000000Z later\n"
        log.end()
        assert [chunk async for chunk in chunks] == []


async def test_a_container_that_has_not_started_has_no_log(
    server: FakeApi, api: KubernetesApi
) -> None:
    with pytest.raises(ApiError, match="ContainerCreating") as caught:
        async with api.read_log(NAMESPACE, "a", "job"):
            pass
    assert caught.value.status == 400
