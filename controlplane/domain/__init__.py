"""What RiseML is about, as values: states, objects, events, effects, errors.

PURE: no I/O, no clock (`now` is an argument, float seconds since the epoch, UTC), no framework.
Everything else in the control plane imports this; this imports only `riseml.spec`.
"""
