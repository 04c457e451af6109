"""Names under which pods find each other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.spec.pod_names import host_name, service_name

# RFC 1035: what a Service may be called.
LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
USERS = st.from_regex(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?", fullmatch=True)
NUMBERS = st.integers(1, 2**31 - 1)
IDS = st.builds(
    lambda user, numbers: ".".join([user, *map(str, numbers)]),
    USERS,
    st.lists(NUMBERS, min_size=1, max_size=2),
)


def test_plain_ids_are_read_in_their_names() -> None:
    assert host_name("worker", 3) == "worker-3"
    assert service_name("ana.17") == "ana-17"
    assert service_name("ana.12.3") == "ana-12-3"


@pytest.mark.parametrize(
    ("one", "other"), [("a-1.7", "a.1.7"), ("a_b.1", "a-b.1"), ("3d.1", "x-3d.1")]
)
def test_ids_that_would_read_alike_have_different_names(one: str, other: str) -> None:
    assert service_name(one) != service_name(other)


@given(IDS, IDS)
def test_every_name_is_a_label_and_no_two_ids_share_one(one: str, other: str) -> None:
    assert LABEL.fullmatch(service_name(one))
    assert (service_name(one) == service_name(other)) == (one == other)
