"""PURE: `schedule(snapshot, now) -> Plan`. Which job goes where, and why the others wait.

The values it takes and gives are in `controlplane/domain/plan.py`.
"""
