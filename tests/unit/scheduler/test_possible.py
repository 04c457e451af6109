"""Whether a cluster could ever hold something: said at submission, before any cycle has come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.snapshot import NodeView
from controlplane.scheduler.cycle import schedule
from controlplane.scheduler.possible import could_ever_hold
from riseml.spec.model import GIB, Resources
from tests.unit.scheduler.pictures import NOW, gang, node, resources, snapshot

NODES = st.lists(
    st.builds(
        node,
        st.sampled_from(["n1", "n2", "n3"]),
        st.lists(st.sampled_from([0, 1000]), max_size=3),
        model=st.sampled_from(["H100", "T4"]),
        cpus=st.just(8),
        free_cpus=st.integers(0, 8),
        memory_bytes=st.just(8 * GIB),
        only_user=st.sampled_from(["", "", "bo"]),
        open=st.booleans(),
        closed_reason=st.just("cordoned"),
        taints=st.sampled_from([(), (), (("team", "bio"),)]),
        labels=st.sampled_from([(), (("zone", "a"),)]),
        runs_images=st.booleans(),
        whole_gpus=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda view: view.name,
)
MEMBERS = st.lists(
    st.builds(
        resources,
        st.sampled_from([0, 400, 1000, 2000]),
        st.integers(0, 9),
        memory_bytes=st.integers(0, 9).map(lambda n: n * GIB),
        gpu_model=st.none() | st.just("T4"),
    ),
    min_size=1,
    max_size=4,
)


@given(NODES, MEMBERS, st.sampled_from([(), (("zone", "a"),)]), st.booleans())
def test_it_says_what_the_cycle_says(
    nodes: list[NodeView],
    members: list[Resources],
    selector: tuple[tuple[str, str], ...],
    needs_image: bool,
) -> None:
    wanted = gang(1, *members, node_selector=selector, needs_image=needs_image)
    plan = schedule(snapshot(nodes, [wanted]), NOW)
    possible = could_ever_hold(nodes, wanted)
    if plan.waiting:
        assert plan.waiting[0].impossible is not possible
    else:
        assert possible
