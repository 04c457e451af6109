"""The archive of job output (append at offset) and the broker that wakes followers."""
