"""Lines of a runtime become what the Kubernetes API would send of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noded.kubelet.log_lines import STEADY_NS, ApiLines
from riseml import cri

START_NS = 1_795_464_000 * 10**9


def line(time_ns: int, text: bytes, flag: bytes = b"F", stream: bytes = b"stdout") -> bytes:
    return b"%s %s %s %s\n" % (cri.format_time(time_ns), stream, flag, text)


def time(time_ns: int = START_NS) -> bytes:
    return cri.format_time(time_ns) + b" "


def test_whole_lines_lose_stream_and_flag() -> None:
    raw = line(START_NS, b"one") + line(START_NS, b"") + line(START_NS, b"F x", stream=b"stderr")
    assert ApiLines().feed(raw) == b"".join([time() + b"one\n", time() + b"\n", time() + b"F x\n"])


def test_pieces_of_a_line_are_joined_under_the_time_of_the_first() -> None:
    raw = line(START_NS, b"ab", b"P") + line(START_NS + 1, b"cd", b"P") + line(START_NS + 2, b"e")
    assert ApiLines().feed(raw) == time() + b"abcde\n"


def test_an_end_without_a_newline_has_none() -> None:
    assert ApiLines().feed(line(START_NS, b"prompt> ", b"P")) == time() + b"prompt> "


def test_tags_and_zones_of_other_runtimes_are_taken() -> None:
    raw = b"2026-11-23T20:00:00.1+02:00 stdout F:x one\n"
    assert ApiLines().feed(raw) == b"2026-11-23T20:00:00.1+02:00 one\n"


def test_what_is_no_line_is_left_out() -> None:
    raw = line(START_NS, b"one") + b"\0\0\0\n" + line(START_NS, b"two")
    assert ApiLines().feed(raw) == time() + b"one\n" + time() + b"two\n"


def test_what_is_too_old_is_left_out() -> None:
    """Of both streams, whose times may be swapped; later nothing is looked at any more."""
    second = 10**9
    raw = (
        line(START_NS - 1, b"old")
        + line(START_NS + second, b"new")
        + line(START_NS - 2, b"late", stream=b"stderr")
        + line(START_NS + STEADY_NS + second, b"newer")
        + line(START_NS - 3, b"from a clock that was set back")
    )
    found = ApiLines(START_NS).feed(raw)
    texts = [one.partition(b" ")[2] for one in found.splitlines()]
    assert texts == [b"new", b"newer", b"from a clock that was set back"]


@given(
    st.lists(
        st.tuples(st.binary(max_size=5), st.sampled_from([b"F", b"P"])).filter(
            lambda one: b"\n" not in one[0]
        )
    ),
    st.lists(st.integers(min_value=0, max_value=500)),
)
def test_it_does_not_matter_how_the_bytes_come(
    pieces: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    raw = b"".join(line(START_NS + n, text, flag) for n, (text, flag) in enumerate(pieces))
    expected, within = b"", False
    for n, (text, flag) in enumerate(pieces):
        expected += (b"" if within else time(START_NS + n)) + text
        within = flag == b"P"
        expected += b"" if within else b"\n"
    lines, at, found = ApiLines(), 0, b""
    for cut in [*sorted(cuts), len(raw)]:
        found += lines.feed(raw[at:cut])
        at = max(at, cut)
    assert found == expected
