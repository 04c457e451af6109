"""What runs inside a pod before its job does: no daemon is near, so it brings the code itself.

It runs as whatever uid the pod has, over a root that cannot be written, and only once. Nothing here
knows sessions, shims or orders.
"""
