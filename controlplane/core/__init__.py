"""PURE: the cluster in memory, the reactor that turns events into changes and effects, the applier
that re-checks plans.
"""
