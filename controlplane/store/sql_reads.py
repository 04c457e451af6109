"""The questions that the store answers, as queries on a database in a read transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import peewee

from controlplane.domain.model import Attempt, Experiment, Job, Project, Revision
from controlplane.domain.states import State
from controlplane.store.codec import SpecReader
from controlplane.store.order import (
    current_attempts,
    experiment_of_attempt,
    in_job_order,
    oldest_first,
    position_of,
)
from controlplane.store.protocol import (
    REQUEST_MEMORY_SECONDS,
    ExperimentPage,
    ExperimentQuery,
    LiveState,
)
from controlplane.store.tables import (
    API_KEYS,
    ATTEMPTS,
    CLUSTER,
    EXPERIMENTS,
    JOBS,
    LAST_NUMBERS,
    NODE_TOKENS,
    NODES,
    PROJECTS,
    QUEUES,
    REVISIONS,
    SPECS,
    USE_RECORDS,
    USERS,
    EntityTable,
)

# SQLite takes 32,766 values in a statement; shorter ones are made faster.
_CHUNK: Final = 500

E: Final = EXPERIMENTS.rows.c
A: Final = ATTEMPTS.rows.c


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    every = list(dict.fromkeys(ids))
    for start in range(0, len(every), _CHUNK):
        yield every[start : start + _CHUNK]


def _rows(database: peewee.Database, query: Any) -> list[tuple[Any, ...]]:
    return list(query.tuples().execute(database))


def _select(table: EntityTable) -> Any:
    return table.rows.select(*table.selected())


def _all(database: peewee.Database, table: EntityTable) -> tuple[Any, ...]:
    query = _select(table).order_by(*(getattr(table.rows.c, name) for name in table.codec.key))
    return tuple(map(table.codec.from_row, _rows(database, query)))


def _one(database: peewee.Database, table: EntityTable, *key: str) -> Any:
    query = _select(table)
    for name, value in zip(table.codec.key, key, strict=True):
        query = query.where(getattr(table.rows.c, name) == value)
    rows = _rows(database, query)
    return table.codec.from_row(rows[0]) if rows else None


def _of_experiments(database: peewee.Database, table: EntityTable, ids: Iterable[str]) -> list[Any]:
    return [
        table.codec.from_row(row)
        for chunk in _chunks(ids)
        for row in _rows(database, _select(table).where(table.rows.c.experiment_id.in_(chunk)))
    ]


_SET_ID: Final = EXPERIMENTS.codec.columns.index("set_id")
_OWN_ID: Final = EXPERIMENTS.codec.columns.index("id")


def _experiments(
    database: peewee.Database, rows: Sequence[tuple[Any, ...]], specs: SpecReader | None = None
) -> list[Experiment]:
    """Objects of rows that have the experiment's columns first; children get their set's spec."""
    reader = specs or SpecReader()
    owners = [row[_SET_ID] or row[_OWN_ID] for row in rows]
    bodies: dict[str, Any] = {}
    for chunk in _chunks(owners):
        query = SPECS.select(SPECS.c.experiment_id, SPECS.c.body)
        for owner, body in _rows(database, query.where(SPECS.c.experiment_id.in_(chunk))):
            bodies[owner] = reader.read(body)
    width = len(EXPERIMENTS.codec.columns)
    return [
        EXPERIMENTS.codec.from_row(row[:width], spec=bodies[owner])
        for row, owner in zip(rows, owners, strict=True)
    ]


def live_state(database: peewee.Database, now: float) -> LiveState:
    """See `protocol.LiveState`."""
    busy = ATTEMPTS.rows.select(A.experiment_id).where(A.ended == 0)
    queries = (
        _select(EXPERIMENTS).where(E.ended == 0).order_by(E.seq),
        _select(EXPERIMENTS).where((E.ended == 1) & E.id.in_(busy)).order_by(E.seq),
    )
    rows = [row for query in queries for row in _rows(database, query)]
    present = {row[_OWN_ID] for row in rows}
    missing_sets = {row[_SET_ID] for row in rows} - present - {None}
    for chunk in _chunks(sorted(missing_sets)):
        rows.extend(_rows(database, _select(EXPERIMENTS).where(E.id.in_(chunk))))
    experiments = _experiments(database, rows)
    ids = [experiment.id for experiment in experiments]
    ((change_number,),) = _rows(database, CLUSTER.select(CLUSTER.c.change_number))
    numbers = LAST_NUMBERS.select(LAST_NUMBERS.c.user_name, LAST_NUMBERS.c.number)
    requests = (
        EXPERIMENTS.rows.select(E.user_name, E.request_id, E.id)
        .where((E.request_id != "") & (E.create_time > now - REQUEST_MEMORY_SECONDS))
        .order_by(E.seq)
    )
    return LiveState(
        change_number=change_number,
        users=_all(database, USERS),
        api_keys=_all(database, API_KEYS),
        node_tokens=_all(database, NODE_TOKENS),
        nodes=_all(database, NODES),
        queues=_all(database, QUEUES),
        use_records=_all(database, USE_RECORDS),
        projects=_all(database, PROJECTS),
        experiments=tuple(experiments),
        jobs=tuple(in_job_order(_of_experiments(database, JOBS, ids), ids)),
        attempts=tuple(current_attempts(_of_experiments(database, ATTEMPTS, ids))),
        last_numbers=tuple(
            (user, number)
            for user, number in _rows(database, numbers.order_by(LAST_NUMBERS.c.user_name))
        ),
        recent_requests=tuple(
            (user, request, experiment) for user, request, experiment in _rows(database, requests)
        ),
        ended_children=_ended_children(database, [one.id for one in experiments if one.is_set]),
    )


def _ended_children(
    database: peewee.Database, set_ids: Sequence[str]
) -> tuple[tuple[str, State, int], ...]:
    return tuple(
        (set_id, state, count)
        for set_id, counts in sorted(children_by_state(database, set_ids).items())
        for state, count in counts.items()
        if state.ended
    )


def children_by_state(
    database: peewee.Database, set_ids: Sequence[str]
) -> dict[str, dict[State, int]]:
    """Counts for each set that has children, states in the order of the life cycle."""
    counted: dict[str, dict[State, int]] = {}
    for chunk in _chunks(set_ids):
        query = EXPERIMENTS.rows.select(E.set_id, E.state, peewee.fn.COUNT(E.seq))
        query = query.where(E.set_id.in_(chunk)).group_by(E.set_id, E.state)
        for set_id, state, count in _rows(database, query):
            counted.setdefault(set_id, {})[State(state)] = count
    return {
        set_id: {state: found[state] for state in State if state in found}
        for set_id, found in counted.items()
    }


def experiment(database: peewee.Database, experiment_id: str) -> Experiment | None:
    """One by id."""
    found = _experiments(
        database, _rows(database, _select(EXPERIMENTS).where(E.id == experiment_id))
    )
    return found[0] if found else None


def experiment_by_request(
    database: peewee.Database, user_name: str, request_id: str
) -> Experiment | None:
    """The one that this request made."""
    if not request_id:
        return None
    # The second condition lets the planner use the index, which leaves out empty ones.
    query = _select(EXPERIMENTS).where(
        (E.user_name == user_name) & (E.request_id == request_id) & (E.request_id != "")
    )
    found = _experiments(database, _rows(database, query.order_by(E.seq).limit(1)))
    return found[0] if found else None


def experiment_page(database: peewee.Database, wanted: ExperimentQuery) -> ExperimentPage:
    """One page; its token is the insertion number, or the child's number, of its last one."""
    position = position_of(wanted.page_token)
    order = E.seq if wanted.set_id is None else E.child_number
    query = EXPERIMENTS.rows.select(*EXPERIMENTS.selected(), order)
    if wanted.set_id is None:
        query = query.where(E.set_id.is_null()).order_by(E.seq.desc())
        if position is not None:
            query = query.where(E.seq < position)
    else:
        query = query.where(E.set_id == wanted.set_id).order_by(E.child_number)
        if position is not None:
            query = query.where(E.child_number > position)
    if wanted.user_name is not None:
        query = query.where(E.user_name == wanted.user_name)
    if wanted.project is not None:
        query = query.where(E.project == wanted.project)
    if wanted.states:
        query = query.where(E.state.in_([state.value for state in wanted.states]))
        if not any(state.ended for state in wanted.states):
            # The same again in the words of an index that holds only what has not ended.
            query = query.where(E.ended == 0)
    rows = _rows(database, query.limit(wanted.page_size + 1))
    page = rows[: wanted.page_size]
    more = len(rows) > wanted.page_size and bool(page)
    return ExperimentPage(tuple(_experiments(database, page)), str(page[-1][-1]) if more else "")


def jobs(database: peewee.Database, experiment_ids: Sequence[str]) -> list[Job]:
    """By experiment as asked for, each with its gang by rank first."""
    return in_job_order(_of_experiments(database, JOBS, experiment_ids), experiment_ids)


def attempts(database: peewee.Database, experiment_ids: Sequence[str]) -> list[Attempt]:
    """Oldest first."""
    return oldest_first(_of_experiments(database, ATTEMPTS, experiment_ids))


def attempt(database: peewee.Database, attempt_id: str) -> Attempt | None:
    """One by id."""
    found: Attempt | None = _one(database, ATTEMPTS, experiment_of_attempt(attempt_id), attempt_id)
    return found


def projects(
    database: peewee.Database, user_name: str | None, after: tuple[str, str], limit: int
) -> list[Project]:
    """By user and name, after that pair."""
    c = PROJECTS.rows.c
    later = (c.user_name > after[0]) | ((c.user_name == after[0]) & (c.name > after[1]))
    query = _select(PROJECTS).where(later).order_by(c.user_name, c.name).limit(limit)
    if user_name is not None:
        query = query.where(c.user_name == user_name)
    return list(map(PROJECTS.codec.from_row, _rows(database, query)))


def project(database: peewee.Database, user_name: str, name: str) -> Project | None:
    """One by its key."""
    found: Project | None = _one(database, PROJECTS, user_name, name)
    return found


def revision(database: peewee.Database, user_name: str, revision_id: str) -> Revision | None:
    """One by its key."""
    found: Revision | None = _one(database, REVISIONS, user_name, revision_id)
    return found


def ended_between(
    database: peewee.Database, after: float, until: float, limit: int
) -> list[Experiment]:
    """Ended ones, children too, the longest ended first, with all of the last one's end_time."""
    ended = (E.ended == 1) & (E.end_time > after)
    times = EXPERIMENTS.rows.select(E.end_time).where(ended & (E.end_time <= until))
    last = _rows(database, times.order_by(E.end_time).limit(limit))[-1:]
    if not last:
        return []
    query = _select(EXPERIMENTS).where(ended & (E.end_time <= last[0][0]))
    return _experiments(database, _rows(database, query.order_by(E.end_time, E.seq)))
