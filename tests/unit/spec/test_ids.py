from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.spec.errors import InvalidId, InvalidName
from riseml.spec.ids import (
    AnyId,
    AttemptId,
    ExperimentId,
    JobGroupId,
    JobId,
    check_project_name,
    check_user_name,
    experiment_of,
    format_id,
    parse_attempt_id,
    parse_experiment_id,
    parse_id,
    parse_job_id,
    project_name_from,
)
from riseml.spec.model import JOB_TYPES


def is_user_name(name: str) -> bool:
    try:
        check_user_name(name)
    except InvalidName:
        return False
    return True


numbers = st.integers(1, 2**31 - 1)
users = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True).filter(is_user_name)
experiments = st.builds(ExperimentId, users, numbers, st.none() | numbers)
groups = st.builds(JobGroupId, experiments, st.sampled_from(JOB_TYPES))
jobs = st.builds(JobId, experiments, st.sampled_from(JOB_TYPES), numbers)
attempts = st.builds(AttemptId, jobs, numbers)
ids: st.SearchStrategy[AnyId] = st.one_of(experiments, groups, jobs, attempts)


@given(ids)
def test_every_id_reads_back_as_itself(id: AnyId) -> None:
    assert parse_id(format_id(id)) == id


@given(ids)
def test_without_its_owners_name_an_id_reads_back_for_that_owner(id: AnyId) -> None:
    user = experiment_of(id).user
    assert parse_id(format_id(id, caller=user), default_user=user) == id


@given(ids, users)
def test_with_its_owners_name_the_reader_does_not_matter(id: AnyId, other: str) -> None:
    assert parse_id(format_id(id), default_user=other) == id


@given(st.text(max_size=30))
def test_any_text_is_an_id_in_canonical_form_or_refused(text: str) -> None:
    try:
        id = parse_id(text, default_user="ana")
    except InvalidId:
        return
    assert text in (format_id(id), format_id(id, caller="ana"))


SET = ExperimentId("ana", 17)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17", SET),
        ("ana.17", SET),
        ("bob-2.17", ExperimentId("bob-2", 17)),
        ("17.3", ExperimentId("ana", 17, 3)),
        ("17.worker", JobGroupId(SET, "worker")),
        ("17.worker.3", JobId(SET, "worker", 3)),
        ("17.3.worker.2", JobId(ExperimentId("ana", 17, 3), "worker", 2)),
        ("ana.17.train.1-2", AttemptId(JobId(SET, "train", 1), 2)),
        ("17.build.1-1", AttemptId(JobId(SET, "build", 1), 1)),
        ("17.tensorboard", JobGroupId(SET, "tensorboard")),
    ],
)
def test_ids_that_people_write(text: str, expected: AnyId) -> None:
    assert parse_id(text, default_user="ana") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "ana",
        "ana.",
        "ana.x",
        "worker.3",
        "0",
        "017",
        "17.0",
        "17.trainer",
        "17.train.0",
        "17.train.1.2",
        "17.train.1-",
        "17.train.-1",
        "17.train.1-0",
        "17.3.4",
        "17..train",
        "99999999999",
        "2147483648",
        "Ana.17",
        "a b.17",
        "../x.17",
        "\u0661\u0667",
        "17\n",
        "x" * 200,
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidId):
        parse_id(text, default_user="ana")


def test_without_a_caller_the_user_has_to_be_named() -> None:
    with pytest.raises(InvalidId, match="names no user"):
        parse_id("17.train.1")


def test_each_kind_of_id_can_be_asked_for() -> None:
    assert parse_experiment_id("17", "ana") == SET
    assert parse_job_id("ana.17.train.1").group == JobGroupId(SET, "train")
    assert parse_attempt_id("ana.17.train.1-2").generation == 2
    with pytest.raises(InvalidId, match="not an experiment"):
        parse_experiment_id("ana.17.train")
    with pytest.raises(InvalidId, match="not a job"):
        parse_job_id("ana.17.train")
    with pytest.raises(InvalidId, match="not an attempt"):
        parse_attempt_id("ana.17.train.1")


def test_people_see_short_ids() -> None:
    job = JobId(SET, "train", 1)
    assert format_id(job, caller="ana", drop_first=True) == "17.train"
    assert format_id(job, caller="bob", drop_first=True) == "ana.17.train"
    assert format_id(JobId(SET, "worker", 2), caller="ana", drop_first=True) == "17.worker.2"
    assert format_id(AttemptId(job, 2), caller="ana", drop_first=True) == "17.train.1-2"


def test_children_belong_to_their_set() -> None:
    assert SET.with_child(3).set_id == SET
    assert SET.set_id == SET
    assert sorted([SET.with_child(2), SET.with_child(1)])[0].child == 1


@pytest.mark.parametrize("name", ["ana", "a", "ana-maria", "a_1", "4ever", "x" * 32])
def test_names_that_users_may_have(name: str) -> None:
    assert check_user_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "17",
        "worker",
        "build",
        "a.b",
        "Ana",
        "-a",
        "a-",
        "a/b",
        "..",
        "a b",
        "é",
        "x" * 33,
        "a\n",
    ],
)
def test_names_that_users_may_not_have(name: str) -> None:
    with pytest.raises(InvalidName):
        check_user_name(name)


@pytest.mark.parametrize("name", ["digits", "My-Digits", "v1.2", "2026", "x" * 64])
def test_names_that_projects_may_have(name: str) -> None:
    assert check_project_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".git", "a/b", "a b", "-a", "x" * 65, "é", "a\n"])
def test_names_that_projects_may_not_have(name: str) -> None:
    with pytest.raises(InvalidName):
        check_project_name(name)


@given(st.text(max_size=100))
def test_any_folder_gives_a_project_name(folder: str) -> None:
    check_project_name(project_name_from(folder))
