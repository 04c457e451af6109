"""What every store does, whatever it is made of."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.domain.changes import Change, Delete, Insert, Update
from controlplane.domain.errors import InvalidRequest, StoreUnavailable
from controlplane.domain.model import (
    ApiKey,
    Attempt,
    Experiment,
    Job,
    Node,
    NodeInventory,
    NodeToken,
    Project,
    Queue,
    Revision,
    User,
    UseRecord,
)
from controlplane.domain.states import AttemptState, State
from controlplane.store.open import open_store
from controlplane.store.protocol import ExperimentQuery, Store, StoreConflict
from tests.contract.objects import START, attempt, experiment, experiment_set, job, spec

NOW = START + 100.0
_numbers = itertools.count(1)


def commit(store: Store, *changes: Change) -> None:
    """The next change of a store."""
    store.commit(changes, store.load(NOW).change_number + 1)


def insert(store: Store, *entities: Any) -> None:
    commit(store, *(Insert(entity) for entity in entities))


def ids(experiments: Sequence[Experiment]) -> list[str]:
    return [one.id for one in experiments]


def pages(store: Store, query: ExperimentQuery) -> Iterator[list[str]]:
    while True:
        page = store.experiments(query)
        yield ids(page.experiments)
        if not page.next_page_token:
            return
        query = replace(query, page_token=page.next_page_token)


# --- one object at a time


def test_a_new_store_is_empty(store: Store) -> None:
    live = store.load(NOW)
    assert live.change_number == 0
    assert not (live.users or live.experiments or live.attempts or live.last_numbers)
    assert store.experiments(ExperimentQuery()).experiments == ()


def test_the_cluster_id_stays_after_reopening(durable_url: str) -> None:
    first = open_store(durable_url)
    made = first.cluster_id()
    first.close()
    second = open_store(durable_url)
    assert second.cluster_id() == made
    second.close()


def test_what_was_committed_is_there_after_reopening(durable_url: str) -> None:
    first = open_store(durable_url)
    one = experiment(1)
    first.commit([Insert(one), Insert(job(one))], 7)
    first.close()
    second = open_store(durable_url)
    live = second.load(NOW)
    second.close()
    assert live.change_number == 7
    assert live.experiments == (one,)
    assert live.jobs == (job(one),)


def test_users_keys_tokens_and_nodes_come_back_sorted(store: Store) -> None:
    users = [User(name, f"{name}@x", name == "ana", True, START) for name in ("bo", "ana")]
    keys = [ApiKey(key, "ana", "0" * 64, "", START, "r") for key in ("k2", "k1")]
    tokens = [NodeToken(node, "1" * 64, START) for node in ("n2", "n1")]
    nodes = [Node(n, NodeInventory(n, "boot", "1", 4000, 1 << 34), 3) for n in ("n2", "n1")]
    insert(store, *users, *keys, *tokens, *nodes)
    live = store.load(NOW)
    assert live.users == tuple(reversed(users))
    assert live.api_keys == tuple(reversed(keys))
    assert live.node_tokens == tuple(reversed(tokens))
    assert live.nodes == tuple(reversed(nodes))


def test_queues_and_use_come_back_sorted_and_can_be_removed(store: Store) -> None:
    queues = [Queue(name, weight=2, create_time=START) for name in ("research", "default")]
    records = [UseRecord(q, u, 0.1, START) for q, u in (("b", "ana"), ("a", "bo"), ("a", ""))]
    insert(store, *queues, *records)
    live = store.load(NOW)
    assert live.queues == tuple(reversed(queues))
    assert live.use_records == tuple(reversed(records))
    newer = replace(records[0], seconds=1e9 / 3, time=NOW)
    commit(store, Update(newer), Delete(records[1]), Delete(queues[0]))
    live = store.load(NOW)
    assert live.queues == (queues[1],)
    assert live.use_records == (records[2], newer)


def test_an_update_replaces_and_a_delete_removes(store: Store) -> None:
    user = User("ana", "", False, True, START)
    key = ApiKey("k1", "ana", "0" * 64, "", START)
    insert(store, user, key)
    commit(store, Update(replace(user, admin=True)), Delete(key))
    live = store.load(NOW)
    assert live.users == (replace(user, admin=True),)
    assert live.api_keys == ()


def test_only_the_last_value_of_a_batch_is_seen(store: Store) -> None:
    one = experiment(1)
    token = NodeToken("n1", "0" * 64, START)
    commit(
        store,
        Insert(one),
        Insert(token),
        Update(replace(one, state=State.STARTING)),
        Delete(token),
        Update(replace(one, state=State.RUNNING, generation=1)),
    )
    assert store.experiment("ana.1") == replace(one, state=State.RUNNING, generation=1)
    assert store.load(NOW).node_tokens == ()


def test_an_object_may_be_replaced_within_a_batch(store: Store) -> None:
    old, new = NodeToken("n1", "0" * 64, START), NodeToken("n1", "1" * 64, START)
    insert(store, old)
    commit(store, Delete(old), Insert(new))
    assert store.load(NOW).node_tokens == (new,)


# --- conflicts


@pytest.mark.parametrize(
    "changes",
    [
        [Insert(experiment(1))],
        [Update(experiment(2))],
        [Delete(experiment(1)), Update(experiment(1))],
    ],
    ids=["taken", "absent", "deleted"],
)
def test_a_change_that_does_not_fit_is_refused_with_its_whole_batch(
    store: Store, changes: list[Change]
) -> None:
    insert(store, experiment(1))
    user = User("ana", "", False, True, START)
    with pytest.raises(StoreConflict):
        store.commit([Insert(user), *changes], 2)
    live = store.load(NOW)
    assert live.change_number == 1
    assert live.users == ()
    assert ids(live.experiments) == ["ana.1"]
    store.commit([Insert(user)], 2)
    assert store.load(NOW).users == (user,)


def test_a_change_number_that_is_not_newer_is_refused(store: Store) -> None:
    store.commit([Insert(experiment(1))], 5)
    with pytest.raises(StoreConflict):
        store.commit([Insert(experiment(2))], 5)
    assert ids(store.load(NOW).experiments) == ["ana.1"]


# --- what is live


def test_ended_experiments_are_read_from_the_store_and_not_loaded(store: Store) -> None:
    done = experiment(1, state=State.FINISHED, end_time=START)
    insert(store, done, job(done), attempt(job(done), state=AttemptState.EXITED), experiment(2))
    live = store.load(NOW)
    assert ids(live.experiments) == ["ana.2"]
    assert not live.jobs and not live.attempts
    assert store.experiment("ana.1") == done
    assert live.last_numbers == (("ana", 2),)


def test_an_ended_experiment_with_a_living_attempt_is_loaded(store: Store) -> None:
    killed = experiment(1, state=State.KILLED, end_time=START)
    still = attempt(job(killed), state=AttemptState.STOPPING)
    insert(store, killed, job(killed), still)
    live = store.load(NOW)
    assert ids(live.experiments) == ["ana.1"]
    assert live.attempts == (still,)
    commit(store, Update(replace(still, state=AttemptState.LOST)))
    assert store.load(NOW).experiments == ()


def test_a_set_is_loaded_with_its_living_children_only(store: Store) -> None:
    parent, *children = experiment_set(1, 4)
    ended = replace(children[0], state=State.FINISHED, end_time=START)
    failed = replace(children[1], state=State.FAILED, end_time=START)
    insert(store, parent, *children, *map(job, children))
    commit(store, Update(ended), Update(failed))
    live = store.load(NOW)
    assert ids(live.experiments) == ["ana.1", "ana.1.3", "ana.1.4"]
    assert live.ended_children == (
        ("ana.1", State.FINISHED, 1),
        ("ana.1", State.FAILED, 1),
    )
    assert store.children_by_state(["ana.1", "ana.9"]) == {
        "ana.1": {State.PENDING: 2, State.FINISHED: 1, State.FAILED: 1}
    }


def test_an_ended_set_with_a_living_child_is_loaded(store: Store) -> None:
    parent, child = experiment_set(1, 1)
    insert(store, replace(parent, state=State.KILLED, end_time=START), child)
    assert set(ids(store.load(NOW).experiments)) == {"ana.1", "ana.1.1"}


def test_children_share_their_sets_spec_object(store: Store) -> None:
    insert(store, *experiment_set(1, 3))
    loaded = store.load(NOW).experiments
    assert len({id(one.spec) for one in loaded}) == 1
    assert loaded[0].spec == experiment_set(1, 3)[0].spec


def test_attempts_of_the_newest_generation_and_living_ones_are_loaded(store: Store) -> None:
    one = experiment(1, generation=3)
    jobs = [job(one, 1, "worker"), job(one, 2, "worker")]
    old = attempt(jobs[0], 1, state=AttemptState.EXITED)
    lost = attempt(jobs[1], 2, state=AttemptState.RUNNING, node_lost=True)
    newest = [attempt(each, 3, state=AttemptState.EXITED) for each in jobs]
    insert(store, one, *jobs, old, lost, *newest)
    assert list(store.load(NOW).attempts) == [lost, *newest]
    assert store.attempts(["ana.1"]) == [old, lost, *newest]
    assert store.attempt("ana.1.worker.2-2") == lost
    assert store.attempt("ana.1.worker.9-1") is None


def test_requests_of_the_last_day_are_loaded(store: Store) -> None:
    old = experiment(1, request_id="r-old", create_time=NOW - 86_401)
    new = experiment(2, request_id="r-new", create_time=NOW - 86_399, state=State.FINISHED)
    insert(store, old, new, experiment(3))
    assert store.load(NOW).recent_requests == (("ana", "r-new", "ana.2"),)
    assert store.experiment_by_request("ana", "r-old") == old
    assert store.experiment_by_request("bo", "r-old") is None
    assert store.experiment_by_request("ana", "") is None


def test_numbers_are_not_given_again_after_a_delete(store: Store) -> None:
    insert(store, experiment(1), experiment(2), experiment(7, "bo"))
    commit(store, Delete(experiment(2)))
    assert store.load(NOW).last_numbers == (("ana", 2), ("bo", 7))


def test_deleting_a_set_deletes_what_belongs_to_it(store: Store) -> None:
    parent, *children = experiment_set(1, 2)
    insert(store, parent, *children, *map(job, children), attempt(job(children[0])))
    commit(store, Delete(parent))
    assert store.load(NOW).experiments == ()
    assert store.jobs(ids(children)) == []
    assert store.attempts(ids(children)) == []
    assert store.experiment("ana.1.1") is None
    insert(store, parent, *children)
    assert store.experiment("ana.1.2") == children[1]


# --- lists


def test_experiments_are_listed_newest_first_in_pages(store: Store) -> None:
    # Clocks step back: the order of insertion counts.
    insert(store, *(experiment(n, create_time=START - n) for n in range(1, 6)))
    found = list(pages(store, ExperimentQuery(page_size=2)))
    assert found == [["ana.5", "ana.4"], ["ana.3", "ana.2"], ["ana.1"]]


def test_a_page_that_ends_with_the_list_has_no_next_one(store: Store) -> None:
    insert(store, experiment(1), experiment(2))
    assert list(pages(store, ExperimentQuery(page_size=2))) == [["ana.2", "ana.1"]]


def test_pages_stay_whole_while_experiments_are_added(store: Store) -> None:
    insert(store, *(experiment(n) for n in range(1, 5)))
    walk = pages(store, ExperimentQuery(page_size=2))
    first = next(walk)
    insert(store, experiment(5))
    assert [*first, *next(walk)] == ["ana.4", "ana.3", "ana.2", "ana.1"]


def test_lists_filter_by_user_project_and_state(store: Store) -> None:
    insert(
        store,
        experiment(1),
        experiment(2, project="mnist", state=State.RUNNING),
        experiment(3, state=State.FAILED, end_time=START),
        experiment(1, "bo", state=State.RUNNING),
        *experiment_set(4, 2),
    )

    def listed(**query: Any) -> list[str]:
        return ids(store.experiments(ExperimentQuery(**query)).experiments)

    assert listed() == ["ana.4", "bo.1", "ana.3", "ana.2", "ana.1"]
    assert listed(user_name="bo") == ["bo.1"]
    assert listed(project="mnist") == ["ana.2"]
    assert listed(states=(State.RUNNING,)) == ["bo.1", "ana.2"]
    assert listed(states=(State.RUNNING, State.FAILED), user_name="ana") == ["ana.3", "ana.2"]
    assert listed(user_name="cy") == []


def test_children_are_listed_by_number(store: Store) -> None:
    insert(store, *experiment_set(1, 11))
    query = ExperimentQuery(set_id="ana.1", page_size=4)
    assert [len(page) for page in pages(store, query)] == [4, 4, 3]
    assert [one for page in pages(store, query) for one in page] == [
        f"ana.1.{child}" for child in range(1, 12)
    ]


@pytest.mark.parametrize("token", ["x", "-1", "1.5", "9" * 40, "1; DROP TABLE jobs"])
def test_a_foreign_page_token_is_refused(store: Store, token: str) -> None:
    with pytest.raises(InvalidRequest):
        store.experiments(ExperimentQuery(page_token=token))


def test_jobs_come_by_experiment_and_rank_with_builds_last(store: Store) -> None:
    one, two = experiment(1), experiment(2)
    gang = [job(one, 1, "master", rank=0), job(one, 1, "worker", rank=1), job(one, 1, "ps", rank=2)]
    build = job(one, 1, "build", rank=-1)
    insert(store, one, two, build, *reversed(gang), job(two))
    assert store.jobs(["ana.2", "ana.1"]) == [job(two), *gang, build]


def test_projects_are_listed_after_a_pair(store: Store) -> None:
    every = [Project(u, n, START) for u, n in (("ana", "B"), ("ana", "a"), ("bo", "a"))]
    insert(store, *reversed(every))
    assert store.projects(None, ("", ""), 10) == every
    assert store.projects(None, ("ana", "B"), 1) == every[1:2]
    assert store.projects("bo", ("ana", "B"), 10) == every[2:]
    assert store.project("ana", "a") == every[1]
    assert store.project("ana", "b") is None


def test_revisions_are_found_by_user_and_hash(store: Store) -> None:
    revision = Revision("a" * 64, "ana", "digits", 3, 4_000_000_000, START)
    insert(store, revision)
    assert store.revision("ana", "a" * 64) == revision
    assert store.revision("bo", "a" * 64) is None


def test_retention_sees_ended_experiments_and_misses_none_of_a_moment(store: Store) -> None:
    ends = {1: 10.0, 2: 20.0, 3: 20.0, 4: 20.0, 5: 30.0}
    insert(
        store,
        *(experiment(n, state=State.FINISHED, end_time=end) for n, end in ends.items()),
        experiment(6),
    )
    assert ids(store.ended_between(0.0, 30.0, 100)) == [f"ana.{n}" for n in ends]
    assert ids(store.ended_between(10.0, 20.0, 100)) == ["ana.2", "ana.3", "ana.4"]
    assert ids(store.ended_between(0.0, 30.0, 2)) == ["ana.1", "ana.2", "ana.3", "ana.4"]
    assert store.ended_between(30.0, 99.0, 2) == []


# --- every field


def any_value(hint: Any) -> st.SearchStrategy[Any]:
    """Every value of a type, with nothing left at its default."""
    parts = get_args(hint)
    if get_origin(hint) is tuple and parts[-1] is Ellipsis:
        return st.lists(any_value(parts[0]), max_size=2).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*map(any_value, parts))
    if parts:
        return st.one_of(*map(any_value, parts))
    if hint is str:
        return st.text(st.characters(), max_size=8)
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if hint is int:
        return st.integers(-(2**40), 2**62)
    return anything(hint) if is_dataclass(hint) else st.from_type(hint)


def anything(cls: Any, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Every value of a dataclass; `known` has strategies for some of its fields."""
    hints = get_type_hints(cls)
    parts = {f.name: any_value(hints[f.name]) for f in fields(cls) if f.name not in known}
    return st.builds(cls, **parts, **known)


# Texts that are columns: PostgreSQL has no NUL in them, and names are far stricter.
NAMES = st.text("abcdefgxyz-_.AZ09ä", min_size=1, max_size=10)
OBJECTS = st.one_of(
    anything(User, name=NAMES),
    anything(ApiKey, id=NAMES, user_name=NAMES),
    anything(NodeToken, node_name=NAMES),
    anything(Node, name=NAMES),
    anything(Queue, name=NAMES),
    anything(UseRecord, queue=NAMES, user_name=NAMES | st.just("")),
    anything(Project, user_name=NAMES, name=NAMES),
    anything(Revision, user_name=NAMES, id=NAMES),
)


def read_back(store: Store, entity: Any) -> Any:
    """The object as a store gives it, by whatever way there is."""
    live = store.load(NOW)
    match entity:
        case User():
            return next(one for one in live.users if one.name == entity.name)
        case ApiKey():
            return next(one for one in live.api_keys if one.id == entity.id)
        case NodeToken():
            return next(one for one in live.node_tokens if one.node_name == entity.node_name)
        case Node():
            return next(one for one in live.nodes if one.name == entity.name)
        case Queue():
            return next(one for one in live.queues if one.name == entity.name)
        case UseRecord():
            key = (entity.queue, entity.user_name)
            return next(one for one in live.use_records if (one.queue, one.user_name) == key)
        case Project():
            return store.project(entity.user_name, entity.name)
        case Revision():
            return store.revision(entity.user_name, entity.id)


ONE_STORE_FOR_ALL = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@ONE_STORE_FOR_ALL
@given(st.data())
def test_every_field_of_every_object_comes_back(store: Store, data: st.DataObject) -> None:
    entity = data.draw(OBJECTS)
    commit(store, Insert(entity))
    assert read_back(store, entity) == entity
    commit(store, Delete(entity))


@ONE_STORE_FOR_ALL
@given(st.data())
def test_every_field_of_an_experiment_its_jobs_and_attempts_comes_back(
    store: Store, data: st.DataObject
) -> None:
    user, number = data.draw(NAMES), next(_numbers)
    known: dict[str, Any] = {
        "id": st.just(f"{user}.{number}"),
        "user_name": st.just(user),
        "number": st.just(number),
        "set_id": st.none(),
        "project": NAMES,
        "request_id": st.just("") | NAMES,
    }
    one = data.draw(anything(Experiment, **known))
    changed = data.draw(
        anything(
            Experiment,
            **{
                **known,
                "spec": st.just(one.spec),
                "project": st.just(one.project),
                "request_id": st.just(one.request_id),
                "child_number": st.just(one.child_number),
                "create_time": st.just(one.create_time),
            },
        )
    )
    owner = {"id": st.just(f"{one.id}.train.1"), "experiment_id": st.just(one.id)}
    first_job, second_job = (data.draw(anything(Job, **owner)) for _ in range(2))
    owner["id"] = st.just(f"{one.id}.train.1-2")
    node = {"node_name": st.just(data.draw(NAMES))}
    first, second = (data.draw(anything(Attempt, **owner, **node)) for _ in range(2))

    def found() -> tuple[Any, ...]:
        return (
            store.experiment(one.id),
            store.jobs([one.id]),
            store.attempts([one.id]),
            store.attempt(first.id),
        )

    commit(store, Insert(one), Insert(first_job), Insert(first))
    assert found() == (one, [first_job], [first], first)
    commit(store, Update(changed), Update(second_job), Update(second))
    assert found() == (changed, [second_job], [second], second)


# --- threads and faults


def test_reads_from_other_threads_see_only_what_is_committed(store: Store) -> None:
    """Each batch has an experiment and its job: no reader may see one without the other."""
    rounds = 60
    torn: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            live = store.load(NOW)
            if len(live.experiments) != len(live.jobs) or live.change_number < len(live.jobs):
                torn.append(f"{len(live.experiments)} experiments, {len(live.jobs)} jobs")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, rounds + 1):
        one = experiment(number)
        store.commit([Insert(one), Insert(job(one))], number)
    stop.set()
    for reader in readers:
        reader.join()
    assert torn == []
    assert len(store.load(NOW).experiments) == rounds


def test_a_disk_that_fails_before_the_commit_leaves_nothing_of_the_batch(
    durable_url: str,
) -> None:
    faults: list[OSError] = []

    def disk() -> None:
        if faults:
            raise faults[0]

    store = open_store(durable_url, before_commit=disk)
    insert(store, experiment(1))
    faults.append(OSError(28, "No space left on device"))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="Nothing was changed") as raised:
            store.commit([Insert(experiment(2)), Update(experiment(1, message="x"))], 2)
        assert raised.value.reason == "STORE_FULL"
    assert store.load(NOW).experiments == (experiment(1),)
    faults.clear()
    store.commit([Insert(experiment(2))], 2)
    assert ids(store.load(NOW).experiments) == ["ana.1", "ana.2"]
    store.close()


def test_specs_are_written_once(store: Store) -> None:
    one = experiment(1)
    insert(store, one)
    commit(store, Update(replace(one, spec=spec("another"), state=State.RUNNING)))
    stored = store.experiment("ana.1")
    assert stored == replace(one, state=State.RUNNING)
