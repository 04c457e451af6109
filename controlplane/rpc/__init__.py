"""gRPC at the edge: one servicer per service, conversion, errors, interceptors. No decisions are
made here.
"""
