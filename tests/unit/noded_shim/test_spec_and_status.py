from __future__ import annotations

import pytest

from noded.shim.spec import Spec, SpecInvalid, SpecTorn, decode_intent, decode_pairs
from noded.shim.status import ShimState, StatusStream, latest_status

RUNNING = (
    b"riseml-status 1\nattempt ana.1.train.1-1\nstate running\nshim_pid 10\nshim_start_ticks 5\n"
    b"pid 11\nstart_ticks 6\nexec_ns 7\nend\n"
)
EXITED = (
    b"riseml-status 1\nattempt ana.1.train.1-1\nstate exited\nshim_pid 10\nshim_start_ticks 5\n"
    b"pid 11\nstart_ticks 6\nexec_ns 7\nexit_code 3\nexit_signal 0\nend_ns 9\nlog_bytes 100\n"
    b"lost_bytes 0\noom_kills 0\nuser_us 1\nsystem_us 2\nmax_rss_kib 3\nreason \n"
    b"message two words\nend\n"
)


def spec(**changes: object) -> Spec:
    values: dict[str, object] = {
        "attempt_id": "ana.1.train.1-1",
        "argv": ("sh", "-c", "a\nb"),
        "env": {"A": "1", "EMPTY": "", "ODD": "x=y\n\udcff"},
        "cwd": "/work",
        "grace_ms": 10,
    }
    return Spec(**{**values, **changes})  # type: ignore[arg-type]


def test_a_spec_comes_back_as_written() -> None:
    intent = decode_intent(spec(uid=7, notes={"boot_id": "b", "empty": ""}).encode())
    assert intent.attempt_id == "ana.1.train.1-1"
    assert intent.env == {"A": "1", "EMPTY": "", "ODD": "x=y\n\udcff"}
    assert (intent.uid, intent.notes) == (7, {"boot_id": "b", "empty": ""})


def test_every_torn_spec_is_known_as_torn() -> None:
    data = spec().encode()
    for length in range(len(data)):
        with pytest.raises(SpecTorn):
            decode_pairs(data[:length])


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": ("a\0b",)},
        {"argv": ()},
        {"env": {"A=B": "1"}},
        {"env": {"": "1"}},
        {"env": {"A": "\ud800"}},
        {"attempt_id": "a" * 300},
    ],
)
def test_what_no_process_can_be_given_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SpecInvalid):
        spec(**changes).encode()


def test_the_last_whole_text_of_a_status_file_counts() -> None:
    first = latest_status(RUNNING)
    assert first is not None and first.state is ShimState.RUNNING and not first.ended
    for length in range(len(EXITED)):
        assert latest_status(RUNNING + EXITED[:length]) == first
    last = latest_status(RUNNING + EXITED[:50] + EXITED)
    assert last is not None and last.ended
    assert (last.exit_code, last.log_bytes, last.message) == (3, 100, "two words")


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"riseml-status 2\nend\n", b"end\n"])
def test_what_is_no_status_is_none(data: bytes) -> None:
    assert latest_status(data) is None


def test_texts_are_cut_out_of_the_shared_pipe_whatever_the_reads() -> None:
    data = RUNNING + EXITED + RUNNING
    for size in (1, 7, 100, len(data)):
        stream = StatusStream()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        states = [status.state for piece in pieces for status in stream.feed(piece)]
        assert states == [ShimState.RUNNING, ShimState.EXITED, ShimState.RUNNING]
