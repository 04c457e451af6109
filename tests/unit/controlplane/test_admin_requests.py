"""What admins send of queues and taints: read field by field, refused where it makes no sense."""

from __future__ import annotations

import pytest

from controlplane.domain.errors import InvalidRequest
from controlplane.domain.model import PlacementStyle, QueueSettings
from controlplane.rpc.node_service import check_taints
from controlplane.rpc.queue_service import read_settings
from riseml.spec.taints import Taint
from riseml.v1 import queue_pb2, queue_service_pb2


def test_settings_that_are_not_there_stay_as_they_are() -> None:
    assert read_settings(queue_service_pb2.QueueSettings()) == QueueSettings()


def test_settings_that_are_there_count_even_if_they_are_zero() -> None:
    message = queue_service_pb2.QueueSettings(
        weight=0,
        guaranteed_gpu_milli=0,
        limit_gpu_milli=-1,
        placement=queue_pb2.PLACEMENT_STYLE_SPREAD,
        preempts_lower_priority=False,
        default_max_duration_seconds=0,
    )
    assert read_settings(message) == QueueSettings(0, 0, -1, PlacementStyle.SPREAD, False, 0)


@pytest.mark.parametrize("value", [queue_pb2.PLACEMENT_STYLE_UNSPECIFIED, 99])
def test_an_unknown_placement_is_refused(value: int) -> None:
    message = queue_service_pb2.QueueSettings()
    message.placement = value  # type: ignore[assignment]
    with pytest.raises(InvalidRequest, match="PACK and SPREAD"):
        read_settings(message)


def test_taints_are_kept_in_order_of_their_keys() -> None:
    assert check_taints([("spot", ""), ("a", "b")]) == (("a", "b"), ("spot", ""))
    assert check_taints([]) == ()


@pytest.mark.parametrize(
    ("taints", "words"),
    [
        ([("", "x")], "no taint"),
        ([("a b", "")], "no taint"),
        ([("a", "b c")], "no value of a taint"),
        ([("a", "1"), ("a", "2")], "one value per key"),
        ([(f"k{n}", "") for n in range(65)], "too many"),
    ],
)
def test_taints_that_cannot_be_are_refused(taints: list[Taint], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        check_taints(taints)
    assert refused.value.reason == "INVALID_TAINT"
