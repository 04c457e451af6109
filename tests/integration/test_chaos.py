"""Everything at once, at random: programs are killed, the network is cut, and nothing goes wrong.

Jobs keep a ledger of their own lives. Afterwards each experiment has the end that it should have,
each attempt ran once, no two attempts of a job overlapped, and the archive holds exactly what the
jobs wrote. The seed is printed; RISEML_CHAOS_SEED sets it, RISEML_CHAOS_SECONDS how
long it goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

import pytest

from controlplane.core.cluster import Cluster as Core
from controlplane.core.invariants import check_invariants
from controlplane.store.open import open_store
from riseml.client import Client
from riseml.errors import DeadlineExceeded, Unavailable
from riseml.spec.model import ParameterValues, Resources, RetryPolicy, RoleSpec, TrainSpec
from riseml.v1 import experiment_pb2, node_pb2, state_pb2
from riseml.work_calls import new_request_id
from tests.integration.cluster import (
    ENDED,
    Cluster,
    output,
    running_cluster,
    spec,
    wait_for,
)
from tests.integration.proxy import CuttableProxy, cuttable_proxy

CHAOS_SECONDS: Final = float(os.environ.get("RISEML_CHAOS_SECONDS", "12"))
SETTLE_SECONDS: Final = 60.0
LEASE_SECONDS: Final = 3.0
JOBS: Final = 150
NODES: Final = ("n1", "n2")
# What no log of ours may say, whatever happens around it.
FAULTS: Final = re.compile(
    r"Traceback|never retrieved|was destroyed|unexpected error|IllegalTransition|never awaited"
)

# Every job begins so: it notes that it lives, and prints what it has put aside before.
BEGIN: Final = """
ledger={folder}/ledger/${{RISEML_ATTEMPT_ID%-*}}
note() {{ echo "$RISEML_ATTEMPT $1 $(date +%s%N)" >> $ledger; }}
note begin
head -c {size_bytes} /dev/urandom | base64 > {folder}/printed/$RISEML_ATTEMPT_ID
cat {folder}/printed/$RISEML_ATTEMPT_ID
"""
LIVE: Final = "for i in {turns}; do sleep 0.1; note lives; done\n"
LIVE_ON: Final = "while true; do sleep 0.1; note lives; done\n"
END: Final = "note end\nexit {code}\n"

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Story:
    """An experiment and how it has to end."""

    wanted: TrainSpec
    ends: state_pb2.State.ValueType
    jobs: int
    kill: bool = False
    # Each job's attempts; 0 where it depends on what is lost.
    attempts: int = 1


def make_story(chance: random.Random, folder: Path) -> Story:
    begin = BEGIN.format(folder=folder, size_bytes=chance.choice((0, 300, 5_000, 120_000)))
    live = LIVE.format(turns=" ".join("." * chance.randrange(6)) or "1")
    finish = begin + live + END.format(code=0)
    plain = replace(spec(finish), roles=(RoleSpec("train", 1, Resources(400, 64 << 20)),))
    workers = RoleSpec("worker", 2, Resources(400, 64 << 20))
    gang = replace(plain, roles=(workers,), framework="pytorch")
    match chance.choices(
        ("plain", "set", "gang", "failing gang", "killed", "failing", "retried", "movable"),
        (30, 8, 12, 5, 15, 10, 12, 8),
    )[0]:
        case "set":
            values = (ParameterValues("rate", ("1", "2", "3")),)
            wanted = replace(plain, parameters=values, concurrency=chance.randint(1, 3))
            return Story(wanted, state_pb2.STATE_FINISHED, 3)
        case "gang":
            return Story(gang, state_pb2.STATE_FINISHED, 2)
        case "failing gang":
            first_fails = 'case "$RISEML_ATTEMPT_ID" in *.worker.1-*) note end; exit 3;; esac\n'
            wanted = replace(gang, run=(begin + live + first_fails + LIVE_ON,))
            return Story(wanted, state_pb2.STATE_FAILED, 2)
        case "killed":
            wanted = replace(chance.choice((plain, gang)), run=(begin + LIVE_ON,))
            return Story(wanted, state_pb2.STATE_KILLED, wanted.job_count, kill=True)
        case "failing":
            wanted = replace(plain, run=(begin + live + END.format(code=7),))
            return Story(wanted, state_pb2.STATE_FAILED, 1)
        case "retried":
            fail = "[ $RISEML_ATTEMPT -ge 3 ] || { note end; exit 9; }\n"
            wanted = replace(plain, run=(begin + fail + live + END.format(code=0),))
            again = replace(wanted, retry=RetryPolicy(("error",), 2))
            return Story(again, state_pb2.STATE_FINISHED, 1, attempts=3)
        case "movable":
            wanted = replace(plain, retry=RetryPolicy(("node_lost",), 50))
            return Story(wanted, state_pb2.STATE_FINISHED, 1, attempts=0)
    return Story(plain, state_pb2.STATE_FINISHED, 1)


def make_stories(chance: random.Random, folder: Path) -> list[Story]:
    stories: list[Story] = []
    while sum(story.jobs for story in stories) < JOBS:
        stories.append(make_story(chance, folder))
    return stories


def stubbornly(call: Callable[[], Value], seconds: float = 30.0) -> Value:
    """The answer of a call that is tried until the control plane is there again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except (Unavailable, DeadlineExceeded):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class People(threading.Thread):
    """Those who submit and kill, whatever goes on."""

    def __init__(self, client: Client, stories: list[Story], chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._stories = stories
        self._chance = chance
        self.submitted: dict[str, Story] = {}
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            to_kill: list[str] = []
            for story in self._stories:
                time.sleep(self._chance.uniform(0, 1.6 * CHAOS_SECONDS / len(self._stories)))
                experiment_id = self._submit(story.wanted)
                self.submitted[experiment_id] = story
                if story.kill:
                    to_kill.append(experiment_id)
                if to_kill and self._chance.random() < 0.2:
                    self._kill(to_kill.pop(0))
            for experiment_id in to_kill:
                self._kill(experiment_id)
        except BaseException as fault:
            self.fault = fault

    def _submit(self, wanted: TrainSpec) -> str:
        request_id = new_request_id()
        create = self._client.experiments.create
        answer = stubbornly(lambda: create(wanted, request_id=request_id))
        return answer.experiment.id

    def _kill(self, experiment_id: str) -> None:
        stubbornly(lambda: self._client.experiments.kill(experiment_id))


class Chaos:
    """Does harm, and repairs it."""

    def __init__(
        self, cluster: Cluster, nets: dict[str, CuttableProxy], chance: random.Random
    ) -> None:
        self._cluster = cluster
        self._nets = nets
        self._chance = chance
        # When what was harmed is repaired, and how.
        self._repairs: list[tuple[float, str, Callable[[], None]]] = []
        self.done: list[str] = []

    def rage(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._repair(time.monotonic())
            self._check_alive()
            self._harm()
            time.sleep(self._chance.uniform(0.05, 0.6))
        self._repair(float("inf"))
        self._check_alive()

    def _harmed(self, what: str) -> bool:
        return any(harmed == what for _, harmed, _ in self._repairs)

    def _harm(self) -> None:
        node = self._chance.choice(NODES)
        what = self._chance.choice(("control plane", node, f"net of {node}", f"sleep of {node}"))
        if self._harmed(what) or (node in what and self._harmed_node(node)):
            return
        self.done.append(what)
        pause = self._chance.uniform(0, 1.5)
        if what == "control plane":
            self._cluster.control_plane.kill()
            check_store(self._cluster.home)
            self._later(self._chance.uniform(0, 0.5), what, self._cluster.start_control_plane)
        elif what == node:
            self._cluster.nodes[node].kill()
            self._later(pause, what, self._cluster.nodes[node].start)
        else:
            pause = self._chance.choice((pause, 1.8 * LEASE_SECONDS))
            if what == f"net of {node}":
                self._nets[node].cut()
                self._later(pause, what, self._nets[node].heal)
            else:
                os.kill(self._cluster.nodes[node].pid, signal.SIGSTOP)
                self._later(pause, what, self._waker(node))

    def _waker(self, node: str) -> Callable[[], None]:
        return lambda: os.kill(self._cluster.nodes[node].pid, signal.SIGCONT)

    def _harmed_node(self, node: str) -> bool:
        """A daemon that sleeps is not killed, and the other way round; its net may be cut."""
        return self._harmed(node) or self._harmed(f"sleep of {node}")

    def _later(self, seconds: float, what: str, repair: Callable[[], None]) -> None:
        self._repairs.append((time.monotonic() + seconds, what, repair))

    def _repair(self, now: float) -> None:
        for entry in [e for e in self._repairs if e[0] <= now]:
            self._repairs.remove(entry)
            entry[2]()

    def _check_alive(self) -> None:
        for program in (self._cluster.control_plane, *self._cluster.nodes.values()):
            assert program.running or self._harmed(program.name.removeprefix("noded ")), (
                f"{program.name} ended by itself:\n{program.log()[-3000:]}"
            )


def check_store(home: Path) -> Core:
    """What was committed when the control plane died holds together."""
    store = open_store(f"sqlite://{home}/control/db/riseml.db")
    try:
        core = Core.from_live_state(store.load(time.time()))
    finally:
        store.close()
    check_invariants(core)
    return core


def read_ledger(folder: Path) -> dict[str, list[tuple[int, str, int]]]:
    """Each job's notes of its life: generation, what, when in nanoseconds."""
    notes: dict[str, list[tuple[int, str, int]]] = {}
    for path in (folder / "ledger").iterdir():
        lines = (line.split() for line in path.read_text().splitlines())
        notes[path.name] = [(int(generation), what, int(at)) for generation, what, at in lines]
    return notes


def check_ledger(notes: dict[str, list[tuple[int, str, int]]]) -> None:
    for job, life in notes.items():
        begun = [generation for generation, what, _ in life if what == "begin"]
        assert len(begun) == len(set(begun)), f"an attempt of {job} ran twice: {life}"
        spans: dict[int, list[int]] = defaultdict(list)
        for generation, _, at in life:
            spans[generation].append(at)
        ordered = [spans[generation] for generation in sorted(spans)]
        for earlier, later in pairwise(ordered):
            assert max(earlier) <= min(later), f"two attempts of {job} lived at once: {life}"


def leaves(client: Client, root: experiment_pb2.Experiment) -> Iterator[experiment_pb2.Experiment]:
    """The experiment, or the children of a set."""
    count = root.set.child_count
    ids = [f"{root.id}.{n}" for n in range(1, count + 1)] if count else [root.id]
    for experiment_id in ids:
        yield client.experiments.get(experiment_id).experiment


def check_experiment(
    client: Client, experiment_id: str, story: Story, folder: Path,
    notes: dict[str, list[tuple[int, str, int]]],
) -> None:  # fmt: skip
    root = client.experiments.get(experiment_id).experiment
    name = state_pb2.State.Name
    assert root.state == story.ends, f"{experiment_id} is {name(root.state)}: {root.message}"
    for leaf in leaves(client, root):
        assert leaf.state == story.ends, f"{leaf.id} is {name(leaf.state)}: {leaf.message}"
        for job in leaf.jobs:
            if story.attempts and not story.kill:
                assert len(job.attempts) == story.attempts, f"{job.id}: {job.attempts}"
            told = {generation for generation, _, _ in notes.get(job.id, [])}
            assert told <= {a.generation for a in job.attempts}, f"{job.id} ran unknown attempts"
            for attempt in job.attempts:
                ended = (attempt.generation, "end") in [n[:2] for n in notes.get(job.id, [])]
                check_output(client, attempt.id, folder, whole=ended)


def check_output(client: Client, attempt_id: str, folder: Path, *, whole: bool) -> None:
    path = folder / "printed" / attempt_id
    printed = path.read_bytes() if path.exists() else b""
    archived = output(client, attempt_id)
    if whole:
        assert hashlib.sha256(archived).digest() == hashlib.sha256(printed).digest(), attempt_id
    else:
        assert printed.startswith(archived), f"{attempt_id} did not write this"


@contextlib.contextmanager
def nets_to(cluster: Cluster) -> Iterator[dict[str, CuttableProxy]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(cuttable_proxy(cluster.address)) for name in NODES}


@pytest.mark.timeout(240)
def test_whatever_breaks_everything_ends_as_it_should_and_nothing_runs_twice() -> None:
    seed = int(os.environ.get("RISEML_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"chaos seed: {seed}")  # noqa: T201
    chance = random.Random(seed)
    options = ("--lease-seconds", str(LEASE_SECONDS), "--heartbeat-seconds", "0.3")
    with running_cluster(*options, node=False) as cluster, nets_to(cluster) as nets:
        folder = cluster.home / "shared"
        for name in ("", "ledger", "printed"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        for name in NODES:
            cluster.start_node(name, server=nets[name].address, options=("--output-shared",))
        client = cluster.client()
        people = People(cluster.client(), make_stories(chance, folder), random.Random(seed + 1))
        people.start()
        chaos = Chaos(cluster, nets, chance)
        chaos.rage(CHAOS_SECONDS)
        people.join(60)
        assert not people.is_alive() and people.fault is None, people.fault

        for name in NODES:
            cluster.wait_node(name, node_pb2.NODE_STATE_READY)
        found: list[experiment_pb2.Experiment] = []

        def all_ended() -> bool:
            found[:] = client.experiments.list()
            return all(e.state in ENDED for e in found)

        try:
            wait_for(all_ended, "all to end", SETTLE_SECONDS)
        except AssertionError:
            stuck = [e for e in found if e.state not in ENDED]
            raise AssertionError(f"{len(stuck)} did not end: {stuck[:5]}") from None
        assert {e.id for e in found} == set(people.submitted), "lost or made twice"

        notes = read_ledger(folder)
        check_ledger(notes)
        for experiment_id, story in people.submitted.items():
            check_experiment(client, experiment_id, story, folder, notes)
        wait_for(lambda: not list_attempts(cluster), "daemons to tidy up")
        cluster.control_plane.kill()
        core = check_store(cluster.home)
        assert not core.attempts and not any(core.usage.values()), "something is still held"
        for program in (cluster.control_plane, *cluster.nodes.values()):
            fault = FAULTS.search(program.log())
            assert fault is None, f"{program.name} says:\n{program.log()[fault.start() - 2000 :]}"
        print(f"{len(found)} experiments, {len(notes)} jobs ran; harm: {chaos.done}")  # noqa: T201


def list_attempts(cluster: Cluster) -> list[Path]:
    """What daemons still keep of attempts."""
    return [p for n in NODES for p in (cluster.home / "node" / n / "attempts").iterdir()]
