"""How the pods of one experiment find each other: names that are made from ids, the same wherever
they are made.

A pod of a gang has `host_name` as its hostname and `service_name` as its subdomain, and the
headless Service of that name publishes both: within the namespace peers reach it as
``HOST.SERVICE`` (Kubernetes, "DNS for Services and Pods").
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

RENDEZVOUS_PORT: Final = 29400
"""Where the members of a gang listen for each other. One number does for all of them and for every
gang, for each pod has an address of its own. It is below what Linux gives to outgoing connections
(32768 and up), and the first that noded gives.
"""

MAX_LABEL: Final = 63
"""Characters of one part of a DNS name (RFC 1123)."""

_PLAIN: Final = re.compile(r"[a-z][a-z0-9]*(\.[0-9]+)+", re.ASCII)
_HASH_LENGTH: Final = 10


def host_name(job_type: str, job_number: int) -> str:
    """Of a pod among those of its experiment: ``worker-3``."""
    return f"{job_type}-{job_number}"


def service_name(experiment_id: str) -> str:
    """Of an experiment's headless Service: ``ana-17`` for ``ana.17``.

    Such a name begins with a letter (RFC 1035) and has no dots. Where that alone might make two ids
    equal (``a-1.7``, ``a.1.7``) a hash of the id follows.
    """
    name = re.sub(r"[^a-z0-9]+", "-", experiment_id.lower()).strip("-")
    if _PLAIN.fullmatch(experiment_id) and len(name) <= MAX_LABEL:
        return name
    digest = hashlib.sha256(experiment_id.encode()).hexdigest()[:_HASH_LENGTH]
    kept = name[: MAX_LABEL - len("x--h") - _HASH_LENGTH].rstrip("-")
    return f"x-{kept}-h{digest}"
