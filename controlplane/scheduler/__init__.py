"""PURE: `cycle.schedule(snapshot, now) -> Plan`. Which job goes where, and why the others wait.

The values it takes and gives are in `controlplane/domain/plan.py`. One cycle reads top to bottom in
`cycle.py`; `order.py` says who comes first, `feasibility.py` what fits, `scoring.py` which place is
best, `scratch.py` is the copy of the cluster that gangs are tried on, `candidates.py` finds the
best place among many nodes quickly, `reservation.py` keeps large gangs from starving, `reasons.py`
puts into words why something waits.
"""
