"""The `riseml` program: one-shot commands and the `riseml>` prompt, from one command table.

Parsing, completion and rendering are pure; commands talk to a control plane through `riseml.client`
alone. Nothing of `controlplane` or `noded` is imported here: `riseml up` starts them as children.
"""
