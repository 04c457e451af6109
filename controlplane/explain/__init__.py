"""PURE: what the scheduler saw and decided, in words that people can be told.

Built from the trace of the very cycle that decided, its snapshot and its plan; nothing here decides
anything. `waiting.py` tells why an experiment waits, `running.py` why it is where it is, `sets.py`
how the children of a set stand, `planned.py` what would become of one that is not created. Nodes
and GPUs are judged one by one in `nodes.py` and `gpus.py`, and told together in `groups.py`.
`suggest.py` finds by trying what would let it start now, `estimates.py` remembers what was
foretold. The values that come out are in `explanation.py`.
"""
