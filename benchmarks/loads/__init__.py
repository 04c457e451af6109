"""Programs that the benchmarks start beside the cluster: clients, simulated daemons, bare servers.

Each is run as `python -m benchmarks.loads.NAME`, prints one line of JSON at its end, and imports
none of the parts of the product, only its contract (`riseml`).
"""
