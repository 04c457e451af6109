"""What a node measures: its GPUs through NVML, its host and its attempts through /proc and cgroups.

`model`, `health`, `naming` and `wire` are pure. `nvml_child` is a program of its own, because NVML
calls can block for ever; `nvml` is noded's side of it. `collector` is the one object that the rest
of noded uses.

Nothing is imported here: the NVML child loads this package too and has to stay small.
"""
