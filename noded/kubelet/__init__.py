"""What a daemon does beside a kubelet (`riseml-noded --kubernetes`): it observes the node, runs
nothing, and needs no right in the Kubernetes API.

Which pod has which GPU it asks the kubelet (`pod_resources`, `devices`), logs it reads where the
container runtime writes them (`log_files`, `log_lines`, `log_shipping`).
"""
