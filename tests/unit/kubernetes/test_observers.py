"""Daemons on nodes: what they say counts, logs come from them while they are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from controlplane.domain.events import NodeConnected, NodeInventoryChanged, NodeTelemetryLate
from controlplane.domain.model import Gpu
from controlplane.freshness import Freshness
from controlplane.launch.kubernetes import observers as module
from controlplane.launch.kubernetes.api import Unavailable
from controlplane.launch.kubernetes.http_api import KubernetesApi
from controlplane.launch.kubernetes.log_sources import ContainerLog
from controlplane.launch.kubernetes.node_gpus import Devices
from controlplane.launch.kubernetes.node_logs import NodeLogs
from controlplane.launch.kubernetes.observers import (
    DaemonGone,
    FollowLog,
    Observers,
    PodsHere,
    Reading,
)
from controlplane.launch.kubernetes.ports import LogKind
from tests.unit.kubernetes.fake_api import FakeApi, FakeLog
from tests.unit.kubernetes.launching import NODE, Launching, launching, node, order, running

ACCOUNT = "riseml-noded:riseml-noded"
START_NS = 1_795_464_000 * 10**9
LINE = b"2026-11-23T20:00:00.000000000Z one\n"


def gpu(index: int) -> Gpu:
    return Gpu(f"GPU-{index}", index, "NVIDIA H100", "H100", 80 << 30)


def told(*holders: tuple[str, str]) -> Devices:
    """Two GPUs, of which the first ones have these holders."""
    gpus = (gpu(0), gpu(1))
    return Devices(
        gpus,
        frozenset(one.uuid for one in gpus),
        {one.uuid: key for one, key in zip(gpus, holders, strict=False)},
    )


@pytest.fixture
def observers() -> Observers:
    return Observers(Freshness(late_seconds=10.0), expected=False)


# --- what they are told


async def test_a_daemon_is_told_which_pods_are_ours(observers: Observers) -> None:
    observers.pods(NODE, {"u1": "ana.1.train.1-1"})
    outbox = observers.attach(NODE)
    assert await outbox.take() == [PodsHere({"u1": "ana.1.train.1-1"})]
    observers.pods(NODE, {"u1": "ana.1.train.1-1"})
    observers.pods(NODE, {})
    assert await outbox.take() == [PodsHere({})]


async def test_a_newer_session_ends_an_older_one(observers: Observers) -> None:
    old = observers.attach(NODE)
    new = observers.attach(NODE)
    assert old.closed and await old.take() == []
    observers.detach(NODE, old)
    assert observers.connected(NODE) and not new.closed
    observers.detach(NODE, new)
    assert not observers.connected(NODE)


# --- what they say


@pytest.fixture
async def work(server: FakeApi, api: KubernetesApi) -> AsyncIterator[Launching]:
    server.put("nodes", node())
    async with launching(server, api, daemon_account=ACCOUNT) as made:
        yield made


def inventories(work: Launching) -> list[NodeConnected | NodeInventoryChanged]:
    return [
        event
        for event in work.reactor.heard
        if isinstance(event, NodeConnected | NodeInventoryChanged)
    ]


def late_nodes(work: Launching) -> list[str]:
    """After more than the patience for a sample, in which somebody looked all the time."""
    for seconds in (0, 3, 6, 9):
        work.freshness.changes(work.clock.now + seconds)
    return [name for name, late in work.freshness.changes(work.clock.now + 11) if late]


async def test_its_gpus_are_the_nodes_and_its_pods_have_theirs(work: Launching) -> None:
    await work.serve()
    assert [one.uuid for one in inventories(work)[-1].inventory.gpus] == ["n1/0", "n1/1"]
    work.start(order())
    await work.until(lambda: "ana-17-train-1-1" in work.bound())
    work.observers.said(NODE, told(("riseml", "ana-17-train-1-1")))
    await work.until(lambda: inventories(work)[-1].given)
    last = inventories(work)[-1]
    assert last.given == (("ana.17.train.1-1", ("GPU-0",)),)
    assert [one.uuid for one in last.inventory.gpus] == ["GPU-0", "GPU-1"]
    assert last.inventory.gpus[0].pod == "riseml/ana-17-train-1-1"


async def test_without_an_account_nobody_is_believed(server: FakeApi, api: KubernetesApi) -> None:
    server.put("nodes", node())
    async with launching(server, api) as work:
        await work.serve()
        work.observers.said(NODE, told())
        await asyncio.sleep(0.2)
        assert [one.uuid for one in inventories(work)[-1].inventory.gpus] == ["n1/0", "n1/1"]


async def test_after_a_restart_gpus_keep_their_names_and_are_expected_to_be_told_of(
    work: Launching,
) -> None:
    work.facts.known_gpus[NODE] = told().gpus
    await work.serve()
    assert [one.uuid for one in inventories(work)[-1].inventory.gpus] == ["GPU-0", "GPU-1"]
    assert late_nodes(work) == [NODE]


async def test_a_node_that_was_late_is_not_when_its_daemon_is_back(work: Launching) -> None:
    """As after a restart in which both sides were away for long."""
    work.facts.known_gpus[NODE] = told().gpus
    work.facts.late.add(NODE)
    await work.serve()
    work.observers.attach(NODE)
    work.observers.said(NODE, told(("riseml", "a-pod")))
    assert work.freshness.changes(work.clock.now) == []
    work.freshness.sampled(NODE, work.clock.now + 1)
    assert work.freshness.changes(work.clock.now + 1) == [(NODE, False)]


async def test_a_node_of_which_nobody_ever_told_is_not_late(work: Launching) -> None:
    work.facts.late.add(NODE)
    await work.serve()
    assert work.reactor.of(NodeTelemetryLate) == [NodeTelemetryLate(NODE, False)]
    assert late_nodes(work) == []


# --- logs


def container() -> ContainerLog:
    return ContainerLog(NODE, "riseml", "a", "uid-of-a", "job")


async def asked(outbox: module.ObserverOutbox) -> FollowLog:
    (one,) = [found for found in await outbox.take() if isinstance(found, FollowLog)]
    return one


async def read_all(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_a_daemon_brings_a_log_to_its_end(observers: Observers) -> None:
    outbox = observers.attach(NODE)
    async with observers.read_log(container(), "2026-11-23T20:00:00Z", to_end=True) as chunks:
        order_ = await asked(outbox)
        assert (order_.since_time, order_.follow) == ("2026-11-23T20:00:00Z", False)
        assert observers.reading(order_.reading_id, "n2") is None
        reading = observers.reading(order_.reading_id, NODE)
        assert reading is not None
        for chunk in (b"a", b"b"):
            await reading.put(chunk)
        reading.end()
        assert await read_all(chunks) == b"ab"
    assert reading.closed.is_set()
    assert observers.reading(order_.reading_id, NODE) is None


async def test_who_writes_waits_for_who_reads() -> None:
    reading = Reading(NODE)
    for _ in range(4):
        await reading.put(b"x")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reading.put(b"x"), 0.05)


async def test_following_ends_with_the_container(observers: Observers) -> None:
    outbox = observers.attach(NODE)
    log = container()
    async with observers.read_log(log, "", to_end=False) as chunks:
        reading = observers.reading((await asked(outbox)).reading_id, NODE)
        assert reading is not None
        await reading.put(b"a")
        assert await anext(chunks) == b"a"
        log.ended.set()
        assert await read_all(chunks) == b""


async def test_a_daemon_that_breaks_off_is_told_from_an_end(observers: Observers) -> None:
    outbox = observers.attach(NODE)
    async with observers.read_log(container(), "", to_end=False) as chunks:
        reading = observers.reading((await asked(outbox)).reading_id, NODE)
        assert reading is not None
        await reading.put(b"a")
        observers.detach(NODE, outbox)
        assert await anext(chunks) == b"a"
        with pytest.raises(Unavailable, match="is gone"):
            await anext(chunks)


async def test_a_daemon_that_does_not_begin_is_not_waited_for(
    observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEGIN_SECONDS", 0.05)
    observers.attach(NODE)
    async with observers.read_log(container(), "", to_end=True) as chunks:
        with pytest.raises(Unavailable, match="did not begin"):
            await anext(chunks)


async def test_the_api_is_read_until_there_is_a_daemon(
    observers: Observers, server: FakeApi, api: KubernetesApi
) -> None:
    server.logs["a", "job"] = log = FakeLog()
    log.write(START_NS, b"one")
    source = NodeLogs(observers, api)
    async with source.read(container(), "", to_end=False) as chunks:
        assert await anext(chunks) == LINE
        outbox = observers.attach(NODE)
        # Broken off: the next reading is the daemon's.
        assert await read_all(chunks) == b""
    async with source.read(container(), "", to_end=True) as chunks:
        reading = observers.reading((await asked(outbox)).reading_id, NODE)
        assert reading is not None
        reading.end()
        assert await read_all(chunks) == b""


@pytest.mark.parametrize("comes", [False, True])
async def test_a_daemon_that_is_expected_is_waited_for_once(
    server: FakeApi, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    """It alone can read what was rotated away while we were not there."""
    monkeypatch.setattr(module, "ARRIVE_SECONDS", 5.0 if comes else 0.05)
    server.logs["a", "job"] = log = FakeLog()
    log.write(START_NS, b"one")
    log.end()
    expecting = Observers(Freshness(late_seconds=10.0), expected=True)
    source = NodeLogs(expecting, api)
    if comes:
        asyncio.get_running_loop().call_later(0.05, expecting.attach, NODE)
    async with source.read(container(), "", to_end=True) as chunks:
        if not comes:
            assert await read_all(chunks) == LINE
    assert bool(server.asked("log")) is not comes
    monkeypatch.setattr(module, "ARRIVE_SECONDS", 3600.0)
    if not comes:
        async with source.read(container(), "", to_end=True) as chunks:
            assert await read_all(chunks) == LINE


async def test_a_daemon_that_goes_in_the_midst_is_waited_for(
    server: FakeApi, api: KubernetesApi
) -> None:
    expecting = Observers(Freshness(late_seconds=10.0), expected=True)
    source = NodeLogs(expecting, api)
    outbox = expecting.attach(NODE)
    with pytest.raises(DaemonGone):
        async with source.read(container(), "", to_end=False) as chunks:
            expecting.detach(NODE, outbox)
            await read_all(chunks)
    asyncio.get_running_loop().call_later(0.05, expecting.attach, NODE)
    async with source.read(container(), "", to_end=False):
        assert not server.asked("log")


async def test_a_log_that_its_daemon_cannot_read_is_read_through_the_api(
    observers: Observers, server: FakeApi, api: KubernetesApi
) -> None:
    server.logs["a", "job"] = log = FakeLog()
    log.write(START_NS, b"one")
    log.end()
    outbox = observers.attach(NODE)
    source = NodeLogs(observers, api)
    with pytest.raises(Unavailable, match="no such folder"):
        async with source.read(container(), "", to_end=True) as chunks:
            reading = observers.reading((await asked(outbox)).reading_id, NODE)
            assert reading is not None
            reading.end(Unavailable(0, "Daemon", "no such folder"))
            await read_all(chunks)
    async with source.read(container(), "", to_end=True) as chunks:
        assert await read_all(chunks) == LINE


async def test_a_pods_log_comes_from_its_daemon(work: Launching) -> None:
    """From the launcher's order to the archive, with the API not asked at all."""
    await work.serve()
    outbox = work.observers.attach(NODE)
    work.start(order())
    await work.until(lambda: "ana-17-train-1-1" in work.bound())
    work.server.set_status("ana-17-train-1-1", running())
    follow: list[FollowLog] = []
    while not follow:
        follow = [one for one in await outbox.take() if isinstance(one, FollowLog)]
    assert follow[0].log.pod_name == "ana-17-train-1-1"
    reading = work.observers.reading(follow[0].reading_id, NODE)
    assert reading is not None
    await reading.put(LINE)
    await work.until(lambda: work.sink.end("ana.17.train.1-1", LogKind.OUTPUT))
    assert not work.server.asked("log")
