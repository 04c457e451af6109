"""The node daemon: one per node. Reports GPUs and host, runs attempts, ships their output.

What decides is pure and apart (`reconcile`); what touches processes, files, NVML and the network
is at the edge. Nothing of `controlplane` or `shell` is imported here: all share `riseml`.
"""
