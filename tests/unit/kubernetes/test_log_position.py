"""Every line of a container's log is archived once, however its stream is cut and repeated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.launch.kubernetes.log_position import (
    GAP,
    LogPosition,
    LogStream,
    read_tail,
)
from controlplane.launch.kubernetes.pod_logs import Append, mending
from riseml import cri

START_NS = 1_795_464_000 * 10**9
Entry = tuple[int, bytes, bool]
"""Of the runtime's file: time, text, partial."""


def sent(entries: list[Entry], since_time: str = "") -> bytes:
    """What a kubelet sends of a file, with `timestamps` and `sinceTime`."""
    since_ns = cri.parse_line(since_time.encode() + b" stdout F ").time_ns if since_time else 0
    out, new_line = b"", True
    for time_ns, text, partial in entries:
        if time_ns >= since_ns:
            out += cri.format_time(time_ns) + b" " if new_line else b""
            out += text if partial else text + b"\n"
        new_line = not partial
    return out


def archived(entries: list[Entry]) -> bytes:
    """What the archive is to hold in the end: joined lines in pieces of 16 KiB."""
    out, text, begun_ns = b"", b"", -1
    for time_ns, piece, partial in entries:
        begun_ns = time_ns if begun_ns < 0 else begun_ns
        text += piece
        if not partial:
            out += cri.encode(begun_ns, "stdout", text + b"\n")
            text, begun_ns = b"", -1
    return out + cri.encode(begun_ns, "stdout", text) if text else out


def tail_of(archive: bytes) -> tuple[LogPosition, bytes]:
    tail = read_tail(lambda offset, length: archive[offset : offset + length], len(archive))
    return tail.position, tail.broken


texts = st.one_of(
    st.sampled_from([b"", b"a", b"2026-11-23T20:00:00.000000000Z x", b" 50%\r100%", b"\xff\x00"]),
    st.integers(0, 3 * cri.MAX_TEXT_BYTES).map(lambda length: b"y" * length),
)
# Mostly the same moment or a little later, now and then earlier: two streams write side by side.
steps = st.sampled_from([0, 0, 1, 400_000_000, -30_000, 2_500_000_000])


@st.composite
def files(draw: st.DrawFn) -> list[Entry]:
    entries, time_ns = [], START_NS + 999_990_000
    for text in draw(st.lists(texts, max_size=12)):
        time_ns += draw(steps)
        pieces = [text[at : at + 9000] for at in range(0, len(text), 9000)] or [b""]
        entries += [(time_ns + n, piece, True) for n, piece in enumerate(pieces[:-1])]
        entries.append((time_ns + len(pieces) - 1, pieces[-1], False))
    if entries and entries[-1][1] and draw(st.booleans()):
        entries[-1] = (*entries[-1][:2], True)  # output that ends without a newline
    return entries


@given(
    entries=files(),
    cuts=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 40_000)), max_size=5),
    restart=st.lists(st.booleans(), min_size=5, max_size=5),
    lost_bytes=st.lists(st.integers(0, 120), min_size=5, max_size=5),
)
async def test_any_breaks_and_restarts_leave_each_line_once(
    entries: list[Entry],
    cuts: list[tuple[int, int]],
    restart: list[bool],
    lost_bytes: list[int],
) -> None:
    archive = b""

    async def append(data: bytes) -> None:
        nonlocal archive
        archive += data

    position = LogPosition()
    put: Append = append
    for number, (cut, chunk_bytes) in enumerate([*cuts, (-1, 16_384)]):
        stream = LogStream(position)
        data = sent(entries, position.since_time)
        data = data if cut < 0 else data[: cut % (len(data) + 1)]
        for at in range(0, len(data), chunk_bytes):
            if new := stream.feed(data[at : at + chunk_bytes]):
                await put(new)
        if number == len(cuts):
            if new := stream.finish():
                await put(new)
        elif restart[number]:
            archive = archive[: len(archive) - lost_bytes[number]]  # as after a power cut
            position, broken = tail_of(archive)
            put = mending(append, broken)
    assert archive == archived(entries)


def test_lines_with_equal_times_are_counted() -> None:
    entries: list[Entry] = [(START_NS, text, False) for text in (b"a", b"a", b"b")]
    position = LogPosition()
    first = LogStream(position).feed(sent(entries[:2]))
    second = LogStream(position).feed(sent(entries, position.since_time))
    assert cri.payload(first + second) == b"a\na\nb\n"


def test_times_that_two_streams_swapped_across_a_second_lose_nothing() -> None:
    second_ns = START_NS + 10**9
    entries: list[Entry] = [(second_ns + 5, b"stderr", False), (second_ns - 5, b"stdout", False)]
    position = LogPosition()
    first = LogStream(position).feed(sent(entries[:1]))
    second = LogStream(position).feed(sent(entries, position.since_time))
    assert cri.payload(first + second) == b"stderr\nstdout\n"


def test_the_time_asked_for_is_a_whole_second_before_that_of_the_last_line() -> None:
    position = LogPosition()
    assert position.since_time == ""
    LogStream(position).feed(b"2026-11-23T20:00:05.123456789Z a\n")
    assert position.since_time == "2026-11-23T20:00:04Z"


def test_times_of_another_zone_are_archived_in_utc() -> None:
    new = LogStream(LogPosition()).feed(b"2026-11-23T22:00:05.1+02:00 a\n")
    assert new == b"2026-11-23T20:00:05.100000000Z stdout F a\n"


def test_a_line_is_given_out_when_it_is_whole_and_not_again_after_a_cut() -> None:
    position = LogPosition()
    stream = LogStream(position)
    assert stream.feed(b"2026-11-23T20:00:05.123456789Z hel") == b""
    again = LogStream(position).feed(b"2026-11-23T20:00:05.123456789Z hello\n")
    assert again == b"2026-11-23T20:00:05.123456789Z stdout F hello\n"


def test_output_that_ends_without_a_newline_is_a_partial_line() -> None:
    stream = LogStream(LogPosition())
    assert stream.feed(b"2026-11-23T20:00:05.123456789Z hel") == b""
    assert stream.finish() == b"2026-11-23T20:00:05.123456789Z stdout P hel\n"


def test_a_progress_bar_without_newlines_is_given_out_in_pieces_and_gone_on_with() -> None:
    position = LogPosition()
    line = b"2026-11-23T20:00:05.123456789Z " + b"z" * 40_000
    first = LogStream(position).feed(line)
    assert cri.payload(first) == b"z" * 32_768
    second = LogStream(position).feed(line + b"end\n")
    assert cri.payload(first + second) == b"z" * 40_000 + b"end\n"


def test_what_bears_no_time_is_left_out() -> None:
    stream = LogStream(LogPosition())
    new = stream.feed(
        b"end of a line from before\n"
        b"2026-11-23T20:00:05.123456789Z a\n"
        b"failed to watch file: too many open files\n"
        b"2026-11-23T20:00:06.123456789Z b\n"
    )
    assert cri.payload(new) == b"a\nb\n"


def test_a_rotation_that_nobody_read_is_told_once_and_closes_an_open_line() -> None:
    position = LogPosition()
    new = LogStream(position).feed(
        sent([(START_NS, b"a", False), (START_NS + 1, b"z" * 20_000, True)])
    )
    later: list[Entry] = [(START_NS + 10**9, b"b", False), (START_NS + 10**9, b"c", False)]
    new += LogStream(position).feed(sent(later, position.since_time))
    assert cri.payload(new, "stdout") == b"a\n" + b"z" * 16_384 + b"\nb\nc\n"
    assert cri.payload(new, "stderr") == GAP + b"\n"
    again = LogStream(position).feed(sent(later, position.since_time))
    assert again == b""


def test_only_lines_of_the_last_seconds_are_remembered() -> None:
    position = LogPosition()
    for second in range(100):
        position.archived(START_NS + second * 10**9, 1, partial=False)
    assert len(position.repeatable()) == 4


def test_a_tail_is_read_as_far_back_as_lines_may_come_again() -> None:
    early = b"".join(cri.encode(START_NS + n, "stdout", b"x" * 999 + b"\n") for n in range(2000))
    late = cri.encode(START_NS + 10**10, "stdout", b"end\n") + cri.encode(
        START_NS + 2 * 10**10, "stderr", b"ours\n"
    )
    reads: list[int] = []

    def read(offset: int, length: int) -> bytes:
        reads.append(length)
        return (early + late)[offset : offset + length]

    tail = read_tail(read, len(early + late))
    assert tail.position.repeatable() == {START_NS + 10**10: 1}
    assert tail.last_text == b"end"
    assert reads == [256 * 1024]
    many = read_tail(lambda offset, length: early[offset : offset + length], len(early))
    assert len(many.position.repeatable()) == 2000


def test_the_position_of_an_empty_archive_is_the_beginning() -> None:
    position, broken = tail_of(b"")
    assert (position.since_time, broken) == ("", b"")


def test_the_position_is_carried_from_one_log_to_the_next() -> None:
    install = cri.encode(START_NS, "stdout", b"installed\n")
    run = cri.encode(START_NS + 1, "stdout", b"run\n")
    first = read_tail(lambda offset, length: install[offset : offset + length], len(install))
    both = read_tail(lambda offset, length: run[offset : offset + length], len(run), first.position)
    assert set(both.position.repeatable()) == {START_NS, START_NS + 1}
    nothing_yet = read_tail(lambda _offset, _length: b"", 0, both.position)
    assert nothing_yet.position.begun
