from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from riseml.cri import CriLine, Stream, format_line, payload
from riseml.masking import Mask

SECRETS = ["hunter2!", "abab", "line-one\nsecond line\nabc", "2026", "stdout F"]
LONGEST = 11


def masked_text(text: bytes) -> bytes:
    """What the mask must make of a whole text: every occurrence, overlapping ones too."""
    marked = bytearray(text)
    for secret in (b"hunter2!", b"abab", b"line-one", b"second line", b"2026", b"stdout F"):
        for found in re.finditer(b"(?=" + re.escape(secret) + b")", text):
            marked[found.start() : found.start() + len(secret)] = b"*" * len(secret)
    return bytes(marked)


def line(text: bytes, stream: str = "stdout", partial: bool = False) -> bytes:
    which = "stdout" if stream == "stdout" else "stderr"
    return format_line(CriLine(1_795_466_055_000_000_001, which, partial, text))  # type: ignore[arg-type]


def test_a_log_without_secrets_is_not_copied() -> None:
    chunk = line(b"all is well") * 100
    assert Mask(["hunter2!"]).log(chunk) is chunk


def test_marks_have_the_secrets_length_and_spare_the_prefix() -> None:
    chunk = line(b"in 2026 hunter2!hunter2! ababab stdout F") + line(b"second line, abc")
    masked = Mask(SECRETS).log(chunk)
    assert masked == line(b"in **** **************** ****** ********") + line(b"***********, abc")


def test_a_secret_cut_into_partial_lines_is_marked_in_both() -> None:
    chunk = line(b"say hunt", partial=True) + line(b"abab", "stderr") + line(b"er2! bye")
    masked = Mask(SECRETS).log(chunk)
    assert masked == line(b"say ****", partial=True) + line(b"****", "stderr") + line(b"**** bye")


def test_what_may_begin_a_secret_waits_for_its_continuation() -> None:
    mask = Mask(SECRETS)
    first, begun = line(b"fine"), line(b"say hunt", partial=True)
    assert mask.log(first + begun) == first
    rest = begun + line(b"er2!")
    assert mask.log(rest) == line(b"say ****", partial=True) + line(b"****")


def test_an_ended_log_holds_nothing_back() -> None:
    begun = line(b"say hunt", partial=True)
    assert Mask(SECRETS).log(begun, ended=True) == begun


def test_a_chunk_that_has_to_move_is_masked_on_suspicion_and_so_is_what_follows() -> None:
    mask = Mask(SECRETS)
    assert mask.log(line(b"say hunt", partial=True), must_move=True) == line(
        b"say ****", partial=True
    )
    assert mask.log(line(b"err", "stderr")) == line(b"err", "stderr")
    assert mask.log(line(b"er2! bye")) == line(b"**** bye")
    assert mask.log(line(b"er2! bye")) == line(b"er2! bye")


def test_short_values_are_left_alone() -> None:
    assert not Mask(["abc", "", "a\nb"])
    assert Mask(["abcd"])


def test_results_are_masked_as_plain_bytes() -> None:
    assert Mask(["hunter2!"]).raw(b'{"key": "hunter2!"}\n') == b'{"key": "********"}\n'


def test_secret_within_another_uncovers_nothing_of_it() -> None:
    assert Mask(["hunt", "hunter2!"]).raw(b'"hunter2!" "hunt"') == b'"********" "****"'


def test_digits_of_a_secret_do_not_spoil_numbers_of_results() -> None:
    line = b'{"time_ns":17951234,"metrics":{"loss":0.1234}}\n'
    assert Mask(["1234", "0.12"]).raw(line) == line


pieces = st.sampled_from(
    [b"hunter2!", b"hunt", b"er2!", b"ab", b"abab", b"second line", b"second ", b"2026", b"x", b" "]
)
outputs = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.lists(pieces, max_size=4).map(b"".join),
        st.booleans(),
    ),
    max_size=12,
)


@given(outputs, st.lists(st.integers(1, 4), min_size=12, max_size=12))
def test_no_secret_leaves_however_lines_and_chunks_are_cut(
    lines: list[tuple[str, bytes, bool]], cuts: list[int]
) -> None:
    """And nothing else changes, not a byte."""
    whole = [line(text, stream, partial) for stream, text, partial in lines]
    log = b"".join(whole)
    mask, shipped, end, at = Mask(SECRETS), b"", 0, 0
    for count in cuts:  # the log grows by some lines, and is read from where it was shipped to
        end = min(len(whole), end + count)
        grown = b"".join(whole[:end])
        chunk = mask.log(grown[at:], ended=end == len(whole))
        shipped += chunk
        at += len(chunk)
    assert len(shipped) == len(log)
    streams: list[Stream] = ["stdout", "stderr"]
    for stream in streams:
        printed = payload(log, stream)
        told = payload(shipped, stream)
        assert told.split(b"\n") == [masked_text(part) for part in printed.split(b"\n")]
