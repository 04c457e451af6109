"""What an experiment is, in words that every part shares: ids, units, riseml.yml and its rules.

Pure: nothing here imports grpc, opens a file or reads a clock. Text and values come in as
arguments, so the client, the control plane and the node daemon can all rely on the same answers.
"""
