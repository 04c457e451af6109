"""A TrainSpec comes out of its message as it went in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from riseml.convert import train_spec_from_proto, train_spec_to_proto
from riseml.spec import model
from riseml.v1 import spec_pb2 as pb

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
word = st.text("abcXYZ019-_.", min_size=1, max_size=8)
amount = st.integers(0, 2**62)
count = st.integers(0, 2**31 - 1)
pairs = st.dictionaries(word, text, max_size=3).map(lambda d: tuple(sorted(d.items())))


def several(of: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(of, max_size=3).map(tuple)


resources = st.builds(
    model.Resources,
    cpu_milli=amount,
    memory_bytes=amount,
    gpu_milli=amount,
    gpu_model=st.none() | word,
    gpu_min_memory_bytes=amount,
    shm_bytes=amount,
)
roles = st.builds(model.RoleSpec, st.sampled_from(model.ROLE_NAMES), count, resources)
specs = st.builds(
    model.TrainSpec,
    project=text,
    run=several(text),
    framework=st.none() | st.sampled_from(model.FRAMEWORKS),
    framework_version=st.none() | word,
    tensorboard=st.booleans(),
    image=st.none() | word,
    install=several(text),
    roles=st.lists(roles, min_size=1, max_size=3).map(tuple),
    parameters=several(st.builds(model.ParameterValues, word, several(text))),
    concurrency=st.integers(1, 2**31 - 1),
    search=st.none()
    | st.builds(
        model.SearchSpec,
        st.sampled_from(model.SEARCH_METHODS),
        st.none() | word,
        st.sampled_from(model.SEARCH_GOALS),
        count,
    ),
    env=several(st.builds(model.EnvVar, word, text, st.booleans())),
    secrets=several(word),
    priority=st.integers(0, 100),
    queue=word,
    max_duration_seconds=st.none() | st.integers(1, 2**62),
    grace_period_seconds=amount,
    retry=st.builds(model.RetryPolicy, several(st.sampled_from(model.RETRY_EVENTS)), count),
    utilization_policy=st.none() | st.builds(model.UtilizationPolicy, count, amount),
    volumes=several(st.builds(model.Volume, word, text, st.booleans())),
    labels=pairs,
    node_selector=pairs,
)


@given(specs)
def test_spec_survives_the_way_to_the_wire_and_back(spec: model.TrainSpec) -> None:
    sent = train_spec_to_proto(spec).SerializeToString()
    assert train_spec_from_proto(pb.TrainSpec.FromString(sent)) == spec


def test_message_with_the_bare_minimum_takes_the_defaults() -> None:
    message = pb.TrainSpec(project="digits", run=["true"])
    assert train_spec_from_proto(message) == model.TrainSpec(project="digits", run=("true",))


def test_role_without_resources_takes_the_defaults_but_zeros_stay_zeros() -> None:
    message = pb.TrainSpec(
        roles=[
            pb.Role(name="train", count=1),
            pb.Role(name="ps", count=2, resources=pb.Resources()),
        ]
    )
    first, second = train_spec_from_proto(message).roles
    assert first.resources == model.Resources()
    assert second.resources.cpu_milli == 0 and second.resources.memory_bytes == 0


def test_every_field_of_the_message_is_converted() -> None:
    """A field added to the contract and forgotten here would be lost in silence."""
    fields = {field.name for field in pb.TrainSpec.DESCRIPTOR.fields}
    names = set(model.TrainSpec.__dataclass_fields__)
    assert fields == names
