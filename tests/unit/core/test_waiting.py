"""The queue that snapshots show, changed gang by gang, against one that is made at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.waiting import WaitingLines
from controlplane.domain.snapshot import Backlog, GangRequest, MemberRequest
from riseml.spec.model import Resources

SMALL, LARGE = Resources(cpu_milli=1000), Resources(cpu_milli=8000)


def request(number: int, submit_time: float, wanted: Resources, priority: int) -> GangRequest:
    name = f"ana.{number}"
    members = (MemberRequest(f"{name}.train.1", wanted),)
    return GangRequest(name, "ana", "default", priority, submit_time, members)


puts = st.builds(
    request,
    st.integers(1, 12),
    st.sampled_from((1.0, 1.0, 2.0, 3.0)),
    st.sampled_from((SMALL, SMALL, LARGE)),
    st.sampled_from((50, 50, 60)),
)
drops = st.integers(1, 12)
looks = st.none()


def lines(queue: Backlog) -> dict[object, list[GangRequest]]:
    found: dict[object, list[GangRequest]] = {
        (line.shape, line.priority): list(line) for line in queue.lines
    }
    assert len(found) == len(queue.lines), "two lines of one shape and priority"
    assert all(found.values()), "an empty line"
    return found


@given(st.lists(st.one_of(puts, puts, drops, looks), max_size=60))
def test_the_queue_is_as_if_made_at_once_and_never_changes_once_shown(
    steps: list[GangRequest | int | None],
) -> None:
    waiting = WaitingLines()
    here: dict[str, GangRequest] = {}
    shown: list[tuple[Backlog, dict[object, list[GangRequest]]]] = []
    for step in [*steps, None]:
        if isinstance(step, GangRequest):
            waiting.put(step)
            here[step.experiment_id] = step
        elif step is not None:
            waiting.drop(f"ana.{step}")
            here.pop(f"ana.{step}", None)
        else:
            expected = lines(Backlog.of(here.values()))
            assert lines(waiting.queue()) == expected
            assert len(waiting.queue()) == len(here) and set(waiting) == set(here)
            shown.append((waiting.queue(), expected))
    for queue, expected in shown:
        assert lines(queue) == expected


def test_a_queue_in_which_nothing_changed_is_the_same_object() -> None:
    waiting = WaitingLines()
    waiting.put(request(1, 1.0, SMALL, 50))
    waiting.put(request(2, 1.0, LARGE, 50))
    first = waiting.queue()
    waiting.put(request(2, 1.0, LARGE, 50))
    assert waiting.queue() is first
    waiting.put(request(3, 1.0, SMALL, 50))
    assert waiting.queue().lines[1] is first.lines[1]
