"""Results are taken out of a log, and nothing else of it changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.launch.kubernetes.result_split import ResultSplit
from riseml import cri

MARKER = "riseml-result ana.17.train.1-1"
NOW_NS = 1_795_464_000 * 10**9


def log(output: bytes) -> bytes:
    return cri.encode(NOW_NS, "stdout", output)


def test_output_without_results_is_left_alone() -> None:
    lines = log(b"epoch 1\r50%\nepoch 2\n")
    assert ResultSplit(MARKER, 0).split(lines) == (lines, b"")


def test_results_are_taken_out_in_order() -> None:
    split = ResultSplit(MARKER, 0)
    said = f'a\n{MARKER} 1 {{"loss": 1}}\nb\n{MARKER} 2 {{"loss": 0.5}}\n'
    output, results = split.split(log(said.encode()))
    assert cri.payload(output) == b"a\nb\n"
    assert results == b'{"loss": 1}\n{"loss": 0.5}\n'
    assert split.archived == 2


def test_results_that_are_archived_already_are_dropped() -> None:
    said = f"{MARKER} 1 {{}}\n{MARKER} 2 []\n".encode()
    assert ResultSplit(MARKER, 1).split(log(said)) == (b"", b"[]\n")


def test_a_line_that_the_job_left_unfinished_goes_on_after_the_result() -> None:
    split = ResultSplit(MARKER, 0)
    output, results = split.split(log(f"50%{MARKER} 1 {{}}\n 100%\n".encode()))
    assert cri.payload(output) == b"50% 100%\n"
    assert results == b"{}\n"


def test_a_result_that_is_longer_than_one_piece_is_put_together() -> None:
    split = ResultSplit(MARKER, 0)
    value = b'{"x": "' + b"y" * 3 * cri.MAX_TEXT_BYTES + b'"}'
    lines = log(f"{MARKER} 1 ".encode() + value + b"\nafter\n")
    output, results = b"", b""
    # As it may come: piece by piece.
    for line in lines.removesuffix(b"\n").split(b"\n"):
        more, found = split.split(line + b"\n")
        output += more
        results += found
    assert cri.payload(output) == b"after\n"
    assert results == value + b"\n"


def test_what_only_looks_like_a_result_is_output() -> None:
    said = f"grep '{MARKER} x' log\n".encode()
    output, results = ResultSplit(MARKER, 0).split(log(said))
    assert (cri.payload(output), results) == (said, b"")


@given(st.lists(st.one_of(st.binary(max_size=9).filter(lambda b: b"\n" not in b), st.none())))
def test_every_byte_is_either_output_or_a_result(parts: list[bytes | None]) -> None:
    said, count, output = b"", 0, b""
    for part in parts:
        if part is None:
            count += 1
            said += f"{MARKER} {count} {count}\n".encode()
        else:
            said += part + b"\n"
            output += part + b"\n"
    got, results = ResultSplit(MARKER, 0).split(log(said))
    assert cri.payload(got) == output
    assert results == b"".join(b"%d\n" % n for n in range(1, count + 1))
