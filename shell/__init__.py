"""The command line and the prompt: one table of commands serves both.

Only talks to a cluster through ``riseml`` (the SDK); never imports controlplane or noded, which
``riseml up`` starts as programs. What is heavy (gRPC, rich, prompt_toolkit) loads when a command
needs it, so that help and typing errors answer at once.
"""
