"""Taints and tolerations: how they are written, and who may come where."""

from __future__ import annotations

import pytest

from riseml.spec.errors import InvalidName
from riseml.spec.taints import Taint, format_taint, parse_taint, untolerated


@pytest.mark.parametrize(
    ("text", "taint"),
    [
        ("spot", ("spot", "")),
        ("spot=", ("spot", "")),
        ("dedicated=vision", ("dedicated", "vision")),
        (" dedicated = vision ", ("dedicated", "vision")),
        ("example.org/gpu=H100-80GB", ("example.org/gpu", "H100-80GB")),
    ],
)
def test_a_taint_is_a_key_with_or_without_a_value(text: str, taint: Taint) -> None:
    assert parse_taint(text) == taint
    assert parse_taint(format_taint(taint)) == taint


@pytest.mark.parametrize("text", ["", "=x", "a b", "a=b c", "a=b=c", "-a", "a=b-", "x" * 64])
def test_what_is_no_taint_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_taint(text)


@pytest.mark.parametrize(
    ("taints", "tolerations", "left"),
    [
        ((), (), None),
        ((("spot", ""),), (), ("spot", "")),
        ((("spot", ""),), (("spot", ""),), None),
        ((("spot", ""),), (("spot", "yes"),), ("spot", "")),
        ((("team", "a"),), (("team", ""),), None),
        ((("team", "a"),), (("team", "a"),), None),
        ((("team", "a"),), (("team", "b"), ("other", "a")), ("team", "a")),
        ((("spot", ""), ("team", "a")), (("spot", ""),), ("team", "a")),
        ((("spot", ""), ("team", "a")), (("team", "a"), ("spot", "")), None),
    ],
)
def test_each_taint_has_to_be_tolerated(
    taints: tuple[Taint, ...], tolerations: tuple[Taint, ...], left: Taint | None
) -> None:
    assert untolerated(taints, tolerations) == left
