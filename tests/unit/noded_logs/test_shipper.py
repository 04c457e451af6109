from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from noded.logs.shipper import AppendAnswer, AppendRequest, Shipped, Shipping, StreamKind
from noded.logs.tailer import FileTailer, SegmentTailer
from noded.logs.watch import Watcher
from riseml.cri import encode
from riseml.masking import Mask

OUTPUT = StreamKind.OUTPUT
ID = "ana.1.train.1-1"


class ConnectionLost(Exception):
    pass


class Archive:
    """The control plane's side: appends only at its end, and can be made to misbehave."""

    def __init__(self) -> None:
        self.shipping: Shipping | None = None
        self.stored: dict[tuple[str, StreamKind], bytearray] = {}
        self.requests: list[AppendRequest] = []
        self.lose_after = -1
        self.error = ""
        self.unknown = False
        self.mute = False

    def of(self, attempt_id: str = ID, kind: StreamKind = OUTPUT) -> bytearray:
        return self.stored.setdefault((attempt_id, kind), bytearray())

    async def send(self, request: AppendRequest) -> None:
        if self.lose_after == 0:
            self.lose_after = -1
            raise ConnectionLost
        self.lose_after -= self.lose_after > 0
        self.requests.append(request)
        assert len(request.data) <= 256 << 10
        archive = self.of(request.attempt_id, request.kind)
        if not self.error and request.offset <= len(archive):
            archive += request.data[len(archive) - request.offset :]
        answer = AppendAnswer(
            request.attempt_id, request.kind, len(archive), self.error, self.unknown
        )
        assert self.shipping is not None
        if not self.mute:
            asyncio.get_running_loop().call_soon(self.shipping.answered, answer)
        await asyncio.sleep(0)


class Setup:
    def __init__(self, folder: Path, *, use_inotify: bool = True) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.log.mkdir(exist_ok=True)
        self.shipped: list[Shipped] = []
        self.watcher = Watcher(use_inotify=use_inotify)
        self.shipping = Shipping(self.watcher, self.shipped.append)
        self.archive = Archive()
        self.connect(self.archive)
        self.end_at = 0

    def connect(self, archive: Archive) -> None:
        archive.shipping = self.shipping

    def follow(self, *, mask: Mask | None = None) -> None:
        self.shipping.open(
            ID, OUTPUT, SegmentTailer(str(self.log)),
            watch_path=str(self.log), acked_path=str(self.folder / "output.acked"), mask=mask,
        )  # fmt: skip

    def write(self, data: bytes, segment: int = 0) -> None:
        with (self.log / f"{segment:020d}.log").open("ab") as file:
            file.write(data)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.shipping.serve(self.archive))
        yield task
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionLost):
            await task


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    setup = Setup(tmp_path)
    yield setup
    setup.shipping.close()
    setup.watcher.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


def arrived(setup: Setup, data: bytes) -> bool:
    return setup.archive.of() == data


def lines(count: int, first: int = 0) -> bytes:
    text = b"".join(b"line %06d\n" % number for number in range(first, first + count))
    return encode(1_795_466_055_000_000_001, "stdout", text)


@pytest.mark.parametrize("use_inotify", [True, False])
async def test_a_growing_log_arrives_whole_and_its_end_is_told(
    tmp_path: Path, use_inotify: bool
) -> None:
    setup = Setup(tmp_path, use_inotify=use_inotify)
    setup.follow()
    async with setup.serving():
        written = b""
        for number in range(5):
            data = lines(10, number * 10)
            setup.write(data)
            written += data
            await until(partial(arrived, setup, written))
        setup.shipping.end(ID, OUTPUT, len(written))
        await until(lambda: setup.shipped == [Shipped(ID, OUTPUT)])
    assert setup.archive.requests[-1].final
    setup.shipping.close()
    setup.watcher.close()


async def test_a_big_log_is_shipped_in_chunks_and_its_segments_go(setup: Setup) -> None:
    at = 0
    for number in range(4):
        data = lines(20_000, number * 20_000)
        setup.write(data, at)
        at += len(data)
    whole = b"".join(path.read_bytes() for path in sorted(setup.log.iterdir()))
    setup.follow()
    async with setup.serving():
        await until(lambda: setup.archive.of() == whole)
        setup.shipping.end(ID, OUTPUT, len(whole))
        await until(lambda: bool(setup.shipped))
    assert len(setup.archive.requests) > at // (256 << 10)


async def test_bytes_in_flight_are_bounded(setup: Setup) -> None:
    setup.write(lines(100_000))
    setup.archive.mute = True
    setup.follow()
    async with setup.serving():
        await until(lambda: len(setup.archive.requests) >= 4)
        for _ in range(20):
            await asyncio.sleep(0)
        in_flight = sum(len(request.data) for request in setup.archive.requests)
        assert in_flight <= (1 << 20) + (256 << 10)


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_lost_connection_costs_nothing(setup: Setup, after: int) -> None:
    whole = lines(60_000)
    setup.write(whole)
    setup.follow()
    setup.archive.lose_after = after
    async with setup.serving() as task:
        with pytest.raises(ConnectionLost):
            await task
    async with setup.serving():
        setup.shipping.end(ID, OUTPUT, len(whole))
        await until(lambda: bool(setup.shipped))
    assert setup.archive.of() == whole


async def test_a_restarted_daemon_goes_on_where_it_was_acknowledged(tmp_path: Path) -> None:
    first = Setup(tmp_path)
    first.write(lines(1000))
    first.follow()
    async with first.serving():
        await until(lambda: first.shipping.acked(ID, OUTPUT) == len(lines(1000)))
    first.shipping.close()
    first.watcher.close()
    second = Setup(tmp_path)
    second.archive.of().extend(first.archive.of())
    second.write(lines(10, 1000))
    second.follow()
    async with second.serving():
        second.shipping.end(ID, OUTPUT, len(lines(1010)))
        await until(lambda: bool(second.shipped))
    assert second.archive.of() == lines(1010)
    assert second.archive.requests[0].offset == len(lines(1000))
    second.shipping.close()
    second.watcher.close()


async def test_an_archive_that_lost_or_has_more_is_followed(setup: Setup) -> None:
    whole = lines(3000)
    setup.write(whole)
    (setup.folder / "output.acked").write_text(f"{len(lines(1000))}\n")
    setup.archive.of().extend(lines(500))  # less than it once said
    setup.follow()
    async with setup.serving():
        setup.shipping.end(ID, OUTPUT, len(whole))
        await until(lambda: bool(setup.shipped))
    assert setup.archive.of() == whole


async def test_a_full_archive_is_asked_again_later(setup: Setup) -> None:
    setup.write(lines(10))
    setup.archive.error = "no space left"
    setup.follow()
    async with setup.serving():
        await until(lambda: len(setup.archive.requests) >= 1)
        setup.archive.error = ""
        asked = time.monotonic()
        await until(lambda: setup.archive.of() == lines(10))
        assert time.monotonic() - asked < 5


async def test_a_full_archive_is_complained_of_once_not_each_second_for_each_log(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.follow()
    for _ in range(5):
        setup.shipping.answered(AppendAnswer(ID, OUTPUT, 0, "no space left"))
    assert caplog.text.count("not stored yet: no space left") == 1


async def test_an_unknown_attempt_is_given_up(setup: Setup) -> None:
    setup.write(lines(10))
    setup.archive.unknown = True
    setup.follow()
    async with setup.serving():
        await until(lambda: bool(setup.shipped))
    assert "does not know" in setup.shipped[0].problem


async def test_an_empty_stream_is_done_without_a_word(setup: Setup) -> None:
    setup.follow()
    setup.shipping.end(ID, OUTPUT, 0)
    assert setup.shipped == [Shipped(ID, OUTPUT)]


async def test_a_log_shorter_than_told_still_comes_to_an_end(setup: Setup) -> None:
    setup.write(lines(10))
    setup.follow()
    async with setup.serving():
        setup.shipping.end(ID, OUTPUT, len(lines(10)) + 1000)
        await until(lambda: bool(setup.shipped))
    assert setup.archive.of() == lines(10)


async def test_secrets_stay_here_across_restarts_at_any_offset(tmp_path: Path) -> None:
    log = encode(1_795_466_055_000_000_001, "stdout", b"key hunter2! end\n" * 20)
    expected = log.replace(b"hunter2!", b"********")
    for offset in range(0, len(log), 13):
        folder = tmp_path / str(offset)
        folder.mkdir()
        setup = Setup(folder)
        setup.write(log)
        setup.archive.of().extend(expected[:offset])
        setup.follow(mask=Mask(["hunter2!"]))
        async with setup.serving():
            setup.shipping.end(ID, OUTPUT, len(log))
            await until(lambda setup=setup: bool(setup.shipped))  # type: ignore[misc]
        assert setup.archive.of() == expected
        setup.shipping.close()
        setup.watcher.close()


async def test_results_are_shipped_by_the_same_means(setup: Setup) -> None:
    path = setup.folder / "results.jsonl"
    path.write_bytes(b"")
    setup.shipping.open(
        ID, StreamKind.RESULTS, FileTailer(str(path)), mask=Mask(["hunter2!"]),
        watch_path=str(path), acked_path=str(setup.folder / "results.acked"),
    )  # fmt: skip
    async with setup.serving():
        with path.open("ab") as file:
            file.write(b'{"seq": 1, "key": "hunter2!"}\n')
        await until(lambda: bool(setup.archive.of(kind=StreamKind.RESULTS)))
        setup.shipping.end(ID, StreamKind.RESULTS, path.stat().st_size)
        await until(lambda: bool(setup.shipped))
    assert setup.archive.of(kind=StreamKind.RESULTS) == b'{"seq": 1, "key": "********"}\n'


async def test_one_loud_log_does_not_starve_the_others(setup: Setup) -> None:
    setup.write(lines(100_000))
    setup.follow()
    quiet = setup.folder / "results.jsonl"
    quiet.write_bytes(b"{}\n")
    setup.shipping.open(
        ID, StreamKind.RESULTS, FileTailer(str(quiet)),
        watch_path=str(quiet), acked_path=str(setup.folder / "results.acked"),
    )  # fmt: skip
    async with setup.serving():
        await until(lambda: bool(setup.archive.of(kind=StreamKind.RESULTS)))
    place = [request.kind for request in setup.archive.requests].index(StreamKind.RESULTS)
    assert place <= 2
