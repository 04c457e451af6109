"""The cluster under a clock that jumps: nodes and jobs from trace files, everything else is real.

A simulation sends the events that daemons and clients would send to the same `Cluster`, reactor,
applier and scheduler that serve a live cluster, and does with the effects what honest daemons do.
What it needs at random is drawn from a seed: equal seeds give equal runs.

`riseml-simulate` (`__main__`) reads files and prints; all other modules only compute.
"""
