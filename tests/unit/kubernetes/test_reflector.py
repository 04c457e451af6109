"""A reflector's copy is what the cluster holds, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from controlplane.launch.kubernetes.api import Kind
from controlplane.launch.kubernetes.http_api import KubernetesApi
from controlplane.launch.kubernetes.reflector import (
    Added,
    Change,
    Changed,
    Deleted,
    Reflector,
    Synced,
)
from tests.unit.kubernetes.fake_api import FakeApi

NAMESPACE = "riseml"


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}}


@dataclass
class Watching:
    """A reflector at work, and what it said so far in few words."""

    reflector: Reflector
    task: asyncio.Task[None]
    words: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    now: list[float] = field(default_factory=lambda: [1000.0])
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            async with self.arrived:
                await self.arrived.wait()

    async def until_said(self, word: str) -> None:
        await self.until(lambda: word in self.words)

    def names(self) -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.reflector.objects.values())


def in_words(change: Change) -> str:
    match change:
        case Added(item):
            return f"added {item['metadata']['name']}"
        case Changed(item):
            return f"changed {item['metadata']['name']}"
        case Deleted(item):
            return f"deleted {item['metadata']['name']}"
        case Synced():
            return "synced"


@asynccontextmanager
async def watching(api: KubernetesApi, **options: Any) -> AsyncIterator[Watching]:
    tell = asyncio.Event()

    def on_change(change: Change) -> None:
        seen.changes.append(change)
        seen.words.append(in_words(change))
        tell.set()

    async def sleep(seconds: float) -> None:
        seen.pauses.append(seconds)
        tell.set()

    async def spread() -> None:
        while True:
            await tell.wait()
            tell.clear()
            async with seen.arrived:
                seen.arrived.notify_all()

    now = [1000.0]
    reflector = Reflector(
        api,
        Kind.POD,
        options.pop("namespace", NAMESPACE),
        options.pop("label_selector", ""),
        "",
        on_change,
        clock=lambda: now[0],
        sleep=sleep,
        rng=random.Random(1),
        **options,
    )
    seen = Watching(reflector, asyncio.create_task(reflector.run()), now=now)
    spreading = asyncio.create_task(spread())
    try:
        yield seen
    finally:
        for task in (seen.task, spreading):
            task.cancel()
        await asyncio.gather(seen.task, spreading, return_exceptions=True)


async def test_it_lists_in_pages_and_watches_from_there(
    server: FakeApi, api: KubernetesApi
) -> None:
    for number in range(5):
        server.put("pods", pod(f"p{number}"))
    async with watching(api, page_limit=2) as seen:
        await seen.reflector.until_synced()
        assert seen.words == [*(f"added p{number}" for number in range(5)), "synced"]
        assert len(server.asked("list")) == 3
        await server.until_watched()
        assert server.asked("watch")[0].query["resourceVersion"] == str(server.revision)
        assert seen.reflector.objects.named("p3", NAMESPACE) == server.pod("p3")


async def test_changes_are_told_in_order_with_the_object_before_and_the_last_one_known(
    server: FakeApi, api: KubernetesApi
) -> None:
    async with watching(api) as seen:
        await server.until_watched()
        server.put("pods", pod("a"))
        server.set_status("a", {"phase": "Running"})
        server.remove("pods", NAMESPACE, "a")
        await seen.until_said("deleted a")
        assert seen.words == ["synced", "added a", "changed a", "deleted a"]
        _, _, changed, deleted = seen.changes
        assert isinstance(changed, Changed)
        assert "status" not in changed.before
        assert isinstance(deleted, Deleted)
        assert deleted.object["status"] == {"phase": "Running"}
        assert not seen.reflector.objects
        assert seen.reflector.objects.named("a", NAMESPACE) is None


async def test_only_what_is_selected_is_kept_and_leaving_the_selector_is_a_deletion(
    server: FakeApi, api: KubernetesApi
) -> None:
    server.put("pods", pod("other"))
    server.put("pods", pod("mine", team="us"))
    async with watching(api, label_selector="team=us") as seen:
        await server.until_watched()
        assert seen.names() == ["mine"]
        server.put("pods", pod("mine", team="them"))
        await seen.until_said("deleted mine")
        assert seen.names() == []


async def test_after_the_end_of_a_watch_it_goes_on_from_the_newest_bookmark(
    server: FakeApi, api: KubernetesApi
) -> None:
    async with watching(api) as seen:
        await server.until_watched()
        server.put("nodes", {"metadata": {"name": "n1"}})
        server.bookmark()
        server.end_watches()
        await server.until(lambda: len(server.asked("watch")) == 2)
        assert server.asked("watch")[1].query["resourceVersion"] == str(server.revision)
        assert len(server.asked("list")) == 1
        assert seen.reflector.connected
        assert not seen.pauses


async def test_a_broken_watch_is_taken_up_where_it_was(server: FakeApi, api: KubernetesApi) -> None:
    async with watching(api) as seen:
        await server.until_watched()
        server.put("pods", pod("a"))
        await seen.until_said("added a")
        server.cut_watches()
        server.put("pods", pod("b"))
        await seen.until_said("added b")
        assert len(server.asked("list")) == 1
        assert len(seen.pauses) == 1


@pytest.mark.parametrize("answer", ["status", "event"])
async def test_a_forgotten_version_means_listing_again_and_telling_what_vanished(
    server: FakeApi, api: KubernetesApi, answer: str
) -> None:
    for name in ("stays", "vanishes", "changes"):
        server.put("pods", pod(name))
    async with watching(api) as seen:
        await server.until_watched()
        second = server.fail("watch", 410 if answer == "status" else 0, hold=asyncio.Event())
        server.cut_watches()
        await server.until(lambda: len(server.asked("watch")) == 2)
        server.remove("pods", NAMESPACE, "vanishes")
        server.set_status("changes", {"phase": "Running"})
        server.compact()
        assert second.hold is not None
        second.hold.set()
        await seen.until(lambda: seen.words.count("synced") == 2)
        assert seen.words[4:] == ["deleted vanishes", "changed changes", "synced"]
        assert len(seen.pauses) == 1, "for the cut, none for the version"


async def test_a_name_that_passed_to_another_object_is_a_deletion_and_an_addition(
    server: FakeApi, api: KubernetesApi
) -> None:
    first = server.put("pods", pod("a"))
    async with watching(api) as seen:
        await server.until_watched()
        second = server.fail("watch", 410, hold=asyncio.Event())
        server.cut_watches()
        await server.until(lambda: len(server.asked("watch")) == 2)
        server.remove("pods", NAMESPACE, "a")
        server.put("pods", pod("a"))
        assert second.hold is not None
        second.hold.set()
        await seen.until(lambda: seen.words.count("synced") == 2)
        assert seen.words[2:] == ["deleted a", "added a", "synced"]
        deleted = seen.changes[2]
        assert isinstance(deleted, Deleted)
        assert deleted.object["metadata"]["uid"] == first["metadata"]["uid"]
        assert seen.reflector.objects.named("a", NAMESPACE) == server.pod("a")


async def test_a_list_whose_pages_expire_is_read_in_one_piece(
    server: FakeApi, api: KubernetesApi
) -> None:
    for number in range(3):
        server.put("pods", pod(f"p{number}"))
    server.fail("list", 410, reason="Expired", skip=1)
    async with watching(api, page_limit=1) as seen:
        await seen.reflector.until_synced()
        assert seen.names() == ["p0", "p1", "p2"]
        assert [request.query.get("limit") for request in server.asked("list")] == ["1", "1", None]


async def test_pauses_grow_to_half_a_minute_and_begin_anew_after_success(
    server: FakeApi, api: KubernetesApi
) -> None:
    for _ in range(12):
        server.fail("watch", 503)
    async with watching(api) as seen:
        await server.until_watched()
        assert len(seen.pauses) == 12
        assert all(0.5 * 2**n >= pause >= 0.25 * 2**n for n, pause in enumerate(seen.pauses[:6]))
        assert all(15 <= pause <= 30 for pause in seen.pauses[8:])
        server.put("pods", pod("a"))
        await seen.until_said("added a")
        server.cut_watches()
        await seen.until(lambda: len(seen.pauses) == 13)
        assert seen.pauses[12] < 1


async def test_it_tells_since_when_it_is_disconnected_and_why(
    server: FakeApi, api: KubernetesApi
) -> None:
    held = server.fail("watch", hold=asyncio.Event(), status=500, message="etcd is away")
    async with watching(api) as seen:
        assert seen.reflector.disconnected_since == 1000.0
        await server.until(lambda: bool(server.asked("watch")))
        assert seen.reflector.synced
        next_one = server.fail("watch", hold=asyncio.Event())
        assert held.hold is not None
        held.hold.set()
        await server.until(lambda: len(server.asked("watch")) == 2)
        assert seen.reflector.disconnected_since == 1000.0
        assert "etcd is away" in str(seen.reflector.last_error)
        assert next_one.hold is not None
        next_one.hold.set()
        await server.until_watched()
        server.put("pods", pod("a"))
        await seen.until_said("added a")
        assert seen.reflector.connected
        assert seen.reflector.last_error is None


async def test_a_server_that_asks_for_a_rest_is_given_it(
    server: FakeApi, api: KubernetesApi
) -> None:
    server.fail("watch", 429, retry_after=9)
    async with watching(api) as seen:
        await server.until_watched()
        assert seen.pauses == [9.0]


async def test_versions_that_are_forgotten_again_and_again_make_no_storm(
    server: FakeApi, api: KubernetesApi
) -> None:
    for _ in range(4):
        server.fail("watch", 410)
    async with watching(api) as seen:
        await server.until_watched()
        assert len(server.asked("list")) == 5
        assert len(seen.pauses) == 3
        assert sorted(seen.pauses) == seen.pauses


async def test_a_watch_that_fails_for_another_reason_begins_with_a_list_in_the_end(
    server: FakeApi, api: KubernetesApi
) -> None:
    for _ in range(3):
        server.fail("watch", 504, reason="Timeout", message="Too large resource version")
    async with watching(api):
        await server.until_watched()
        assert len(server.asked("list")) == 2


async def test_watches_that_end_as_they_begin_are_not_opened_in_a_storm(
    server: FakeApi, api: KubernetesApi
) -> None:
    async with watching(api) as seen:
        await server.until_watched()
        server.end_watches()
        await seen.until(lambda: len(seen.pauses) == 1)


async def test_a_list_that_is_old_enough_is_read_again(server: FakeApi, api: KubernetesApi) -> None:
    async with watching(api, resync_seconds=60.0) as seen:
        await server.until_watched()
        assert int(server.asked("watch")[0].query["timeoutSeconds"]) <= 60
        seen.now[0] += 60
        server.end_watches()
        await seen.until(lambda: seen.words.count("synced") == 2)


async def test_what_is_older_than_the_cache_or_comes_twice_changes_nothing(
    server: FakeApi, api: KubernetesApi
) -> None:
    first = server.put("pods", pod("a"))
    async with watching(api) as seen:
        await server.until_watched()
        server.set_status("a", {"phase": "Running"})
        await seen.until_said("changed a")
        for change in ("ADDED", "MODIFIED"):
            for item in (first, server.pod("a")):
                server.send_raw(json.dumps({"type": change, "object": item}))
        server.put("pods", pod("b"))
        await seen.until_said("added b")
        assert seen.words == ["added a", "synced", "changed a", "added b"]
        assert seen.reflector.objects.named("a", NAMESPACE) == server.pod("a")


async def test_it_ends_by_cancellation_wherever_it_is(server: FakeApi, api: KubernetesApi) -> None:
    async with watching(api) as seen:
        await server.until_watched()
        seen.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await seen.task


async def test_what_its_owner_raises_ends_it(server: FakeApi, api: KubernetesApi) -> None:
    server.put("pods", pod("a"))

    def on_change(_: Change) -> None:
        raise OSError("a bug")

    with pytest.raises(OSError, match="a bug"):
        await Reflector(api, Kind.POD, NAMESPACE, "", "", on_change).run()
