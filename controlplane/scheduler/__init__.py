"""PURE: `cycle.schedule(snapshot, now) -> Plan`. Which job goes where, and why the others wait.

The values it takes and gives are in `controlplane/domain/plan.py`. One cycle reads top to bottom in
`cycle.py`; `policy.py` says what can be chosen of it, `order.py` and `quota.py` who comes first,
`feasibility.py` what fits. `timeline.py` keeps room from a time on, and finds out with
`prospects.py` and `lookahead.py` when there will be some; `reservation.py` does so where nobody
knows. `preemption.py` says who makes room, `clearing.py` finds the cheapest. `reasons.py` and
`decisions.py` are the words, `tracing.py` looks on, `forecast.py` runs the cycles to come.

`room.py` is the copy of the cluster that gangs are tried on. Within it `table.py` has the nodes as
rows of arrays; `packing.py` places gangs; `candidates.py` finds the best node with `scoring.py`,
which asks `worth.py` what leftovers are worth to the jobs of `demand.py`; `topology.py` chooses
among the GPUs of a node; `survey.py` says of all nodes what stands in the way.
"""
