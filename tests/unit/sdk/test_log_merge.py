"""Lines of several jobs in one order, and what may reach a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.cri import CriLine, encode, format_line
from riseml.log_merge import LogLine, LogMerger, safe_text


def log(*lines: tuple[int, str]) -> bytes:
    return b"".join(encode(time_ns, "stdout", f"{text}\n".encode()) for time_ns, text in lines)


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text.decode() for line in lines]


def test_lines_come_in_order_of_time() -> None:
    merger = LogMerger()
    merger.expect(["a", "b"])
    merger.add("a", log((1, "a1"), (4, "a4")), 0)
    merger.add("b", log((2, "b2"), (3, "b3")), 0)
    assert texts(merger.take(0)) == ["a1", "b2", "b3"]
    merger.end("b", 0)
    assert texts(merger.take(0)) == ["a4"]


def test_nothing_overtakes_an_attempt_that_is_expected() -> None:
    merger = LogMerger()
    merger.expect(["a", "b"])
    merger.add("a", log((1, "a1")), 0)
    assert merger.take(99) == []
    merger.end("b", 0)
    assert texts(merger.take(0)) == ["a1"]


def test_silent_attempt_holds_up_a_live_view_only_for_a_moment() -> None:
    merger = LogMerger(hold_seconds=0.25)
    merger.expect(["a", "b"])
    merger.add("a", log((1, "a1")), 10.0)
    assert merger.take(10.125) == []
    assert merger.wait_seconds(10.125) == 0.125
    assert texts(merger.take(10.25)) == ["a1"]
    assert merger.wait_seconds(10.25) is None


def test_single_attempt_is_never_held() -> None:
    merger = LogMerger(hold_seconds=0.1)
    merger.add("a", log((1, "a1")), 10.0)
    assert texts(merger.take(10.0)) == ["a1"]


def test_attempt_keeps_its_order_when_its_clock_steps_back() -> None:
    merger = LogMerger()
    merger.add("a", log((5, "first"), (2, "second"), (6, "third")), 0)
    assert texts(merger.take(0)) == ["first", "second", "third"]


def test_memory_is_bounded_by_giving_up_the_order() -> None:
    merger = LogMerger(max_held_bytes=2_000)
    merger.expect(["a", "b"])
    merger.add("a", log(*((n, "x" * 100) for n in range(50))), 0)
    given_out = merger.take(0)
    assert 40 < len(given_out) < 50


def test_parts_of_a_line_are_joined() -> None:
    merger = LogMerger()
    for time_ns, stream, partial, text in (
        (1, "stdout", True, b"long "),
        (2, "stderr", False, b"between"),
        (3, "stdout", False, b"line"),
    ):
        merger.add("a", format_line(CriLine(time_ns, stream, partial, text)), 0)  # type: ignore[arg-type]
    assert [(line.stream, line.text) for line in merger.take(0)] == [
        ("stderr", b"between"),
        ("stdout", b"long line"),
    ]


def test_line_without_an_end_comes_with_the_end_of_the_log() -> None:
    merger = LogMerger()
    merger.add("a", encode(1, "stdout", b"no newline"), 0)
    assert merger.take(0) == []
    merger.end("a", 0)
    assert texts(merger.take(0)) == ["no newline"]


def test_older_lines_are_cut_exactly() -> None:
    merger = LogMerger(since_ns=2)
    merger.add("a", log((1, "old"), (2, "new")), 0)
    assert texts(merger.take(0)) == ["new"]


def test_hole_is_shown_in_its_place() -> None:
    merger = LogMerger()
    merger.add("a", log((1, "before")) + b"2026-11-23T", 0)
    merger.add_hole("a", 77, "retention", 0)
    merger.add("a", log((3, "after")), 0)
    merger.end("a", 0)
    shown = texts(merger.take(0))
    assert shown[0] == "before" and shown[-1] == "after"
    assert "--- 77 bytes of the log are gone: retention ---" in shown


def test_note_stands_before_the_first_line_of_what_it_is_about() -> None:
    merger = LogMerger(hold_seconds=0.1)
    merger.await_note(["a"])
    merger.add("a", log((5, "hello")), 0.0)
    assert merger.take(0.0) == []
    merger.add_note(4, "17", "--> RUNNING", 0.05)
    merger.introduce(["a"])
    assert texts(merger.take(0.05)) == ["--> RUNNING", "hello"]


line_lists = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 999)), max_size=12)


@given(
    streams=st.lists(line_lists, min_size=1, max_size=4),
    pieces=st.randoms(use_true_random=False),
)
def test_merging_loses_nothing_and_keeps_each_order(
    streams: list[list[tuple[int, int]]], pieces: object
) -> None:
    merger = LogMerger()
    names = [f"s{n}" for n in range(len(streams))]
    merger.expect(names)
    waiting = {
        name: log(*((time_ns, f"{name}:{text}") for time_ns, text in lines))
        for name, lines in zip(names, streams, strict=True)
    }
    got: list[LogLine] = []
    while waiting:
        name = pieces.choice(sorted(waiting))  # type: ignore[attr-defined]
        size = pieces.randint(1, 60)  # type: ignore[attr-defined]
        merger.add(name, waiting[name][:size], 0)
        waiting[name] = waiting[name][size:]
        if not waiting[name]:
            del waiting[name]
            merger.end(name, 0)
        got += merger.take(0)
    assert merger.take_all() == []
    for name, lines in zip(names, streams, strict=True):
        own = [line.text.decode() for line in got if line.source == name]
        assert own == [f"{name}:{text}" for _, text in lines]
    keys = []
    newest = dict.fromkeys(names, 0)
    for line in got:
        newest[line.source] = max(newest[line.source], line.time_ns)
        keys.append(newest[line.source])
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"plain \xc3\xa4", b"plain \xc3\xa4"),
        (b"tab\tstays", b"tab\tstays"),
        (b"\x1b[31mred\x1b[0m", b"\x1b[31mred\x1b[0m\x1b[0m"),
        (b"\x1b[38;5;196mx", b"\x1b[38;5;196mx\x1b[0m"),
        (b"\x1b[2J\x1b[Hgone", b"gone"),
        (b"\x1b]0;title\x07text", b"text"),
        (b"\x1b]52;c;ZXZpbA==\x1b\\text", b"text"),
        (b"\x1bP+q544e\x1b\\text", b"text"),
        (b"\x1b]0;never ends", b""),
        (b"a\x1bcb", b"ab"),
        (b"bell\x07 back\x08 del\x7f", b"bell back del"),
        (b"\xc2\x9b2Jc1", b"2Jc1"),
        (b"10%\r50%\r100%", b"100%"),
        (b"100%\r", b"100%"),
        (b"\x1b", b""),
        (b"", b""),
    ],
)
def test_terminal_gets_text_and_colours_only(text: bytes, shown: bytes) -> None:
    assert safe_text(text) == shown


@given(st.binary(max_size=80))
def test_no_escape_but_colours_ever_passes(text: bytes) -> None:
    shown = safe_text(text)
    rest = shown.replace(b"\x1b[", b"") if b"\x1b" in shown else shown
    assert b"\x1b" not in rest
    assert not any(byte < 32 and byte not in (9, 27) for byte in shown) and 127 not in shown
    assert all(part[:1].isdigit() or part[:1] in b"m;:" for part in shown.split(b"\x1b[")[1:])
