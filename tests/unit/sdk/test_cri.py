from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml import cri
from riseml.cri import CriDecoder, CriLine, InvalidCriLine

AT = 1_795_464_000_123_456_789
LINE = b"2026-11-23T20:00:00.123456789Z stdout F hello\n"

times = st.integers(0, 4_000_000_000 * 10**9)
streams: st.SearchStrategy[Literal["stdout", "stderr"]] = st.sampled_from(["stdout", "stderr"])
texts = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b""))
lines = st.builds(CriLine, times, streams, st.booleans(), texts)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def test_a_line_reads_as_time_stream_flag_and_text() -> None:
    assert cri.parse_line(LINE) == CriLine(AT, "stdout", False, b"hello")
    assert cri.format_line(CriLine(AT, "stdout", False, b"hello")) == LINE


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"2026-11-23T20:00:00Z stderr P a", CriLine(AT - 123456789, "stderr", True, b"a")),
        (b"2026-11-23T20:00:00.1Z stdout F ", CriLine(AT - 23456789, "stdout", False, b"")),
        (b"2026-11-23T22:00:00.123456789+02:00 stdout F a b", CriLine(AT, "stdout", False, b"a b")),
        (b"2026-11-23T14:30:00.123456789-05:30 stdout F a", CriLine(AT, "stdout", False, b"a")),
        (b"2026-11-23T20:00:00.123456789Z stdout P:x a", CriLine(AT, "stdout", True, b"a")),
        (b"2026-11-23T20:00:00.123456789Z stdout F  a\r", CriLine(AT, "stdout", False, b" a\r")),
    ],
)
def test_what_runtimes_may_write_is_read(line: bytes, expected: CriLine) -> None:
    assert cri.parse_line(line) == expected
    assert CriDecoder().feed(LINE + line + b"\n")[1] == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"2026-11-23T20:00:00.123456789Z stdout",
        b"2026-11-23T20:00:00.123456789Z stdin F a",
        b"2026-11-23T20:00:00.123456789Z stdout X a",
        b"2026-13-23T20:00:00.123456789Z stdout F a",
        b"2026-11-23T20:00:00.12345678xZ stdout F a",
        b"2026-11-23 20:00:00.123456789Z stdout F a",
    ],
)
def test_what_is_no_line_is_refused_alone_but_never_dropped_from_a_log(line: bytes) -> None:
    with pytest.raises(InvalidCriLine):
        cri.parse_line(line)
    decoded = CriDecoder().feed(LINE + line + b"\n" + line + b"\n" + LINE)
    assert decoded == [
        cri.parse_line(LINE),
        CriLine(AT, "stdout", False, line),
        CriLine(AT, "stdout", False, line),
        cri.parse_line(LINE),
    ]


@given(st.lists(lines, max_size=20), st.lists(st.integers(0, 5000), max_size=10))
def test_any_cut_of_a_log_decodes_to_its_lines(wanted: list[CriLine], places: list[int]) -> None:
    log = b"".join(cri.format_line(line) for line in wanted)
    decoder = CriDecoder()
    decoded = [line for chunk in cut(log, places) for line in decoder.feed(chunk)]
    assert decoded == wanted
    assert decoder.held_bytes == 0 and decoder.finish() == []


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_decode_and_none_is_lost(data: bytes, places: list[int]) -> None:
    decoder = CriDecoder()
    decoded = [line for chunk in cut(data, places) for line in decoder.feed(chunk)]
    decoded += decoder.finish()
    assert b"\n".join(line.text for line in decoded) == data.removesuffix(b"\n")


@given(st.lists(st.tuples(streams, st.binary(max_size=60)), max_size=15), times)
def test_payload_is_the_output_again(
    writes: list[tuple[Literal["stdout", "stderr"], bytes]], time_ns: int
) -> None:
    log = b"".join(cri.encode(time_ns, stream, output) for stream, output in writes)
    assert cri.payload(log) == b"".join(output for _, output in writes)
    for wanted in ("stdout", "stderr"):
        output = b"".join(output for stream, output in writes if stream == wanted)
        assert cri.payload(log, "stdout" if wanted == "stdout" else "stderr") == output


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 32768, 50_000, 300_000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\nx"])
def test_long_lines_are_split_and_joined_again(size: int, end: bytes) -> None:
    output = b"x" * size + end
    log = cri.encode(AT, "stdout", output)
    assert max((len(line.text) for line in CriDecoder().feed(log)), default=0) <= 16384
    assert cri.payload(log) == output


def test_a_line_that_never_ends_is_held_only_up_to_the_limit() -> None:
    decoder = CriDecoder()
    chunk = b"x" * 65536
    total = 0
    for _ in range(100):
        total += sum(len(line.text) for line in decoder.feed(chunk))
        assert decoder.held_bytes <= cri.MAX_LINE_BYTES
    total += sum(len(line.text) for line in decoder.finish())
    assert total == 100 * len(chunk)


@given(times)
def test_times_keep_every_nanosecond(time_ns: int) -> None:
    text = cri.format_time(time_ns)
    assert len(text) == 30
    assert cri.parse_line(text + b" stdout F ").time_ns == time_ns
