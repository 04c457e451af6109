"""The control plane: owns the truth, schedules, launches, keeps logs, serves gRPC."""
