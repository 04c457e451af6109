"""File areas: trees of users' files that programs of ours read and write by paths that users give.

Shared by the node daemon (`output://`) and the control plane (`data://`). Standard library only.
What may not live here: who may do what (callers decide that first) and anything that knows the
wire.
"""
