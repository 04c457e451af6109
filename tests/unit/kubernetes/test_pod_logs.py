"""A follower brings a container's whole log into the archive and knows when it is over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.launch.kubernetes.http_api import KubernetesApi
from controlplane.launch.kubernetes.log_position import read_tail
from controlplane.launch.kubernetes.log_sources import ApiLogs, ContainerLog
from controlplane.launch.kubernetes.pod_logs import (
    InstallSplit,
    LogEnd,
    PodLogFollower,
    mending,
)
from riseml import cri
from tests.unit.kubernetes.fake_api import FakeApi, FakeLog

NAMESPACE = "riseml"
START_NS = 1_795_464_000 * 10**9


class Archived:
    """An archive of one log, and a container whose end a test decides."""

    def __init__(self, server: FakeApi) -> None:
        self.server = server
        self.log = FakeLog()
        self.data = b""
        self.container = ContainerLog("n1", NAMESPACE, "a", "uid-of-a", "job")
        self.pauses: list[float] = []
        self._grown = asyncio.Event()
        self.on_pause: Callable[[], None] = lambda: None

    async def append(self, data: bytes) -> None:
        self.data += data
        self._grown.set()

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.on_pause()

    async def until_holds(self, output: bytes) -> None:
        while cri.payload(self.data) != output:
            self._grown.clear()
            await self._grown.wait()

    def start(self) -> None:
        self.server.logs["a", "job"] = self.log

    def end(self) -> None:
        self.container.ended.set()
        self.log.end()

    def follower(self, api: KubernetesApi) -> PodLogFollower:
        return PodLogFollower(
            ApiLogs(api),
            self.container,
            self.append,
            sleep=self.sleep,
            rng=random.Random(1),
        )


@pytest.fixture
def archived(server: FakeApi) -> Archived:
    return Archived(server)


async def test_a_log_is_followed_to_its_end(archived: Archived, api: KubernetesApi) -> None:
    archived.start()
    archived.log.write(START_NS, b"one")
    following = asyncio.create_task(archived.follower(api).follow())
    await archived.until_holds(b"one\n")
    archived.log.write(START_NS + 1, b"two")
    await archived.until_holds(b"one\ntwo\n")
    archived.log.write(START_NS + 2, b"no newline", partial=True)
    archived.end()
    assert await following == LogEnd(len(archived.data), "")
    assert archived.data == (
        cri.encode(START_NS, "stdout", b"one\n")
        + cri.encode(START_NS + 1, "stdout", b"two\n")
        + cri.encode(START_NS + 2, "stdout", b"no newline")
    )


async def test_lost_connections_lose_and_repeat_nothing(
    archived: Archived, api: KubernetesApi
) -> None:
    archived.start()
    following = asyncio.create_task(archived.follower(api).follow())
    expected = b""
    for number in range(4):
        archived.log.write(START_NS + number // 2, b"line %d" % number)
        expected += b"line %d\n" % number
        await archived.until_holds(expected)
        (archived.log.cut_streams if number % 2 else archived.log.end_streams)()
    archived.end()
    assert (await following).missing == ""
    assert cri.payload(archived.data) == expected
    assert archived.server.asked("log")[1].query["sinceTime"].endswith("Z")


async def test_it_waits_until_the_container_has_started(
    archived: Archived, api: KubernetesApi
) -> None:
    archived.log.write(START_NS, b"one")
    archived.on_pause = lambda: archived.start() if len(archived.pauses) == 3 else None
    following = asyncio.create_task(archived.follower(api).follow())
    await archived.until_holds(b"one\n")
    archived.end()
    assert (await following).missing == ""


async def test_a_container_that_never_started_has_an_empty_log(
    archived: Archived, api: KubernetesApi
) -> None:
    archived.container.ended.set()
    end = await archived.follower(api).follow()
    assert end.appended_bytes == 0
    assert "ContainerCreating" in end.missing
    assert not archived.pauses


async def test_the_end_of_a_stream_is_not_the_end_of_the_container(
    archived: Archived, api: KubernetesApi
) -> None:
    archived.start()
    archived.log.write(START_NS, b"one")
    following = asyncio.create_task(archived.follower(api).follow())
    await archived.until_holds(b"one\n")
    archived.log.end_streams()
    await archived.server.until(lambda: len(archived.server.asked("log")) == 2)
    archived.log.write(START_NS + 1, b"two")
    await archived.until_holds(b"one\ntwo\n")
    archived.end()
    await following


async def test_it_says_what_is_missing_when_the_rest_cannot_be_read(
    archived: Archived, api: KubernetesApi
) -> None:
    archived.start()
    archived.log.write(START_NS, b"one")
    following = asyncio.create_task(archived.follower(api).follow())
    await archived.until_holds(b"one\n")
    for _ in range(20):
        archived.server.fail("log", 500, message="the node does not answer")
    archived.container.ended.set()
    archived.log.cut_streams()
    assert await following == LogEnd(len(archived.data), "the node does not answer")
    assert len(archived.pauses) == 8


@pytest.mark.parametrize("gone", [False, True])
async def test_a_kubelet_that_knows_no_pods_yet_is_asked_again(
    archived: Archived, api: KubernetesApi, gone: bool
) -> None:
    archived.start()
    archived.log.write(START_NS, b"one")
    archived.end()
    archived.server.fail("log", 404, reason="NotFound", message="no such resource")
    follower = PodLogFollower(
        ApiLogs(api),
        archived.container,
        archived.append,
        pod_gone=lambda: gone,
        sleep=archived.sleep,
    )
    end = await follower.follow()
    assert end.missing == ("no such resource" if gone else "")
    assert cri.payload(archived.data) == (b"" if gone else b"one\n")


async def test_a_rotation_while_the_log_is_followed_is_not_seen(
    archived: Archived, api: KubernetesApi
) -> None:
    archived.start()
    archived.log.write(START_NS, b"one")
    following = asyncio.create_task(archived.follower(api).follow())
    await archived.until_holds(b"one\n")
    archived.log.rotate()
    archived.log.write(START_NS + 1, b"two")
    archived.end()
    await following
    assert cri.payload(archived.data) == b"one\ntwo\n"


async def test_a_new_follower_goes_on_where_the_archive_ends(
    archived: Archived, api: KubernetesApi
) -> None:
    archived.start()
    for number in range(3):
        archived.log.write(START_NS, b"line %d" % number)
    whole = cri.encode(START_NS, "stdout", b"line 0\n" + b"line 1\n")
    archived.data = whole[:-3]
    tail = read_tail(lambda at, length: archived.data[at : at + length], len(archived.data))
    archived.end()
    follower = PodLogFollower(
        ApiLogs(api),
        archived.container,
        mending(archived.append, tail.broken),
        position=tail.position,
    )
    await follower.follow()
    assert archived.data == cri.encode(START_NS, "stdout", b"line 0\nline 1\nline 2\n")


async def test_what_the_archive_refuses_ends_the_follower(
    archived: Archived, api: KubernetesApi
) -> None:
    archived.start()
    archived.log.write(START_NS, b"one")

    async def full(_: bytes) -> None:
        raise OSError("no space")

    follower = PodLogFollower(ApiLogs(api), archived.container, full)
    with pytest.raises(OSError, match="no space"):
        await follower.follow()


async def test_it_ends_by_cancellation(archived: Archived, api: KubernetesApi) -> None:
    archived.start()
    following = asyncio.create_task(archived.follower(api).follow())
    await archived.server.until(lambda: bool(archived.log.streams))
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_another_line_than_the_broken_one_begins_a_line_of_its_own() -> None:
    got: list[bytes] = []

    async def append(data: bytes) -> None:
        got.append(data)

    put = mending(append, b"2026-11-23T20:0")
    await put(b"other\n")
    await put(b"next\n")
    assert got == [b"\nother\n", b"next\n"]


# ------------------------------------------------------------------------------ the marker line
MARKER = "--- installed ---"


class Halves:
    """Two logs that a split writes."""

    def __init__(self, last_install_text: bytes = b"") -> None:
        self.install = self.run = b""
        self.split = InstallSplit(MARKER, last_install_text=last_install_text)

    def take(self, output: bytes) -> tuple[bytes, bytes]:
        install, run = self.split.split(cri.encode(START_NS, "stdout", output))
        self.install += install
        self.run += run
        return cri.payload(self.install), cri.payload(self.run)


def test_the_marker_ends_the_install_output() -> None:
    halves = Halves()
    assert halves.take(b"wheel\n--- installed ---\nepoch 1\n") == (
        b"wheel\n--- installed ---\n",
        b"epoch 1\n",
    )
    assert halves.split.passed


def test_a_failed_install_has_no_run_output() -> None:
    halves = Halves()
    assert halves.take(b"wheel\nerror\n") == (b"wheel\nerror\n", b"")
    assert not halves.split.passed


def test_the_marker_is_seen_behind_output_without_a_newline() -> None:
    assert Halves().take(b"100%--- installed ---\nepoch 1\n") == (
        b"100%--- installed ---\n",
        b"epoch 1\n",
    )


def test_a_shell_that_traces_shows_the_marker_twice() -> None:
    halves = Halves()
    halves.take(b"+ echo '--- installed ---'\n")
    halves.take(b"+ echo --- installed ---\n")
    assert halves.take(b"--- installed ---\n--- installed ---\n") == (
        b"+ echo '--- installed ---'\n+ echo --- installed ---\n--- installed ---\n",
        b"--- installed ---\n",
    )


def test_after_a_restart_the_install_archive_tells_that_the_marker_was_passed() -> None:
    assert Halves(last_install_text=MARKER.encode()).take(b"epoch 1\n") == (b"", b"epoch 1\n")


@given(
    lines=st.lists(st.sampled_from([b"a", b"", b"\r50%\r", b"--- installed"]), max_size=6),
    after=st.lists(st.sampled_from([b"b", b"", b"\r"]), max_size=6),
    cut=st.integers(0, 12),
)
def test_where_chunks_end_does_not_matter(lines: list[bytes], after: list[bytes], cut: int) -> None:
    all_lines = [*lines, MARKER.encode(), *after]
    halves = Halves()
    for part in (all_lines[:cut], all_lines[cut:]):
        halves.take(b"".join(line + b"\n" for line in part))
    assert cri.payload(halves.run) == b"".join(line + b"\n" for line in after)
