"""PURE: `cycle.schedule(snapshot, now) -> Plan`. Which job goes where, and why the others wait.

The values it takes and gives are in `controlplane/domain/plan.py`. One cycle reads top to bottom in
`cycle.py`; `policy.py` says what can be chosen of it, `order.py` who comes first, `room.py` is the
copy of the cluster that gangs are tried on, `feasibility.py` says what fits, `scoring.py` which
place is best, `reservation.py` keeps large gangs from starving, `reasons.py` puts into words why
something waits.
"""
