"""How fast and how large: one file per row of docs/performance.md, run by `make bench`.

    python -m benchmarks [NAMES] [--quick] [--peers] [--profile] [--json FILE] [--markdown FILE]

Everything that is measured runs as real processes (`harness.py`); what loads them runs in
processes of its own (`loads/`). Only ratios hold from one machine to another, so `machine.py`
measures the limits of this one again beside each run. Nothing here is part of the product, and the
product imports nothing from here.
"""
