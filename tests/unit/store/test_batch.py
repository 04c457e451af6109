"""A batch as the least that has to be written."""

from __future__ import annotations

import pytest

from controlplane.domain.changes import Change, Delete, Insert, Update
from controlplane.domain.model import NodeToken
from controlplane.store.batch import coalesce

A, B, C = (NodeToken("n1", text, 0.0) for text in "abc")


@pytest.mark.parametrize(
    ("changes", "deletes", "inserts", "updates"),
    [
        ([Insert(A)], [], [A], []),
        ([Insert(A), Update(B), Update(C)], [], [C], []),
        ([Update(A), Update(B)], [], [], [B]),
        ([Insert(A), Delete(A)], [], [], []),
        ([Update(A), Delete(B)], [B], [], []),
        ([Delete(A), Insert(B)], [A], [B], []),
        ([Delete(A), Insert(B), Update(C)], [A], [C], []),
        ([Delete(A), Insert(B), Delete(B)], [B], [], []),
        ([Insert(A), Delete(A), Insert(B)], [], [B], []),
    ],
)
def test_only_the_outcome_is_written(
    changes: list[Change],
    deletes: list[NodeToken],
    inserts: list[NodeToken],
    updates: list[NodeToken],
) -> None:
    of_type = coalesce(changes)[NodeToken]
    assert list(of_type.deletes.values()) == deletes
    assert list(of_type.inserts.values()) == inserts
    assert list(of_type.updates.values()) == updates
