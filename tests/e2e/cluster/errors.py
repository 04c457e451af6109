"""Why the cluster cannot be had."""

from __future__ import annotations


class ClusterError(Exception):
    """The message says what failed, where its log is, and what would help."""
