"""A real single-node Kubernetes for the tests, on a Debian machine without Docker, as root.

    python -m tests.e2e.cluster build          what takes minutes: programs and images, once
    python -m tests.e2e.cluster run -- CMD     brings it up, runs CMD inside, takes it down
    python -m tests.e2e.cluster run            the same with a shell

Everything lives in namespaces of its own (processes, mounts, network), so the machine's network,
firewall and mounts are never touched, and when their first process ends the kernel ends all of it,
whatever happened before. CMD runs inside as well: it sees the machine's files, the cluster's
network, and `kubectl` and KUBECONFIG. What is left, folders and control groups, is removed after.

No RiseML here: this is the ground that the tests stand on.
"""
