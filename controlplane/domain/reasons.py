"""Machine-readable reasons: of states (`EXIT_CODE`), and of stops as nodes and records carry them.

A node may send reasons of its own (`BUILD_FAILED`, `OOM_KILLED`, ...); they are passed on.
"""

from __future__ import annotations

from typing import Final

# Why a job or an experiment is in its state.
EXIT_CODE: Final = "EXIT_CODE"
SIGNAL: Final = "SIGNAL"
NO_EXIT_STATUS: Final = "NO_EXIT_STATUS"
KILLED: Final = "KILLED"
KILL_REQUESTED: Final = "KILL_REQUESTED"
MAX_DURATION: Final = "MAX_DURATION"
UTILIZATION_POLICY: Final = "UTILIZATION_POLICY"
# Its GPUs have been idle for half of the time that its utilization_policy allows.
LOW_UTILIZATION: Final = "LOW_UTILIZATION"
GANG_MEMBER_FAILED: Final = "GANG_MEMBER_FAILED"
GANG_RESTART: Final = "GANG_RESTART"
PREEMPTED: Final = "PREEMPTED"
DRAINED: Final = "DRAINED"
LOST: Final = "LOST"
NODE_LOST: Final = "NODE_LOST"
WORKERS_FINISHED: Final = "WORKERS_FINISHED"
WAITS_FOR_GANG: Final = "WAITS_FOR_GANG"
CHILDREN_FAILED: Final = "CHILDREN_FAILED"
SET_CONCURRENCY: Final = "SET_CONCURRENCY"
ENDED_WITH_JOB: Final = "ENDED_WITH_JOB"
OOM_KILLED: Final = "OOM_KILLED"
BUILD_FAILED: Final = "BUILD_FAILED"
CODE_FETCH_FAILED: Final = "CODE_FETCH_FAILED"
NODE_SHUTDOWN: Final = "NODE_SHUTDOWN"

# Of pods.
EVICTED: Final = "EVICTED"
POD_DELETED: Final = "POD_DELETED"
# Its node's kubelet did not take it: what was known of the node was too old.
PLACEMENT_REFUSED: Final = "PLACEMENT_REFUSED"
# The API server does not take such a pod.
POD_REFUSED: Final = "POD_REFUSED"
NO_IMAGE: Final = "NO_IMAGE"
IMAGE_PULL_FAILED: Final = "IMAGE_PULL_FAILED"
CONTAINER_REFUSED: Final = "CONTAINER_REFUSED"

# Why an attempt is stopped (`Attempt.stop_reason`).
STOP_KILLED: Final = "killed"
STOP_PREEMPTED: Final = "preempted"
STOP_DRAINED: Final = "drained"
STOP_GANG_MEMBER_FAILED: Final = "gang_member_failed"
STOP_GANG_RESTART: Final = "gang_restart"
STOP_MAX_DURATION: Final = "max_duration"
STOP_UTILIZATION_POLICY: Final = "utilization_policy"
STOP_WORKERS_FINISHED: Final = "workers_finished"
# Of attempts that nobody wants (any more): a StopAttempt for them has no record.
STOP_UNKNOWN: Final = "unknown"

# Signals that come from outside rather than from a fault of the program: SIGHUP, SIGINT, SIGKILL,
# SIGTERM. An end by one of them is an `interruption` as well as an `error` to `retry.on_events`.
OUTSIDE_SIGNALS: Final = frozenset({1, 2, 9, 15})

# Stops after which the same work is tried again, whatever the exit code was.
RESTARTING_STOPS: Final = frozenset({STOP_PREEMPTED, STOP_DRAINED, STOP_GANG_RESTART})

# Ends that a node reports and that are nobody's fault: they do not count against `retry.max`.
INTERRUPTIONS: Final = frozenset({"NO_CONTACT", "NODE_SHUTDOWN", "PREEMPTED", "NODE_LOST"})
