"""From a container's log to the archive: apart, masked, once, whatever comes between."""

from __future__ import annotations

import pytest

from controlplane.launch.kubernetes.log_pipe import LogNames, LogPipe, open_pipe
from controlplane.launch.kubernetes.ports import LogKind
from riseml import cri
from tests.unit.kubernetes.fake_sink import FakeSink

ATTEMPT, BUILD = "ana.17.train.1-1", "ana.17.build.1-1"
INSTALLED = "--- installed ---"
RESULT = "riseml-result ana.17.train.1-1"
SECOND = 1_795_464_000


def line(second: int, text: str, *, partial: bool = False) -> bytes:
    at = (SECOND + second) * 10**9
    return cri.format_line(cri.CriLine(at, "stdout", partial, text.encode()))


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


class Heard:
    """How often it was told that the install steps are through."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


async def pipe(
    sink: FakeSink, *, build: str = BUILD, secrets: tuple[str, ...] = (), heard: Heard | None = None
) -> LogPipe:
    names = LogNames(ATTEMPT, build, INSTALLED, RESULT)
    return await open_pipe(sink, names, secrets, heard or Heard())


def output(sink: FakeSink, attempt_id: str = ATTEMPT) -> str:
    return cri.payload(sink.logs.get((attempt_id, LogKind.OUTPUT), b"")).decode()


async def test_install_output_run_output_and_results_are_kept_apart(sink: FakeSink) -> None:
    heard = Heard()
    opened = await pipe(sink, heard=heard)
    await opened.append(line(0, "wheel"))
    assert (opened.installed_at, heard.times) == (None, 0)
    await opened.append(line(2, INSTALLED) + line(3, "epoch 1") + line(3, f"{RESULT} 1 {{}}"))
    await opened.close()
    assert output(sink, BUILD) == f"wheel\n{INSTALLED}\n"
    assert output(sink) == "epoch 1\n"
    assert sink.logs[ATTEMPT, LogKind.RESULTS] == b"{}\n"
    assert (opened.installed_at, heard.times) == (SECOND + 2, 1)


async def test_another_control_plane_goes_on_where_the_archive_ends(sink: FakeSink) -> None:
    said = [
        line(0, "wheel"),
        line(2, INSTALLED),
        line(3, "epoch 1"),
        line(3, f"{RESULT} 1 {{}}"),
        line(4, "epoch 2"),
        line(5, f"{RESULT} 2 []"),
    ]
    for count in range(len(said) + 1):
        fresh = FakeSink()
        first = await pipe(fresh)
        await first.append(b"".join(said[:count]))
        second = await pipe(fresh)
        assert second.installed_at == (SECOND + 2 if count > 1 else None)
        # The API repeats lines from a second on; which of them are known the position tells.
        known = second.position.repeatable()
        for sent in said:
            time_ns = cri.parse_line(sent).time_ns
            is_result = RESULT.encode() in sent
            if known[time_ns] > 0 and not is_result:
                known[time_ns] -= 1
                continue
            if time_ns >= (second.position.last_time or 0) * 1e9 - 1e9:
                await second.append(sent)
        assert output(fresh, BUILD) == f"wheel\n{INSTALLED}\n"
        assert output(fresh) == "epoch 1\nepoch 2\n"
        assert fresh.logs[ATTEMPT, LogKind.RESULTS] == b"{}\n[]\n"


async def test_secrets_are_masked_everywhere(sink: FakeSink) -> None:
    opened = await pipe(sink, secrets=("hunter22",))
    await opened.append(line(0, "token hunter22") + line(1, INSTALLED))
    await opened.append(line(2, "hunt", partial=True))
    await opened.append(line(2, "er22 and more") + line(3, f'{RESULT} 1 {{"x": "hunter22"}}'))
    await opened.close()
    assert output(sink, BUILD) == f"token ********\n{INSTALLED}\n"
    assert output(sink) == "******** and more\n"
    assert sink.logs[ATTEMPT, LogKind.RESULTS] == b'{"x": "********"}\n'


async def test_what_could_begin_a_secret_comes_at_the_end_at_the_latest(sink: FakeSink) -> None:
    opened = await pipe(sink, build="", secrets=("hunter22",))
    await opened.append(line(2, "hunt", partial=True))
    assert output(sink) == ""
    await opened.close()
    assert output(sink) == "hunt"


async def test_a_long_line_with_secrets_never_waits_for_its_end(sink: FakeSink) -> None:
    opened = await pipe(sink, build="", secrets=("hunter22",))
    piece = line(2, "x" * cri.MAX_TEXT_BYTES, partial=True)
    for _ in range(40):
        await opened.append(piece)
    await opened.close()
    assert output(sink) == "x" * cri.MAX_TEXT_BYTES * 40


async def test_without_install_steps_all_is_the_runs(sink: FakeSink) -> None:
    opened = await pipe(sink, build="")
    await opened.append(line(0, INSTALLED))
    await opened.close()
    assert output(sink) == f"{INSTALLED}\n"
    assert opened.installed_at is None
